"""What a pipeline that runs is at, in a file of its own: for `status` in another terminal.

Prefect may not be there, and DVC's own files say who holds a lock, not how far anybody is.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from models.errors import UserError
from tasks.atomic import replacing

#: Shortest time between two notes of what stages say; starts and ends are noted at once.
_PAUSE_S = 2.0


@dataclass
class At:
    """Where a stage is that runs.

    Attributes:
        since: seconds since 1970.
        said: what it told last, e.g. how far it is.
    """

    since: float
    said: str = ""


@dataclass
class Note:
    """Where a pipeline is.

    Attributes:
        pid: of its process.
        began: seconds since 1970.
        waiting: stages that it will look at.
        running: stages at work.
        done: stages that ended in this run, with how.
    """

    pid: int
    began: float
    waiting: list[str] = field(default_factory=list)
    running: dict[str, At] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)


class Notes:
    """Keeps a note up to date while a walk goes on."""

    def __init__(self, root: Path, waiting: Iterable[str]) -> None:
        self._file = _file(root)
        self._note = Note(os.getpid(), time.time(), list(waiting))
        self._written = 0.0
        self._write()

    def started(self, address: str) -> None:
        """A stage began."""
        self._note.waiting.remove(address)
        self._note.running[address] = At(time.time())
        self._write()

    def said(self, address: str, line: str) -> None:
        """A stage told something."""
        self._note.running[address].said = line
        if time.monotonic() - self._written > _PAUSE_S:
            self._write()

    def ended(self, address: str, state: str) -> None:
        """A stage ended, or will not begin."""
        self._note.running.pop(address, None)
        if address in self._note.waiting:
            self._note.waiting.remove(address)
        self._note.done[address] = state
        self._write()

    def close(self) -> None:
        """The walk is over: what it was at is history."""
        self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        """A note that cannot be written costs the view of others, not the work."""
        with contextlib.suppress(UserError), replacing(self._file) as temporary:
            temporary.write_text(json.dumps(asdict(self._note)), encoding="utf-8")
        self._written = time.monotonic()


def current(root: Path) -> Note | None:
    """What the pipeline is at that runs in this folder; None without one."""
    file, lock = _file(root), _lock(root)
    if not file.exists() or not lock.exists():
        return None
    with lock.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # held: it runs
        else:
            return None  # the note is that of a run which was killed
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # it ended in this very moment
        return None
    found["running"] = {address: At(**at) for address, at in found["running"].items()}
    return Note(**found)


def _file(root: Path) -> Path:
    return root / ".cache" / "affectloom" / "pipeline.json"


def _lock(root: Path) -> Path:
    return root / ".cache" / "affectloom" / "pipeline.lock"
