"""Adapter ``fer2013`` on folders, tables and tables with VAD, and on the real subset."""

import io
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from models.errors import UserError
from tasks.corpora.adapters import fer2013
from tests.tasks.corpora.trees_media import (
    by_id,
    grow_fer2013_csv,
    grow_fer2013_folders,
    grow_fer2013_vad,
    grown,
    ingest_and_label,
    pixels,
)

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def test_folders_name_split_and_class():
    grown("fer2013", grow_fer2013_folders)
    found = ingest_and_label("fer2013")
    rows = found.utterances.join(found.labels, on="utterance_id")
    got = {
        Path(media).stem: (split, category)
        for media, split, category in rows.select(
            "media", "published_split", "category"
        ).iter_rows()
    }
    assert got == {
        "Training_1": ("train", "angry"),
        "Training_2": ("train", "happy"),
        "PublicTest_3": ("validation", "sad"),
        "PrivateTest_4": ("test", "neutral"),
        "PublicTest_5": ("validation", "neutral"),
    }
    assert found.reasons() == {"bad_folder": 2}


def test_pixels_of_a_table_become_pictures_without_change():
    root = grown("fer2013", grow_fer2013_csv)
    found = ingest_and_label("fer2013")
    media = by_id(found.utterances, "fer2013/fer2013/00002")["media"]
    grey = np.asarray(Image.open(Path("data/raw") / media))
    assert grey.ravel().tolist() == [int(value) for value in pixels(1).split()]
    assert root.joinpath("affectloom_images/fer2013/source.json").is_file()


def test_awkward_rows_of_a_table_are_set_aside_with_a_reason():
    grown("fer2013", grow_fer2013_csv)
    found = ingest_and_label("fer2013")
    assert found.reasons() == {"bad_pixels": 2, "unknown_split": 1}
    assert "2303 numbers" in by_id(found.quarantine, "fer2013.csv:5")["detail"]
    assert "above 255" in by_id(found.quarantine, "fer2013.csv:6")["detail"]
    assert by_id(found.labels_quarantine, "00007")["reason"] == "unknown_category"


def test_pictures_are_written_once_and_again_when_the_table_changes():
    root = grown("fer2013", grow_fer2013_csv)
    fer2013.read(root, {})
    picture = root / "affectloom_images" / "fer2013" / "00002.png"
    before = picture.stat()
    fer2013.read(root, {})
    assert picture.stat().st_mtime_ns == before.st_mtime_ns
    assert picture.stat().st_ino == before.st_ino
    table = root / "fer2013.csv"
    table.write_text(table.read_text().replace(pixels(1), pixels(99)))
    fer2013.read(root, {})
    assert np.asarray(Image.open(picture)).ravel()[0] == int(pixels(99).split()[0])
    names = sorted(path.name for path in picture.parent.parent.iterdir())
    assert names == ["fer2013"]  # nothing temporary is left


def test_vad_tables_hold_whole_numbers_from_minus_two_to_two():
    grown("fer2013", grow_fer2013_vad)
    found = ingest_and_label("fer2013")
    assert found.utterances.height == 6
    row = by_id(found.labels, "Train_forVA/00002")
    assert (row["category"], row["valence"], row["arousal"]) == ("angry", -1.0, 0.5)
    splits = found.utterances["published_split"].value_counts(sort=True).rows()
    assert sorted(splits) == [("test", 1), ("train", 4), ("validation", 1)]
    reasons = dict(found.labels_quarantine.select("utterance_id", "reason").iter_rows())
    assert sorted(reasons.values()) == ["not_integer", "out_of_range"]
    assert by_id(found.quarantine, "00005")["reason"] == "missing_value"
    assert by_id(found.labels, "00005")["valence"] is None  # kept or set aside whole


def test_a_form_that_is_not_there_is_an_error():
    root = grown("fer2013", grow_fer2013_folders)
    with pytest.raises(UserError, match="no table with VAD"):
        fer2013.read(root, {"form": "vad"})


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_the_real_subset_has_its_published_classes(tmp_path):
    faces = pl.read_parquet(SHARED / "fer2013_subset.parquet")
    folder = {"train": "train", "val": "validation", "test": "test"}
    root = tmp_path / "data/raw/fer2013"
    for file, split, label, image in faces.select(
        "file", "split", "label", "image_jpeg"
    ).iter_rows():
        path = root / folder[split] / label / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    found = ingest_and_label("fer2013")
    assert found.quarantine.height == 0
    splits = found.utterances["published_split"].value_counts(sort=True).rows()
    assert sorted(splits) == [("test", 800), ("train", 4001), ("validation", 800)]
    train = found.utterances.join(found.labels, on="utterance_id").filter(
        pl.col("published_split") == "train"
    )
    assert dict(train.group_by("category").len().iter_rows()) == {
        "angry": 557,
        "disgust": 61,
        "fear": 571,
        "happy": 1005,
        "neutral": 692,
        "sad": 673,
        "surprise": 442,
    }
    first = by_id(found.utterances, faces["file"][0])
    assert Image.open(io.BytesIO(Path("data/raw", first["media"]).read_bytes())).size == (48, 48)
