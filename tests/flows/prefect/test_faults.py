"""A real server that is killed, stopped or wrong at random while a run is at work."""

import os
import signal
from pathlib import Path

import pytest

from tests.flows.prefect.servers import (
    PIPELINE,
    clean_environment,
    flaky,
    make_project,
    pipeline_runs,
    run_python,
    start_pipeline,
    start_server,
    stop_server,
    task_states,
    wait_for,
)
from tests.flows.test_walk import processes

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


def waiting(root: Path) -> Path:
    """A stage that waits for the file ``go``, and one that follows."""
    wait = "touch began; while ! test -e go; do sleep 0.1; done; echo done > slow"
    return make_project(
        root,
        {
            "slow": {"cmd": wait, "outs": ["slow"]},
            "next": {"cmd": "cp slow next", "deps": ["slow"], "outs": ["next"]},
        },
    )


@pytest.fixture
def own_server(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    process, environment = start_server(home)
    yield process, environment
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGCONT)
    stop_server(process)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_work_goes_on_when_the_server_dies_or_hangs(own_server, tmp_path, number):
    process, environment = own_server
    root = waiting(tmp_path / "p")
    pipeline, log = start_pipeline(root, environment, root / "began")
    assert pipeline_runs(environment), "the probe of 1.5 s found no server: is the machine busy?"
    os.killpg(process.pid, number)
    wait_for(lambda: "going on without it" in log.read_text(), log.read_text)
    (root / "go").touch()
    pipeline.wait(timeout=180)
    assert pipeline.returncode == 0, log.read_text()[-3000:]
    assert (root / "next").read_text() == "done\n"
    assert log.read_text().count("going on without it") == 1
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_sigterm_ends_a_run_whose_server_is_gone(own_server, tmp_path, number):
    process, environment = own_server
    root = make_project(
        tmp_path / "p", {"slow": {"cmd": "touch began; sleep 983", "outs": ["never"]}}
    )
    pipeline, log = start_pipeline(root, environment, root / "began")
    os.killpg(process.pid, number)
    pipeline.send_signal(signal.SIGTERM)
    pipeline.wait(timeout=180)
    assert pipeline.returncode != 0
    assert not processes("sleep 983")
    assert "TerminationSignal" not in log.read_text()


def test_reporting_goes_on_when_the_server_comes_back(own_server, tmp_path):
    process, environment = own_server
    root = waiting(tmp_path / "p")
    pipeline, log = start_pipeline(root, environment, root / "began")
    os.killpg(process.pid, signal.SIGSTOP)
    wait_for(lambda: "going on without it" in log.read_text(), log.read_text)
    os.killpg(process.pid, signal.SIGCONT)
    (root / "go").touch()
    pipeline.wait(timeout=180)
    run = pipeline_runs(environment)[-1]
    assert run["state"]["type"] == "COMPLETED", log.read_text()
    states = task_states(environment, run["id"])
    assert states == {name: ("COMPLETED", "Reproduced") for name in ("slow", "next")}


def test_a_server_that_answers_500_at_random_is_told_everything(server, tmp_path):
    root = waiting(tmp_path / "p")
    (root / "go").touch()
    with flaky(server["PREFECT_API_URL"], share=0.4) as url:
        done = run_python(PIPELINE, root, {**server, "PREFECT_API_URL": url})
    assert done.returncode == 0, done.stderr
    assert (root / "next").read_text() == "done\n"
    if "going on without it" not in done.stderr:  # nor was the health probe refused
        run = pipeline_runs(server)[-1]
        assert run["state"]["type"] == "COMPLETED"
        assert len(task_states(server, run["id"])) == 2


def test_the_work_is_done_when_the_api_went_away_before_it_began(tmp_path):
    root = make_project(tmp_path / "p", {"a": {"cmd": "echo one > a", "outs": ["a"]}})
    # the probe found a server that was gone when the run was to be made
    code = PIPELINE.replace(
        "stop_on_signal()\n", "import flows.pipeline\nflows.pipeline.has_api = lambda: True\n", 1
    )
    done = run_python(code, root, clean_environment(tmp_path, "http://127.0.0.1:9/api"))
    assert done.returncode == 0, done.stderr
    assert (root / "a").read_text() == "one\n"
    assert done.stderr.count("going on without it") == 1
    assert "Traceback" not in done.stderr
