"""`affectloom plan --calibrate`: what nothing is known of is tried on a little of the data."""

import json
import re
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.versions import PARAMS as RECORDINGS
from flows import graph, stage
from flows.calibration import _beside, _timed
from models.errors import UserError
from tasks.layout import Layout

PARAMS = RECORDINGS | {
    "splits": {"protocol": "group_kfold", "group": "dialogue", "folds": 3},
    "methods": {"linear": {"modalities": ["audio"], "epochs": 20}},
    "train": {"seeds": [3, 5]},
    "execution": {"runner": "threads", "workers": 1},
}
COUNT = 24


@pytest.fixture
def recordings(clone) -> Iterator[Path]:
    """A project of short recordings, nothing of it computed."""
    folder = clone / "data/raw/mine"
    folder.mkdir(parents=True)
    lines = ["id,talk,file,valence"]
    for number in range(COUNT):
        tone = 9000 * np.sin(np.arange(2400) * (0.05 + 0.01 * number))
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(tone.astype("<i2").tobytes())
        lines.append(f"u{number},d{number // 4},{number}.wav,{1 + number % 9}")
    (folder / "utterances.csv").write_text("\n".join(lines) + "\n")
    (clone / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    stages = (clone / "dvc.yaml").read_text()
    graph.sync(graph.read_raw_params(clone), clone)
    yield clone
    (clone / "dvc.yaml").write_text(stages)  # which the next test finds


def estimates(command) -> dict[str, dict]:
    code, out, _ = command("plan", "--calibrate", "--json")
    assert code == 0
    return {one["address"]: one for one in json.loads(out)["stages"]}


def test_a_plan_tries_what_can_be_tried_and_says_what_has_to_run_before(recordings, command):
    code, _, err = command("plan", "--calibrate")
    assert code == 0
    assert "features@mine-prosody: not tried before `affectloom run ingest`" in err
    assert stage.main(["ingest", "--corpus", "mine"]) == 0

    features = estimates(command)["features@mine-prosody"]
    told = re.fullmatch(r"24 clips, each ([\d.e-]+) s when tried", features["told_by"])
    assert told
    assert features["seconds"] >= 24 * 0.9 * float(told[1]) > 0
    assert not (recordings / "data/features").exists()  # what was tried is nobody's out
    assert not (recordings / ".cache/affectloom/features").exists()

    for name in ("splits", "labels"):
        assert stage.main([name, "--corpus", "mine"]) == 0
    assert stage.main(["features", "--corpus", "mine", "--encoder", "prosody"]) == 0
    training = estimates(command)["train@mine-linear"]
    assert training["told_by"].startswith("at most 6 runs of 20 epochs, each ")
    assert training["seconds"] > 0
    assert not (recordings / "data/runs").exists()


def test_a_try_counts_only_for_the_parameters_that_it_had(recordings, command):
    assert stage.main(["ingest", "--corpus", "mine"]) == 0
    assert estimates(command)["features@mine-prosody"]["seconds"] is not None
    other = PARAMS | {"encoders": {"prosody": {"family": "prosody", "sequence": True}}}
    (recordings / "params.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    code, out, _ = command("plan", "--json")
    assert code == 0
    stages = {one["address"]: one for one in json.loads(out)["stages"]}
    assert stages["features@mine-prosody"]["seconds"] is None


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"features@mine-prosody": 3}'])
def test_damaged_estimates_are_none(recordings, command, text):
    file = recordings / ".cache/affectloom/calibration.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    code, out, _ = command("plan", "--json", "features")
    assert code == 0
    assert {one["seconds"] for one in json.loads(out)["stages"]} == {None}


def test_what_a_try_fetches_is_kept(recordings):
    inside = _beside(Layout(), recordings / "elsewhere", [])
    (inside.cache / "weights" / "fetched").touch()
    assert (recordings / ".cache/affectloom/weights/fetched").exists()


def test_a_stage_that_cannot_be_tried_is_told_and_the_others_are_tried(
    recordings, command, monkeypatch
):
    other = PARAMS | {
        "encoders": {
            "prosody": {"family": "prosody"},
            "voice": {"family": "hf_audio", "checkpoint": "nowhere"},
        },
        "inputs": {"audio": ["prosody", "voice"]},
    }
    (recordings / "params.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    assert stage.main(["ingest", "--corpus", "mine"]) == 0
    code, _, err = command("plan", "--calibrate")
    assert code == 0
    assert "features@mine-voice was not tried: " in err
    assert "features@mine-prosody was tried: " in err


@pytest.mark.parametrize(
    ("took", "expected"),
    [
        ([(1, 3.0), (4, 2.0), (16, 8.0)], (2.5, 0.5)),  # 5 s are enough after the second
        ([(1, 9.0)], (0.0, 9.0)),
        ([(1, 1.0), (4, 4.8)], (0.0, 1.2)),
    ],
)
def test_what_it_takes_to_begin_is_told_from_what_a_clip_costs(monkeypatch, took, expected):
    now = [0.0]
    monkeypatch.setattr("flows.calibration.time.monotonic", lambda: now[0])

    def run(seconds: float) -> None:
        now[0] += seconds

    tries = iter([(units, lambda seconds=seconds: run(seconds)) for units, seconds in took])
    assert _timed(tries) == pytest.approx(expected)


def test_nothing_to_try_is_no_division_by_zero():
    with pytest.raises(UserError, match="no utterances"):
        _timed(iter([]))
