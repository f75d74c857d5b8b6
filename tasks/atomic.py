"""Files that are whole or not there: nobody reads a part of one."""

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from models.errors import UserError

#: Temporary files older than this belong to nobody.
STALE_S = 3600.0
#: A writer has marked its temporary file as its own by then.
_MARKED_S = 1.0
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_RUST_CODE = re.compile(r"\(os error (\d+)\)")


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
    temporary = Path(name)
    try:
        _marked(descriptor)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except UserError:
        raise
    except Exception as error:
        found = error if isinstance(error, OSError) else disk_error(error)
        if found is None:
            raise
        raise UserError(
            f"cannot write {path}: {found.strerror or found}; free space or allow writing there"
        ) from error
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder beside ``destination`` that takes its place, whole, on success."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(
            tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".tmp", dir=destination.parent)
        )
    except OSError as error:
        raise UserError(
            f"cannot write {destination}: {error.strerror or error}; free space or allow writing"
        ) from error
    descriptor = _marked(os.open(folder, os.O_RDONLY))
    try:
        yield folder
        folder.chmod(0o755)
        _take_place(folder, destination)
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _marked(descriptor: int) -> int:
    """Lock what is open as this process's own, which ends with it."""
    with contextlib.suppress(OSError):  # not every file system has locks: age tells there
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _take_place(folder: Path, destination: Path) -> None:
    """Put a complete folder where an old one, or a file, may be."""
    try:
        if destination.exists():
            old = folder.with_name(f"{folder.name}.old.tmp")
            destination.rename(old)
            folder.rename(destination)
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        else:
            folder.rename(destination)
    except OSError as error:
        raise UserError(
            f"cannot replace {destination} ({error.strerror or error}); is another run of the same "
            "stage at work? Run the stage again"
        ) from error


def disk_error(error: BaseException | None) -> OSError | None:
    """The full, limited or failing disk behind an error.

    Libraries written in Rust (safetensors, polars) raise errors of their own that name the system's
    code; torch raises one of its own while it handles the system's.
    """
    while error is not None:
        code = error.errno if isinstance(error, OSError) else None
        if code is None and (named := _RUST_CODE.search(str(error))):
            code = int(named[1])
        if code in _OF_DISKS:
            name = error.filename if isinstance(error, OSError) else None
            return OSError(code, os.strerror(code), name)
        error = error.__cause__ or error.__context__
    return None


def why(error: OSError) -> str:
    """What the system said; of a folder that was copied in part, what it said of the first file."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        source, _, reason = error.args[0][0]
        return f"{str(reason).split(': ')[0]}, first at {Path(source).name}"
    return error.strerror or str(error)


def sweep(path: Path) -> None:
    """Remove what writers of ``path`` left that were killed.

    A writer that lives holds a lock, so what is not locked is nobody's. Where files cannot be
    locked, or a library put a file of its own in the place of ours, an hour decides.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # its writer ends in this moment
            if _is_left(left):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _is_left(temporary: Path) -> bool:
    age = time.time() - temporary.stat().st_mtime
    if age > STALE_S:
        return True
    if age < _MARKED_S:
        time.sleep(_MARKED_S)  # its writer may be about to lock it
    descriptor = os.open(temporary, os.O_RDONLY)  # of a folder, too
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Write JSON the one way this project does: sorted keys, no NaN, a line end, atomic."""
    text = json.dumps(value, indent=indent, sort_keys=True, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
