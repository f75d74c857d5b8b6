"""Where stages meet Prefect: what happens without an API, and when it stops answering."""

import json
import logging
import os
import socket
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from flows import bridge, execution
from flows.noting import Notes
from flows.pipeline import only_one
from flows.prefect import outbox
from flows.stage import may_pass
from models.errors import UserError
from tasks.context import Progress, WorkerDied
from tasks.params.model import ExecutionParams
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


def test_stages_of_a_pipeline_share_the_cores(monkeypatch, tmp_path):
    """One that is alone has all of them, and so has one whose workers somebody set."""
    monkeypatch.setattr(bridge, "worker_count", lambda settings: settings.workers or 4)
    with bridge.open_context("b", ExecutionParams()) as ctx:
        assert isinstance(ctx, PlainContext)
        assert ctx.share is None
    monkeypatch.setenv(bridge.PIPELINE_PID, "1")
    with bridge.open_context("b", ExecutionParams(workers=4)) as ctx:
        assert isinstance(ctx, PlainContext)
        assert ctx.share is None
    with bridge.open_context("b", ExecutionParams()) as ctx:
        assert isinstance(ctx, PlainContext)
        assert ctx.share is not None
        assert ctx.share() == 4  # nobody keeps notes here
        with only_one(tmp_path):
            notes = Notes(tmp_path, ["a", "b", "c"])
            for address, share in (("a", 4), ("b", 2), ("c", 1)):
                notes.started(address)
                assert ctx.share() == share
            notes.ended("a", "reproduced")
            assert ctx.share() == 2
            notes.close()


@pytest.mark.parametrize(("runner", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_cluster_whose_extra_is_absent_says_how_to_install_it(monkeypatch, runner, package):
    monkeypatch.setitem(sys.modules, package, None)
    with bridge.open_context("stage", ExecutionParams(runner=runner, workers=1)) as ctx:  # noqa: SIM117
        with pytest.raises(UserError, match=rf"{package} is not installed.*\[{runner}\]"):
            ctx.map(abs, [-1, -2], "shard")


def test_a_stage_of_a_run_that_is_shown_looks_for_no_server_itself(monkeypatch):
    monkeypatch.setattr(bridge, "has_api", lambda: pytest.fail("it waited for an answer"))
    monkeypatch.setenv(bridge.PIPELINE_RUN, str(uuid.uuid4()))
    with bridge.open_context("stage", THREADS) as ctx:
        assert isinstance(ctx, bridge.StageContext)
        assert list(ctx.map(abs, [-1], "shard")) == [1]


class Recorder:
    """A server that takes what Prefect's takes until ``dies_at`` requests, then is gone."""

    def __init__(self, dies_at: int) -> None:
        self.calls: list[tuple[str, dict]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if len(told.calls) >= dies_at:
                    self.close_connection = True
                    return  # no answer: the connection breaks
                told.calls.append((self.path, json.loads(body or b"{}")))
                text = json.dumps({"id": str(uuid.uuid4()), "state_type": "RUNNING"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PATCH = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/api"

    def final_states(self, kind: str) -> list[str]:
        """The last state of every run, in the order in which they were opened."""
        last = {
            path: body["state"]["type"]
            for path, body in self.calls
            if f"/{kind}/" in path and path.endswith("/set_state")
        }
        return list(last.values())


@pytest.fixture
def recorder(monkeypatch):
    """The server of a stage's context; an address that gives no answer is soon given up."""
    monkeypatch.setattr(outbox, "BUDGET_S", 0.3)
    monkeypatch.setattr(outbox, "has_api", lambda *patience_s: False)
    monkeypatch.setattr(bridge, "has_api", lambda: True)
    made = []

    def make(dies_at: int = 10**6) -> Recorder:
        made.append(Recorder(dies_at))
        monkeypatch.setenv("PREFECT_API_URL", made[-1].url)
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


@pytest.mark.parametrize("dies_at", [0, 1, 2, 3, 5, 8])
def test_an_api_that_dies_does_not_fail_the_work_and_is_said_once(recorder, caplog, dies_at):
    recorder(dies_at)
    with caplog.at_level(logging.WARNING), bridge.open_context("stage", THREADS) as ctx:
        assert list(ctx.map(abs, [-1, -2, -3, -4], "shard")) == [1, 2, 3, 4]
        ctx.progress(Progress(4, 4))
        ctx.log("a line")
        ctx.table("counts", [{"clips": 4}])
    said = [r.getMessage() for r in caplog.records if "going on without it" in r.getMessage()]
    assert len(said) == 1
    assert "Remote end closed connection" in said[0]


def test_shards_sent_ahead_of_a_failure_end_as_cancelled(recorder):
    told = recorder()
    go = threading.Event()

    def work(shard: int) -> int:
        if shard == 1:
            raise ValueError("broken")
        if shard:
            go.wait(20)  # so that what is behind it cannot begin
        return shard

    with pytest.raises(ValueError, match="broken"):  # noqa: PT012, SIM117
        with bridge.open_context("stage", THREADS) as ctx:
            threading.Timer(0.5, go.set).start()
            list(ctx.map(work, [0, 1, 2, 3, 4, 5], "shard"))
    states = told.final_states("task_runs")
    assert states[:2] == ["COMPLETED", "FAILED"]
    assert states[-1] == "CANCELLED"
    assert told.final_states("flow_runs") == ["FAILED"]


def test_an_interrupted_stage_ends_as_cancelled(recorder):
    told = recorder()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117
        with bridge.open_context("stage", THREADS) as ctx:
            for _ in ctx.map(abs, [-1, -2, -3], "shard"):
                raise KeyboardInterrupt
    assert told.final_states("flow_runs") == ["CANCELLED"]


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


def test_a_cluster_whose_worker_dies_at_its_start_is_tried_again(monkeypatch):
    def start(**options):
        raise RuntimeError("Nanny failed to start.")

    distributed = SimpleNamespace(Client=start)
    monkeypatch.setattr("flows.clusters.runner_package", lambda name, runner: distributed)
    with (
        pytest.raises(WorkerDied, match=r"died while it started \(Nanny failed") as died,
        bridge.open_context("stage", ExecutionParams(runner="dask", workers=2)) as ctx,
    ):
        list(ctx.map(abs, [-1, -2], "shard"))
    assert may_pass(died.value)
