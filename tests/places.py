"""Where the project lies, where a test's tables lie, and a place where nothing grows."""

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.layout import Layout
from tasks.plain_context import PlainContext

ROOT = Path(__file__).resolve().parent.parent


#: Hears everything and shows nothing.
QUIET = PlainContext(stream=io.StringIO())


def here() -> Layout:
    """The layout of the current folder, as the commands see it."""
    return Layout()


@contextmanager
def small_files(limit: int = 4096) -> Iterator[None]:
    """No file grows beyond so many bytes meanwhile, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
