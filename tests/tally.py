"""Counts what became of trials with hostile files and disturbed runs.

``python -m benchmarks.safety`` runs the suites and makes the table of docs/safety.md of the counts.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

#: One sentence, a quarantine row or a problem with a reason; right handling; files that differ from
#: those of a quiet run or a process left; whatever else happened.
Word = Literal["refused", "survived", "lost", "wrong"]
#: Names a file for the counts of a run of pytest.
VARIABLE = "AFFECTLOOM_TALLY"

FOUND: dict[str, Counter[str]] = {}


class Trial:
    """One trial; it survived unless something else is said of it or raised in it."""

    word: Word = "survived"
    failed_as: Word = "wrong"

    def refused(self) -> None:
        """It was told, and nothing else came of it."""
        self.word = "refused"

    def may_lose(self) -> None:
        """From here on an assertion that fails is about something lost."""
        self.failed_as = "lost"


@contextmanager
def trial(kind: str) -> Iterator[Trial]:
    """Count one trial; an error that leaves it counts as wrong, or lost, and goes on."""
    one = Trial()
    try:
        yield one
    except BaseException:
        one.word = one.failed_as
        raise
    finally:
        note(kind, one.word)


def note(kind: str, word: Word, count: int = 1) -> None:
    """Count ``count`` trials of a kind, and write all counts where the environment says.

    At once, not when pytest ends: trials take hours, and what was tried before an end counts.
    """
    FOUND.setdefault(kind, Counter())[word] += count
    if file := os.environ.get(VARIABLE):
        Path(file).write_text(json.dumps(FOUND), encoding="utf-8")
