"""`affectloom ui`: the project's own server, started for real, asked as a stranger would ask it."""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows.prefect import home
from tests.browser.chromium import EXECUTABLE, browser
from tests.flows.prefect.servers import free_port, wait_for

slow = pytest.mark.slow


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "AFFECTLOOM_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_server_of_the_project_no_other_is_asked(place, monkeypatch):
    assert home.api_url() == ""
    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *given, **options: asked.append(given))
    assert not home.has_api()
    assert not asked


def test_the_server_that_was_noted_is_asked_and_a_dead_one_forgotten(place):
    home.note_server(place, "http://127.0.0.1:4999/api")
    assert home.api_url() == "http://127.0.0.1:4999/api"
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    note = {"url": "http://127.0.0.1:4999/api", "pid": dead.pid}
    (place / ".prefect/server.json").write_text(json.dumps(note))
    assert home.api_url() == ""
    assert home.server_pid(place) is None
    (place / ".prefect/server.json").write_text("{half a no")
    assert home.api_url() == ""


def test_the_users_own_server_goes_first(place, monkeypatch):
    home.note_server(place, "http://127.0.0.1:4999/api")
    home.make_auth(place)
    assert home.auth_string().startswith("affectloom:")
    monkeypatch.setenv("PREFECT_API_URL", "https://example.org/api/")
    assert home.api_url() == "https://example.org/api"
    assert home.auth_string() == ""  # our words are not for other servers


def test_the_auth_string_is_made_once_and_for_this_user_alone(place):
    first = home.make_auth(place)
    assert home.make_auth(place) == first
    assert len(first) > 30
    assert (place / ".prefect/auth").stat().st_mode & 0o777 == 0o600


def start(root: Path, *words: str) -> tuple[subprocess.Popen, Path]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AFFECTLOOM_"))}
    log = root / "ui.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", "ui", *words],
            cwd=root, env=kept | {"PYTHONPATH": str(root)}, stdout=stream, stderr=stream,
        )  # fmt: skip
    return process, log


@pytest.fixture
def shown(small_project):
    """A server of the small project at work, without taking runs."""
    port = free_port()
    process, log = start(small_project, "--port", str(port), "--no-serve")
    wait_for(lambda: "Prefect UI:" in log.read_text(), log.read_text)
    yield small_project, port, process
    if process.poll() is None:
        process.terminate()
        process.wait(timeout=180)


def status(url: str, auth: str = "", origin: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})
    if auth:
        import base64

        request.add_header("Authorization", f"Basic {base64.b64encode(auth.encode()).decode()}")
    if origin:
        request.add_header("Origin", origin)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers.get("access-control-allow-origin", "")
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("access-control-allow-origin", "")


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_runs_go_to_the_server_and_a_signal_ends_it(shown, number):
    root, port, process = shown
    url = f"http://127.0.0.1:{port}/api/flow_runs/filter"
    auth = (root / ".prefect/auth").read_text()
    assert status(url)[0] == 401
    assert status(url, auth)[0] == 200
    assert status(url, auth, "http://evil.example") == (200, "")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AFFECTLOOM_"))}
    code = "from flows.prefect.reporting import FlowReport\nr = FlowReport.open('f', 'mine')\n"
    code += "assert r.wait_for_id()\nr.finish('completed')"
    subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=kept | {"PYTHONPATH": str(root)}, check=True
    )
    process.send_signal(number)
    process.wait(timeout=180)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
    assert not (root / ".prefect/server.json").exists()


@slow
@pytest.mark.browser
@pytest.mark.skipif(not EXECUTABLE.exists(), reason=f"there is no {EXECUTABLE}")
def test_a_page_from_elsewhere_can_start_nothing(shown, tmp_path):
    root, port, _ = shown
    (tmp_path / "index.html").write_text("<!doctype html><html data-ready='yes'>evil</html>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given, **options):
            super().__init__(*given, directory=str(tmp_path), **options)

        def log_message(self, format: str, *args: object) -> None:
            pass

    elsewhere = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    api = f"http://127.0.0.1:{port}/api/flows/"
    try:
        with browser() as tab:
            tab.call("Page.navigate", url=f"http://127.0.0.1:{elsewhere.server_address[1]}/")
            wait_for(lambda: tab.run("document.documentElement?.dataset.ready") == "yes")
            for kind in ("application/json", "text/plain"):
                body = json.dumps({"name": "evil"})
                asked = f"fetch({api!r}, {{method: 'POST', body: {body!r}, headers: "
                asked += f"{{'Content-Type': {kind!r}}}}}).then(r => r.status, e => String(e))"
                assert tab.run(asked) == "TypeError: Failed to fetch"
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()
    auth = (root / ".prefect/auth").read_text()
    assert status(f"{api}name/evil", auth)[0] in (404, 405)


@slow
def test_in_the_background_until_it_is_stopped(small_project):
    shutil.rmtree(small_project / ".prefect", ignore_errors=True)
    port = str(free_port())
    process, log = start(small_project, "--port", port, "--background")
    assert process.wait(timeout=240) == 0, log.read_text()
    assert f"Prefect UI: http://127.0.0.1:{port}" in log.read_text()
    again, log = start(small_project, "--port", port)
    assert again.wait(timeout=180) == 1
    assert "this project's server runs at" in log.read_text()
    stop, log = start(small_project, "--stop")
    assert stop.wait(timeout=180) == 0, log.read_text()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5)
