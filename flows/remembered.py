"""What was found right before and cannot have become wrong: checks that cost seconds, done once.

Whether every entry of params.yaml is sound, and whether dvc.yaml fits it, follows from params.yaml,
dvc.yaml and the files of the code alone. While none of these changes, `status` need not ask again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from flows.closure import PACKAGES
from models.errors import UserError
from tasks.atomic import replacing

_FILES = ("params.yaml", "dvc.yaml")


def is_right(root: Path, what: str) -> bool:
    """True when ``what`` was found right with these very files."""
    return _read(root).get(what) == _fingerprint(root)


def remember(root: Path, what: str) -> None:
    """Note that ``what`` is right now; a folder that cannot be written costs time, not the work."""
    found = _read(root) | {what: _fingerprint(root)}
    with contextlib.suppress(UserError), replacing(_file(root)) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")


def _file(root: Path) -> Path:
    return root / ".cache" / "affectloom" / "right.json"


def _read(root: Path) -> dict[str, str]:
    try:
        found = json.loads(_file(root).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # never noted, or damaged: all is looked at again
        return {}
    return found if isinstance(found, dict) else {}


def _fingerprint(root: Path) -> str:
    digest = hashlib.sha256()
    for name in _FILES:
        file = root / name
        content = file.read_bytes() if file.exists() else b""
        digest.update(hashlib.sha256(content).digest())
    for line in sorted(line for package in PACKAGES for line in _stamps(root, package)):
        digest.update(line.encode())
    return digest.hexdigest()


def _stamps(root: Path, package: str) -> Iterable[str]:
    """Path, size and time of change of every file; compiled ones come and go."""
    for here, folders, names in os.walk(root / package):
        folders[:] = [name for name in folders if name != "__pycache__"]
        below = os.path.relpath(here, root)  # the root is said in more than one way
        for name in names:
            found = os.stat(os.path.join(here, name))
            yield f"{below}/{name} {found.st_size} {found.st_mtime_ns}\n"
