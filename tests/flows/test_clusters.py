"""Dask and Ray on this machine: the same results as local processes, also when a worker dies."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import bridge
from tasks.params.model import ExecutionParams
from tests.places import ROOT

pytestmark = pytest.mark.slow
_STAGES = (
    "sample",
    "ingest --corpus sample",
    "labels --corpus sample",
    "splits --corpus sample",
    "features --corpus sample --encoder prosody",
    "train --corpus sample --method linear",
)
_EXTRAS = {"dask": "distributed", "ray": "ray"}


def extra(runner: str) -> str:
    if importlib.util.find_spec(_EXTRAS[runner]) is None:
        pytest.skip(f"the extra {runner} is not installed (requirements-cluster.lock)")
    return runner


@pytest.fixture(params=["dask", "ray"])
def settings(request, monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "AFFECTLOOM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return ExecutionParams(runner=extra(request.param), workers=2)


def write(shard: int) -> str:
    """What a worker leaves in the folder of the run."""
    Path(f"made-{shard}").write_text(str(shard**2))
    return f"{os.getcwd()} {shard**2}"


def die_once(shard: int) -> int:
    if shard == 2 and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return shard


def fail(shard: int) -> int:
    if shard == 1:
        raise ValueError("clip q is broken")
    return shard


def test_shards_run_in_the_folder_of_the_run_and_come_back_in_order(settings, tmp_path):
    with bridge.open_context("stage", settings) as ctx:
        found = list(ctx.map(write, [3, 1, 2], "shard"))
        assert found == [f"{tmp_path} {n}" for n in (9, 1, 4)]
        assert (tmp_path / "made-2").read_text() == "4"
        assert list(ctx.map(abs, [-1, -2], "again")) == [1, 2]  # the same cluster


def test_a_worker_that_is_killed_costs_no_result(settings, tmp_path):
    with bridge.open_context("stage", settings) as ctx:
        assert list(ctx.map(die_once, [0, 1, 2, 3, 4, 5], "shard")) == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "died").exists()


def test_a_failing_shard_raises_its_own_error(settings):
    with pytest.raises(ValueError, match="clip q is broken"):  # noqa: SIM117
        with bridge.open_context("stage", settings) as ctx:
            list(ctx.map(fail, [0, 1, 2], "shard"))


def test_workers_of_a_scheduler_elsewhere_share_by_path(tmp_path, monkeypatch):
    extra("dask")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    elsewhere.mkdir()
    here.mkdir()
    file = tmp_path / "scheduler.json"
    tools = [sys.executable, "-m"]
    scheduler = subprocess.Popen(
        [*tools, "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard",
         "--host", "127.0.0.1", "--scheduler-file", file],
        cwd=elsewhere,
    )  # fmt: skip
    worker = subprocess.Popen(
        [*tools, "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard",
         "--scheduler-file", file],
        cwd=elsewhere,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        import json

        address = json.loads(file.read_text())["address"]
        monkeypatch.chdir(here)
        there = ExecutionParams(runner="dask", address=address)
        with bridge.open_context("stage", there) as ctx:
            assert list(ctx.map(write, [1, 2, 3], "shard")) == [f"{here} {n}" for n in (1, 4, 9)]
        assert worker.poll() is None  # a scheduler that is not ours is left alone
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_stages_leave_the_same_bytes_as_local_processes(small_project, runner):
    extra(runner)
    bytes_of = {}
    for name in ("processes", runner):
        for made in ("data", ".cache"):
            shutil.rmtree(small_project / made, ignore_errors=True)
        for stage in _STAGES:
            run_stage(small_project, stage.split(), name)
        files = [f for f in sorted((small_project / "data").rglob("*")) if f.is_file()]
        bytes_of[name] = {str(f.relative_to(small_project)): f.read_bytes() for f in files}
    first, second = bytes_of.values()
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []


def run_stage(root: Path, words: list[str], runner: str) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AFFECTLOOM_"))}
    kept |= {
        "AFFECTLOOM_EXECUTION__RUNNER": runner,
        "AFFECTLOOM_EXECUTION__WORKERS": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
    }
    command = [sys.executable, "-m", "flows.stage", *words]
    done = subprocess.run(
        command, cwd=root, env=kept, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
