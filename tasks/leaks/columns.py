"""Feature columns that teach nothing or give the label away."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.errors import UserError

#: Values of a column are cut into at most this many bins of about equal size.
_BINS = 32
#: A score on fewer held-out rows says nothing.
_MIN_ROWS = 10

ColumnLeakKind = Literal["constant_column", "not_finite_column", "label_bearing_column"]


@dataclass(frozen=True)
class ColumnLeak:
    """Columns with one fault; ``columns`` names them with their figure, worst first."""

    kind: ColumnLeakKind
    columns: list[str]


def column_leaks(
    matrix: np.ndarray,
    names: list[str],
    labels: list[str] | list[float],
    splits: list[str],
    threshold: float,
) -> list[ColumnLeak]:
    """See ``leaks.feature_leaks``."""
    n, d = matrix.shape
    if len(names) != d or len(labels) != n or len(splits) != n:
        raise UserError(
            f"feature matrix has {n} rows and {d} columns, but {len(labels)} labels, "
            f"{len(splits)} splits and {len(names)} names were given; give one each"
        )
    if not n:
        return []
    finite = np.isfinite(matrix)
    holes = np.flatnonzero(~finite.all(axis=0))
    low = np.where(finite, matrix, np.inf).min(axis=0)
    high = np.where(finite, matrix, -np.inf).max(axis=0)
    constant = np.flatnonzero(~(high > low))
    split = np.asarray(splits)
    fit, held = np.flatnonzero(split == "train"), np.flatnonzero(split != "train")
    scores: list[tuple[float, int]] = []
    if len(fit) >= _MIN_ROWS and len(held) >= _MIN_ROWS:
        target = np.asarray(labels)
        for column in np.setdiff1d(np.arange(d), constant):
            score = _score(matrix[:, column], target, fit, held)
            if score is not None and score >= threshold:
                scores.append((score, int(column)))
    scores.sort(key=lambda pair: (-pair[0], pair[1]))
    found = [
        ColumnLeak("label_bearing_column", [f"{names[c]} ({s:.2f})" for s, c in scores]),
        ColumnLeak(
            "not_finite_column", [f"{names[c]} ({int((~finite[:, c]).sum())} rows)" for c in holes]
        ),
        ColumnLeak("constant_column", [names[c] for c in constant]),
    ]
    return [leak for leak in found if leak.columns]


def _score(
    values: np.ndarray, target: np.ndarray, fit: np.ndarray, held: np.ndarray
) -> float | None:
    """How well one column, cut into bins on training rows, predicts held-out rows."""
    bins = _bins(values, fit)
    if np.issubdtype(target.dtype, np.number):
        return _r_squared(bins, target.astype(float), fit, held)
    return _balanced_accuracy(bins, target, fit, held)


def _bins(values: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Bin (N,) of each value, 0 for values that are not finite."""
    known = values[fit][np.isfinite(values[fit])]
    distinct = np.unique(known)
    if len(distinct) > _BINS:
        distinct = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]))
        cuts = distinct
    else:
        cuts = (distinct[1:] + distinct[:-1]) / 2
    return np.where(np.isfinite(values), np.searchsorted(cuts, values, side="right") + 1, 0)


def _balanced_accuracy(
    bins: np.ndarray, target: np.ndarray, fit: np.ndarray, held: np.ndarray
) -> float | None:
    classes, code = np.unique(target, return_inverse=True)
    present = np.unique(code[held])
    if len(present) < 2:
        return None
    width = len(classes)
    table = np.bincount(bins[fit] * width + code[fit], minlength=(int(bins.max()) + 1) * width)
    # each class weighs the same, so that a rare class can win a bin
    share = table.reshape(-1, width) / np.maximum(np.bincount(code[fit], minlength=width), 1)
    guess = share.argmax(axis=1)[bins[held]]
    right = guess == code[held]
    hits = np.bincount(code[held], right, minlength=width)
    return float(np.mean(hits[present] / np.bincount(code[held], minlength=width)[present]))


def _r_squared(
    bins: np.ndarray, target: np.ndarray, fit: np.ndarray, held: np.ndarray
) -> float | None:
    fit, held = fit[np.isfinite(target[fit])], held[np.isfinite(target[held])]
    if len(fit) < _MIN_ROWS or len(held) < _MIN_ROWS or np.ptp(target[held]) == 0:
        return None
    size = int(bins.max()) + 1
    count = np.bincount(bins[fit], minlength=size)
    mean = np.full(size, target[fit].mean())
    np.divide(np.bincount(bins[fit], target[fit], minlength=size), count, out=mean, where=count > 0)
    rest = np.sum((target[held] - mean[bins[held]]) ** 2)
    return float(1 - rest / np.sum((target[held] - target[held].mean()) ** 2))
