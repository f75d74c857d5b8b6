"""Small statistics on numbers alone: correction, effect sizes, joined errors, seeds needed."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from models.metrics.inputs import Floats

POWER = 0.8
MAX_SEEDS = 1_000


def holm(p_values: Sequence[float]) -> Floats:
    """Holm's step-down adjusted p-values, in the given order; NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def cohens_d(first: ArrayLike, second: ArrayLike) -> float:
    """Difference of the means over seeds in pooled standard deviations; NaN without spread."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    freedom = len(a) + len(b) - 2
    if min(len(a), len(b)) < 2:
        return math.nan
    pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    return float((a.mean() - b.mean()) / pooled) if pooled > 1e-12 else math.nan


def win_rate(first: ArrayLike, second: ArrayLike) -> float:
    """Share of run pairs in which the first has the larger value; ties count half."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if np.isnan(a).any() or np.isnan(b).any():
        return math.nan
    gap = a[:, None] - b[None, :]
    return float((gap > 0).mean() + (gap == 0).mean() / 2)


def seeds_needed(
    difference: float,
    cluster_variance: float,
    seed_variances: tuple[float, float],
    cluster_freedom: float,
    *,
    alpha: float = 0.05,
    power: float = POWER,
) -> int | None:
    """Seeds per method that find a true difference of this size with the given power.

    Args:
        difference: of the two means over seeds.
        cluster_variance: of the difference, over resampled dialogues; seeds do not lower it.
        seed_variances: of a single run of each method, over seeds (ddof 1); NaN if unknown.
        cluster_freedom: degrees of freedom of the cluster variance, test dialogues less one.
        alpha: level of the two-sided test.
        power: wanted probability of finding the difference.
    """
    spread = sum(seed_variances)
    if difference == 0 or not math.isfinite(spread):
        return None
    counts = list(range(2, MAX_SEEDS + 1))
    joined = [
        joined_error(cluster_variance, cluster_freedom, spread / count, 2 * count - 2)
        for count in counts
    ]
    errors, freedoms = np.asarray([e for e, _ in joined]), np.asarray([f for _, f in joined])
    reach = stats.t.ppf(1 - alpha / 2, freedoms) + stats.norm.ppf(power)
    enough = np.flatnonzero(reach * errors <= abs(difference))
    return counts[int(enough[0])] if enough.size else None


def joined_error(
    cluster_variance: float, cluster_freedom: float, seed_variance: float, seed_freedom: int
) -> tuple[float, float]:
    """Standard error of two independent parts, and Satterthwaite's degrees of freedom."""
    total = cluster_variance + seed_variance
    if total <= 0:
        return 0.0, float(cluster_freedom)
    parts = cluster_variance**2 / cluster_freedom
    if seed_variance > 0:
        parts += seed_variance**2 / seed_freedom
    return math.sqrt(total), total**2 / parts


def two_sided_p(difference: float, error: float, freedom: float) -> float:
    """p-value of a difference with this standard error under Student's t; 1 for 0 of 0."""
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stats.t.sf(abs(difference) / error, freedom))
