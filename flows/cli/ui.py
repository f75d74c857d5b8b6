"""The commands ``ui`` and ``serve``: the project's Prefect server, and runs started there."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from flows.prefect import home
from models.errors import UserError

#: Prefect's server hears SIGTERM at once and SIGINT late.
_SIGNALS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
_START_S = 180.0


def ui(
    port: Annotated[int, typer.Option(help="Port of the server.")] = 4200,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    background: Annotated[bool, typer.Option(help="Return at once; stop with --stop.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop a server in the background.")] = False,
    with_serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Let runs be started in the UI.")
    ] = True,
) -> None:
    """Start the Prefect server and UI of this project; its runs show up there from then on."""
    root = Path.cwd()
    if stop:
        _stop(root)
        return
    _check_free(root, host, port)
    if background:
        _start_in_background(root, host, port, with_serve)
        return
    from flows.pipeline import stop_on_signal

    stop_on_signal()
    _run(root, host, port, with_serve)


def serve(
    cron: Annotated[
        str | None, typer.Option(help="When to run the whole pipeline, e.g. '0 3 * * *'.")
    ] = None,
) -> None:
    """Take runs that are started in the Prefect UI, one at a time (`affectloom ui` does so too)."""
    if not home.has_api():
        raise UserError("no Prefect server of this project answers; start one: affectloom ui")
    home.prepare_environment(Path.cwd())
    from flows.prefect.serving import serve_flows

    serve_flows(cron)


def _run(root: Path, host: str, port: int, with_serve: bool) -> None:
    from flows.walk import stop_groups

    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
    auth = home.make_auth(root)
    environment = _server_environment(root, url, auth)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host]
    processes = [_start([*command, "--port", str(port)], root, environment)]
    try:
        home.note_server(root, f"{url}/api")
        _wait_until_up(url, processes[0])
        print(f"Prefect UI: {url}  (runs of this project show up there; stop with Ctrl-C)")
        print(f"It asks once for the words in {home.FOLDER / 'auth'}: {auth}", flush=True)
        if with_serve:
            command = [sys.executable, "-m", "flows.cli.main", "serve"]
            processes.append(_start(command, root, dict(os.environ)))
        code = processes[0].wait()
        raise UserError(f"the Prefect server ended with exit status {code}")
    finally:
        stop_groups(processes[1:])  # Prefect's runner and the run at work end as on Ctrl-C
        stop_groups(processes[:1], _SIGNALS)
        home.forget_server(root)


def _server_environment(root: Path, url: str, auth: str) -> dict[str, str]:
    """The server takes requests of its own pages and of whoever knows the auth string."""
    given = {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(root.resolve() / home.FOLDER),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    fixed = {
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
    }
    return given | os.environ | fixed


def _start(command: list[str], root: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip


def _wait_until_up(url: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + _START_S
    while not home.has_api():
        if process.poll() is not None:
            raise UserError(f"the Prefect server ended with exit status {process.returncode}")
        if time.monotonic() > end:
            raise UserError(f"the server at {url} did not answer within {_START_S:.0f} s")
        time.sleep(0.3)


def _check_free(root: Path, host: str, port: int) -> None:
    if home.server_pid(root):
        where = home.api_url(root).removesuffix("/api")
        raise UserError(f"this project's server runs at {where}; stop it: affectloom ui --stop")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be used ({error.strerror}), maybe another "
                "project's server has it; choose another: affectloom ui --port 4201"
            ) from error


def _start_in_background(root: Path, host: str, port: int, with_serve: bool) -> None:
    log = root / home.FOLDER / "ui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.cli.main", "ui", "--host", host, "--port", str(port)]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--serve" if with_serve else "--no-serve"],
            cwd=root, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + _START_S
    while "Prefect UI:" not in log.read_text():
        if process.poll() is not None or time.monotonic() > end:
            process.terminate()
            raise UserError(f"the server did not start; {log} says why")
        time.sleep(0.3)
    print(log.read_text()[log.read_text().index("Prefect UI:") :].split("\n")[0])
    print(f"Its words for the UI are in {home.FOLDER / 'auth'}; stop it: affectloom ui --stop")


def _stop(root: Path) -> None:
    pid = home.server_pid(root)
    if pid is None:
        raise UserError("no server of this project runs")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 40
    while home.server_pid(root) == pid:
        if time.monotonic() > end:
            raise UserError(f"process {pid} does not end; its lines: {home.FOLDER / 'ui.log'}")
        time.sleep(0.2)
    print("stopped")
