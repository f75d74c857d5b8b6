"""Adapter ``ravdess`` on a generated tree and on the names of the real clips."""

import json
import os
from pathlib import Path

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora.adapters import ravdess
from tests.tasks.corpora.trees_media import by_id, grow_ravdess, grown, ingest_and_label

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def test_names_become_speakers_sentences_and_labels():
    grown("ravdess", grow_ravdess)
    found = ingest_and_label("ravdess")
    assert found.utterances.height == 2 * 15
    row = by_id(found.utterances, "03-01-06-02-01-01-18")
    assert (row["speaker"], row["sex"], row["age"]) == ("actor_18", "female", None)
    assert row["text"] == "Kids are talking by the door."
    assert by_id(found.labels, "03-01-06-02-01-01-18")["category"] == "fear"
    assert by_id(found.labels, "03-01-08-02-01-01-18")["category"] == "surprise"
    strong = found.annotations.filter((pl.col("target") == "intensity") & (pl.col("value") == 2))
    assert strong.height == 2 * 7


def test_one_performance_is_one_utterance_however_many_files_show_it():
    grown("ravdess", grow_ravdess)
    found = ingest_and_label("ravdess")
    happy = found.utterances.filter(pl.col("utterance_id").str.contains("01-03-01-01-01-"))
    assert happy["media"].str.ends_with(".mp4").all()
    assert happy.height == 2
    audio = ravdess.read(Path("data/raw/ravdess"), {"media": "audio"}).utterances
    assert audio["media"].str.ends_with(".wav").all()
    assert audio.height == 30
    assert ravdess.read(Path("data/raw/ravdess"), {"media": "video"}).utterances.height == 2


def test_song_is_left_out_unless_asked_for():
    root = grown("ravdess", grow_ravdess)
    assert ravdess.read(root, {"channel": "song"}).utterances.height == 1
    both = ravdess.read(root, {"channel": "both"})
    assert both.utterances.height == 31
    assert both.card.expected_utterances == 2452


def test_bad_names_and_copies_are_set_aside_with_a_reason():
    grown("ravdess", grow_ravdess)
    found = ingest_and_label("ravdess")
    assert found.reasons() == {"bad_name": 4, "duplicate_file": 1}
    assert "neutral has no strong" in by_id(found.quarantine, "03-01-01-02-01-01-01")["detail"]
    assert "outside its range" in by_id(found.quarantine, "03-01-09-01")["detail"]
    assert "not the folder's" in by_id(found.quarantine, "03-01-05-01-02-01-02")["detail"]


def test_missing_clips_are_counted():
    grown("ravdess", grow_ravdess)
    counts = json.loads(ingest_and_label("ravdess").metadata["counts"])
    assert counts["findings"][0].startswith("ravdess: expected 1,440 utterances, found 30")


def test_an_unknown_option_is_an_error():
    root = grown("ravdess", grow_ravdess)
    with pytest.raises(UserError, match="no option 'chanel'"):
        ravdess.read(root, {"chanel": "speech"})
    with pytest.raises(UserError, match="choose one of speech, song, both"):
        ravdess.read(root, {"channel": "opera"})


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_the_real_clips_agree_with_their_published_fields(tmp_path):
    clips = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet")
    root = tmp_path / "data/raw/ravdess"
    for name, actor, flac in clips.select("file", "actor", "audio_flac").iter_rows():
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.wav").write_bytes(flac[:4096])  # only hashed here
    found = ingest_and_label("ravdess")
    assert found.utterances.height == 720
    assert found.quarantine.height == 0
    counts = dict(found.labels.group_by("category").len().iter_rows())
    assert counts == {"neutral": 48} | dict.fromkeys(
        ("calm", "happy", "sad", "angry", "fear", "disgust", "surprise"), 96
    )
    joined = found.annotations.filter(pl.col("target") == "category").join(
        clips.with_columns(utterance_id=pl.format("ravdess/{}/0", "file")), on="utterance_id"
    )
    assert joined.height == 720
    assert (joined["label"] == joined["emotion"]).all()
