"""DVC's last answer on what is stale, given again while nothing that DVC looks at has changed.

DVC takes seconds to look at a graph. Whether it would answer the same follows from what it reads:
the files of the folder, known as DVC knows them by inode, size and time of change; its settings;
and which objects its cache holds.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.errors import UserError
from tasks.atomic import replacing

#: Folders in which nothing of a graph lies, by their names anywhere and by their paths.
_PASSED_OVER = {"__pycache__", ".git", ".venv", ".cache", ".prefect", ".pytest_cache"}
_OF_DVC = {".dvc/cache", ".dvc/tmp"}


@dataclass(frozen=True)
class Sight:
    """What DVC looks at in a project, as it was at one moment.

    Args:
        settings: DVC's own files of configuration, of the machine and the user as well.
        cache: where DVC's objects lie, in folders by the first letters of their hashes.
        fingerprint: of all of it.
    """

    settings: tuple[str, ...]
    cache: str
    fingerprint: str

    @classmethod
    def of(cls, root: Path, settings: Iterable[str], cache: str) -> "Sight":
        """What there is now."""
        digest = hashlib.sha256(f"{sys.version} {version('dvc')}".encode())
        for line in _stamps(root, settings := tuple(settings), cache):
            digest.update(line)
        return cls(settings, cache, digest.hexdigest())


def recall(root: Path) -> list[Any] | None:
    """The answer that was kept, if DVC would give it again."""
    try:
        found = json.loads(_file(root).read_text(encoding="utf-8"))
        sight = Sight(tuple(found["settings"]), found["cache"], found["fingerprint"])
        answer = found["answer"]
    except (OSError, ValueError, KeyError, TypeError):  # none was kept, or it is damaged: ask DVC
        return None
    return answer if Sight.of(root, sight.settings, sight.cache) == sight else None


def keep(root: Path, before: Sight, answer: Sequence[Any]) -> None:
    """Keep an answer that DVC began to look for after ``before``, unless something changed since.

    A folder that cannot be written costs time, not the work.
    """
    if Sight.of(root, before.settings, before.cache) != before:
        return
    text = json.dumps({**vars(before), "answer": answer})
    with contextlib.suppress(UserError), replacing(_file(root)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _file(root: Path) -> Path:
    return root / ".cache" / "affectloom" / "status.json"


def _stamps(root: Path, settings: Sequence[str], cache: str) -> Iterator[bytes]:
    for path in (*settings, cache, *sorted(_folders(cache))):
        yield _stamp(path)
    seen: set[tuple[int, int]] = set()  # a link may lead back to a folder above it
    for here, folders, names in os.walk(root, followlinks=True):
        yield os.fsencode(here) + b"\n"
        found = os.stat(here)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        below = os.path.relpath(here, root)
        folders[:] = sorted(name for name in folders if _is_seen(os.path.join(below, name)))
        for name in sorted(names):
            yield _stamp(os.path.join(here, name))


def _is_seen(folder: str) -> bool:
    return os.path.basename(folder) not in _PASSED_OVER and os.path.normpath(folder) not in _OF_DVC


def _folders(cache: str) -> list[str]:
    """The folders by first letters; an object that comes or goes changes the time of its own."""
    try:
        with os.scandir(cache) as found:
            return [entry.path for entry in found if entry.is_dir()]
    except OSError:  # nothing was cached yet
        return []


def _stamp(path: str) -> bytes:
    try:
        found = os.stat(path)
    except OSError:  # not there, or a link to nowhere
        return os.fsencode(path) + b" none\n"
    known = f" {found.st_ino} {found.st_size} {found.st_mtime_ns}\n"
    return os.fsencode(path) + known.encode()
