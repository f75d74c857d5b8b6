"""Real Prefect servers for tests, and what stands between them and us when something breaks."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows import bridge
from tests.flows import test_walk
from tests.places import ROOT

#: A run of the pipeline of the current folder, without the checks of this project's parameters.
PIPELINE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from flows.pipeline import stop_on_signal, walk_shown
from flows.telling import has_failed
from flows.plan import read_plan
stop_on_signal()
root = Path.cwd()
sys.exit(has_failed(walk_shown(root, read_plan(root), [], 2, False)))
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


def start_server(home: Path, **more: str) -> tuple[subprocess.Popen, dict[str, str]]:
    port = free_port()
    environment = clean_environment(home, f"http://127.0.0.1:{port}/api") | more
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AFFECTLOOM_PREFECT", raising=False)
        patch.setenv("PREFECT_API_URL", environment["PREFECT_API_URL"])
        try:
            log = home / "server.log"
            wait_for(bridge.has_api, lambda: log.read_text()[-2000:], 300)
        except BaseException:
            stop_server(process)
            raise
    return process, environment


def stop_server(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


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
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@contextmanager
def flaky(url: str, share: float, seed: int = 0) -> Iterator[str]:
    """The address of a proxy before ``url`` that answers 500 to a ``share`` of all requests."""
    dice = random.Random(seed)
    host, port = url.split("/")[2].split(":")

    class Proxy(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if dice.random() < share:
                self.send_error(500, "at random")
                return
            connection = http.client.HTTPConnection(host, int(port), timeout=20)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            text = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            connection.close()

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}/api"
    finally:
        proxy.shutdown()
        proxy.server_close()


def pipeline_runs(server: dict[str, str]) -> list[dict]:
    found = ask(server, "flow_runs/filter", {"flows": {"name": {"any_": ["pipeline"]}}})
    return sorted(found, key=lambda run: run["created"])


def start_pipeline(
    root: Path, environment: dict[str, str], until: Path
) -> tuple[subprocess.Popen, Path]:
    """A pipeline at work, once the file ``until`` that one of its stages makes is there."""
    log = root / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", PIPELINE, str(ROOT)],
            cwd=root, env=environment, stdout=stream, stderr=stream,
        )  # fmt: skip
    wait_for(until.exists, lambda: log.read_text())
    return process, log


def wait_for(is_true, why=lambda: "", patience_s: float = 180.0) -> None:
    end = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < end, why()
        time.sleep(0.1)


def make_project(root: Path, stages: dict) -> Path:
    """A project of shell commands, with parameters that say nothing."""
    test_walk.make_project(root, stages)
    (root / "params.yaml").write_text("corpora: {}\n")
    return root
