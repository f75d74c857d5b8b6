"""Adapter ``emotic`` on Annotations.mat and on tables."""

import os
import signal

import pytest
from scipy.io import savemat

from models.errors import UserError
from tasks.corpora.adapters import emotic
from tests.tasks.corpora.trees_media import (
    by_id,
    grow_emotic,
    grow_emotic_tables,
    grown,
    ingest_and_label,
    write_text,
)

LABELS = {"multilabels": list(emotic.LABELS)}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def test_every_person_is_an_utterance_of_the_picture():
    grown("emotic", grow_emotic)
    found = ingest_and_label("emotic", **LABELS)
    picture = "emotic/emotic/mscoco/images/a.jpg"
    people = found.utterances.filter(found.utterances["dialogue_id"] == picture)
    assert people["turn"].to_list() == [0, 1, 3, 4]
    assert by_id(people, "person0")["region"] == [0.1, 0.1, 0.6, 0.9]
    assert by_id(people, "person1")["region"] == [0.8, 0.0, 1.0, 1.0]  # ends at the edge


def test_one_to_ten_becomes_minus_one_to_one():
    grown("emotic", grow_emotic)
    found = ingest_and_label("emotic", **LABELS)
    row = by_id(found.labels, "a.jpg/person0")
    assert row["categories"] == ["Engagement", "Happiness"]
    assert row["first_category"] == "Happiness"
    assert row["valence"] == pytest.approx(2 / 9 * 7 - 11 / 9)
    assert row["dominance"] == pytest.approx(-1 / 9)


def test_the_released_combination_stands_for_several_annotators():
    grown("emotic", grow_emotic)
    combined = ingest_and_label("emotic", **LABELS)
    row = by_id(combined.labels, "b.jpg/person0")
    assert row["categories"] == ["Pain", "Sadness"]
    assert row["valence"] == pytest.approx(2 / 9 * 2.5 - 11 / 9)
    assert row["n_raters"] == 1
    each = ingest_and_label("emotic", {"raters": "each"}, **LABELS)
    row = by_id(each.labels, "b.jpg/person0")
    assert row["n_raters"] == 2
    assert row["valence"] == pytest.approx(2 / 9 * 2.5 - 11 / 9)
    assert row["valence_std"] == pytest.approx(2 / 9 * 0.5**0.5)


def test_awkward_persons_are_set_aside_with_a_reason():
    grown("emotic", grow_emotic)
    found = ingest_and_label("emotic", **LABELS)
    assert found.reasons() == {"bad_box": 1, "missing_value": 1}
    assert "Annotations.mat:train(1).person(3)" in by_id(found.quarantine, "person2")["detail"]
    assert by_id(found.labels, "a.jpg/person3")["categories"] == ["Doubt/Confusion"]
    assert by_id(found.labels, "a.jpg/person3")["valence"] is None
    assert by_id(found.labels_quarantine, "person4")["reason"] == "unknown_category"


def test_splits_are_the_published_ones():
    grown("emotic", grow_emotic)
    found = ingest_and_label("emotic", **LABELS)
    splits = set(found.utterances.select("dialogue_id", "published_split").iter_rows())
    assert {split for _, split in splits} == {"train", "validation", "test"}
    assert len(splits) == 3


def test_tables_say_the_same_as_the_official_file():
    grown("emotic", grow_emotic_tables)
    found = ingest_and_label("emotic", **LABELS)
    row = by_id(found.labels, "a.jpg/person0")
    assert row["categories"] == ["Doubt/Confusion", "Happiness"]
    assert row["first_category"] == "Happiness"
    assert by_id(found.labels, "b.jpg/person0")["first_category"] == "Sadness"
    assert row["arousal"] == pytest.approx(1 / 9)
    assert by_id(found.labels, "b.jpg/person0")["valence"] == pytest.approx(2 / 9 * 2.5 - 11 / 9)
    assert found.reasons() == {"bad_box": 1}
    with pytest.raises(UserError, match="single annotators"):
        ingest_and_label("emotic", {"raters": "each"})


def test_a_file_that_is_no_matlab_file_is_an_error(tmp_path):
    write_text(tmp_path / "Annotations" / "Annotations.mat", "not at all")
    with pytest.raises(UserError, match="not a readable MATLAB file"):
        emotic.read(tmp_path, {})


def die(path):
    """What scipy's reader does with some damaged files."""
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize("place", [200, 260])
def test_a_damaged_compressed_matlab_file_is_an_error_of_one_sentence(tmp_path, place):
    file = tmp_path / "Annotations" / "Annotations.mat"
    file.parent.mkdir()
    splits = {name: {"x": list(range(99))} for name in ("train", "val", "test")}
    savemat(file, splits, do_compression=True)
    content = bytearray(file.read_bytes())
    content[place : place + 4] = b"\xff" * 4
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"Annotations\.mat: not a readable MATLAB file"):
        emotic.read(tmp_path, {})


def test_a_file_that_crashes_the_reader_is_an_error_that_names_it(tmp_path, monkeypatch):
    plain = emotic.PlainContext.alone
    monkeypatch.setattr(
        emotic.PlainContext, "alone", lambda self, function, shard: plain(self, die, shard)
    )
    write_text(tmp_path / "Annotations" / "Annotations.mat", "anything")
    with pytest.raises(UserError, match=r"not a readable MATLAB file \(reading it crashed\)"):
        emotic.read(tmp_path, {})


def test_a_matlab_file_of_another_form_is_an_error_that_names_the_place(tmp_path):
    person = {"body_bbox": "left", "annotations_categories": [], "annotations_continuous": []}
    image = {"folder": "f", "filename": "a.jpg", "person": person}
    savemat(tmp_path / "Annotations.mat", {"train": image, "val": image, "test": image})
    with pytest.raises(UserError, match=r"train\(1\) has another form"):
        emotic.read(tmp_path, {})
