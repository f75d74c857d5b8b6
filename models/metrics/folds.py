"""Metrics over several folds: correlations and rankings fold by fold, counts and errors over all.

The mean that a network learned of its training rows lies on the other side of its test rows' mean,
fold after fold. Over the rows of all folds together a correlation therefore comes out too low: even
a constant has one, and a negative one at that (Forman and Scholz, SIGKDD Explorations 2010).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import MetricInputError
from models.metrics.inputs import Ints, Metric, kept_rows, undefined

#: A smaller fold tells nothing on its own and joins the next.
FEWEST_ROWS = 10
#: Measures that are averaged over folds; all others run over the rows of all folds together.
AVERAGED = frozenset({"pearson", "ccc", "ccc_cage_script", "ap"})
#: Ends the names of the same measures over the rows of all folds together.
ALL_ROWS = "_all_rows"

_CONSTANT_SD = 1e-12


def fold_groups(folds: ArrayLike, truth: ArrayLike) -> Ints:
    """Number of the group of folds that each row counts in (n,), from 0 in order of the folds.

    A fold with few rows or constant truth joins the next one, and the last such the one before.

    Args:
        folds: of each row (n,).
        truth: (n,), without gaps.
    """
    f, t = np.asarray(folds), np.asarray(truth, dtype=np.float64)
    if f.shape != t.shape:
        raise MetricInputError(f"There are {len(t)} rows to score but folds of {f.shape}.")
    names, place = np.unique(f, return_inverse=True)
    group_of = np.zeros(len(names), np.int64)
    group, open_since = 0, 0
    for fold in range(len(names)):
        group_of[fold] = group
        rows = t[(place >= open_since) & (place <= fold)]
        if len(rows) >= FEWEST_ROWS and rows.std() > _CONSTANT_SD * max(1.0, np.abs(rows).max()):
            group, open_since = group + 1, fold + 1
    if open_since < len(names) and group > 0:
        group_of[open_since:] = group - 1
    return group_of[place]


def by_fold(metric: Callable[..., Metric], folds: NDArray | None) -> Callable[..., Metric]:
    """A metric of two vectors as the mean over folds, weighted by their rows.

    Undefined in one of several folds counts 0, as where a prediction is constant.

    Args:
        metric: of truth and prediction (n,).
        folds: of each row (n,); None leaves the metric as it is.
    """
    if folds is None:
        return metric

    def averaged(
        truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None
    ) -> Metric:
        t, p = np.asarray(truth), np.asarray(prediction)
        rows = kept_rows(len(t), mask)
        t, p, of_row = t[rows], p[rows], np.asarray(folds)[rows]
        groups = fold_groups(of_row, t)
        n_groups = int(groups.max()) + 1
        if n_groups == 1:
            return metric(t, p)
        parts = [metric(t[groups == group], p[groups == group]) for group in range(n_groups)]
        return _mean(parts, len(np.unique(of_row)) - n_groups)

    return averaged


def _mean(parts: list[Metric], n_joined: int) -> Metric:
    n = sum(part.n for part in parts)
    lost = sum(not part.is_defined for part in parts)
    if n == 0:
        return undefined(0, "no row is annotated")
    value = sum(float(part) * part.n for part in parts if part.is_defined) / n
    remarks = [f"mean of {len(parts)} folds"]
    if n_joined:
        remarks.append(f"{n_joined} of few rows or constant truth joined with the next")
    if lost:
        remarks.append(f"undefined in {lost}, counted as 0")
    return Metric(value, n, "; ".join(remarks))


def fold_of_cells(folds: NDArray | None, annotated: NDArray) -> NDArray | None:
    """Fold of each annotated cell of (n, K), row by row."""
    return None if folds is None else np.broadcast_to(folds[:, None], annotated.shape)[annotated]


def several(folds: ArrayLike | None, rows: Ints) -> NDArray | None:
    """Folds of the given rows; None where there is one only, so nothing is to be averaged."""
    if folds is None:
        return None
    found = np.asarray(folds)[rows]
    return found if len(np.unique(found)) > 1 else None
