"""Adapter ``emodb`` on a generated tree."""

import pytest

from tasks.corpora.adapters import emodb
from tests.tasks.corpora.trees_media import by_id, grow_emodb, grown, ingest_and_label


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def test_letters_become_emotions():
    grown("emodb", grow_emodb)
    found = ingest_and_label("emodb")
    assert found.utterances.height == 14
    assert found.utterances["speaker"].unique().sort().to_list() == ["speaker_03", "speaker_16"]
    assert by_id(found.labels, "03a01Fa")["category"] == "happy"
    assert by_id(found.labels, "03a01Wa")["category"] == "angry"
    assert by_id(found.utterances, "16a01Na")["text"].startswith("Der Lappen")
    assert by_id(found.utterances, "16a01Na")["language"] == "de"
    row = by_id(found.utterances, "16a01Na")
    assert (row["sex"], row["age"], row["dataset"]) == ("female", 31, "emodb")


def test_names_outside_the_scheme_are_set_aside_with_a_reason():
    grown("emodb", grow_emodb)
    found = ingest_and_label("emodb")
    assert found.reasons() == {"bad_name": 4}
    assert "no emotion X" in by_id(found.quarantine, "03a01Xa")["detail"]
    assert "no speaker 99" in by_id(found.quarantine, "99a01Fa")["detail"]
    assert "no sentence a03" in by_id(found.quarantine, "03a03Fa")["detail"]


def test_the_card_has_ten_speakers_and_ten_sentences():
    assert len(emodb.SPEAKERS) == len(emodb.SENTENCES) == 10
    assert emodb.CARD.expected_utterances == 535
