"""Runs on several devices, and the line that says how long a run lasts."""

import io
import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load

from models.errors import UserError
from models.method import Spec
from tasks.batches.source import source_for
from tasks.context import ForMethod
from tasks.params.recipes import build, resolve
from tasks.plain_context import PlainContext
from tasks.train import runs as train_run
from tasks.train import stage as train
from tasks.train.stage import TrainParams
from tests.places import here
from tests.tasks.corpus_factory import CLASSES, CORPUS, INPUTS

ENTRY = {"epochs": 3, "patience": 0, "lr": 0.01, "dropout": 0.0, "targets": ["category"]}


def run(devices: int, method: str = "linear", entry=ENTRY) -> tuple[dict, dict]:
    ctx = PlainContext("train", stream=io.StringIO())
    params = TrainParams(seeds=[0], devices=devices, snapshot_mb=0)
    train.run(ForMethod(params, entry, INPUTS), here(), ctx, CORPUS, method)
    folder = here().runs(CORPUS, method) / "seed0/category"
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


# which epoch is chosen ----------------------------------------------------------------------------


def train_haemsa(**options) -> dict:
    """The report of a run on the category first and vad second."""
    entry = {"epochs": 4, "patience": 0, "targets": ["category", "vad"], **options}
    ctx = PlainContext("train", stream=io.StringIO())
    params = TrainParams(seeds=[0], snapshot_mb=0)
    train.run(ForMethod(params, entry, INPUTS), here(), ctx, CORPUS, "haemsa")
    file = here().runs(CORPUS, "haemsa") / "seed0/category+vad/report.json"
    return json.loads(file.read_text())


def test_second_tasks_choose_no_epoch_of_a_method_that_has_a_main_one(corpus):
    before = train_haemsa()
    for name in corpus.ids("validation"):
        corpus.label(name).update(valence=-0.9, arousal=0.9)
    corpus.write()
    after = train_haemsa()
    assert after["data"] != before["data"]
    assert after["history"] == before["history"]
    for name in corpus.ids("validation")[::2]:
        corpus.label(name)["category"] = "angry"
    corpus.write()
    assert train_haemsa()["validation_score"] != before["validation_score"]


def test_without_a_main_target_all_choose_alike(corpus):
    recipe = resolve("haemsa", {"targets": ["category", "vad"]})
    source = source_for(here(), recipe, CORPUS, INPUTS)
    _, validation = train_run.parts(here(), source, recipe, CORPUS, 0, ("category", "vad"))
    category, vad = (
        next(t for t in validation.targets if t.name == n) for n in ("category", "vad")
    )
    outputs = {
        "category": torch.nn.functional.one_hot(validation.truth(category).clamp(min=0), 3),
        "vad": torch.zeros(len(validation.rows), 3),
    }
    method = build(recipe, Spec(source.dims, validation.targets, 2, source.frame_dims))
    assert method.main == category
    assert train_run.score(validation, method, outputs) == 1.0
    method.main = None
    assert train_run.score(validation, method, outputs) == 0.5  # vad is constant, its CCC 0
    method.main = vad
    assert train_run.score(validation, method, outputs) == 0.0


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


# soft labels --------------------------------------------------------------------------------------


def test_soft_labels_train_another_network(corpus):
    for row in corpus.labels:
        if row["category"]:
            shares = [{"label": name, "share": 1 / len(CLASSES)} for name in CLASSES]
            row["category_shares"] = shares
    corpus.write()
    plain, _ = run(1)
    soft, report = run(1, entry=ENTRY | {"soft_labels": True})
    assert any(not torch.equal(value, soft[name]) for name, value in plain.items())
    assert report["training"]["soft_labels"]


def test_soft_labels_that_nobody_gave_are_an_error(corpus):
    corpus.write()
    with pytest.raises(UserError, match="does not tell how sure raters of category were"):
        run(1, entry=ENTRY | {"soft_labels": True})
