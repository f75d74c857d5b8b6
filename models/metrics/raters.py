"""Metrics where several people judged a row: votes, soft labels, agreement between raters."""

import numpy as np
from numpy.typing import ArrayLike

from models.errors import MetricInputError
from models.metrics.inputs import (
    Bools,
    Floats,
    Ints,
    Metric,
    checked_indices,
    checked_probabilities,
    mean_over_columns,
    name_rows,
    require_finite,
    require_same_rows,
    undefined,
)
from models.metrics.regression import pearson


def majority_votes(votes: ArrayLike) -> tuple[Ints, Bools]:
    """Most voted class (n,) of vote counts (n, C), and whether the maximum is shared (n,)."""
    counts = np.asarray(votes, dtype=np.float64)
    if counts.ndim != 2:
        raise MetricInputError(f"Votes need the shape (rows, classes), but it is {counts.shape}.")
    require_same_rows(votes=counts)
    require_finite("votes", counts)
    bad = np.flatnonzero((counts < 0).any(axis=1) | (counts.sum(axis=1) == 0))
    if bad.size:
        raise MetricInputError(f"Votes are negative or all zero in {name_rows(bad)}.")
    best = counts.max(axis=1, keepdims=True)
    return counts.argmax(axis=1), (counts == best).sum(axis=1) > 1


def majority_accuracy(votes: ArrayLike, prediction: ArrayLike) -> Metric:
    """Accuracy of class indices (n,) against the majority vote; tied rows are left out, counted."""
    winner, tied = majority_votes(votes)
    p = np.asarray(prediction)
    require_same_rows(votes=winner, prediction=p)
    p = checked_indices("prediction", p, np.asarray(votes).shape[1], np.arange(len(p)))
    clear = ~tied
    if not clear.any():
        return undefined(0, "every row has a tie for the majority")
    remark = f"{int(tied.sum())} tied rows left out" if tied.any() else ""
    return Metric(float((winner[clear] == p[clear]).mean()), int(clear.sum()), remark)


def soft_cross_entropy(truth: ArrayLike, probabilities: ArrayLike) -> Metric:
    """Mean cross-entropy, in nats, from label distributions to predicted ones, both (n, C)."""
    q, p = _distributions(truth, probabilities)
    impossible = ((q > 0) & (p == 0)).any(axis=1)
    if impossible.any():
        count = int(impossible.sum())
        return undefined(len(q), f"a class that raters chose has probability 0 in {count} rows")
    return Metric(float(-_x_log_y(q, p).sum(axis=1).mean()), len(q))


def kl_divergence(truth: ArrayLike, probabilities: ArrayLike) -> Metric:
    """Mean Kullback-Leibler divergence, in nats, of predictions from label distributions (n, C)."""
    cross_entropy = soft_cross_entropy(truth, probabilities)
    if not cross_entropy.is_defined:
        return cross_entropy
    q, _ = _distributions(truth, probabilities)
    entropy = float(-_x_log_y(q, q).sum(axis=1).mean())
    return Metric(float(cross_entropy) - entropy, len(q))


def mean_pairwise_pearson(ratings: ArrayLike) -> Metric:
    """Mean Pearson over pairs of raters; ratings (raters, items), NaN where a rating is missing.

    Pairs that share no item are left out; a pair with an undefined correlation counts 0.
    """
    r = _checked_ratings(ratings)
    pairs: list[Metric] = []
    for first in range(len(r)):
        for second in range(first + 1, len(r)):
            shared = ~np.isnan(r[first]) & ~np.isnan(r[second])
            if shared.any():
                pairs.append(pearson(r[first], r[second], mask=shared))
    if not pairs:
        return undefined(0, "no two raters judged the same item")
    return mean_over_columns(pairs)


def krippendorff_alpha(ratings: ArrayLike) -> Metric:
    """Krippendorff's alpha, interval scale; ratings (raters, items), NaN where missing.

    1 is perfect agreement, 0 chance. Items with fewer than two ratings say nothing and are unused.
    """
    r = _checked_ratings(ratings)
    r = r[:, (~np.isnan(r)).sum(axis=0) >= 2]
    if r.shape[1] == 0:
        return undefined(0, "no item has two ratings")
    per_item = (~np.isnan(r)).sum(axis=0)
    n_ratings = per_item.sum()
    expected = np.nansum((r - np.nanmean(r)) ** 2) / (n_ratings - 1)
    if expected <= 1e-24 * max(1.0, float(np.nanmax(np.abs(r))) ** 2):
        return undefined(r.shape[1], "all ratings are equal")
    # Within an item, squared differences over all pairs are 2 m times the squared deviations.
    deviations = np.nansum((r - np.nanmean(r, axis=0)) ** 2, axis=0)
    observed = (deviations * per_item / (per_item - 1)).sum() / n_ratings
    return Metric(float(1.0 - observed / expected), r.shape[1])


def _checked_ratings(ratings: ArrayLike) -> Floats:
    r = np.asarray(ratings, dtype=np.float64)
    if r.ndim != 2 or r.shape[0] < 2 or r.shape[1] < 1:
        raise MetricInputError(
            f"Agreement needs at least two raters and one item, shape (raters, items), but it is "
            f"{r.shape}."
        )
    if np.isinf(r).any():
        raise MetricInputError(f"A rating is infinite for {name_rows(np.where(np.isinf(r))[1])}.")
    return r


def _distributions(truth: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    q, p = np.asarray(truth, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    rows = np.arange(require_same_rows(truth=q, probabilities=p))
    n_classes = q.shape[1] if q.ndim == 2 else 0
    return checked_probabilities(q, n_classes, rows), checked_probabilities(p, n_classes, rows)


def _x_log_y(x: Floats, y: Floats) -> Floats:
    """x log y elementwise, 0 where x is 0."""
    return np.where(x > 0, x * np.log(np.where(x > 0, y, 1.0)), 0.0)
