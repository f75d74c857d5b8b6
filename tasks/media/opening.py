"""Open a media file once for all that is asked of it, or say why it cannot be."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks.media.types import Problem

MAX_PIXELS = 200_000_000  # a 200-megapixel picture takes 0.6 GB as RGB
_HEAD_BYTES = 64  # the first ones, which tell the format


class MediaFault(Exception):
    """Ends the reading of one file with a problem; never leaves the media layer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(frozen=True, eq=False)
class Medium:
    """An open media file; messages call it by its path.

    Attributes:
        path: what it was opened by.
        file: the handle; its position belongs to the one reader that takes it as it is.
        size: of the file in bytes.
        head: the first bytes.
    """

    path: Path
    file: BinaryIO
    size: int
    head: bytes

    def __str__(self) -> str:
        return str(self.path)

    def read_at(self, at: int, count: int) -> bytes:
        """Up to `count` bytes from a place on; no reader's position moves."""
        return os.pread(self.file.fileno(), count, at)

    def reader(self) -> Reader:
        """The file from its beginning, with a position of its own."""
        return Reader(self)


class Reader(io.RawIOBase):
    """One reader's view of a medium: several read the same handle, none moves another."""

    def __init__(self, medium: Medium) -> None:
        super().__init__()
        self.name = str(medium)  # FFmpeg counts it among the signs of a format
        self._medium, self._at = medium, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; all that are left for a negative number."""
        left = max(0, self._medium.size - self._at)
        data = self._medium.read_at(self._at, left if size < 0 else size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place counted from the beginning, from here or from the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._medium.size}[whence]
        if origin + offset < 0:
            raise OSError(errno.EINVAL, "a place before the beginning of the file")
        self._at = origin + offset
        return self._at


@contextmanager
def open_medium(path: Path) -> Iterator[Medium]:
    """Open a file; raises `MediaFault` where it cannot be read or has no bytes."""
    check_file(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
            size, head = os.fstat(file.fileno()).st_size, os.pread(file.fileno(), _HEAD_BYTES, 0)
        except OSError as error:
            raise MediaFault(Problem("not_readable", f"{path}: {error}")) from None
        yield Medium(path, file, size, head)


def check_file(path: Path) -> None:
    """Raise `MediaFault` unless the path is a readable file with at least one byte."""
    try:
        state = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaFault(Problem("missing", f"{path} does not exist")) from None
    except (OSError, ValueError) as error:
        raise MediaFault(Problem("not_readable", f"{path}: {error}")) from None
    # Opening a named pipe would wait for ever, so only plain files get further than this.
    if not stat.S_ISREG(state.st_mode):
        raise MediaFault(Problem("not_readable", f"{path} is not a plain file"))
    if state.st_size == 0:
        raise MediaFault(Problem("empty_file", f"{path} has zero bytes"))
    if not os.access(path, os.R_OK):
        raise MediaFault(Problem("not_readable", f"{path}: permission denied"))
