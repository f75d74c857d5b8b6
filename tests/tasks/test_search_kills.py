"""A search that is killed or spread over processes leaves the bytes of an undisturbed one."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tasks import paths, search
from tasks.plain_context import PlainContext
from tasks.search_params import GenomeSearch
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus

REPOSITORY = Path(__file__).parent.parent.parent
ENTRY = {"epochs": 1, "patience": 0, "targets": ["category"]}
PARAMS = GenomeSearch(
    population=4, generations=2, proxy_epochs=1, min_rows=4, finalists=2, final_seeds=1
)

#: A search in a process of its own.
_CHILD = """
import sys
from tests.tasks.test_search_kills import run
run(sys.argv[1], int(sys.argv[2]))
"""


def run(runner, workers: int) -> dict[str, bytes]:
    """Search in the current folder; every file of it."""
    ctx = PlainContext("search", runner=runner, workers=workers, stream=io.StringIO())
    search.run(PARAMS, CORPUS, "haemsa", ENTRY, INPUTS, ctx)
    folder = paths.search(CORPUS, "haemsa")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    yield make_corpus(folds=1).write()
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def undisturbed(corpus, monkeypatch, tmp_path):
    """What one process makes without a break, in a cache of its own; leaves only the corpus."""
    with monkeypatch.context() as own:
        own.setenv("AFFECTLOOM_CACHE", str(tmp_path / "undisturbed"))
        found = run("threads", 1)
    shutil.rmtree(paths.search(CORPUS, "haemsa"))
    return found


def finished() -> int:
    """Candidates that the cache has."""
    return len([*(paths.cache() / "search").glob("*.json")])


def kill_after(candidates: int, runner: str, workers: int) -> None:
    """Begin the search in a child and kill it once so many candidates are remembered."""
    command = [sys.executable, "-c", _CHILD, runner, str(workers)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment) as child:
        while finished() < candidates and child.poll() is None:
            time.sleep(0.01)
        child.kill()
    assert child.returncode == -signal.SIGKILL  # it had not come to its end
    assert not paths.search(CORPUS, "haemsa").exists()


def test_a_search_killed_in_the_middle_and_resumed_leaves_the_bytes_of_an_undisturbed_one(
    undisturbed,
):
    tried = undisturbed["history.jsonl"].count(b"\n")
    kill_after(2, "threads", 1)
    assert 2 <= finished() < tried
    assert run("threads", 1) == undisturbed


@pytest.mark.slow  # every worker imports torch
def test_processes_leave_the_bytes_of_one_also_when_they_are_killed(
    undisturbed, monkeypatch, tmp_path
):
    kill_after(3, "processes", 2)
    assert run("processes", 2) == undisturbed
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cold"))
    assert run("processes", 2) == undisturbed
