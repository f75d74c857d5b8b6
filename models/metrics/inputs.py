"""What every metric does before it counts: check its rows; and what it returns: a `Metric`.

Rows are named by their position in the arrays that were passed in, counted from 0.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import MetricInputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NAMED_ROWS = 5  # an error message lists this many rows, then counts the rest
PROBABILITY_TOLERANCE = 1e-4  # a float32 softmax over a few dozen classes sums to 1 within this


class Metric(float):
    """A metric's value: a plain float that also knows how many rows it was computed on.

    `value` NaN means undefined and `reason` says why; a defined value can carry a remark there,
    such as how many rows were left out. It is a float, so it adds, compares and serialises as one.
    """

    __slots__ = ("n", "reason")
    n: int
    reason: str

    def __new__(cls, value: float, n: int, reason: str = "") -> "Metric":
        """Wrap a value with the rows it came from; an undefined one (NaN) needs its reason."""
        metric = super().__new__(cls, value)
        metric.n = int(n)
        metric.reason = reason
        return metric

    def __getnewargs__(self) -> tuple[float, int, str]:
        """Let copies and worker processes keep `n` and `reason`."""
        return float(self), self.n, self.reason

    @property
    def is_defined(self) -> bool:
        """True unless the value is NaN."""
        return not math.isnan(self)


def undefined(n: int, reason: str) -> Metric:
    """The metric has no value on these rows, for the given reason."""
    return Metric(math.nan, n, reason)


def name_rows(positions: Iterable[int]) -> str:
    """Write row positions for an error message, such as `rows 0, 1, 2, 3, 4 and 95 more`."""
    rows = [int(position) for position in positions]
    listed = ", ".join(str(row) for row in rows[:NAMED_ROWS])
    more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {listed}{more}"


def require_same_rows(**arrays: NDArray) -> int:
    """Return the common number of rows, at least 1, or say which arrays disagree."""
    for name, array in arrays.items():
        if array.ndim == 0:
            raise MetricInputError(f"A metric needs one {name} per row, but it is a single value.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise MetricInputError(f"A metric needs as many rows on every side, but {counted} rows.")
    n_rows = next(iter(lengths.values()))
    if n_rows == 0:
        raise MetricInputError("There is no row to score: give a metric at least one row.")
    return n_rows


def require_above_0(**numbers: float) -> None:
    """Raise unless every named argument is a finite number above 0."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise MetricInputError(f"{name} has to be above 0, but it is {number}.")


def require_finite(name: str, array: Floats, rows: Ints | None = None) -> None:
    """Raise with the positions of rows that hold NaN or infinity; `rows` renames positions."""
    finite = np.isfinite(array)
    bad = np.flatnonzero(~(finite if array.ndim == 1 else finite.all(axis=1)))
    if bad.size:
        bad = bad if rows is None else rows[bad]
        raise MetricInputError(
            f"{name} is not a finite number in {name_rows(bad)}: mend the values or exclude these "
            "rows with a mask."
        )


def kept_rows(n_rows: int, mask: ArrayLike | None) -> Ints:
    """Positions of the rows to score: all, or those where the boolean mask (n,) is true."""
    if mask is None:
        return np.arange(n_rows)
    keep = np.asarray(mask)
    if keep.dtype != np.bool_ or keep.shape != (n_rows,):
        raise MetricInputError(
            f"The mask has to be {n_rows} booleans, one per row, but it is {keep.dtype} of shape "
            f"{keep.shape}."
        )
    rows = np.flatnonzero(keep)
    if rows.size == 0:
        raise MetricInputError("The mask excludes every row: there is nothing left to score.")
    return rows


