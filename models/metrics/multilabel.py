"""Metrics of several labels per row: presence, top-k by every definition, mAP.

Truth is multi-hot (n, L), scores are finite numbers (n, L) where larger means more likely.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import MetricInputError
from models.metrics.classification import confusion_matrix, summarise_confusion
from models.metrics.folds import by_fold
from models.metrics.inputs import (
    Bools,
    Floats,
    Ints,
    Metric,
    checked_indices,
    kept_rows,
    name_rows,
    require_finite,
    require_same_rows,
    undefined,
)


def checked_labels(
    truth: ArrayLike, scores: ArrayLike, mask: ArrayLike | None = None
) -> tuple[Bools, Floats]:
    """Multi-hot truth (n, L) of zeros and ones, and finite scores (n, L), of the kept rows."""
    t, s = np.asarray(truth, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    rows = kept_rows(require_same_rows(truth=t, scores=s), mask)
    if t.ndim != 2 or t.shape != s.shape:
        raise MetricInputError(
            f"Multi-label truth and scores need one column per label on both sides, but truth is "
            f"{t.shape} and scores {s.shape}."
        )
    t, s = t[rows], s[rows]
    require_finite("truth", t, rows)
    require_finite("scores", s, rows)
    other = rows[((t != 0) & (t != 1)).any(axis=1)]
    if other.size:
        raise MetricInputError(
            f"Multi-label truth has to be 0 or 1, but it is not in {name_rows(other)}: turn "
            "intensities into presence first."
        )
    return t.astype(bool), s


def weighted_accuracy(truth: ArrayLike, prediction: ArrayLike) -> Metric:
    """WA of one binary label (n,): (TP N/P + TN) / 2N, which is the balanced accuracy."""
    counts = confusion_matrix(
        np.asarray(truth).astype(int), np.asarray(prediction).astype(int), 2
    ).astype(np.float64)
    negatives, positives = counts.sum(axis=1)
    n = int(counts.sum())
    if positives == 0 or negatives == 0:
        return undefined(n, f"the label is {'never' if positives == 0 else 'always'} present")
    return Metric((counts[1, 1] * negatives / positives + counts[0, 0]) / (2 * negatives), n)


def binary_scores(truth: ArrayLike, prediction: ArrayLike) -> dict[str, Metric]:
    """One label against the rest, boolean or 0/1 vectors (n,).

    `weighted_f1` averages over both values by support, so an all-negative predictor scores high on
    a rare label; `wa` and `f1` (of the positive value) do not fall for it.
    """
    t, p = np.asarray(truth).astype(int), np.asarray(prediction).astype(int)
    confusion = confusion_matrix(t, p, 2)
    summary = summarise_confusion(confusion)
    n = len(t)
    hits, marked = confusion[1, 1], confusion[1, :].sum() + confusion[:, 1].sum()
    return {
        "accuracy": Metric(summary["accuracy"], n),
        "weighted_f1": Metric(summary["weighted_f1"], n),
        "f1": Metric(float(2 * hits / marked) if marked else 0.0, n),
        "wa": weighted_accuracy(t, p),
    }


def top_k_sets(scores: Floats, k: int) -> Bools:
    """Mark the k largest scores of each row (n, L); ties: lower index first."""
    if not 1 <= k <= scores.shape[1]:
        raise MetricInputError(f"Top-{k} needs 1 to {scores.shape[1]} labels to choose from.")
    chosen = np.zeros(scores.shape, dtype=bool)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen


#: What a multi-label row scores by its k best scored labels, before ``_top<k>``.
TOP_K = (
    "exact", "hamming", "overlap", "contain", "belong", "recall", "precision", "first_label",
)  # fmt: skip


def top_k_rows(
    truth: Bools, scores: Floats, k: int, first: Ints | None = None
) -> dict[str, Floats]:
    """By criterion of ``TOP_K`` the score of each row (n,); a row without a true label has none.

    Let Y be a row's true labels and T its k best scored ones. `exact` T = Y, `hamming` share of
    labels on which they agree, `overlap` they meet, `contain` Y within T, `belong` T within Y,
    `recall` and `precision` of T, and `first_label` the first listed true label is in T, which
    needs `first` (n,) because a multi-hot truth has lost the order.
    """
    chosen = top_k_sets(scores, k)
    shared, n_true = (truth & chosen).sum(axis=1), truth.sum(axis=1)
    found = {
        "exact": (truth == chosen).all(axis=1),
        "hamming": (truth == chosen).mean(axis=1),
        "overlap": shared > 0,
        "contain": shared == n_true,
        "belong": shared == k,
        "recall": shared / np.maximum(n_true, 1),
        "precision": shared / k,
    }
    if first is not None:
        found["first_label"] = chosen[np.arange(len(first)), first]
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def top_k_scores(
    truth: ArrayLike, scores: ArrayLike, k: int = 3, *, first_labels: ArrayLike | None = None
) -> dict[str, Metric]:
    """Every meaning of multi-label top-k accuracy, mean over rows that have a true label.

    Args:
        truth: multi-hot (n, L).
        scores: (n, L).
        k: labels that count as predicted.
        first_labels: first listed true label (n,); adds `first_label_top<k>`.
    """
    t, s = checked_labels(truth, scores)
    labelled = t.sum(axis=1) > 0
    left_out = int((~labelled).sum())
    remark = f"{left_out} rows without a true label left out" if left_out else ""
    t, kept = t[labelled], s[labelled]
    first = None
    if first_labels is not None:
        first = np.asarray(first_labels)
        require_same_rows(first_labels=first, truth=labelled)
        rows = np.flatnonzero(labelled)
        first = checked_indices("first label", first, s.shape[1], rows)
        unlisted = rows[~t[np.arange(len(first)), first]]
        if unlisted.size:
            raise MetricInputError(
                f"The first label is not one of the true labels in {name_rows(unlisted)}."
            )
    n = int(labelled.sum())
    per_row = {f"{name}_top{k}": row for name, row in top_k_rows(t, kept, k, first).items()}
    if n == 0:
        return {name: undefined(0, "no row has a true label") for name in per_row}
    return {name: Metric(float(np.mean(row)), n, remark) for name, row in per_row.items()}


def average_precision(truth: ArrayLike, scores: ArrayLike) -> Metric:
    """Area under the precision-recall steps of one label (n,); equal scores form one step."""
    t, s = checked_labels(
        np.asarray(truth, dtype=np.float64)[:, None], np.asarray(scores, dtype=np.float64)[:, None]
    )
    positive, score = t[:, 0], s[:, 0]
    n_positive = int(positive.sum())
    if n_positive == 0:
        return undefined(len(positive), "the label never occurs in the truth")
    order = np.argsort(-score, kind="stable")
    step_ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(positive[order])[step_ends]
    precision = hits / (step_ends + 1)
    gained = np.diff(hits, prepend=0)
    return Metric(float(gained @ precision / n_positive), len(positive))


def mean_average_precision(
    truth: ArrayLike, scores: ArrayLike, folds: NDArray | None = None
) -> Metric:
    """mAP: mean average precision over the labels with a positive row; the others are counted.

    With ``folds`` (n,) the precision of each label is a mean over folds.
    """
    t, s = checked_labels(truth, scores)
    of_label = by_fold(average_precision, folds)
    per_label = [of_label(t[:, label], s[:, label]) for label in range(t.shape[1])]
    defined = [float(value) for value in per_label if value.is_defined]
    if not defined:
        return undefined(len(t), "no label occurs in the truth")
    absent = len(per_label) - len(defined)
    remark = f"{absent} labels without a positive row left out" if absent else ""
    return Metric(float(np.mean(defined)), len(t), remark)
