"""Adapter ``hume_vidmimic`` on a generated tree."""

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora.adapters import hume_vidmimic
from tasks.targets import EMI
from tests.tasks.corpora.trees_media import by_id, grow_hume_vidmimic, grown, ingest_and_label


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def test_six_intensities_stay_on_their_scale():
    grown("hume_vidmimic", grow_hume_vidmimic)
    found = ingest_and_label("hume_vidmimic")
    row = by_id(found.labels, "/00001/")
    assert [row[name] for name in EMI] == [0.333, 0.0, 0.0, 0.0, 0.25, 1.0]
    assert row["valence"] is None
    splits = dict(found.utterances.select("dialogue_id", "published_split").iter_rows())
    assert splits == {
        "hume_vidmimic/00001": "train",
        "hume_vidmimic/00002": "train",
        "hume_vidmimic/00003": "train",
        "hume_vidmimic/00005": "validation",
        "hume_vidmimic/00006": "test",
    }


def test_names_are_matched_letter_by_letter():
    root = grown("hume_vidmimic", grow_hume_vidmimic)
    media = hume_vidmimic.read(root, {}).utterances["media"].to_list()
    assert "raw/00001.mp4" in media
    assert "raw/1.mp4" not in media


def test_hidden_labels_of_the_test_split_stay_empty():
    grown("hume_vidmimic", grow_hume_vidmimic)
    found = ingest_and_label("hume_vidmimic")
    row = by_id(found.labels, "/00006/")
    assert row["n_raters"] == 0
    assert all(row[name] is None for name in EMI)


def test_awkward_rows_are_set_aside_with_a_reason():
    grown("hume_vidmimic", grow_hume_vidmimic)
    found = ingest_and_label("hume_vidmimic")
    assert found.reasons() == {"missing_media": 1, "not_numeric": 1, "missing_key": 1}
    assert "line 6" in by_id(found.quarantine, "train_split.csv:6")["detail"]
    assert by_id(found.labels_quarantine, "00002")["reason"] == "out_of_range"
    broken = found.labels.filter(pl.col("utterance_id").str.contains("0000[23]"))
    assert broken["joy"].null_count() == 2  # a judgement is kept or set aside whole


def test_without_lists_the_error_names_them():
    root = grown("hume_vidmimic", grow_hume_vidmimic)
    (root / "train_split.csv").unlink()
    with pytest.raises(UserError, match=r"train_split\.csv does not exist"):
        hume_vidmimic.read(root, {})


def test_words_come_from_a_csv_or_from_text_files():
    root = grown("hume_vidmimic", grow_hume_vidmimic)
    silent = hume_vidmimic.read(root, {}).utterances["text"]
    assert silent.null_count() == len(silent)
    lines = ["00001.mp4,hello there", "00002,", "00003,one", "00003.mp4,two", "1,who", ",nobody"]
    (root / "words.csv").write_text("\n".join(["Filename,Text", *lines]) + "\n")
    found = hume_vidmimic.read(root, {"transcripts": "words.csv"})
    texts = dict(found.utterances.select("dialogue_id", "text").iter_rows())
    assert texts == dict.fromkeys(texts, None) | {"00001": "hello there"}
    reasons = found.quarantine["reason"].to_list()
    assert reasons.count("transcript_conflict") == 2
    assert reasons.count("orphan_transcript") == 2
    (root / "words").mkdir()
    (root / "words" / "00005.txt").write_text(" I am\nfine \n")
    (root / "words" / "00006.txt").write_text("\n")
    found = hume_vidmimic.read(root, {"transcripts": "words"}).utterances
    assert found.drop_nulls("text")["text"].to_list() == ["I am fine"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transcripts": "words.csv"}, r"words\.csv does not exist; name a CSV file or a folder"),
        ({"transcripts": "raw"}, "no text file is there"),
        ({"transcript": "raw"}, "did you mean 'transcripts'"),
    ],
)
def test_transcripts_that_are_not_there_are_named(options, message):
    root = grown("hume_vidmimic", grow_hume_vidmimic)
    with pytest.raises(UserError, match=message):
        hume_vidmimic.read(root, options)