def checked_values(
    truth: ArrayLike, prediction: ArrayLike, mask: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Two finite float64 vectors (n,), restricted to the mask."""
    t, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    for name, array in (("truth", t), ("prediction", p)):
        if array.ndim != 1:
            raise MetricInputError(
                f"A metric of one dimension needs {name} as a vector, but its shape is "
                f"{array.shape}: pass one column at a time."
            )
    rows = kept_rows(require_same_rows(truth=t, prediction=p), mask)
    require_finite("truth", t[rows], rows)
    require_finite("prediction", p[rows], rows)
    return t[rows], p[rows]


def checked_classes(
    truth: ArrayLike, prediction: ArrayLike, n_classes: int, mask: ArrayLike | None = None
) -> tuple[Ints, Ints]:
    """Two vectors (n,) of class indices in [0, n_classes), restricted to the mask."""
    arrays = {"truth": np.asarray(truth), "prediction": np.asarray(prediction)}
    rows = kept_rows(require_same_rows(**arrays), mask)
    return (
        checked_indices("truth", arrays["truth"], n_classes, rows),
        checked_indices("prediction", arrays["prediction"], n_classes, rows),
    )


def checked_indices(name: str, array: NDArray, n_classes: int, rows: Ints) -> Ints:
    """The given rows of a vector of class indices, each a whole number in [0, n_classes)."""
    if array.ndim != 1:
        raise MetricInputError(
            f"{name} has to be a vector of class indices, but its shape is {array.shape}."
        )
    kept = array[rows]
    if not np.issubdtype(kept.dtype, np.integer):
        kept = kept.astype(np.float64)
        require_finite(name, kept, rows)
        fractional = rows[kept != np.floor(kept)]
        if fractional.size:
            raise MetricInputError(f"{name} is not a whole class index in {name_rows(fractional)}.")
    kept = kept.astype(np.int64)
    outside = rows[(kept < 0) | (kept >= n_classes)]
    if outside.size:
        raise MetricInputError(
            f"{name} is outside the {n_classes} classes (0 to {n_classes - 1}) in "
            f"{name_rows(outside)}."
        )
    return kept


def checked_probabilities(probabilities: ArrayLike, n_classes: int, rows: Ints) -> Floats:
    """The given rows of class probabilities (n, n_classes): finite, not negative, summing to 1."""
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != n_classes or (rows.size and rows[-1] >= len(p)):
        raise MetricInputError(
            f"Probabilities have to be one row of {n_classes} columns per scored row, but their "
            f"shape is {p.shape}."
        )
    p = p[rows]
    require_finite("probabilities", p, rows)
    bad = rows[(p < 0).any(axis=1) | (np.abs(p.sum(axis=1) - 1.0) > PROBABILITY_TOLERANCE)]
    if bad.size:
        raise MetricInputError(
            f"Probabilities are negative or do not sum to 1 in {name_rows(bad)}: apply a softmax "
            "before scoring."
        )
    return p


def checked_columns(
    truth: ArrayLike, prediction: ArrayLike, mask: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Two float64 matrices (n, K) of the kept rows; a NaN truth means not annotated.

    A vector counts as one column. Predictions are checked on every kept row, annotated or not.
    """
    t, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    t, p = (array[:, None] if array.ndim == 1 else array for array in (t, p))
    rows = kept_rows(require_same_rows(truth=t, prediction=p), mask)
    if t.ndim != 2 or t.shape != p.shape:
        raise MetricInputError(
            f"Values need the same columns on both sides, but truth is {t.shape} and prediction "
            f"{p.shape}."
        )
    t, p = t[rows], p[rows]
    infinite = rows[np.isinf(t).any(axis=1)]
    if infinite.size:
        raise MetricInputError(f"truth is infinite in {name_rows(infinite)}.")
    require_finite("prediction", p, rows)
    return t, p


def per_column(metric: Callable[..., Metric], truth: Floats, prediction: Floats) -> list[Metric]:
    """Apply a metric of one dimension to each column (n, K), on that column's annotated rows."""
    scores: list[Metric] = []
    for column in range(truth.shape[1]):
        annotated = ~np.isnan(truth[:, column])
        if annotated.any():
            scores.append(metric(truth[:, column], prediction[:, column], mask=annotated))
        else:
            scores.append(undefined(0, "no row is annotated"))
    return scores


def mean_over_columns(components: Sequence[Metric]) -> Metric:
    """Plain mean over annotated columns; an undefined column counts 0 and is reported.

    Counting 0 keeps a method from gaining by predicting a constant where it is weak. A column that
    nobody annotated says nothing about the method and is left out of the mean. A target of a single
    column is no mean: it keeps its value, undefined or not.
    """
    if len(components) == 1:
        return components[0]
    annotated = [component for component in components if component.n > 0]
    if not annotated:
        return undefined(0, "no row is annotated")
    n_undefined = sum(not component.is_defined for component in annotated)
    total = sum(float(component) for component in annotated if component.is_defined)
    remarks = []
    if n_undefined:
        remarks.append(f"{n_undefined} of {len(annotated)} columns undefined, counted as 0")
    if len(annotated) < len(components):
        remarks.append(f"{len(components) - len(annotated)} columns without annotation left out")
    return Metric(total / len(annotated), max(c.n for c in annotated), "; ".join(remarks))
