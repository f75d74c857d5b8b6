"""Adapter ``affectnet`` on both forms of its lists."""

import pytest

from models.errors import UserError
from tasks.corpora.adapters import affectnet
from tests.tasks.corpora.trees_media import (
    by_id,
    grow_affectnet_crops,
    grow_affectnet_release,
    grown,
    ingest_and_label,
)

SCALES = {"scales": {"valence": "affectnet", "arousal": "affectnet"}}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def test_face_boxes_become_fractions_of_the_picture():
    grown("affectnet", grow_affectnet_release)
    found = ingest_and_label("affectnet", **SCALES)
    assert by_id(found.utterances, "1/a.jpg")["region"] == [0.25, 0.25, 0.75, 0.75]
    assert by_id(found.utterances, "1/b.jpg")["region"] == [0.75, 0.5, 1.0, 1.0]
    row = by_id(found.labels, "1/a.jpg")
    assert (row["category"], row["valence"], row["arousal"]) == ("happy", 0.75, 0.25)
    assert row["dominance"] is None


def test_every_image_is_an_utterance_without_times():
    grown("affectnet", grow_affectnet_crops)
    found = ingest_and_label("affectnet")
    assert found.utterances["start_s"].null_count() == found.utterances.height
    assert found.utterances["dialogue_id"].n_unique() == found.utterances.height
    splits = found.utterances["published_split"].value_counts(sort=True).rows()
    assert splits == [("train", 4), ("test", 1)]


def test_minus_two_is_a_sentinel_and_never_a_value():
    grown("affectnet", grow_affectnet_release)
    found = ingest_and_label("affectnet", **SCALES)
    aside = by_id(found.labels_quarantine, "2/h.jpg")
    assert aside["reason"] == "sentinel"
    row = by_id(found.labels, "2/h.jpg")
    assert row["category"] == "surprise"
    assert row["valence"] is None


def test_what_the_protocol_leaves_out_is_counted():
    grown("affectnet", grow_affectnet_release)
    eight = ingest_and_label("affectnet", **SCALES)
    assert eight.reasons() == {
        "not_in_protocol": 1,
        "bad_box": 1,
        "unreadable_image": 1,
        "missing_media": 1,
    }
    assert "mostly outside the 40 x 20 px" in by_id(eight.quarantine, "2/d.jpg")["detail"]
    seven = ingest_and_label("affectnet", {"classes": 7}, **SCALES)
    assert seven.reasons()["not_in_protocol"] == 2
    assert "contempt" not in seven.labels["category"].to_list()
    every = ingest_and_label("affectnet", {"classes": "all"}, **SCALES)
    assert "not_in_protocol" not in every.reasons()
    assert by_id(every.labels, "2/c.jpg")["category"] is None


def test_unknown_classes_and_values_out_of_range_go_to_quarantine():
    grown("affectnet", grow_affectnet_crops)
    found = ingest_and_label("affectnet")
    assert found.reasons() == {"missing_media": 1}
    reasons = dict(found.labels_quarantine.select("utterance_id", "reason").iter_rows())
    assert reasons == {
        "affectnet/train_set/images/2.jpg/0": "unknown_category",
        "affectnet/train_set/images/3.jpg/0": "out_of_range",
    }


def test_published_counts_follow_the_form_and_the_classes():
    root = grown("affectnet", grow_affectnet_crops)
    assert affectnet.read(root, {}).card.expected_utterances == 291_650
    assert affectnet.read(root, {"classes": 7}).card.expected_utterances == 287_401


def test_an_empty_folder_is_an_error_that_names_the_lists(tmp_path):
    with pytest.raises(UserError, match=r"training\.csv"):
        affectnet.read(tmp_path, {})
