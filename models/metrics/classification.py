"""Metrics of one label per row: accuracy, F1, recall, confusion and calibration.

Truth and prediction are class indices (n,). Everything follows from the confusion matrix
(C, C), rows truth and columns prediction, in float64. Fractions, never percent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.metrics.inputs import (
    Floats,
    Ints,
    Metric,
    checked_classes,
    checked_indices,
    checked_probabilities,
    kept_rows,
    require_above_0,
    require_finite,
    require_same_rows,
    undefined,
)

CALIBRATION_BINS = 15


def confusion_matrix(
    truth: ArrayLike, prediction: ArrayLike, n_classes: int, *, mask: ArrayLike | None = None
) -> Ints:
    """Counts (C, C): rows are true classes, columns predicted classes."""
    t, p = checked_classes(truth, prediction, n_classes, mask)
    cells = np.bincount(t * n_classes + p, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes)


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall, F1 and support of each class (C,); 0 where a denominator is 0."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Floats


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise quotient, 0 where the denominator is 0 (the convention for P, R and F1)."""
    return np.divide(
        numerator, denominator, out=np.zeros_like(denominator, dtype=float), where=denominator > 0
    )


def class_scores(confusion: ArrayLike) -> ClassScores:
    """Scores per class from a confusion matrix (C, C)."""
    counts = np.asarray(confusion, dtype=np.float64)
    hits, predicted, support = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    return ClassScores(
        precision=ratio(hits, predicted),
        recall=ratio(hits, support),
        f1=ratio(2 * hits, predicted + support),
        support=support,
    )


def summarise_confusion(confusion: ArrayLike) -> dict[str, float]:
    """Every average over classes that a confusion matrix (C, C) with at least one row defines.

    `macro_f1` and `uar` average over the classes present in the truth; `macro_f1_all` and
    `uar_all` over the whole label list, absent classes counting 0.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    scores = class_scores(counts)
    n = counts.sum()
    present = scores.support > 0
    return {
        "accuracy": float(np.trace(counts) / n),
        "weighted_precision": float(scores.support @ scores.precision / n),
        "weighted_recall": float(scores.support @ scores.recall / n),
        "weighted_f1": float(scores.support @ scores.f1 / n),
        "macro_precision": float(scores.precision[present].mean()),
        "macro_f1": float(scores.f1[present].mean()),
        "macro_f1_all": float(scores.f1.mean()),
        "uar": float(scores.recall[present].mean()),
        "uar_all": float(scores.recall.mean()),
    }


def accuracy(truth: ArrayLike, prediction: ArrayLike, *, mask: ArrayLike | None = None) -> Metric:
    """Share of rows whose class is right; equals micro F1."""
    rows = kept_rows(
        require_same_rows(truth=np.asarray(truth), prediction=np.asarray(prediction)), mask
    )
    limit = np.iinfo(np.int64).max
    t = checked_indices("truth", np.asarray(truth), limit, rows)
    p = checked_indices("prediction", np.asarray(prediction), limit, rows)
    return Metric(float((t == p).mean()), len(t))


def weighted_f1(
    truth: ArrayLike, prediction: ArrayLike, n_classes: int, *, mask: ArrayLike | None = None
) -> Metric:
    """F1 of each class weighted by its support: the papers' wF1."""
    confusion = confusion_matrix(truth, prediction, n_classes, mask=mask)
    return Metric(summarise_confusion(confusion)["weighted_f1"], int(confusion.sum()))


def top_k_accuracy(
    truth: ArrayLike, scores: ArrayLike, k: int, *, mask: ArrayLike | None = None
) -> Metric:
    """Share of rows whose class is among the k largest scores (n, C); ties: lower index first."""
    require_above_0(k=k)
    t, s = _truth_and_probabilities(truth, scores, mask, probabilities=False)
    # The rank of the true class counts larger scores, and equal ones listed before it.
    own = s[np.arange(len(t)), t][:, None]
    before = np.arange(s.shape[1]) < t[:, None]
    rank = ((s > own) | ((s == own) & before)).sum(axis=1)
    return Metric(float((rank < k).mean()), len(t))


@dataclass(frozen=True)
class CalibrationBins:
    """Reliability diagram: per confidence bin its edges, row count, mean confidence, accuracy.

    Empty bins hold NaN for `confidence` and `accuracy`. Bins are [low, high), the last closed.
    """

    edges: Floats
    count: Floats
    confidence: Floats
    accuracy: Floats


def calibration_bins(
    truth: ArrayLike,
    probabilities: ArrayLike,
    n_bins: int = CALIBRATION_BINS,
    *,
    mask: ArrayLike | None = None,
) -> CalibrationBins:
    """Sort rows by the probability of their predicted class into bins of equal width."""
    require_above_0(n_bins=n_bins)
    t, p = _truth_and_probabilities(truth, probabilities, mask)
    confidence = p.max(axis=1)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, n_bins - 1)
    correct = (p.argmax(axis=1) == t).astype(np.float64)
    count = np.bincount(index, minlength=n_bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return CalibrationBins(
            edges=edges,
            count=count,
            confidence=np.bincount(index, weights=confidence, minlength=n_bins) / count,
            accuracy=np.bincount(index, weights=correct, minlength=n_bins) / count,
        )


def expected_calibration_error(
    truth: ArrayLike,
    probabilities: ArrayLike,
    n_bins: int = CALIBRATION_BINS,
    *,
    mask: ArrayLike | None = None,
) -> Metric:
    """ECE: mean |confidence - accuracy| over bins, weighted by their row counts."""
    bins = calibration_bins(truth, probabilities, n_bins, mask=mask)
    filled = bins.count > 0
    gap = np.abs(bins.confidence[filled] - bins.accuracy[filled])
    n = bins.count.sum()
    return Metric(float(bins.count[filled] @ gap / n), int(n))


def brier_score(
    truth: ArrayLike, probabilities: ArrayLike, *, mask: ArrayLike | None = None
) -> Metric:
    """Mean squared distance, summed over classes, to the one-hot truth: 0 (best) to 2."""
    t, p = _truth_and_probabilities(truth, probabilities, mask)
    distance = (p**2).sum(axis=1) - 2 * p[np.arange(len(t)), t] + 1.0
    return Metric(float(distance.mean()), len(t))


def log_loss(
    truth: ArrayLike, probabilities: ArrayLike, *, mask: ArrayLike | None = None
) -> Metric:
    """Mean negative log probability of the true class, in nats; undefined if it is 0 anywhere."""
    t, p = _truth_and_probabilities(truth, probabilities, mask)
    own = p[np.arange(len(t)), t]
    if (own == 0).any():
        return undefined(
            len(t), f"the true class has probability 0 in {int((own == 0).sum())} rows"
        )
    return Metric(float(-np.log(own).mean()), len(t))


def _truth_and_probabilities(
    truth: ArrayLike, scores: ArrayLike, mask: ArrayLike | None, *, probabilities: bool = True
) -> tuple[Ints, Floats]:
    """Class indices (n,) and probabilities, or any finite scores, (n, C) of the kept rows."""
    t, s = np.asarray(truth), np.asarray(scores, dtype=np.float64)
    rows = kept_rows(require_same_rows(truth=t, scores=s), mask)
    n_classes = s.shape[1] if s.ndim == 2 else 0
    if probabilities or s.ndim != 2:
        kept = checked_probabilities(s, n_classes, rows)
    else:
        require_finite("scores", s[rows], rows)
        kept = s[rows]
    return checked_indices("truth", t, n_classes, rows), kept
