"""Stages that begin warm: the same results, states and ends as those of new interpreters."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import walk as walking
from flows.plan import read_plan
from flows.walk import stage_environment, walk
from flows.warm import Server
from tests.flows.test_walk import Quiet, make_project, processes, states
from tests.places import ROOT

NAMES = ("a", "b", "c")


@pytest.fixture
def started(monkeypatch):
    """Addresses of the stages that began warm; nothing starts before the server can."""
    found: list[str] = []

    class Patient(Server):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            end = time.monotonic() + 60
            while not self.is_ready and time.monotonic() < end:
                time.sleep(0.05)

        def start(self, argv, environment):
            process = super().start(argv, environment)
            found.append(argv[-1])
            return process

    monkeypatch.setattr(walking, "Server", Patient)
    return found


def project(root, command: str, stage: str = "train"):
    """Three instances of a stage that need nothing, for DVC's eyes."""
    each = {"foreach": list(NAMES), "do": {"cmd": command, "outs": ["out-${item}"]}}
    return make_project(root, {stage: each})


@pytest.mark.parametrize(("stage", "is_heavy"), [("train", True), ("labels", False)])
def test_only_where_stages_compute_torch_is_imported(tmp_path, stage, is_heavy):
    root = project(tmp_path, "true", stage)
    walker = walking._Walker(root, read_plan(root), Quiet(), 1, dict, [])
    assert walker.server is not None
    while not walker.server.is_ready:
        time.sleep(0.05)
    maps = Path(f"/proc/{walker.server._process.pid}/maps").read_text(encoding="utf-8")
    walker.close()
    assert ("libtorch" in maps) == is_heavy


@pytest.fixture
def server(tmp_path):
    root = make_project(tmp_path, {"one": {"cmd": "sleep 982", "outs": ["never"]}})
    started = Server(root, stage_environment(1), is_heavy=False)
    while not started.is_ready:
        time.sleep(0.05)
    yield started
    started.close()


ARGV = ["--wait-for-lock", "repro", "--single-item", "one"]


def test_it_leaves_what_new_interpreters_leave(tmp_path, monkeypatch, started):
    warm, cold = (project(tmp_path / n, "echo ${item} > out-${item}") for n in ("warm", "cold"))
    outcomes = walk(warm, read_plan(warm), Quiet(), jobs=2)
    assert sorted(started) == [f"train@{name}" for name in NAMES]
    monkeypatch.setattr(walking, "_WORTH", 100)
    assert states(outcomes) == states(walk(cold, read_plan(cold), Quiet(), jobs=2))
    assert len(started) == len(NAMES)
    assert (warm / "dvc.lock").read_bytes() == (cold / "dvc.lock").read_bytes()


def test_a_failure_and_the_variables_of_the_moment(tmp_path, started):
    root = project(tmp_path, 'echo "${item}: $MOMENT" && test ${item} != b && touch out-${item}')
    watcher = Quiet()
    outcomes = walk(root, read_plan(root), watcher, 1, lambda: {"MOMENT": str(len(started))})
    assert states(outcomes) == {
        f"train@{name}": "failed" if name == "b" else "reproduced" for name in NAMES
    }
    assert [line[-1] for _, line in watcher.heard] == list("012")


def test_stopping_ends_what_began_warm(tmp_path, started):
    root = project(tmp_path, "sleep 981; touch out-${item}")

    class Soon(Quiet):
        def must_stop(self) -> bool:
            return len(processes("sleep 981")) == 2

    outcomes = walk(root, read_plan(root), Soon(), jobs=2)
    assert set(states(outcomes).values()) == {"stopped"}
    assert not processes("sleep 981")


def test_a_server_that_is_killed_takes_its_stages_along(server):
    process = server.start(ARGV, stage_environment(1))
    end = time.monotonic() + 60
    while not processes("sleep 982") and time.monotonic() < end:
        time.sleep(0.05)
    assert process.poll() is None
    server._process.kill()
    while (process.poll() is None or processes("sleep 982")) and time.monotonic() < end:
        time.sleep(0.05)
    assert process.poll() == -signal.SIGKILL
    assert not processes("sleep 982")
    assert not server.is_ready
    with pytest.raises(ConnectionError):
        server.start(ARGV, stage_environment(1))


def test_an_environment_that_is_too_large_is_said(server):
    with pytest.raises(OSError, match="too large"):
        server.start(ARGV, stage_environment(1) | {"LARGE": "x" * 200_000})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("labels --corpus nothing", 1, "error: there is no labels@nothing in params.yaml"),
        ("labels --nothing", 2, "unrecognized arguments: --nothing"),
    ],
)
def test_a_forked_stage_ends_as_a_command_does(tmp_path, arguments, code, said):
    (tmp_path / "params.yaml").write_text("{}\n")
    (tmp_path / ".dvc").mkdir()
    script = (
        "import os\nfrom dvc.stage.exceptions import StageCmdFailedError\nfrom flows import repro\n"
        f"try:\n    repro.run_command(None, 'python -m flows.stage {arguments}', cwd='.',\n"
        "                      env=dict(os.environ))\n"
        "except StageCmdFailedError as error:\n    print(error, flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"exited with {code}" in done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr
