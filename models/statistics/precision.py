"""Average precision of one label for many resamples of clusters, without sorting again."""

import numpy as np

from models.metrics.classification import ratio
from models.metrics.inputs import Bools, Floats, Ints

#: Weights of rows in memory at once.
_MOST_WEIGHTS = 1 << 24


def weighted_precision(
    positive: Bools, score: Floats, codes: Ints, weights: Floats
) -> tuple[Floats, Bools]:
    """Average precision of one label (R,), and whether a positive row was drawn."""
    order = np.argsort(-score, kind="stable")
    order = order[score[order] >= score[positive].min()]  # below, no row counts
    hit, codes, score = positive[order], codes[order], score[order]
    places = np.flatnonzero(hit)
    # a row counts with all that are scored as high: its threshold is the last of these
    ends = np.searchsorted(-score, -score[places], side="right") - 1
    value, is_there = np.empty(len(weights)), np.empty(len(weights), bool)
    at_once = max(1, _MOST_WEIGHTS // len(order))
    for start in range(0, len(weights), at_once):
        rows = slice(start, start + at_once)
        drawn = weights[rows][:, codes]
        seen = np.cumsum(drawn, axis=1)[:, ends]
        hits = np.cumsum(drawn * hit, axis=1)[:, ends]
        gained = drawn[:, places]
        total = gained.sum(axis=1)
        value[rows] = ratio((gained * ratio(hits, seen)).sum(axis=1), total)
        is_there[rows] = total > 0
    return value, is_there
