"""Where stages meet Prefect: what happens without an API, and when it stops answering."""

import logging
import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from flows import bridge, execution
from models.errors import UserError
from tasks.context import Progress
from tasks.params import ExecutionParams
from tasks.plain_context import PlainContext

THREADS = ExecutionParams(runner="threads", workers=2)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No setting of the machine gets in; nothing listens."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "AFFECTLOOM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # the discard port
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def answering(monkeypatch):
    """Starts a server that answers every connection with the given bytes."""
    sockets = []

    def start(reply: bytes) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api/"
        monkeypatch.setenv("PREFECT_API_URL", url)

    yield start
    for listening in sockets:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_no_api_is_found_where_nothing_listens():
    assert not bridge.has_api()


@pytest.mark.parametrize(
    ("reply", "is_api"),
    [
        (http(b"true"), True),
        (http(b"<!doctype html><title>another program on this port</title>"), False),
        (http(b"true", "503 Service Unavailable"), False),
        (b"220 mail.example ESMTP\r\n", False),
        (b"", False),
    ],
)
def test_only_the_health_answer_of_prefect_counts_as_an_api(answering, reply, is_api):
    answering(reply)
    assert bridge.has_api() is is_api


def test_an_address_that_is_none_means_no_api(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "nonsense")
    assert not bridge.has_api()


def test_the_switch_turns_an_answering_api_off(answering, monkeypatch):
    answering(http(b"true"))
    assert bridge.has_api()
    monkeypatch.setenv("AFFECTLOOM_PREFECT", "off")
    assert not bridge.has_api()


def test_without_an_api_the_context_is_plain_and_prefect_is_not_imported(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "prefect"]:
        monkeypatch.delitem(sys.modules, name)
    with bridge.open_context("stage", THREADS) as ctx:
        assert type(ctx) is PlainContext
        assert list(ctx.map(abs, [-1, -2], "shard")) == [1, 2]
    assert "prefect" not in sys.modules


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_cluster_without_an_api_is_refused(runner):
    context = bridge.open_context("stage", ExecutionParams(runner=runner, workers=1))
    with pytest.raises(UserError, match=rf"runner is {runner}, which needs a Prefect API"):
        context.__enter__()


class FakeClient:
    """Answers like Prefect's client until ``dies_at`` calls were made, then fails."""

    def __init__(self, dies_at: int) -> None:
        self.dies_at = dies_at
        self.calls: list[tuple[str, tuple]] = []

    def __getattr__(self, name: str) -> Callable[..., SimpleNamespace]:
        def call(*args: object, **kwargs: object) -> SimpleNamespace:
            self.calls.append((name, args))
            if len(self.calls) > self.dies_at:
                raise ConnectionError("connection refused")
            return SimpleNamespace(id=uuid.uuid4())

        return call

    def final_states(self) -> list[str]:
        """The last state of every task run, in the order in which they were opened."""
        last = {a[0]: a[1].type.value for n, a in self.calls if n == "set_task_run_state"}
        return list(last.values())


@pytest.fixture
def client(monkeypatch):
    """A stage's context whose client is fake."""
    reporting = pytest.importorskip("flows.prefect.reporting")
    monkeypatch.setattr(bridge, "has_api", lambda: True)

    def make(dies_at: int = 10**6) -> FakeClient:
        fake = FakeClient(dies_at)
        monkeypatch.setattr(reporting, "get_client", lambda **options: fake)
        return fake

    return make


@pytest.mark.parametrize("dies_at", [0, 1, 2, 3, 5, 8])
def test_an_api_that_dies_does_not_fail_the_work_and_is_said_once(client, caplog, dies_at):
    fake = client(dies_at)
    with caplog.at_level(logging.WARNING), bridge.open_context("stage", THREADS) as ctx:
        assert list(ctx.map(abs, [-1, -2, -3, -4], "shard")) == [1, 2, 3, 4]
        ctx.progress(Progress(4, 4))
        ctx.log("a line")
        ctx.table("counts", [{"clips": 4}])
    said = [r.getMessage() for r in caplog.records if "going on without it" in r.getMessage()]
    assert len(said) == 1
    assert "connection refused" in said[0]
    assert len(fake.calls) == dies_at + 1  # nothing is asked of a dead server


def test_shards_sent_ahead_of_a_failure_end_as_cancelled(client):
    fake = client()

    def work(shard: int) -> int:
        if shard == 1:
            raise ValueError("broken")
        return shard

    with pytest.raises(ValueError, match="broken"):  # noqa: SIM117
        with bridge.open_context("stage", THREADS) as ctx:
            list(ctx.map(work, [0, 1, 2, 3, 4, 5], "shard"))
    assert fake.final_states() == ["COMPLETED", "FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]
    flow_states = [args[1].type.value for name, args in fake.calls if name == "set_flow_run_state"]
    assert flow_states == ["RUNNING", "FAILED"]


def test_an_interrupted_stage_ends_as_cancelled(client):
    fake = client()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117
        with bridge.open_context("stage", THREADS) as ctx:
            for _ in ctx.map(abs, [-1, -2, -3], "shard"):
                raise KeyboardInterrupt
    flow_states = [args[1].type.value for name, args in fake.calls if name == "set_flow_run_state"]
    assert flow_states[-1] == "CANCELLED"


def test_variables_go_before_params(monkeypatch):
    monkeypatch.setenv("AFFECTLOOM_EXECUTION__WORKERS", "3")
    monkeypatch.setenv("AFFECTLOOM_EXECUTION__RUNNER", "")  # set but empty = not set
    found = execution.execution({"execution": {"workers": 1, "runner": "threads"}})
    assert (found.workers, found.runner) == (3, "threads")
    assert execution.worker_count(found) == 3
    assert execution.worker_count(ExecutionParams()) == len(os.sched_getaffinity(0))


def test_a_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("AFFECTLOOM_EXECUTION__WORKERS", "many")
    with pytest.raises(UserError, match="variable AFFECTLOOM_EXECUTION__WORKERS is 'many'"):
        execution.execution({})


def test_a_misspelt_key_of_execution_names_the_nearest():
    with pytest.raises(UserError, match=r"no key execution\.runer; did you mean 'runner'"):
        execution.execution({"execution": {"runer": "threads"}})
