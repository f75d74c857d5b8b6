"""Which Prefect server is this project's: what ``affectloom ui`` notes in the folder ``.prefect``.

Without ``PREFECT_API_URL`` only the server that this project started is asked: another project's on
the usual port is none of ours.
"""

import http.client
import json
import os
import secrets
import urllib.request
from pathlib import Path

#: Beside ``params.yaml``; git ignores it.
FOLDER = Path(".prefect")
_PROBE_S = 1.5


def api_url(root: Path = Path()) -> str:
    """Where the Prefect API is looked for; empty where none is known."""
    given = os.environ.get("PREFECT_API_URL") or _noted(root).get("url", "")
    return str(given).rstrip("/")


def auth_string(root: Path = Path()) -> str:
    """What the API asks of its clients; empty where none is known."""
    if os.environ.get("PREFECT_API_AUTH_STRING"):
        return os.environ["PREFECT_API_AUTH_STRING"]
    url, noted = api_url(root), _noted(root)
    file = root / FOLDER / "auth"
    # never handed to another server than the one it was made for
    return file.read_text().strip() if file.exists() and url == noted.get("url") else ""


def note_server(root: Path, url: str) -> None:
    """Remember that this process runs the project's server."""
    _write(root / FOLDER / "server.json", json.dumps({"url": url, "pid": os.getpid()}))


def forget_server(root: Path) -> None:
    """This process's server is gone."""
    file = root / FOLDER / "server.json"
    if _noted(root).get("pid") == os.getpid():
        file.unlink(missing_ok=True)


def server_pid(root: Path) -> int | None:
    """The process of the project's server, where it lives."""
    pid = _noted(root).get("pid")
    return int(pid) if pid else None


def make_auth(root: Path) -> str:
    """The project's auth string, made at the first call and readable by this user alone."""
    file = root / FOLDER / "auth"
    if not file.exists():
        _write(file, f"affectloom:{secrets.token_urlsafe(24)}")
    return file.read_text().strip()


def has_api(patience_s: float = _PROBE_S) -> bool:
    """Does a Prefect API answer? Asked without importing prefect, within ``patience_s``."""
    url = api_url()
    if not url or os.environ.get("AFFECTLOOM_PREFECT") == "off":
        return False
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=patience_s) as answer:
            # other servers like Prefect's ports too, and some answer every path with a page
            return answer.status == 200 and answer.read(16).strip() == b"true"
    except (OSError, ValueError, http.client.HTTPException):
        return False


def prepare_environment(root: Path) -> None:
    """Settings that Prefect reads while it is imported; what the user has set stays."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if url := api_url(root):
        if auth := auth_string(root):
            os.environ.setdefault("PREFECT_API_AUTH_STRING", auth)
        os.environ.setdefault("PREFECT_API_URL", url)
    os.environ.setdefault("PREFECT_HOME", str(root.resolve() / FOLDER))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")


def _noted(root: Path) -> dict[str, str | int]:
    """The noted server, where its process lives."""
    try:
        found = json.loads((root / FOLDER / "server.json").read_text())
        os.kill(int(found["pid"]), 0)
    except (FileNotFoundError, ValueError, KeyError, TypeError, ProcessLookupError):
        return {}
    except PermissionError:  # another user's process: the note is old
        return {}
    return found


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    temporary.replace(file)
