"""Files that are whole or not there: nobody reads a part of one."""

import contextlib
import glob
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from models.errors import UserError

#: Temporary files older than this belong to nobody.
STALE_S = 3600.0


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place, whole and on disk, on success.

    Readers see the old file or the new one, never a part; a failure leaves the old one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or allow writing there"
        ) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or allow writing there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what writers of ``path`` left that were killed: nobody has touched it for an hour."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # its writer ends in this moment
            if left.is_file() and time.time() - left.stat().st_mtime > STALE_S:
                left.unlink()


def write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Write JSON the one way this project does: sorted keys, no NaN, a line end, atomic."""
    text = json.dumps(value, indent=indent, sort_keys=True, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
