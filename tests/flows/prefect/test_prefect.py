"""With a real Prefect server: what its records show of stages and of the pipeline."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows import bridge
from flows.prefect.api import Api
from flows.prefect.reporting import FlowReport, reconcile_zombies
from tasks.params.model import ExecutionParams
from tests.flows.prefect.servers import (
    PIPELINE,
    ask,
    flow_runs,
    make_project,
    pipeline_runs,
    run_python,
    start_pipeline,
    task_states,
    wait_for,
)
from tests.flows.test_walk import processes
from tests.places import ROOT

pytestmark = [pytest.mark.prefect, pytest.mark.slow]
SETTINGS = ExecutionParams(runner="threads", workers=2)

_STAGE = """
import sys
sys.path.insert(0, sys.argv[1])
from flows.bridge import open_context
from tasks.params.model import ExecutionParams
with open_context("work", ExecutionParams(runner="threads", workers=2)) as ctx:
    print(list(ctx.map(abs, [-1, -2, -3], "shard")), file=open("out", "w"))
"""


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


def test_queued_shards_are_pending(inside):
    seen = {}
    both = threading.Barrier(2, timeout=60)  # neither worker goes on before both have looked

    def work(shard: int) -> int:
        if shard == 0:
            run = FlowReport.wait_for_id(ctx._report)
            wait_for(lambda: len(task_states(inside, str(run))) == 4)
            wait_for(lambda: task_states(inside, str(run))["shard 2/6"][0] == "RUNNING")
            seen.update(task_states(inside, str(run)))
            both.wait()
        return shard

    with bridge.open_context("queued", SETTINGS) as ctx:
        assert list(ctx.map(work, [0, 0, 1, 2, 3, 4], "shard")) == [0, 0, 1, 2, 3, 4]
    assert {seen[f"shard {n}/6"][0] for n in (3, 4)} == {"PENDING"}


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


def test_the_pipeline_shows_every_stage_once_and_child_flow_runs(server, tmp_path):
    code = tmp_path / "stage.py"
    code.write_text(_STAGE)
    root = make_project(
        tmp_path / "p",
        {
            "a": {"cmd": "echo one > a", "outs": ["a"]},
            "work": {"cmd": f"python {code} {ROOT}", "deps": ["a"], "outs": ["out"]},
            "last": {"cmd": "cp out last", "deps": ["out"], "outs": ["last"]},
        },
    )
    done = run_python(PIPELINE, root, server)
    assert done.returncode == 0, done.stderr
    assert (root / "out").read_text() == "[1, 2, 3]\n"
    run = pipeline_runs(server)[-1]
    assert run["state"]["type"] == "COMPLETED"
    states = task_states(server, run["id"])
    assert states == {name: ("COMPLETED", "Reproduced") for name in ("a", "work", "last")}
    (child,) = flow_runs(server, "work")
    assert len(task_states(server, child["id"])) == 3
    # the graph of the page: each piece of work is one node, and edges follow DVC's
    nodes = dict(Api_get(server, f"flow_runs/{run['id']}/graph-v2")["nodes"])
    labels = {node["label"]: node for node in nodes.values()}
    assert set(labels) == {"a", "stage-work / work", "last"}
    parents = {
        label: [nodes[edge["id"]]["label"] for edge in node["parents"]]
        for label, node in labels.items()
    }
    assert parents == {"a": [], "stage-work / work": ["a"], "last": ["stage-work / work"]}

    again = run_python(PIPELINE, root, server)
    assert again.returncode == 0, again.stderr
    states = task_states(server, pipeline_runs(server)[-1]["id"])
    assert states == {name: ("COMPLETED", "Cached") for name in ("a", "work", "last")}


def Api_get(server: dict[str, str], path: str) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", server["PREFECT_API_URL"])
        return Api().get(path)


def test_a_failed_stage_is_one_sentence_without_a_traceback(server, tmp_path):
    root = make_project(
        tmp_path / "p", {"a": {"cmd": "echo 'error: row 3 is empty'; exit 1", "outs": ["a"]}}
    )
    done = run_python(PIPELINE, root, server)
    assert done.returncode == 1
    assert "row 3 is empty" in done.stderr
    assert "Traceback" not in done.stderr
    run = pipeline_runs(server)[-1]
    assert run["state"]["type"] == "FAILED"
    assert "row 3 is empty" in run["state"]["message"]


def sleeping(root: Path, seconds: int) -> Path:
    cmd = f"touch began; sleep {seconds}"
    return make_project(root, {"slow": {"cmd": cmd, "outs": ["never"]}})


def test_cancelling_in_the_ui_stops_the_stages(server, tmp_path):
    root = sleeping(tmp_path / "p", 985)
    process, log = start_pipeline(root, server, root / "began")
    run = pipeline_runs(server)[-1]["id"]
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    ask(server, f"flow_runs/{run}/set_state", state)
    process.wait(timeout=180)
    assert process.returncode == 1, log.read_text()
    assert not processes("sleep 985")
    run = pipeline_runs(server)[-1]
    assert run["state"]["type"] == "CANCELLED", log.read_text()
    assert task_states(server, run["id"])["slow"][0] == "CANCELLED"


def test_cancelling_a_stage_that_dvc_started_stops_it(inside):
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117
        with bridge.open_context("alone", SETTINGS) as ctx:
            for _ in ctx.map(abs, [-1, -2], "shard"):
                run = ctx._report.wait_for_id()
                state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
                ask(inside, f"flow_runs/{run}/set_state", state)
                wait_for(lambda: False)
    assert flow_runs(inside, "alone")[0]["state"]["type"] == "CANCELLED"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_stages(server, tmp_path, number):
    root = sleeping(tmp_path / "p", 984)
    process, log = start_pipeline(root, server, root / "began")
    process.send_signal(number)
    process.wait(timeout=180)
    assert not processes("sleep 984")
    assert process.returncode != 0
    assert pipeline_runs(server)[-1]["state"]["type"] == "CANCELLED", log.read_text()


def test_runs_of_killed_processes_are_marked_as_crashed(inside):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    alive, dead = FlowReport.open("f", "alive"), FlowReport.open("f", "dead")
    tags = [f"host:{socket.gethostname()}", f"pid:{process.pid}"]
    assert alive.wait_for_id()
    Api().patch(f"flow_runs/{dead.wait_for_id()}", {"tags": tags})
    assert reconcile_zombies(Api()) >= 1
    assert flow_runs(inside, "dead")[0]["state"]["type"] == "CRASHED"
    assert flow_runs(inside, "alive")[0]["state"]["type"] == "RUNNING"
    alive.finish("completed")
    dead.finish("completed")


def test_a_stage_imports_no_prefect(inside, tmp_path):
    code = _STAGE + "\nassert 'prefect' not in sys.modules\n"
    done = run_python(code, tmp_path, {**os.environ, **inside})
    assert done.returncode == 0, done.stderr
