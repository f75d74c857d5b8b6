"""The flows that a Prefect user finds: called in a script, started and cancelled in the UI."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.prefect.home import has_api
from tasks.stages import STAGES
from tests.flows.prefect.servers import (
    ask,
    flow_runs,
    make_project,
    pipeline_runs,
    run_python,
    task_states,
    wait_for,
)

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

_CALL = """
from flows.prefect import stage
stage("sample")
"""


@pytest.fixture(scope="module")
def served(server, small_project):
    """`affectloom serve` at work."""
    environment = {**server, "PYTHONPATH": str(small_project)}
    log = small_project / "serve.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", "serve"],
            cwd=small_project, env=environment, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
    wait_for(lambda: len(deployments(server)) == len(STAGES) + 1, log.read_text)
    yield server
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=180)


def deployments(server: dict[str, str]) -> dict[str, dict]:
    found = ask(server, "deployments/filter", {})
    return {one["entrypoint"].rpartition(".")[2]: one for one in found}


def start(server: dict[str, str], name: str, **parameters: object) -> str:
    path = f"deployments/{deployments(server)[name]['id']}/create_flow_run"
    return ask(server, path, {"parameters": parameters})["id"]


def state_of(server: dict[str, str], run: str) -> tuple[str, str]:
    (found,) = ask(server, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    return found["state_type"], found["state"]["message"] or ""


def ended(server: dict[str, str], run: str) -> tuple[str, str]:
    final = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
    wait_for(lambda: state_of(server, run)[0] in final, lambda: str(state_of(server, run)), 240)
    return state_of(server, run)


def stages_at_work(root: Path) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "flows.stage" in line and (folder / "cwd").resolve() == root.resolve():
                found.append(line)
        except OSError:
            continue
    return found


def test_a_stage_called_in_a_script_is_a_flow_run(server, small_project):
    done = run_python(_CALL, small_project, {**server, "PYTHONPATH": str(small_project)})
    assert done.returncode == 0, done.stderr
    (run,) = flow_runs(server, "sample")
    assert run["state"]["type"] == "COMPLETED"


def test_a_stage_called_without_a_server_does_the_same_work(small_project):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    shutil.rmtree(small_project / "data", ignore_errors=True)
    done = run_python(_CALL, small_project, {**kept, "PYTHONPATH": str(small_project)})
    assert done.returncode == 0, done.stderr
    assert (small_project / "data/raw/sample").is_dir()
    assert not has_api()


def test_every_row_has_a_form_of_its_ids(served):
    found = deployments(served)
    for name, row in STAGES.items():
        asked = found[name]["parameter_openapi_schema"]
        assert sorted(asked["properties"]) == sorted(row.per)
        assert all(one["type"] == "string" for one in asked["properties"].values())
    asked = found["pipeline"]["parameter_openapi_schema"]["properties"]
    assert list(asked) == ["stages", "jobs", "pull", "overrides"]


def test_runs_started_in_the_ui_do_the_work_and_say_what_failed(served):
    # three at once: they share one place and go one after another
    first = start(served, "pipeline", stages=["sample"])
    second = start(served, "labels", corpus="none")
    third = start(served, "pipeline", stages=["smaple"])
    assert ended(served, first)[0] == "COMPLETED"
    assert set(task_states(served, first)) == {"sample"}
    state, message = ended(served, second)
    assert state == "FAILED"
    assert "there is no labels@none in params.yaml; there is: labels@sample" in message
    state, message = ended(served, third)
    assert state == "FAILED"
    assert message.startswith("there is no stage 'smaple'; stages: ")


def test_a_run_started_in_the_ui_is_cancelled_there(served, small_project):
    text = (small_project / "params.yaml").read_text()
    (small_project / "params.yaml").write_text(
        re.sub(r"(?m)^  dialogues: \d+", "  dialogues: 99", text)
    )
    try:
        run = start(served, "pipeline", stages=["sample"])
        wait_for(lambda: stages_at_work(small_project))
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        ask(served, f"flow_runs/{run}/set_state", state)
        assert ended(served, run)[0] == "CANCELLED"
        wait_for(lambda: not stages_at_work(small_project))
        again = start(served, "pipeline", stages=["labels@none"])  # the place is free again
        assert ended(served, again)[0] == "FAILED"
    finally:
        (small_project / "params.yaml").write_text(text)


_EXPERIMENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from flows import experiment
from flows.telling import has_failed
experiment.graph.sync = lambda *given: False  # this project's stages are its own
experiment.check_before_graph = lambda params: None
sys.exit(has_failed(experiment.run_experiment(Path.cwd(), [], ["train.lr=2"])))
"""


def test_changed_parameters_are_an_experiment_of_dvc(server, tmp_path):
    stages = {
        "a": {"cmd": "grep lr params.yaml > a", "params": ["train.lr"], "outs": ["a"]},
        "b": {"cmd": "cp a b", "deps": ["a"], "outs": ["b"]},
    }
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    root = make_project(tmp_path, stages)
    shutil.rmtree(root / ".dvc")
    (root / "params.yaml").write_text("train:\n  lr: 1\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    subprocess.run([*git, "add", "-A"], cwd=root, check=True)
    subprocess.run([*git, "commit", "-qm", "begin"], cwd=root, check=True)
    done = run_python(_EXPERIMENT, root, server)
    assert done.returncode == 0, done.stderr
    assert (root / "b").read_text() == "  lr: 2\n"
    command = [sys.executable, "-m", "dvc", "exp", "list", "--names-only"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert len(listed.stdout.split()) == 1
    run = pipeline_runs(server)[-1]
    assert run["name"] == "experiment train.lr=2"
    assert run["state"]["type"] == "COMPLETED"
    assert task_states(server, run["id"]) == {n: ("COMPLETED", "Reproduced") for n in "ab"}
    assert run["parameters"]["overrides"] == ["train.lr=2"]
