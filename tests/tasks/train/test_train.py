import gc
import hashlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from models.errors import UserError
from tasks.batches.source import Wanted
from tasks.context import ForMethod
from tasks.plain_context import PlainContext
from tasks.train import fitting, saving
from tasks.train import stage as train
from tasks.train.record import history_table
from tasks.train.stage import TrainParams
from tests.places import ROOT, here
from tests.tasks.corpus_factory import CORPUS, DIMS, INPUTS, make_corpus

ENTRY = {"epochs": 6, "patience": 0, "lr": 0.01, "hidden": 8, "targets": ["category"]}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    enter(tmp_path / "project", monkeypatch)
    yield make_corpus(folds=1)
    torch.use_deterministic_algorithms(False)


def enter(folder, monkeypatch):
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(folder / "cache"))


def run(entry=ENTRY, *, method="early_fusion", seeds=(0,), inputs=INPUTS, **context):
    ctx = PlainContext("train", stream=io.StringIO(), **context)
    train.run(ForMethod(TrainParams(seeds=list(seeds)), entry, inputs), here(), ctx, CORPUS, method)
    return contents(here().runs(CORPUS, method))


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def weights(found):
    return {name: data for name, data in found.items() if name.endswith(".safetensors")}


def test_a_run_folder_holds_config_report_weights_history_and_snapshots(corpus):
    corpus.write()
    found = run()
    names = ["config.json", "history.tsv", "report.json"]
    names += ["snapshots.safetensors", "weights.safetensors"]
    assert sorted(found) == [f"seed0/category/{name}" for name in names]
    config = json.loads(found["seed0/category/config.json"])
    report = json.loads(found["seed0/category/report.json"])
    assert report["versions"]["python"].count(".") == 1  # the same bytes under each patch release
    assert (config["seed"], config["fold"], config["speakers"]) == (0, 0, 2)
    assert config["dims"] == {"audio": 4, "video": 5, "text": 3}
    assert report["rows"] == {"train": 28, "validation": 15}
    assert report["training"]["lr"] == 0.01
    assert report["method_options"]["hidden"] == 8
    assert len(report["history"]) == 6
    scores = [epoch["score"] for epoch in report["history"]]
    assert report["validation_score"] == max(scores)
    assert report["chosen_epoch"] == scores.index(max(scores)) + 1
    files = {here().utterances(CORPUS), here().labels(CORPUS), here().splits(CORPUS)}
    files |= {here().features(CORPUS, encoder) / "0.parquet" for encoder in INPUTS.values()}
    assert report["data"] == {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }
    folder = here().runs(CORPUS, "early_fusion") / "seed0/category"
    chosen = load_file(folder / "weights.safetensors")
    snapshots = load_file(folder / "snapshots.safetensors")
    assert {name.split("/")[0] for name in snapshots} == {f"epoch000{n}" for n in range(1, 7)}
    at = f"epoch{report['chosen_epoch']:04d}"
    assert all(torch.equal(value, snapshots[f"{at}/{name}"]) for name, value in chosen.items())
    lines = found["seed0/category/history.tsv"].decode().splitlines()
    assert lines[0].split("\t")[:3] == ["step", "score", "lr"]
    assert len(lines) == 7


def test_several_folds_seeds_and_targets_have_folders_of_their_own(tmp_path, corpus):
    make_corpus(folds=2).write()
    run({"epochs": 1}, method="linear", seeds=(0, 3))
    folders = {str(f.parent.relative_to(here().runs(CORPUS, "linear")))
               for f in here().runs(CORPUS, "linear").rglob("config.json")}  # fmt: skip
    assert folders == {
        f"seed{seed}/fold{fold}/{target}"
        for seed in (0, 3) for fold in (0, 1) for target in ("category", "vad")
    }  # fmt: skip


