"""Metrics of continuous values: errors, correlations, sentiment conventions, error coverage.

Truth comes first, prediction second, both vectors (n,) in the same unit. Variances are population
variances (ddof 0) throughout, so CCC agrees with its definition on the scored rows.
"""

import numpy as np
from numpy.typing import ArrayLike

from models.errors import MetricInputError
from models.metrics.classification import confusion_matrix, summarise_confusion
from models.metrics.inputs import (
    Floats,
    Metric,
    checked_columns,
    checked_values,
    require_above_0,
    require_finite,
    require_same_rows,
    undefined,
)

# Below this standard deviation, relative to the largest value, a column counts as constant.
CONSTANT_SD = 1e-12
COVERAGE_STEP = 0.01
COVERAGE_TOLERANCE = 1e-12
COVERAGE_THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
COVERAGE_SHARES = (0.5, 0.8, 0.9)
SENTIMENT_LIMITS = {"acc7": 3.0, "acc5": 2.0, "acc3": 1.0}


def mse(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> Metric:
    """Mean squared error."""
    t, p = checked_values(truth, prediction, mask)
    return Metric(float(np.mean((p - t) ** 2)), len(t))


def rmse(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> Metric:
    """Root of the mean squared error, in the unit of the values."""
    t, p = checked_values(truth, prediction, mask)
    return Metric(float(np.sqrt(np.mean((p - t) ** 2))), len(t))


def mae(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> Metric:
    """Mean absolute error, in the unit of the values."""
    t, p = checked_values(truth, prediction, mask)
    return Metric(float(np.mean(np.abs(p - t))), len(t))


def is_constant(values: Floats) -> bool:
    """True when the spread of the values (n,) is only rounding."""
    return bool(values.std() <= CONSTANT_SD * max(1.0, float(np.abs(values).max())))


def pearson(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> Metric:
    """Pearson correlation in [-1, 1]; undefined for one row or a constant side."""
    t, p = checked_values(truth, prediction, mask)
    if len(t) < 2:
        return undefined(1, "correlation needs at least two rows")
    if is_constant(t) or is_constant(p):
        side = "truth" if is_constant(t) else "prediction"
        return undefined(len(t), f"the {side} is constant")
    t, p = t - t.mean(), p - p.mean()
    r = (t / np.linalg.norm(t)) @ (p / np.linalg.norm(p))
    remark = "only two rows: the correlation is +1 or -1 whatever they are" if len(t) == 2 else ""
    return Metric(float(np.clip(r, -1.0, 1.0)), len(t), remark)


def ccc(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> Metric:
    """Lin's concordance in [-1, 1], population variance; undefined for one row only.

    One constant side gives 0; two constants give 1 where they are equal and 0 where they are not.
    """
    t, p = checked_values(truth, prediction, mask)
    if len(t) < 2:
        return undefined(1, "concordance needs at least two rows")
    if is_constant(t) and is_constant(p):
        equal = abs(t.mean() - p.mean()) <= CONSTANT_SD * max(1.0, float(np.abs(t).max()))
        return Metric(float(equal), len(t), "truth and prediction are constant")
    if is_constant(t) or is_constant(p):
        return Metric(0.0, len(t), f"the {'truth' if is_constant(t) else 'prediction'} is constant")
    covariance = np.mean((t - t.mean()) * (p - p.mean()))
    return Metric(float(2 * covariance / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)), len(t))


def ccc_cage_script(
    truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None
) -> Metric:
    """CCC as CAGE's evaluation script has it, too large by n/(n-1): for comparison only.

    The script divides a covariance with ddof 1 by variances with ddof 0, so it can exceed 1.
    """
    concordance = ccc(truth, prediction, mask=mask)
    if not concordance.is_defined:
        return concordance
    n = concordance.n
    return Metric(concordance * n / (n - 1), n, "mixed ddof, not comparable with ccc")


def pooled(truth: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    """All annotated cells of (n, K) truth and prediction strung together: CAGE's Table 6 way."""
    t, p = checked_columns(truth, prediction)
    annotated = ~np.isnan(t)
    return t[annotated], p[annotated]


def sentiment_classes(values: Floats, limit: float) -> Floats:
    """Clip scores to [-limit, limit] and round half to even, so 7 classes for a limit of 3."""
    # Adding 0.0 turns -0.0 into 0.0, which keeps the classes readable; they compare equal anyway.
    return np.round(np.clip(values, -limit, limit)) + 0.0


def sentiment_scores(
    truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None
) -> dict[str, Metric]:
    """MOSI and MOSEI accuracies and F1 of sentiment in [-3, 3]; the suffix names the convention.

    `_has0`: all rows, negative against non-negative. `_non0`: rows whose truth is exactly 0 left
    out, negative against positive. F1 is weighted by the support of the two classes.
    """
    t, p = checked_values(truth, prediction, mask)
    scores = {
        name: Metric(
            float(np.mean(sentiment_classes(t, limit) == sentiment_classes(p, limit))), len(t)
        )
        for name, limit in SENTIMENT_LIMITS.items()
    }
    scores["acc2_has0"], scores["f1_has0"] = _polarity_scores(t >= 0, p >= 0)
    nonzero = t != 0
    if nonzero.any():
        scores["acc2_non0"], scores["f1_non0"] = _polarity_scores(t[nonzero] > 0, p[nonzero] > 0)
    else:
        scores["acc2_non0"] = scores["f1_non0"] = undefined(0, "every true sentiment is 0")
    return scores


def _polarity_scores(truth: np.ndarray, prediction: np.ndarray) -> tuple[Metric, Metric]:
    """Accuracy and weighted F1 of two boolean vectors (n,)."""
    summary = summarise_confusion(confusion_matrix(truth.astype(int), prediction.astype(int), 2))
    n = len(truth)
    return Metric(summary["accuracy"], n), Metric(summary["weighted_f1"], n)


def joint_errors(truth: ArrayLike, prediction: ArrayLike) -> Floats:
    """Largest |error| over the columns of each row (n, K) annotated in all of them."""
    t, p = checked_columns(truth, prediction)
    complete = ~np.isnan(t).any(axis=1)
    return np.abs(t[complete] - p[complete]).max(axis=1)


def checked_errors(errors: ArrayLike) -> Floats:
    """A finite vector (n,) of absolute errors with at least one row."""
    e = np.abs(np.asarray(errors, dtype=np.float64))
    require_same_rows(errors=e)
    require_finite("error", e)
    return e


def coverage(errors: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Share of absolute errors (n,) at or below each threshold (m,)."""
    e = np.sort(checked_errors(errors))
    limits = np.asarray(thresholds, dtype=np.float64) + COVERAGE_TOLERANCE
    return np.searchsorted(e, limits, side="right").astype(np.float64) / len(e)


def coverage_curve(errors: ArrayLike, step: float = COVERAGE_STEP) -> tuple[Floats, Floats]:
    """Thresholds 0, step, ... up to the largest error, and the coverage at each; it ends at 1."""
    require_above_0(step=step)
    e = checked_errors(errors)
    last = int(np.ceil(e.max() / step - COVERAGE_TOLERANCE))
    thresholds = np.arange(last + 1, dtype=np.float64) * step
    return thresholds, coverage(e, thresholds)


def coverage_quantile(errors: ArrayLike, share: float) -> Metric:
    """Smallest error that covers the given share (0 to 1] of the rows."""
    if not 0 < share <= 1:
        raise MetricInputError(f"A share of the rows lies in (0, 1], but it is {share}.")
    e = np.sort(checked_errors(errors))
    position = int(np.ceil(share * len(e) - COVERAGE_TOLERANCE * len(e))) - 1
    return Metric(float(e[max(position, 0)]), len(e))


def coverage_area(errors: ArrayLike, limit: float) -> Metric:
    """Mean coverage over thresholds 0 to limit, exact: 1 is perfect.

    The area above the whole curve is the mean absolute error, so cutting the errors at the limit
    gives the area without integrating on a grid.
    """
    require_above_0(limit=limit)
    e = checked_errors(errors)
    return Metric(float(1.0 - np.minimum(e, limit).mean() / limit), len(e))
