"""The targets that a corpus has labels for."""

from collections.abc import Collection, Iterable

import polars as pl

from models.batch import Target
from tasks.targets import TARGETS, TargetRow

#: Columns of the labels table that tell.
COLUMNS = tuple(dict.fromkeys(column for row in TARGETS.values() for column in row.columns))


def find_targets(labels: Iterable[pl.DataFrame]) -> tuple[Target, ...]:
    """Every target that parts of the labels table have judgements for, with classes or columns."""
    names: dict[str, set[str]] = {name: set() for name in TARGETS}
    for part in labels:
        for name, row in TARGETS.items():
            names[name] |= _judged(row, part)
    found = [_target(row, names[name]) for name, row in TARGETS.items()]
    return tuple(target for target in found if target is not None)


def _judged(row: TargetRow, labels: pl.DataFrame) -> set[str]:
    """Columns of values, or classes, that these rows have a judgement of."""
    if row.kind == "values":
        return {name for name in row.columns if labels.get_column(name).count()}
    (column,) = row.columns
    given = labels.get_column(column).drop_nulls()
    if row.kind == "labels":
        given = given.explode().drop_nulls()
    return set(given.unique())


def _target(row: TargetRow, judged: Collection[str]) -> Target | None:
    """The target as a corpus has it; None without judgements, or with a single class."""
    if row.kind == "values":
        names = tuple(name for name in row.columns if name in judged)
        return Target(row.name, "values", names, row.low, row.high) if names else None
    least = 2 if row.kind == "category" else 1
    return Target(row.name, row.kind, tuple(sorted(judged))) if len(judged) >= least else None