def test_the_corpus_is_read_once_however_many_runs_there_are(tmp_path, monkeypatch, corpus):
    make_corpus(folds=2).write()
    reads, plain = [], Wanted.source

    def counted(self, *where):
        found = plain(self, *where)
        reads.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Wanted, "source", counted)
    quick = {**ENTRY, "epochs": 1, "targets": ["category", "vad"]}
    assert len([name for name in run(quick, seeds=(0, 1)) if name.endswith("config.json")]) == 8
    assert len(reads) == 1
    run({**quick, "lr": 0.02})
    assert len(reads) == 2  # another call of the stage: tables may have changed
    gc.collect()
    assert not any(held() for held in reads)  # nothing is held when a stage has ended


def test_the_planted_signal_is_learnt(corpus):
    corpus.write()
    report = run(ENTRY | {"epochs": 30})["seed0/category/report.json"]
    assert json.loads(report)["validation_score"] > 0.7


def written(corpus, entry):
    corpus.write()
    return run(entry)


def poison(corpus):
    """Other features, modalities and labels for every test row, and one row without a label."""
    test = corpus.ids("test")
    for encoder, values in corpus.features.items():
        for i, name in enumerate(test):
            values[name] = None if i % 3 == 0 else [1e6 * (i + 1)] * DIMS[encoder]
    corpus.features["eyes"] |= {name: None for name in test}
    for i, name in enumerate(test):
        row = corpus.label(name)
        row |= {"category": ["angry", None][i % 2], "valence": None, "arousal": -1.0}
    for row in corpus.utterances:
        if row["utterance_id"] in test:
            row["speaker"] = row["utterance_id"]  # five speakers a dialogue


def test_nothing_of_the_test_rows_reaches_a_network(corpus):
    entry = {key: value for key, value in ENTRY.items() if key != "targets"}
    clean = written(corpus, entry)
    poison(corpus)
    dirty = written(corpus, entry)
    assert len(weights(clean)) == 4  # of each target the chosen ones and those of all epochs
    assert weights(clean) == weights(dirty)
    for target in ("category", "vad"):
        assert clean[f"seed0/{target}/history.tsv"] == dirty[f"seed0/{target}/history.tsv"]
        assert clean[f"seed0/{target}/config.json"] == dirty[f"seed0/{target}/config.json"]


def test_training_rows_do_reach_the_network(corpus):
    before = weights(written(corpus, ENTRY))
    corpus.features["ears"][corpus.ids("train")[0]] = [5.0] * 4
    assert weights(written(corpus, ENTRY)) != before


class Killed(BaseException):
    """As abrupt as a signal: nothing catches it."""


def kill_at(call, monkeypatch, count):
    """Let the ``count``-th call of ``train.<call>`` be the last one."""
    owner, name = (saving.Snapshots, "keep") if call == "keep" else (saving, "save_state")
    original, calls = getattr(owner, name), []

    def deadly(*args):
        calls.append(1)
        original(*args)
        if len(calls) == count:
            raise Killed

    monkeypatch.setattr(owner, name, deadly)
    monkeypatch.setattr(saving.Saver, "share", math.inf)  # after every epoch
    monkeypatch.setattr(saving.Saver, "first_s", 0.0)
    monkeypatch.setattr(saving.Saver, "pause_s", 0.0)


@pytest.mark.parametrize("call", ["keep", "_save_state"])
def test_a_killed_run_goes_on_to_the_same_bytes(corpus, tmp_path, monkeypatch, call):
    corpus.write()
    undisturbed = run(seeds=(0, 1))
    enter(tmp_path / "disturbed", monkeypatch)
    corpus.write()
    with monkeypatch.context() as patch:
        kill_at(call, patch, 9)  # in the second run of the two
        with pytest.raises(Killed):
            run(seeds=(0, 1))
    assert not here().runs(CORPUS, "early_fusion").exists()
    (state,) = (tmp_path / "disturbed/cache/runs").glob("*/state.pt")
    for name in (".epoch0003.safetensors.x1.tmp", ".tmpM3cHBN"):  # ours and that of safetensors
        (state.parent / "snapshots" / name).write_bytes(b"half a file")
    epochs = []
    keep = saving.Snapshots.keep

    def counted(self, epoch, state):
        epochs.append(epoch)
        keep(self, epoch, state)

    monkeypatch.setattr(saving.Snapshots, "keep", counted)
    assert run(seeds=(0, 1)) == undisturbed
    first = epochs[0]
    assert first > 1, "it began again from nothing"
    assert epochs == list(range(first, 7))
    assert not list((tmp_path / "disturbed/cache/runs").iterdir())


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_killed_while_it_is_tidied_away_does_not_pass_for_a_whole_one(
    corpus, tmp_path, monkeypatch, count
):
    corpus.write()
    undisturbed = run()
    remove, removed = os.unlink, []

    def deadly(path, *, dir_fd=None):
        remove(path, dir_fd=dir_fd)
        folder = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        removed.extend([path] * folder.startswith(str(tmp_path / "project/cache/runs")))
        if len(removed) == count:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", deadly)
        with pytest.raises(Killed):
            run()
    assert run() == undisturbed
    assert not list((tmp_path / "project/cache/runs").iterdir())


