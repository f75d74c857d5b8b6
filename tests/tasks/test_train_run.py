"""Runs on several devices, and the line that says how long a run lasts."""

import io
import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load

from models.errors import UserError
from tasks import paths, train, train_run
from tasks.plain_context import PlainContext
from tasks.train import TrainParams
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus

ENTRY = {"epochs": 3, "patience": 0, "lr": 0.01, "dropout": 0.0, "targets": ["category"]}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    yield make_corpus(folds=1).write()
    torch.use_deterministic_algorithms(False)


def run(devices: int, method: str = "linear", entry=ENTRY) -> tuple[dict, dict]:
    ctx = PlainContext("train", stream=io.StringIO())
    params = TrainParams(seeds=[0], devices=devices, snapshot_mb=0)
    train.run(params, CORPUS, method, entry, INPUTS, ctx)
    folder = paths.runs(CORPUS, method) / "seed0/category"
    return load((folder / "weights.safetensors").read_bytes()), json.loads(
        (folder / "report.json").read_text()
    )


@pytest.mark.slow
def test_two_devices_train_the_run_of_one_and_the_report_says_so(corpus):
    weights, report = run(1)
    shared, told = run(2)
    assert "devices" not in report
    assert told["devices"] == 2
    assert told["chosen_epoch"] == report["chosen_epoch"]
    for name, value in weights.items():
        torch.testing.assert_close(shared[name], value, atol=1e-5, rtol=1e-4)


def test_a_method_that_sees_whole_batches_is_refused_before_any_process_starts(corpus):
    entry = {"backbone": "mmgcn", "plugin": "ogm_ge", "epochs": 2, "targets": ["category"]}
    with pytest.raises(UserError, match=r"methods\.balanced changes .* set train\.devices to 1"):
        run(2, "balanced", entry)


@pytest.mark.parametrize("devices", [0, -1, 1.5])
def test_devices_are_a_number_from_one(devices):
    with pytest.raises(ValidationError):
        TrainParams(devices=devices)


def lines(monkeypatch, seconds_an_epoch: float, epochs: int = 5, pause_s: float = 30.0) -> list:
    now = [0.0]
    monkeypatch.setattr(train_run.time, "monotonic", lambda: now[0])
    told = io.StringIO()
    clock = train_run.EpochClock("train x", epochs, pause_s, told)
    for epoch in range(1, epochs + 1):
        now[0] += seconds_an_epoch
        clock({"epoch": float(epoch)})
    return told.getvalue().splitlines()


def test_a_long_run_says_its_epoch_and_the_time_left(monkeypatch):
    assert lines(monkeypatch, 65.0)[:2] == [
        "train x: epoch 2 of at most 5, at most 3:15 left",
        "train x: epoch 3 of at most 5, at most 2:10 left",
    ]


def test_a_short_run_says_nothing_and_a_quick_epoch_not_every_time(monkeypatch):
    assert lines(monkeypatch, 1.0) == []
    assert len(lines(monkeypatch, 10.0, epochs=12)) == 4
