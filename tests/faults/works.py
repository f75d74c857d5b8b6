"""Work of five kinds that trials kill: how each begins, what it writes and who is killed."""

import hashlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import psutil
import soundfile

from tests.faults.project import environment, run_project, start
from tests.places import here
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus

Process = BaseProcess | subprocess.Popen[str]

_PREDICT = ("predict", "data/raw/toy/1.wav", "--model", "model", "--no-overlay", "--out", "answers")
_MADE_BY_RUN = (".cache", ".dvc/cache", ".dvc/tmp", "dvc.lock", "dvc.yaml")
_STARTER = multiprocessing.get_context("forkserver")
_STARTER.set_forkserver_preload(["tests.faults.works", "tasks.features.stage", "tasks.train.stage"])


def strike_group(process: Process, chance: random.Random) -> bool:
    """Kill the work with all that it started."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet
        os.kill(process.pid, signal.SIGKILL)
    return True


def strike_group_or_parent(process: Process, chance: random.Random) -> bool:
    """Kill the work with all that it started, or alone: what it started must notice."""
    if chance.random() < 0.5:
        return strike_group(process, chance)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    return True


def strike_worker(process: Process, chance: random.Random) -> bool:
    """Kill a worker of the cluster, where one has begun."""
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    if workers:
        chance.choice(workers).kill()
    return bool(workers)


@dataclass(frozen=True)
class Work:
    """One kind of work.

    Attributes:
        name: in the table of docs/safety.md.
        kills: how many the table is made of.
        make: writes what the work needs into a folder.
        begin: starts it there.
        writes: what it writes and keeps; removed before it is begun anew.
        compared: the folder of its outputs, in the suffixes that are compared.
        strike: kills; returns whether there was something to kill.
        strikes: how many in one life at most.
        is_made_done: ``make`` leaves an undisturbed one, which took what ``length_s.txt`` says.
    """

    name: str
    kills: int
    make: Callable[[Path], None]
    begin: Callable[[Path], Process]
    writes: tuple[str, ...]
    compared: str
    strike: Callable[[Process, random.Random], bool] = field(default=strike_group)
    strikes: int = 1
    is_made_done: bool = False


def _extract() -> None:
    from tasks.features import stage
    from tasks.features.params import EncoderParams
    from tasks.layout import Layout
    from tasks.plain_context import PlainContext

    ctx = PlainContext("features", stream=io.StringIO())
    stage.run(EncoderParams.model_validate({"family": "prosody"}), Layout(), ctx, "toy", "prosody")


def _train() -> None:
    from tasks.context import ForMethod
    from tasks.layout import Layout
    from tasks.plain_context import PlainContext
    from tasks.train import stage

    entry = {"epochs": 40, "patience": 0, "lr": 0.01, "hidden": 8, "targets": ["category"]}
    asked = ForMethod(stage.TrainParams(seeds=[0, 1]), entry, INPUTS)
    ctx = PlainContext("train", stream=io.StringIO())
    stage.run(asked, Layout(), ctx, CORPUS, "early_fusion")


def _make_sounds(root: Path, clips: int = 40) -> None:
    """A corpus of short noises."""
    from tasks.tables.parquet import write_table
    from tasks.tables.utterances import UTTERANCES

    rng, rows = np.random.default_rng(0), []
    for number in range(clips):
        media = root / here().raw("toy") / f"{number}.wav"
        media.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(media, 0.1 * rng.standard_normal(16000), 16000)
        rows.append(
            {
                "utterance_id": f"toy/d/{number:03d}",
                "dialogue_id": "toy/d",
                "turn": number,
                "media": f"toy/{number}.wav",
                "media_sha256": hashlib.sha256(media.read_bytes()).hexdigest(),
            }
        )
    write_table(UTTERANCES, UTTERANCES.frame(rows), root / here().utterances("toy"))


def _forked(work: Callable[[], None], folder: Path) -> Process:
    """Start work in a process whose modules are loaded: a kill never falls into imports."""
    process = _STARTER.Process(target=_run_in, args=(work, folder))
    process.start()
    return process


def _run_in(work: Callable[[], None], folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ |= {"AFFECTLOOM_CACHE": str(folder / "cache"), "AFFECTLOOM_PREFECT": "off"}
    work()


def _make_run(folder: Path) -> None:
    shutil.copytree(run_project(), folder, symlinks=True, dirs_exist_ok=True)


def _make_corpus(folder: Path) -> None:
    make_corpus(folds=1).write(folder)


def _on_cluster(folder: Path) -> Process:
    """Training on a Dask cluster of two workers."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    env = environment(folder, PYTHONPATH=path) | {
        "AFFECTLOOM_EXECUTION__RUNNER": "dask",
        "AFFECTLOOM_EXECUTION__WORKERS": "2",
    }
    command = [sys.executable, "-m", "flows.stage", "train", "--corpus=toy"]
    return subprocess.Popen(
        [*command, "--method=early_fusion"], cwd=folder, env=env, text=True, start_new_session=True
    )


def _cli(*words: str) -> Callable[[Path], Process]:
    return lambda folder: start(folder, *words)


EXTRACTION = Work(
    "extraction",
    50,
    _make_sounds,
    partial(_forked, _extract),
    (str(here().features("toy", "prosody")), "cache"),
    str(here().features("toy", "prosody")),
)
TRAINING = Work(
    "training",
    30,
    _make_corpus,
    partial(_forked, _train),
    (str(here().runs("tiny", "early_fusion")), "cache"),
    str(here().runs("tiny", "early_fusion")),
)
WORKER = Work(
    "a cluster's worker",
    10,
    _make_run,
    _on_cluster,
    ("data/runs/*", ".cache/runs"),
    "data/runs",
    strike_worker,
    strikes=3,  # as often as a shard whose worker died is sent to another
)
PIPELINE = Work(
    "a whole run",
    20,
    _make_run,
    _cli("run"),
    ("data/[!r]*", "data/runs", "data/reports", *_MADE_BY_RUN),
    "data",
    strike_group_or_parent,
    is_made_done=True,
)
PREDICT = Work("predict", 20, _make_run, _cli(*_PREDICT), ("answers", ".cache"), "answers")
WORKS = (EXTRACTION, TRAINING, PREDICT, WORKER, PIPELINE)
