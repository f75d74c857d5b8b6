"""Metrics where several people judged a row: predictions against the shares of their votes."""

import numpy as np
from numpy.typing import ArrayLike

from models.metrics.inputs import (
    Floats,
    Metric,
    checked_probabilities,
    require_same_rows,
    undefined,
)


def soft_cross_entropy(shares: ArrayLike, probabilities: ArrayLike) -> Metric:
    """Mean cross-entropy, in nats, from shares of votes to predicted ones, both (n, C)."""
    q, p = _distributions(shares, probabilities)
    impossible = ((q > 0) & (p == 0)).any(axis=1)
    if impossible.any():
        count = int(impossible.sum())
        return undefined(len(q), f"a class that raters chose has probability 0 in {count} rows")
    return Metric(float(-_x_log_y(q, p).sum(axis=1).mean()), len(q))


def vote_scores(shares: ArrayLike, probabilities: ArrayLike) -> dict[str, Metric]:
    """Agreement with the votes, beside what raters reach among themselves.

    Args:
        shares: of the votes of a row by class (n, C).
        probabilities: as predicted (n, C).

    Returns:
        ``vote_cross_entropy``, with ``vote_entropy`` as the least that any prediction can have;
        ``vote_accuracy``, the mean share of the votes that the predicted class has, with
        ``vote_accuracy_chance``, that of a vote drawn by chance from those of the row, and
        ``vote_accuracy_limit``, that of the most frequent vote.
    """
    q, p = _distributions(shares, probabilities)
    n, rows = len(q), np.arange(len(q))
    return {
        "vote_cross_entropy": soft_cross_entropy(q, p),
        "vote_entropy": soft_cross_entropy(q, q),
        "vote_accuracy": Metric(float(q[rows, p.argmax(axis=1)].mean()), n),
        "vote_accuracy_chance": Metric(float((q**2).sum(axis=1).mean()), n),
        "vote_accuracy_limit": Metric(float(q.max(axis=1).mean()), n),
    }


def _distributions(shares: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    q, p = np.asarray(shares, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    rows = np.arange(require_same_rows(shares=q, probabilities=p))
    n_classes = q.shape[1] if q.ndim == 2 else 0
    return checked_probabilities(q, n_classes, rows), checked_probabilities(p, n_classes, rows)


def _x_log_y(x: Floats, y: Floats) -> Floats:
    """x log y elementwise, 0 where x is 0."""
    return np.where(x > 0, x * np.log(np.where(x > 0, y, 1.0)), 0.0)
