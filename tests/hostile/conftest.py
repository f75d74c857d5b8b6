"""Counts the trials of this folder; see `tests/tally.py`."""

from tests import tally


def pytest_sessionfinish() -> None:
    tally.write()