def test_a_half_finished_run_of_other_options_is_not_taken_up(corpus, monkeypatch):
    corpus.write()
    with monkeypatch.context() as patch:
        kill_at("_save_state", patch, 3)
        with pytest.raises(Killed):
            run()
    other = run(ENTRY | {"lr": 0.02})
    assert json.loads(other["seed0/category/report.json"])["history"][0]["lr"] == 0.02


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_workers_change_no_byte(corpus, tmp_path, monkeypatch, runner):
    corpus.write()
    entry = ENTRY | {"epochs": 30, "batch_size": 4}  # long enough for two threads to meet
    alone = run(entry, seeds=(0, 1))
    enter(tmp_path / "beside", monkeypatch)
    corpus.write()
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert run(entry, seeds=(0, 1), runner=runner, workers=2) == alone
    finally:
        sys.setswitchinterval(usual_s)


def test_nothing_of_an_earlier_entry_stays(corpus):
    corpus.write()
    run(seeds=(0, 1))
    again = run(ENTRY | {"epochs": 2}, seeds=(1,))
    assert {name.split("/")[0] for name in again} == {"seed1"}
    assert again["seed1/category/history.tsv"].count(b"\n") == 3


def test_a_full_disk_leaves_the_old_runs_and_says_so(corpus, monkeypatch):
    corpus.write()
    before = run()

    copy = train.shutil.copytree

    def full(source, destination, **more):
        if "data" in Path(destination).parts:
            raise OSError(28, "No space left on device")
        return copy(source, destination, **more)

    monkeypatch.setattr(train.shutil, "copytree", full)
    with pytest.raises(
        UserError, match=r"^cannot write data/runs/.*: No space left on device; free"
    ):
        run(seeds=(4,))
    assert contents(here().runs(CORPUS, "early_fusion")) == before


