"""Rows held to checks one after the other: the first that a row fails is its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

#: What one rater says about one utterance in one family of targets, in one source: it is kept or
#: set aside whole.
JUDGEMENT = ("utterance_id", "rater", "source", "family")


@dataclass(frozen=True)
class RowCheck:
    """One thing that may be wrong with a row.

    Attributes:
        reason: typed reason, lower_case_words.
        is_bad: True on rows that fail; null counts as False.
        detail: one sentence with the remedy; computed on rows that fail.
    """

    reason: str
    is_bad: pl.Expr
    detail: pl.Expr


@dataclass(frozen=True)
class Judged:
    """Rows that pass every check, and those that fail one, with ``reason`` and ``detail``."""

    good: pl.DataFrame
    bad: pl.DataFrame


def judge(rows: pl.DataFrame, checks: Sequence[RowCheck]) -> Judged:
    """Part ``rows`` by ``checks``, in their order; the rows keep theirs."""
    place = pl.lit(None, pl.Int32)
    for number, check in reversed(list(enumerate(checks))):
        place = pl.when(check.is_bad.fill_null(False)).then(number).otherwise(place)
    numbered = rows.with_columns(_check=place)
    bad = numbered.filter(pl.col("_check").is_not_null()).rechunk()
    detail = pl.lit(None, pl.String)
    for number, check in enumerate(checks):
        detail = pl.when(pl.col("_check") == number).then(check.detail).otherwise(detail)
    reasons = {number: check.reason for number, check in enumerate(checks)}
    bad = bad.with_columns(
        reason=pl.col("_check").replace_strict(reasons, return_dtype=pl.String), detail=detail
    )
    good = numbered.filter(pl.col("_check").is_null())
    return Judged(good.drop("_check"), bad.drop("_check"))


def is_blank(name: str) -> pl.Expr:
    """Whether a column of text says nothing."""
    return pl.col(name).is_null() | (pl.col(name).str.strip_chars() == "")
