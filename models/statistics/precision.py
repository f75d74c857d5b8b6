"""Average precision of one label for many resamples of clusters, without sorting again."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.metrics.classification import ratio
from models.metrics.inputs import Bools, Floats, Ints

#: Weights of rows in memory at once.
_MOST_WEIGHTS = 1 << 24

#: Rows of a cluster that is never left out on its own.
_SHORT = 64


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


@dataclass(frozen=True)
class _Events:
    """Each cluster and score that it has rows of, sorted by both.

    Attributes:
        cluster: (E,).
        step: (E,) place of the score among all, the highest first.
        end: (E,) of the cluster's next score; the number of all after its last.
        gained: (E,) its positives of this score.
        rows: (E,) how many rows it has that are scored as high.
        hits: (E,) how many of them are positive.
        is_first: (E,) whether it has none that is scored higher.
    """

    cluster: Ints
    step: Ints
    end: Ints
    gained: Floats
    rows: Ints
    hits: Floats
    is_first: Bools


def _events(hit: Floats, code: Ints, step: Ints, n_steps: int) -> _Events:
    keys, of_row = np.unique(code * n_steps + step, return_inverse=True)
    cluster, own = keys // n_steps, keys % n_steps
    is_first = np.append(True, cluster[1:] != cluster[:-1])
    end = np.append(np.where(is_first[1:], n_steps, own[1:]), n_steps)
    gained = np.bincount(of_row, hit).astype(np.float64)
    rows, hits = np.cumsum(np.bincount(of_row)), np.cumsum(gained)
    begins = np.flatnonzero(is_first)
    sizes = np.diff(np.append(begins, len(keys)))
    before = [np.repeat(np.append(0, total)[begins], sizes) for total in (rows, hits)]
    return _Events(cluster, own, end, gained, rows - before[0], hits - before[1], is_first)


def precision_without_each(
    positive: Bools, score: Floats, codes: Ints, n_clusters: int
) -> tuple[Floats, Bools]:
    """``weighted_precision`` without one cluster after the other: (G,) both.

    Without cluster g the precision at a score is (H - h) / (N - n): positives and rows scored as
    high, less those of g. As h and n change at g's own scores only, what lies between them is a
    difference of running sums, of which there is one for each n. So this takes the rows times the
    length of a cluster, not times the number of clusters. Clusters that are much longer than the
    others are few, and left out one by one.
    """
    kept = score >= score[positive].min()  # below, no row counts
    hit, code = positive[kept].astype(np.float64), codes[kept]
    step = np.unique(-score[kept], return_inverse=True)[1]
    gained = np.bincount(step, hit)  # (J,) positives of each score, the highest first
    rows, hits = np.cumsum(np.bincount(step)), np.cumsum(gained)
    own = _events(hit, code, step, len(gained))
    running = np.append(0.0, np.cumsum(gained * hits / rows))
    sums = np.full(n_clusters, running[-1])
    sums[own.cluster[own.is_first]] = running[own.step[own.is_first]]
    longest = max(_SHORT, math.isqrt(len(step)))
    long = np.flatnonzero(np.bincount(code, minlength=n_clusters) > longest)
    short = np.flatnonzero(own.rows <= longest)  # of long ones too: their sums are not used
    short = short[np.argsort(own.rows[short], kind="stable")]
    counts, begins = np.unique(own.rows[short], return_index=True)
    for count, (low, high) in zip(counts, pairwise([*begins, len(short)]), strict=True):
        at = short[low:high]
        share = 1.0 / np.maximum(rows - count, 1)  # rows are not fewer where it is used
        running, plain = (np.append(0.0, np.cumsum(gained * s)) for s in (hits * share, share))
        begin, end, less = own.step[at], own.end[at], own.hits[at]
        between = running[end] - running[begin] - less * (plain[end] - plain[begin])
        between -= own.gained[at] * (hits[begin] - less) * share[begin]
        np.add.at(sums, own.cluster[at], between)
    left = hits[-1] - np.bincount(code, hit, minlength=n_clusters)
    value, is_there = ratio(sums, left), left > 0
    for start in range(0, len(long), at_once := max(1, _MOST_WEIGHTS // n_clusters)):
        some = long[start : start + at_once]
        weights = np.ones((len(some), n_clusters))
        weights[np.arange(len(some)), some] = 0.0
        value[some], is_there[some] = weighted_precision(positive, score, codes, weights)
    return value, is_there
