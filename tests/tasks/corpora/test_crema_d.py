"""Adapter ``crema_d`` on a generated tree and on the real votes."""

import os
from pathlib import Path

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora.adapters import crema_d
from tests.tasks.corpora.trees_media import (
    by_id,
    grow_crema_d,
    grown,
    ingest_and_label,
    write_bytes,
    write_votes,
)

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def test_votes_become_single_judgements():
    grown("crema_d", grow_crema_d)
    found = ingest_and_label("crema_d")
    angry = by_id(found.labels, "1001_DFA_ANG_XX")
    assert angry["category"] == "angry"
    assert angry["n_raters"] == 12  # 8 anger, 1 disgust, 3 neutral
    shares = {part["label"]: part["share"] for part in angry["category_shares"]}
    assert shares == pytest.approx({"angry": 8 / 12, "disgust": 1 / 12, "neutral": 3 / 12})
    assert by_id(found.labels, "1091_TSI_SAD_X")["category"] is None  # four to four


def test_how_the_clip_was_met_decides_the_label():
    grown("crema_d", grow_crema_d)
    heard = ingest_and_label("crema_d", {"labels": "audio"})
    assert by_id(heard.labels, "1001_IEO_HAP_LO")["category"] == "neutral"  # 2 happy, 4 neutral
    both = ingest_and_label("crema_d", {"labels": "audiovisual"})
    assert by_id(both.labels, "1001_IEO_HAP_LO")["category"] == "happy"  # 6 happy, 4 neutral
    every = ingest_and_label("crema_d", {"labels": "votes"})
    assert by_id(every.labels, "1001_IEO_HAP_LO")["n_raters"] == 6 + 8 + 10
    acted = ingest_and_label("crema_d", {"labels": "intended"})
    assert by_id(acted.labels, "1091_TSI_SAD_X")["category"] == "sad"


def test_picture_goes_before_sound_unless_asked_otherwise():
    root = grown("crema_d", grow_crema_d)
    assert crema_d.read(root, {}).utterances["media"].str.ends_with(".flv").all()
    heard = crema_d.read(root, {"media": "audio"}).utterances
    assert heard["media"].str.ends_with(".wav").all()
    assert heard.height == 3


def test_sex_and_age_come_from_the_list_of_actors():
    root = grown("crema_d", grow_crema_d)
    assert crema_d.read(root, {}).utterances["sex"].null_count() == 3
    head = "ActorID,Age,Sex,Race,Ethnicity\n"
    (root / "VideoDemographics.csv").write_text(head + "1001,51,Male,Caucasian,Not Hispanic\n")
    found = ingest_and_label("crema_d")
    row = by_id(found.utterances, "1001_DFA_ANG_XX")
    assert (row["sex"], row["age"], row["dataset"]) == ("male", 51, "crema_d")
    assert by_id(found.utterances, "1091_TSI_SAD_X")["sex"] is None


def test_awkward_rows_are_set_aside_with_a_reason():
    grown("crema_d", grow_crema_d)
    found = ingest_and_label("crema_d")
    assert found.reasons() == {"bad_name": 3, "bad_votes": 1, "orphan_label": 1}
    assert "2 votes, but 9 responses" in by_id(found.quarantine, "tabulatedVotes")["detail"]


def test_without_votes_the_error_names_the_way_out():
    root = grown("crema_d", grow_crema_d)
    (root / "processedResults" / "tabulatedVotes.csv").unlink()
    with pytest.raises(UserError, match="option labels to intended"):
        crema_d.read(root, {})
    assert crema_d.read(root, {"labels": "intended"}).annotations.height == 3


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_majority_of_the_real_votes_has_the_published_accuracy(tmp_path):
    votes = pl.read_parquet(SHARED / "cremad_human_votes.parquet")
    root = tmp_path / "data/raw/crema_d"
    clips = votes["clip"].unique().sort().to_list()
    for clip in clips:
        write_bytes(root / "VideoFlash" / f"{clip}.flv")
    number = {"audio": 100_000, "video": 200_000, "audiovisual": 300_000}
    counts = [f"n_{name}" for name in ("anger", "disgust", "fear", "happy", "neutral", "sad")]
    rows = votes.select(
        pl.col("modality").replace_strict(number) + pl.int_range(1, pl.len() + 1) % 100_000,
        *counts,
        "clip",
    )
    write_votes(root, rows.iter_rows())
    expected = {"audio": 0.416, "video": 0.663, "audiovisual": 0.722}
    intended = {clip: crema_d.CARD.label_map[clip.split("_")[2]] for clip in clips}
    for kind, accuracy in expected.items():
        found = ingest_and_label("crema_d", {"labels": kind})
        assert found.utterances.height == 7442
        assert found.quarantine.height == 0
        truth = found.labels["utterance_id"].str.split("/").list.get(1).replace_strict(intended)
        hits = (found.labels["category"] == truth).fill_null(False)  # a tie names no emotion
        assert hits.mean() == pytest.approx(accuracy, abs=0.0006)
