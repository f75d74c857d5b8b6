"""What a path must be before anything opens it, and how the reading of a file ends early."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tasks.media.types import Problem

MAX_PIXELS = 200_000_000  # a 200-megapixel picture takes 0.6 GB as RGB


class MediaFault(Exception):
    """Ends the reading of one file with a problem; never leaves the media layer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


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
