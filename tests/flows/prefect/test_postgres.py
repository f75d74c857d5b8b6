"""Prefect's server on PostgreSQL, as docs/operations.md sets it up for several users."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.flows.prefect.servers import (
    PIPELINE,
    free_port,
    make_project,
    pipeline_runs,
    run_python,
    start_server,
    stop_server,
    task_states,
    wait_for,
)

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("initdb"), reason="PostgreSQL is not installed here"),
]
#: PostgreSQL refuses to run as root.
_USER = "postgres" if os.geteuid() == 0 else None
#: What is tried is the database, not how soon it answers.
_PATIENT = PIPELINE.replace(
    "stop_on_signal()\n",
    "from flows.prefect import api, outbox\n"
    "api.TIMEOUT_S = outbox.BUDGET_S = outbox.PATIENCE_S = 60.0\n"
    "stop_on_signal()\n",
    1,
)


@pytest.fixture
def database():
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if _USER:
        shutil.chown(folder, _USER, _USER)
    port = free_port()
    command = ["initdb", "-D", folder / "data", "-U", "prefect", "-A", "trust", "--no-sync"]
    subprocess.run(
        command, cwd=folder, user=_USER, group=_USER, check=True, stdout=subprocess.DEVNULL
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["postgres", "-D", folder / "data", "-p", str(port), "-k", folder],
            cwd=folder, user=_USER, group=_USER, stdout=log, stderr=log,
        )  # fmt: skip
    ready = ["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-d", "postgres"]
    try:
        wait_for(lambda: subprocess.run(ready, check=False).returncode == 0)
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder)


def test_a_run_is_shown_by_a_server_on_postgresql(database, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    process, server = start_server(home, PREFECT_SERVER_DATABASE_CONNECTION_URL=database)
    try:
        root = make_project(tmp_path / "p", {"a": {"cmd": "echo one > a", "outs": ["a"]}})
        done = run_python(_PATIENT, root, server)
        assert done.returncode == 0, done.stderr
        (run,) = pipeline_runs(server)
        assert run["state"]["type"] == "COMPLETED", done.stderr
        assert task_states(server, run["id"]) == {"a": ("COMPLETED", "Reproduced")}
    finally:
        stop_server(process)
    assert not list(home.glob("*.db"))  # all that there is lies in PostgreSQL
