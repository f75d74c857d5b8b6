"""Several raters to one label: mean, median, evaluator-weighted estimator, votes.

Sums run in numpy in the order of the rows, which the caller sorts: the same judgements give the
same bits, however they were shuffled and however many threads polars uses.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

MergeRule = Literal["mean", "median", "ewe"]

#: A rater's correlation with the others means nothing on fewer items.
MIN_ITEMS = 3


@dataclass(frozen=True)
class Merged:
    """One merged target over N items.

    Attributes:
        value: (N,) merged value, NaN where nobody judged.
        std: (N,) standard deviation over raters (ddof 1), NaN with fewer than two; about the
            weighted mean for ``ewe``, else about the mean.
        count: (N,) raters.
        is_fallback: (N,) True where all raters have weight 0 and the mean was taken instead.
        weights: (K,) weight of each rater; all 1 unless the rule is ``ewe``.
    """

    value: np.ndarray
    std: np.ndarray
    count: np.ndarray
    is_fallback: np.ndarray
    weights: np.ndarray


def merge_numbers(
    item: np.ndarray,
    rater: np.ndarray,
    value: np.ndarray,
    n_items: int,
    rule: MergeRule,
    leave_one_out: bool = False,
    trusted: np.ndarray | None = None,
) -> Merged:
    """Merge R judgements of one target into N items.

    Args:
        item: (R,) which item, 0..N-1; rows sorted by item, then rater.
        rater: (R,) which rater, 0..K-1; a rater judges an item at most once.
        value: (R,) what the rater said.
        n_items: N.
        rule: how to merge.
        leave_one_out: for ``ewe``, correlate a rater with the mean of the others.
        trusted: (R,) rows that rater weights are learnt from; all by default.
    """
    count = np.bincount(item, minlength=n_items)
    n_raters = int(rater.max()) + 1 if len(rater) else 0
    weights = np.ones(n_raters)
    is_fallback = np.zeros(n_items, dtype=bool)
    merged = _mean(item, value, n_items)
    if rule == "median":
        merged = _median(item, value, n_items)
    elif rule == "ewe":
        rows = slice(None) if trusted is None else trusted
        weights = rater_weights(item[rows], rater[rows], value[rows], n_raters, leave_one_out)
        total = np.bincount(item, weights[rater], minlength=n_items)
        with np.errstate(invalid="ignore"):
            weighted = np.bincount(item, weights[rater] * value, minlength=n_items) / total
        is_fallback = (count > 0) & (total == 0)
        merged = np.where(total > 0, weighted, merged)
    centre = merged if rule == "ewe" else _mean(item, value, n_items)
    squares = np.bincount(item, (value - centre[item]) ** 2, minlength=n_items)
    std = np.sqrt(np.divide(squares, count - 1, where=count > 1, out=np.full(n_items, np.nan)))
    return Merged(merged, std, count, is_fallback, weights)


def rater_weights(
    item: np.ndarray, rater: np.ndarray, value: np.ndarray, n_raters: int, leave_one_out: bool
) -> np.ndarray:
    """Weights (K,) of the evaluator-weighted estimator: each rater's correlation, at least 0."""
    r = rater_correlations(item, rater, value, n_raters, leave_one_out)
    return np.maximum(np.nan_to_num(r, nan=0.0), 0.0)


def rater_correlations(
    item: np.ndarray, rater: np.ndarray, value: np.ndarray, n_raters: int, leave_one_out: bool
) -> np.ndarray:
    """Pearson correlation (K,) of each rater with the item means; NaN where it is undefined."""
    n_items = int(item.max()) + 1 if len(item) else 0
    count = np.bincount(item, minlength=n_items)[item]
    total = np.bincount(item, value, minlength=n_items)[item]
    if leave_one_out:
        rows = count > 1
        reference = (total[rows] - value[rows]) / (count[rows] - 1)
        rater, value = rater[rows], value[rows]
    else:
        reference = total / count
    seen = np.bincount(rater, minlength=n_raters)
    x = value - _mean(rater, value, n_raters)[rater]
    y = reference - _mean(rater, reference, n_raters)[rater]
    xx = np.bincount(rater, x * x, minlength=n_raters)
    yy = np.bincount(rater, y * y, minlength=n_raters)
    xy = np.bincount(rater, x * y, minlength=n_raters)
    # rounding leaves a constant rater with a tiny spread, so spread is judged by its extremes
    varies = _varies(rater, value, n_raters) & _varies(rater, reference, n_raters)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = xy / np.sqrt(xx * yy)
    return np.where((seen >= MIN_ITEMS) & varies, r, np.nan)


def _varies(group: np.ndarray, value: np.ndarray, n_groups: int) -> np.ndarray:
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, group, value)
    np.maximum.at(high, group, value)
    return high - low > 1e-12


def _mean(group: np.ndarray, value: np.ndarray, n_groups: int) -> np.ndarray:
    count = np.bincount(group, minlength=n_groups)
    total = np.bincount(group, value, minlength=n_groups)
    return np.divide(total, count, where=count > 0, out=np.full(n_groups, np.nan))


def _median(item: np.ndarray, value: np.ndarray, n_items: int) -> np.ndarray:
    ordered = value[np.lexsort((value, item))]
    count = np.bincount(item, minlength=n_items)
    start = np.cumsum(count) - count
    has = count > 0
    low = ordered[start[has] + (count[has] - 1) // 2]
    high = ordered[start[has] + count[has] // 2]
    merged = np.full(n_items, np.nan)
    merged[has] = (low + high) / 2
    return merged


def count_votes(votes: pl.DataFrame, several: Literal["split", "each"]) -> pl.DataFrame:
    """Shares of the votes by item and label.

    Args:
        votes: columns item, rater, label; each row once, sorted by these.
        several: a rater's k labels on one item count 1/k each (``split``) or 1 each (``each``).

    Returns:
        Columns item, label, votes, share, raters; sorted by item, label; shares of an item sum
        to 1 and ``raters`` is the number of raters of the item.
    """
    if not votes.height:
        return pl.DataFrame(
            schema={
                "item": votes.schema["item"],
                "label": pl.String,
                "votes": pl.Float64,
                "share": pl.Float64,
                "raters": pl.UInt32,
            }
        )
    table = votes.select("item", "label").unique().sort("item", "label").with_row_index("cell")
    placed = votes.join(table, on=["item", "label"], how="left", maintain_order="left")
    labels = placed.select(pl.len().over("item", "rater")).to_series().to_numpy()
    weight = 1.0 / labels if several == "split" else np.ones(len(labels))
    total = np.bincount(placed["cell"].to_numpy(), weight)
    raters = votes.group_by("item").agg(raters=pl.col("rater").n_unique())
    table = table.drop("cell").with_columns(votes=pl.Series(total))
    item = table["item"].to_numpy()
    share = total / np.bincount(item, total)[item]
    return table.with_columns(share=pl.Series(share)).join(
        raters, on="item", how="left", maintain_order="left"
    )