def no_training(monkeypatch):
    def fit(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr(fitting, "fit", fit)


def test_one_class_in_the_last_fold_is_an_error_before_training(corpus, monkeypatch):
    corpus = make_corpus(folds=2)
    for name in corpus.ids("train", fold=1):
        corpus.label(name)["category"] = "happy"
    corpus.write()
    no_training(monkeypatch)
    with pytest.raises(UserError, match="training rows of fold 1 have the same category"):
        run()


def test_a_corpus_of_one_class_has_no_category_to_predict(corpus, monkeypatch):
    for row in corpus.labels:
        row["category"] = "happy"
    corpus.write()
    no_training(monkeypatch)
    with pytest.raises(UserError, match=r"no labels for target 'category'.*it has: vad"):
        run()


def test_a_corpus_without_judgements_is_an_error(corpus, monkeypatch):
    corpus.labels.clear()
    corpus.write()
    no_training(monkeypatch)
    with pytest.raises(UserError, match="corpus tiny has nothing to predict"):
        run({}, method="linear")


def test_a_validation_split_without_labels_is_an_error_before_training(corpus, monkeypatch):
    for name in corpus.ids("validation"):
        corpus.label(name)["category"] = None
    corpus.write()
    no_training(monkeypatch)
    with pytest.raises(UserError, match="the validation split of fold 0 has no rows labelled"):
        run()


def test_a_target_that_the_method_cannot_predict_is_an_error_before_training(corpus, monkeypatch):
    corpus.write()
    no_training(monkeypatch)
    entry = {"targets": ["vad"]}
    with pytest.raises(UserError, match=r"methods.spcl cannot predict vad \(values\).*category"):
        run(entry, method="spcl")


@pytest.mark.parametrize("values", [
    {"seeds": []}, {"seeds": [0, 0]}, {"seeds": [-1]}, {"seeds": ["x"]}, {"snapshot_mb": -1},
    {"snapshot_mb": float("inf")}, {"seed": 1},
], ids=str)  # fmt: skip
def test_settings_without_sense_are_refused(values):
    with pytest.raises(ValidationError):
        TrainParams(**values)


def test_a_loss_that_some_epochs_lack_shifts_no_column():
    history = [
        {"epoch": 1.0, "score": 0.5, "loss_a": 2.0},
        {"epoch": 2.0, "score": 0.6, "loss_b": 3.0, "loss_a": 1.0},
        {"epoch": 3.0, "score": 0.7, "loss_b": 4.0},
    ]
    assert history_table(history).splitlines() == [
        "step\tscore\tloss_a\tloss_b", "1\t0.5\t2\t", "2\t0.6\t1\t3", "3\t0.7\t\t4",
    ]  # fmt: skip


_DRIVER = """
import io, json, sys
from tasks.context import ForMethod
from tasks.plain_context import PlainContext
from tasks.train import saving
from tasks.train import stage as train
from tests.places import here
saving.Saver.first_s = saving.Saver.pause_s = 0.0
entry = json.loads(sys.argv[1])
ctx = PlainContext("train", stream=io.StringIO())
inputs = {"audio": "ears", "video": "eyes", "text": "words"}
asked = ForMethod(train.TrainParams(seeds=[0]), entry, inputs)
train.run(asked, here(), ctx, "tiny", "early_fusion")
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_of_training_changes_no_byte(corpus, tmp_path, monkeypatch):
    entry = ENTRY | {"epochs": 300}
    corpus.write()
    undisturbed = run(entry)
    enter(tmp_path / "disturbed", monkeypatch)
    corpus.write()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _DRIVER, json.dumps(entry)]
    cache, kills, last = tmp_path / "disturbed/cache/runs", 0, -1.0
    while kills < 3:
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            states = list(cache.glob("*/state.pt"))
            if states and states[0].stat().st_mtime > last:
                break
            time.sleep(0.01)
        time.sleep(0.05 * (kills + 1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        kills += 1
        last = max(state.stat().st_mtime for state in cache.glob("*/state.pt"))
    assert not here().runs(CORPUS, "early_fusion").exists()
    assert run(entry) == undisturbed


def test_saving_takes_a_twentieth_of_the_time_and_the_rest_trains(tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])

    def slow(path, state):
        written.append(state["epoch"])
        now[0] += 1.0

    monkeypatch.setattr(saving, "save_state", slow)
    beside = []
    saver = saving.Saver(tmp_path / "state.pt", lambda: beside.append(len(written)))
    saver.pause_s = 0.0
    for epoch in range(100):
        now[0] += 2.0
        saver(lambda epoch=epoch: {"epoch": epoch})
    assert written == list(range(0, 100, 10))
    assert beside == list(range(10)), "what stands beside the state is written before it"


def test_states_of_quick_epochs_are_far_apart(tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(saving, "save_state", lambda path, state: written.append(now[0]))
    saver = saving.Saver(tmp_path / "state.pt", lambda: None)
    for _ in range(130):
        now[0] += 1.0
        saver(dict)
    assert written == [2.0, 32.0, 62.0, 92.0, 122.0]


def test_a_run_that_may_begin_anew_at_no_loss_saves_nothing(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    saver = saving.Saver(tmp_path / "state.pt", lambda: None)
    saver(lambda: {"epoch": 1})
    assert not (tmp_path / "state.pt").exists()
    now[0] = saver.first_s
    saver(lambda: {"epoch": 2})
    assert (tmp_path / "state.pt").exists()
