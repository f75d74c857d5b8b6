"""Where the project lies, and where a test's tables lie."""

import io
from pathlib import Path

from tasks.layout import Layout
from tasks.plain_context import PlainContext

ROOT = Path(__file__).resolve().parent.parent


#: Hears everything and shows nothing.
QUIET = PlainContext(stream=io.StringIO())


def here() -> Layout:
    """The layout of the current folder, as the commands see it."""
    return Layout()
