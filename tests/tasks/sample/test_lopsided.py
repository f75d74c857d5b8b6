"""``benchmarks/planted.py``: dialogues in which one modality is easier to learn than the others."""

import json

from benchmarks import planted


def test_text_alone_says_more_than_any_other_and_less_than_all(tmp_path, monkeypatch):
    monkeypatch.setattr(planted, "SEEDS", planted.SEEDS[-2:])
    planted.lopsided(tmp_path)
    found = json.loads((tmp_path / "reference.json").read_text())
    alone = {name: found[f"logistic regression on {name} alone"] for name in planted.CUES}
    easiest = alone.pop("text")
    assert easiest > max(alone.values()) + 0.2
    assert found["logistic regression on the cues"] > easiest + 0.05
