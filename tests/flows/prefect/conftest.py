"""One Prefect server for all tests of this folder, and a process that talks to it."""

import os

import pytest

from tests.flows.prefect.servers import start_server, stop_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    process, environment = start_server(tmp_path_factory.mktemp("prefect"))
    yield environment
    stop_server(process)


@pytest.fixture
def inside(server, tmp_path, monkeypatch):
    """This process uses the server, from an empty folder."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "AFFECTLOOM_")):
            monkeypatch.delenv(name)
    for name, value in server.items():
        if name.startswith("PREFECT_"):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}):
        yield server
