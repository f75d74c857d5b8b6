"""What may lie in a corpus's raw folder: files and folders, and links to those.

DVC reads all of it to know whether it changed, and would wait for ever at a pipe.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from models.errors import UserError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_file(path: Path) -> None:
    """Raise where ``path`` is neither a file nor a folder; one that is not there is no matter."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:  # a link that leads to itself, a disk that does not answer
        raise UserError(f"{path} cannot be looked at ({error.strerror}); remove it") from error
    if kind in _KINDS:
        raise UserError(f"{path} is {_KINDS[kind]} and no file; take it out of the folder")


def check_folder(folder: Path) -> None:
    """Raise at the first thing below ``folder`` that reading would hang or go round at."""
    for path in _odd(folder, (os.path.realpath(folder),)):
        check_file(path)
        raise UserError(
            f"{path} is a link to a folder that it lies in, so its files would never end; remove it"
        )


def _odd(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """What is no plain file or folder; links to folders are followed, as DVC follows them."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # not there or not readable: ingest has a sentence for that
        return
    for entry in entries:
        try:
            if entry.is_file():
                continue
            is_folder = entry.is_dir()
        except OSError:  # a link that leads to itself
            is_folder = False
        path = Path(entry.path)
        if not is_folder:
            if not entry.is_symlink() or _is_there(path):
                yield path
            continue
        real = os.path.realpath(path)
        if entry.is_symlink() and real in above:
            yield path
        else:
            yield from _odd(path, (*above, real))


def _is_there(link: Path) -> bool:
    """Whether a link leads somewhere, be it to itself; DVC leaves out those that lead nowhere."""
    try:
        link.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
