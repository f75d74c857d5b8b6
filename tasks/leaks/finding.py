"""What a finding about a corpus or its splits is.

It is plain data for JSON: ``kind``, ``severity`` (error, warning, info), ``count``, the ``folds``
that it occurs in, ``examples``, and one ``sentence`` for a person.
"""

from typing import Literal, TypedDict

import polars as pl

Severity = Literal["error", "warning", "info"]

#: At most so many are told.
EXAMPLES = 5


class Finding(TypedDict):
    """One kind of finding; see the module."""

    kind: str
    severity: Severity
    count: int
    folds: list[int]
    examples: list[str]
    sentence: str


def finding(
    kind: str,
    severity: Severity,
    count: int,
    folds: pl.Series | list[int],
    examples: list[str],
    sentence: str,
) -> Finding:
    """The first examples stand for all; folds may repeat."""
    numbers = sorted(set(folds.to_list() if isinstance(folds, pl.Series) else folds))
    return Finding(
        kind=kind,
        severity=severity,
        count=count,
        folds=numbers,
        examples=examples[:EXAMPLES],
        sentence=sentence,
    )


def plural(count: int, noun: str) -> str:
    """The count with its noun; what stands in brackets after the noun stays as it is."""
    if count == 1:
        return f"{count} {noun}"
    head, _, tail = noun.partition(" (")
    return f"{count:,} {head}s" + (f" ({tail}" if tail else "")
