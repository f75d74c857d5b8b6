"""The labels of a corpus as arrays: what is learnt, what is scored, how sure raters were."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from models.batch import Target
from tasks.batches.by_id import Part
from tasks.tables.label_rows import labels_in

#: What raters said; values of other kinds are derived, and no truth to score against.
SCORED_KINDS = ("rated", "self_report")
#: Of these, what the speakers said of themselves.
OWN_KINDS = ("self_report",)


@dataclass(frozen=True)
class Labels:
    """Labels of the utterances of a corpus, one entry per row.

    Attributes:
        values: target name to (N,) int64, (N, K) or (N, C) float32 as ``Batch.targets`` has them.
        scored: target name to bool of the same shape: labelled cells that raters or speakers gave.
        own: target of values to (N, K) bool: labelled cells that speakers gave of themselves.
        soft: target name to (N, C) float32 share of votes of each class, or (N, K) standard
            deviation over raters; NaN where unknown. Only targets whose table knows either.
        first: (N,) index of the label of ``categories`` that was listed first, -1 = unknown; None
            without that target.
    """

    values: Mapping[str, np.ndarray]
    scored: Mapping[str, np.ndarray]
    own: Mapping[str, np.ndarray]
    soft: Mapping[str, np.ndarray]
    first: np.ndarray | None

    @property
    def derived(self) -> dict[str, np.ndarray]:
        """Target of values to (N, K) bool: cells that nobody judged."""
        return {
            name: ~np.isnan(values) & ~self.scored[name]
            for name, values in self.values.items()
            if np.issubdtype(values.dtype, np.floating)
        }

    def narrowed(self, narrow: Mapping[str, tuple[Target, Target]]) -> "Labels":
        """Of each target, given as it is and as it is to be, the columns that are left."""

        def some(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: _columns(values, *narrow[name]) for name, values in arrays.items()}

        return replace(
            self,
            values=some(self.values),
            scored=some(self.scored),
            own=some(self.own),
            soft=some(self.soft),
        )


def _columns(values: np.ndarray, old: Target, new: Target) -> np.ndarray:
    return values if new == old else values[:, [old.names.index(name) for name in new.names]]


def labels_in_parts(
    count: int, parts: Iterable[Part], targets: Sequence[Target], folds: Sequence[int]
) -> dict[int, Labels]:
    """``labels_by_fold`` of all ``count`` utterances, of which few are held as rows of a table."""
    whole: dict[int, Labels] = {}
    for part in parts:
        found = labels_by_fold(part.ids, part.table, targets, folds)
        if not whole:
            whole = dict.fromkeys(folds, _room(next(iter(found.values())), count)) if found else {}
        if _differ(found) and not _differ(whole):
            whole = {fold: copy.deepcopy(labels) for fold, labels in whole.items()}
        for fold in found if _differ(whole) else list(found)[:1]:
            for room, arrays in zip(_arrays(whole[fold]), _arrays(found[fold]), strict=True):
                room[part.rows] = arrays
    return whole


def _differ(by_fold: Mapping[int, Labels]) -> bool:
    return len({id(labels) for labels in by_fold.values()}) > 1


def _room(labels: Labels, count: int) -> Labels:
    """Labels of so many utterances, of the same kinds as ``labels``, yet to be filled."""

    def empty(array: np.ndarray) -> np.ndarray:
        return np.empty((count, *array.shape[1:]), array.dtype)

    def empties(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: empty(array) for name, array in arrays.items()}

    return Labels(
        values=empties(labels.values),
        scored=empties(labels.scored),
        own=empties(labels.own),
        soft=empties(labels.soft),
        first=None if labels.first is None else empty(labels.first),
    )


def _arrays(labels: Labels) -> list[np.ndarray]:
    first = [] if labels.first is None else [labels.first]
    kept = (labels.values, labels.scored, labels.own, labels.soft)
    return [*(array for arrays in kept for array in arrays.values()), *first]


def labels_by_fold(
    ids: pl.Series, table: pl.DataFrame, targets: Sequence[Target], folds: Sequence[int]
) -> dict[int, Labels]:
    """Fold to the labels of ``ids`` that hold there; one object where folds do not differ."""
    if "fold" not in table.columns or not table.get_column("fold").count():
        same = _labels(ids, table, targets)
        return dict.fromkeys(folds, same)
    return {fold: _labels(ids, labels_in(table, fold), targets) for fold in folds}


def _labels(ids: pl.Series, table: pl.DataFrame, targets: Sequence[Target]) -> Labels:
    known = table.select("utterance_id").with_row_index("row")
    row = ids.to_frame("utterance_id").join(
        known, on="utterance_id", how="left", maintain_order="left"
    )["row"]
    many = next((target for target in targets if target.kind == "labels"), None)
    values = {target.name: _encode(target, table, row) for target in targets}
    soft = {target.name: _soft(target, table, row) for target in targets}
    return Labels(
        values=values,
        scored={
            t.name: _known(t, values[t.name]) & _is_of(SCORED_KINDS, t, table, row) for t in targets
        },
        own={
            t.name: _known(t, values[t.name]) & _is_of(OWN_KINDS, t, table, row)
            for t in targets
            if t.kind == "values"
        },
        soft={name: found for name, found in soft.items() if found is not None},
        first=None if many is None else _codes("first_category", many, table, row),
    )


def _taken(
    table: pl.DataFrame, columns: Sequence[pl.Expr], row: pl.Series, missing: float
) -> np.ndarray:
    """(N, K) of these columns at ``row``, a null among which is none of the table's rows.

    Only what is asked for is put in order: whole rows take ten times the memory.
    """
    return table.select(columns).select(pl.all().gather(row).fill_null(missing)).to_numpy()


def _encode(target: Target, table: pl.DataFrame, row: pl.Series) -> np.ndarray:
    if target.kind == "category":
        return _codes("category", target, table, row)
    nan = float("nan")
    if target.kind == "values":
        return _taken(table, [pl.col(n).cast(pl.Float32) for n in target.names], row, nan)
    is_in = [pl.col("categories").list.contains(name) for name in target.names]
    columns = [
        column.cast(pl.Float32).alias(name)
        for name, column in zip(target.names, is_in, strict=True)
    ]
    return _taken(table, columns, row, nan)


def _codes(column: str, target: Target, table: pl.DataFrame, row: pl.Series) -> np.ndarray:
    codes = pl.col(column).replace_strict(
        list(target.names), list(range(target.width)), default=-1, return_dtype=pl.Int64
    )
    return _taken(table, [codes], row, -1)[:, 0]


def _known(target: Target, values: np.ndarray) -> np.ndarray:
    return values >= 0 if target.kind == "category" else ~np.isnan(values)


def _is_of(kinds: Sequence[str], target: Target, table: pl.DataFrame, row: pl.Series) -> np.ndarray:
    """() or (N, K) bool; a column without kinds, and a cell without one, counts as rated."""
    rated = "rated" in kinds
    if target.kind != "values":
        return np.array(rated)
    found = [
        pl.col(f"{name}_kind").is_in(kinds).fill_null(rated).alias(name)
        if f"{name}_kind" in table.columns
        else pl.repeat(rated, pl.len()).alias(name)
        for name in target.names
    ]
    return _taken(table, found, row, rated)


def _soft(target: Target, table: pl.DataFrame, row: pl.Series) -> np.ndarray | None:
    if target.kind == "category":
        return _shares(target, table, row)
    stds = [f"{name}_std" for name in target.names]
    if target.kind != "values" or not set(stds) <= set(table.columns):
        return None
    return _taken(table, [pl.col(name).cast(pl.Float32) for name in stds], row, float("nan"))


def _shares(target: Target, table: pl.DataFrame, row: pl.Series) -> np.ndarray:
    """(N, C) share of each class among the votes for any of them; NaN where nobody voted."""
    column = table.select("category_shares").with_row_index("row")
    votes = column.explode("category_shares").unnest("category_shares").drop_nulls("label")
    votes = votes.filter(pl.col("label").is_in(target.names))
    code = pl.col("label").replace_strict(
        list(target.names), list(range(target.width)), return_dtype=pl.Int64
    )
    shares = np.zeros((table.height + 1, target.width), np.float32)  # the last: of no row
    places = votes.select(code).to_series().to_numpy()
    shares[votes.get_column("row").to_numpy(), places] = votes.get_column("share").to_numpy()
    shares = shares[row.fill_null(table.height).to_numpy()]
    sums = shares.sum(1, keepdims=True)
    return np.divide(shares, sums, out=np.full_like(shares, np.nan), where=sums > 0)
