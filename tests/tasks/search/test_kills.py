"""Searches that are killed, spread over processes, or have candidates that kill their process."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from tasks import plain_context
from tasks.context import ForMethod, WorkerDied
from tasks.plain_context import PlainContext
from tasks.search import candidate as search_candidate
from tasks.search import stage as search
from tasks.search.candidate import FAILED, Outcome, train
from tasks.search.params import GenomeSearch
from tests.places import ROOT, here
from tests.tasks.corpus_factory import CORPUS, INPUTS

ENTRY = {"epochs": 1, "patience": 0, "targets": ["category"]}
PARAMS = GenomeSearch(
    population=4, generations=2, proxy_epochs=1, min_rows=4, finalists=2, final_seeds=1
)
THREE = GenomeSearch(population=3, generations=1, finalists=0)

#: A search in a process of its own.
_CHILD = """
import sys
from tests.tasks.search.test_kills import run
run(sys.argv[1], int(sys.argv[2]))
"""


def run(runner="threads", workers=1, params=PARAMS, trainer=train) -> dict[str, bytes]:
    """Search in the current folder; every file of it."""
    ctx = PlainContext("search", runner=runner, workers=workers, stream=io.StringIO())
    search.run(ForMethod(params, ENTRY, INPUTS), here(), ctx, CORPUS, "haemsa", trainer)
    folder = here().search(CORPUS, "haemsa")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def undisturbed(corpus, monkeypatch, tmp_path):
    """What one process makes without a break, in a cache of its own; leaves only the corpus."""
    with monkeypatch.context() as own:
        own.setenv("AFFECTLOOM_CACHE", str(tmp_path / "undisturbed"))
        found = run()
    shutil.rmtree(here().search(CORPUS, "haemsa"))
    return found


def finished() -> int:
    """Candidates that the cache has."""
    return len([*(here().cache / "search").glob("*.json")])


def kill_after(candidates: int, runner: str, workers: int) -> None:
    """Begin the search in a child and kill it once so many candidates are remembered."""
    command = [sys.executable, "-c", _CHILD, runner, str(workers)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment) as child:
        while finished() < candidates and child.poll() is None:
            time.sleep(0.01)
        child.kill()
    assert child.returncode == -signal.SIGKILL  # it had not come to its end
    assert not here().search(CORPUS, "haemsa").exists()


@pytest.mark.slow
def test_a_search_killed_in_the_middle_and_resumed_leaves_the_bytes_of_an_undisturbed_one(
    undisturbed,
):
    tried = undisturbed["history.jsonl"].count(b"\n")
    kill_after(2, "threads", 1)
    assert 2 <= finished() < tried
    assert run() == undisturbed


@pytest.mark.slow  # every worker imports torch
def test_processes_leave_the_bytes_of_one_also_when_they_are_killed(
    undisturbed, monkeypatch, tmp_path
):
    kill_after(3, "processes", 2)
    assert run("processes", 2) == undisturbed
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cold"))
    assert run("processes", 2) == undisturbed


# candidates that kill ----------------------------------------------------------------------------


def quick(layout, job):
    """Trains nothing: the sum of the genes is the fitness."""
    return Outcome("ok", sum(job.entry["genome"]) / 100, {}, 10)


def untrained(layout, job):
    """Where all is remembered."""
    raise AssertionError("a candidate was trained again")


@dataclass(frozen=True)
class Deadly:
    """Trains like ``quick``, but dies of the victims; never in the process of the tests."""

    victims: list[list[int]]
    tests: int = field(default_factory=os.getpid)

    def __call__(self, layout, job):
        if job.entry["genome"] in self.victims:
            assert os.getpid() != self.tests, "a candidate that kills was tried in the main process"
            time.sleep(0.2)  # others are at work by now
            os.kill(os.getpid(), signal.SIGKILL)
        return quick(layout, job)


def lines(found) -> list:
    return [json.loads(line) for line in found["history.jsonl"].splitlines()]


def in_forks(monkeypatch):
    """Worker processes that begin at once: those of a fork server import torch first."""
    fork = multiprocessing.get_context("fork")
    pool = partial(ProcessPoolExecutor, mp_context=fork)
    monkeypatch.setattr(plain_context, "make_pool", lambda runner, workers: pool(workers))


def test_a_candidate_that_kills_its_worker_is_recorded_and_the_search_goes_on(
    corpus, monkeypatch, tmp_path
):
    params = GenomeSearch(population=6, generations=1, finalists=0)
    undisturbed = lines(run(params=params, trainer=quick))
    victims = [undisturbed[i]["options"]["genome"] for i in (1, 4)]
    in_forks(monkeypatch)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "other"))
    found = run("processes", 2, params, Deadly(victims))
    for i, (was, one) in enumerate(zip(undisturbed, lines(found), strict=True)):
        if i in (1, 4):
            assert (one["status"], one["fitness"]) == ("failed", FAILED)
            assert "its process was killed" in one["error"]
        else:
            assert one == was
    assert run(params=params, trainer=untrained) == found
    assert not [*tmp_path.rglob("*.begun")]


def left_begun(places) -> list:
    """Make it so that a search was killed in the middle of these candidates; their genomes."""
    jobs = []

    def noting(layout, job):
        jobs.append(job)
        return quick(layout, job)

    run(params=THREE, trainer=noting)
    for place in places:
        search_candidate._file(here(), jobs[place]).unlink()
        search_candidate._mark(here(), jobs[place]).touch()
    return [jobs[place].entry["genome"] for place in places]


def test_what_a_search_had_begun_in_its_own_process_gets_another(corpus, monkeypatch):
    victims = left_begun([1])
    in_forks(monkeypatch)
    found = run(params=THREE, trainer=Deadly(victims))
    statuses = [one["status"] for one in lines(found)]
    assert statuses == ["ok", "failed", "ok"]


def test_what_workers_of_a_killed_search_had_begun_is_shared_out_again(corpus, monkeypatch):
    left_begun([1, 2])
    monkeypatch.setattr(PlainContext, "alone", None)
    found = run(params=THREE, trainer=quick)
    assert [one["status"] for one in lines(found)] == ["ok"] * 3


def test_workers_that_die_before_any_candidate_begins_end_the_search(corpus, monkeypatch):
    def dying(self, function, shards, what):
        raise WorkerDied("a worker process died")
        yield

    monkeypatch.setattr(PlainContext, "map", dying)
    with pytest.raises(WorkerDied):
        run()
