"""The paired permutation test: whole dialogues change sides."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import MetricInputError
from models.metrics.inputs import Floats, Ints
from models.statistics.bootstrap import N_RESAMPLES, ROUNDING, checked_runs, chunk_of
from models.statistics.resampling import Resamplable


def permutation_test(
    metric: Resamplable,
    truth: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[str] | NDArray,
    *,
    n_permutations: int = N_RESAMPLES,
    seed: int = 0,
) -> float:
    """Two-sided p-value for two sets of trained models, exchanging them dialogue by dialogue.

    It asks whether *these* models differ; a difference that another seed would undo is found all
    the same, so `compare` is the test of methods and this one of models. Both sides need the same
    number of seeds, (seeds, n) or (seeds, n, K), which are paired in order. With so few dialogues
    that `n_permutations` reaches all exchanges, all are tried and the p-value is exact.
    """
    t, runs, codes, n_clusters = checked_runs(truth, {"first": first, "second": second}, clusters)
    a, b = runs["first"], runs["second"]
    if len(a) != len(b):
        raise MetricInputError(
            f"The permutation test pairs runs, but the methods have {len(a)} and {len(b)} seeds: "
            "train the missing ones."
        )
    rng = np.random.default_rng(seed)
    observed = _swapped_difference(metric, t, a, b, codes, np.zeros((1, n_clusters), dtype=bool))
    if not np.isfinite(observed[0]):
        return math.nan
    # Exchanged models score the same up to rounding; count such ties as equal.
    threshold = abs(observed[0]) * (1 - 1e-9) - ROUNDING
    is_exact = n_clusters < 63 and 2**n_clusters <= n_permutations
    n_swaps = 2**n_clusters if is_exact else n_permutations
    as_large = 0
    at_once = chunk_of(n_clusters)
    for start in range(0, n_swaps, at_once):
        size = min(at_once, n_swaps - start)
        if is_exact:
            swaps = (np.arange(start, start + size)[:, None] >> np.arange(n_clusters)) & 1 == 1
        else:
            swaps = rng.random((size, n_clusters)) < 0.5
        values = np.abs(_swapped_difference(metric, t, a, b, codes, swaps))
        # An undefined permutation counts as large, which can only raise the p-value.
        as_large += int((~(values < threshold)).sum())
    # All exchanges hold the observed one; of a sample it is not a part and has to be added.
    return as_large / n_swaps if is_exact else (as_large + 1) / (n_swaps + 1)


def _swapped_difference(
    metric: Resamplable,
    truth: NDArray,
    first: NDArray,
    second: NDArray,
    codes: Ints,
    swaps: NDArray,
) -> Floats:
    """Mean over paired runs of the metric's difference after each swap (R,)."""
    both = np.mean(
        [metric.swapped(truth, a, b, codes, swaps) for a, b in zip(first, second, strict=True)],
        axis=0,
    )
    return both[:, 0] - both[:, 1]
