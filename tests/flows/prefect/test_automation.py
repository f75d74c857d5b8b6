"""The example of docs/operations.md: a failed run calls an address."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.flows.prefect.servers import PIPELINE, make_project, run_python, wait_for
from tests.places import ROOT

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


@pytest.fixture
def hook():
    """An address that keeps what it is told."""
    heard: list[dict] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_address[1]}/hook", heard
    listening.shutdown()
    listening.server_close()


def test_a_failed_run_calls_the_address_of_the_example(server, tmp_path, hook):
    url, heard = hook
    page = (ROOT / "docs/operations.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example
    assert "https://example.org/hook" in example[1]
    code = example[1].replace("https://example.org/hook", url)
    root = make_project(tmp_path / "p", {"bad": {"cmd": "exit 3", "outs": ["never"]}})
    made = run_python("import sys; sys.path.insert(0, sys.argv[1])\n" + code, root, server)
    assert made.returncode == 0, made.stderr
    failed = run_python(PIPELINE, root, server)
    assert failed.returncode != 0
    wait_for(lambda: heard)
    assert heard[0]["text"].startswith("pipeline 1 stage")
    assert "bad" in heard[0]["text"]
