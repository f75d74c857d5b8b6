"""With a real Prefect server: what its records show of stages and of the pipeline."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from flows import bridge
from tasks.params import ExecutionParams
from tests.flows.test_walk import _processes, make_project
from tests.places import ROOT

pytestmark = [pytest.mark.prefect, pytest.mark.slow]
SETTINGS = ExecutionParams(runner="threads", workers=2)

_PIPELINE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from flows.pipeline import only_one, stop_on_signal
from flows.telling import has_failed
from flows.prefect.pipeline import pipeline
from flows.plan import read_plan
stop_on_signal()
root = Path.cwd()
sys.exit(has_failed(pipeline(root, read_plan(root), [], 2, False)))
"""
_STAGE = """
import sys
sys.path.insert(0, sys.argv[1])
from flows.bridge import open_context
from tasks.params import ExecutionParams
with open_context("work", ExecutionParams(runner="threads", workers=2)) as ctx:
    print(list(ctx.map(abs, [-1, -2, -3], "shard")), file=open("out", "w"))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def clean_environment(home: Path, url: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AFFECTLOOM_"))}
    return kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "2",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }


def start_server(home: Path) -> tuple[subprocess.Popen, dict[str, str]]:
    port = free_port()
    environment = clean_environment(home, f"http://127.0.0.1:{port}/api")
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
    end = time.monotonic() + 120
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AFFECTLOOM_PREFECT", raising=False)
        patch.setenv("PREFECT_API_URL", environment["PREFECT_API_URL"])
        while not bridge.has_api():
            assert time.monotonic() < end, (home / "server.log").read_text()[-2000:]
            assert process.poll() is None, (home / "server.log").read_text()[-2000:]
            time.sleep(0.5)
    return process, environment


def stop_server(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process, environment = start_server(tmp_path_factory.mktemp("prefect"))
    yield environment
    stop_server(process)


def ask(server: dict[str, str], path: str, body: dict | None = None) -> list | dict:
    request = urllib.request.Request(
        f"{server['PREFECT_API_URL']}/{path}",
        json.dumps(body or {}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def flow_runs(server: dict[str, str], name: str) -> list[dict]:
    return ask(server, "flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})


def task_states(server: dict[str, str], run: str) -> dict[str, tuple[str, str]]:
    found = ask(server, "task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    return {task["name"]: (task["state"]["type"], task["state"]["name"]) for task in found}


def run_python(code: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def inside(server, tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith(("PREFECT_", "AFFECTLOOM_")):
            monkeypatch.delenv(name)
    for name, value in server.items():
        if name.startswith("PREFECT_"):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}):
        yield server


def test_a_stage_shows_one_task_run_for_each_shard(inside):
    with bridge.open_context("three", SETTINGS) as ctx:
        assert list(ctx.map(abs, [-1, -2, -3], "shard")) == [1, 2, 3]
    (run,) = flow_runs(inside, "three")
    assert run["state"]["type"] == "COMPLETED"
    assert {"affectloom", "stage:three"} <= set(run["tags"])
    states = task_states(inside, run["id"])
    assert {name: state[0] for name, state in states.items()} == {
        f"shard {n}/3": "COMPLETED" for n in (1, 2, 3)
    }


def test_a_stage_of_one_shard_opens_no_flow_run(inside):
    with bridge.open_context("single", SETTINGS) as ctx:
        assert list(ctx.map(abs, [-1], "shard")) == [1]
    assert flow_runs(inside, "single") == []


def _break_at_two(shard: int) -> int:
    if shard == 2:
        raise ValueError("clip q is broken")
    return shard


def test_a_failing_shard_fails_the_flow_run_and_raises_its_own_error(inside):
    with pytest.raises(ValueError, match="clip q is broken"):  # noqa: SIM117
        with bridge.open_context("breaks", SETTINGS) as ctx:
            list(ctx.map(_break_at_two, [1, 2, 3, 4, 5, 6, 7], "shard"))
    (run,) = flow_runs(inside, "breaks")
    assert run["state"]["type"] == "FAILED"
    assert run["state"]["message"] == "clip q is broken"
    states = task_states(inside, run["id"])
    assert states["shard 1/7"][0] == "COMPLETED"
    assert states["shard 2/7"][0] == "FAILED"
    assert {state[0] for state in states.values()} <= {"COMPLETED", "FAILED", "CANCELLED"}


def pipeline_runs(server: dict[str, str]) -> list[dict]:
    found = ask(server, "flow_runs/filter", {"flows": {"name": {"any_": ["pipeline"]}}})
    return sorted(found, key=lambda run: run["created"])


def test_the_pipeline_shows_every_stage_and_child_flow_runs(server, tmp_path):
    code = tmp_path / "stage.py"
    code.write_text(_STAGE)
    root = make_project(
        tmp_path / "p",
        {
            "a": {"cmd": "echo one > a", "outs": ["a"]},
            "work": {"cmd": f"python {code} {ROOT}", "deps": ["a"], "outs": ["out"]},
        },
    )
    done = run_python(_PIPELINE, root, server)
    assert done.returncode == 0, done.stderr
    assert (root / "out").read_text() == "[1, 2, 3]\n"
    run = pipeline_runs(server)[-1]
    assert run["state"]["type"] == "COMPLETED"
    states = task_states(server, run["id"])
    assert states["a"] == ("COMPLETED", "Reproduced")
    (child,) = flow_runs(server, "work")
    assert child["parent_task_run_id"]
    parent = ask(
        server, "task_runs/filter", {"task_runs": {"id": {"any_": [child["parent_task_run_id"]]}}}
    )
    assert parent[0]["flow_run_id"] == run["id"]
    assert len(task_states(server, child["id"])) == 3

    again = run_python(_PIPELINE, root, server)
    assert again.returncode == 0, again.stderr
    states = task_states(server, pipeline_runs(server)[-1]["id"])
    assert states == {"a": ("COMPLETED", "Cached"), "work": ("COMPLETED", "Cached")}


def test_a_failed_stage_is_one_sentence_without_a_traceback(server, tmp_path):
    root = make_project(
        tmp_path / "p", {"a": {"cmd": "echo 'error: row 3 is empty'; exit 1", "outs": ["a"]}}
    )
    done = run_python(_PIPELINE, root, server)
    assert done.returncode == 1
    assert "row 3 is empty" in done.stderr
    assert "Traceback" not in done.stderr
    run = pipeline_runs(server)[-1]
    assert run["state"]["type"] == "FAILED"
    assert "row 3 is empty" in run["state"]["message"]


def start_pipeline(
    root: Path, environment: dict[str, str], sleep: str
) -> tuple[subprocess.Popen, Path]:
    log = root / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", _PIPELINE, str(ROOT)],
            cwd=root, env=environment, stdout=stream, stderr=stream,
        )  # fmt: skip
    end = time.monotonic() + 60
    while not _processes(sleep):
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    return process, log


def test_cancelling_in_the_ui_stops_the_stages(server, tmp_path):
    root = make_project(tmp_path / "p", {"slow": {"cmd": "sleep 985", "outs": ["never"]}})
    process, log = start_pipeline(root, server, "sleep 985")
    run = pipeline_runs(server)[-1]["id"]
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    ask(server, f"flow_runs/{run}/set_state", state)
    process.wait(timeout=30)
    assert process.returncode == 1, log.read_text()
    assert not _processes("sleep 985")
    run = pipeline_runs(server)[-1]
    assert run["state"]["type"] == "CANCELLED", log.read_text()
    assert task_states(server, run["id"])["slow"][0] == "CANCELLED"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_stages(server, tmp_path, number):
    root = make_project(tmp_path / "p", {"slow": {"cmd": "sleep 984", "outs": ["never"]}})
    process, log = start_pipeline(root, server, "sleep 984")
    process.send_signal(number)
    process.wait(timeout=40)
    assert not _processes("sleep 984")
    assert process.returncode != 0
    assert "TerminationSignal" not in log.read_text().splitlines()[-1]


def test_runs_of_killed_processes_are_marked_as_crashed(inside):
    from flows.prefect.reporting import FlowReport, reconcile_zombies

    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    alive, dead = FlowReport.open("f", "alive"), FlowReport.open("f", "dead")
    tags = [f"host:{socket.gethostname()}", f"pid:{process.pid}"]
    dead.client.update_flow_run(dead.id, tags=tags)
    assert reconcile_zombies() >= 1
    assert flow_runs(inside, "dead")[0]["state"]["type"] == "CRASHED"
    assert flow_runs(inside, "alive")[0]["state"]["type"] == "RUNNING"
    alive.finish("completed")


def test_the_work_goes_on_when_the_server_dies(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    process, environment = start_server(home)
    try:
        root = make_project(
            tmp_path / "p",
            {
                "slow": {"cmd": "sleep 6.5; echo done > slow", "outs": ["slow"]},
                "next": {"cmd": "cp slow next", "deps": ["slow"], "outs": ["next"]},
            },
        )
        pipeline, log = start_pipeline(root, environment, "sleep 6.5")
        stop_server(process)
        pipeline.wait(timeout=110)
        assert pipeline.returncode == 0, log.read_text()[-3000:]
        assert (root / "next").read_text() == "done\n"
        assert log.read_text().count("going on without it") >= 1
    finally:
        stop_server(process)


def test_the_work_is_done_when_the_api_went_away_before_it_began(tmp_path):
    root = make_project(tmp_path / "p", {"a": {"cmd": "echo one > a", "outs": ["a"]}})
    environment = clean_environment(tmp_path, "http://127.0.0.1:9/api")
    done = run_python(_PIPELINE, root, environment)
    assert done.returncode == 0, done.stderr
    assert (root / "a").read_text() == "one\n"
    assert done.stderr.count("going on without it") == 1
    assert "Traceback" not in done.stderr
