"""How sure are we: intervals, paired tests and verdicts over dialogues and training seeds.

Two things vary when an experiment is repeated: the dialogues that happen to be in the test split,
and the seed of the training. A method's statistic is the mean of its metric over seeds; its
variance is the sum of both parts.

* Dialogues: the cluster bootstrap, whole dialogues drawn with replacement, the same draw for every
  method and seed. The larger of the bootstrap and the delete-one-dialogue (jackknife) variance
  counts, because the bootstrap alone is too optimistic with few dialogues.
* Seeds: they are not resampled; three to five are too few for that. Their sample variance (ddof 1)
  divided by their number is added. A single seed adds nothing, and the result says so. What chance
  in single rows adds to that variance is in the bootstrap already: intervals take it out again,
  tests leave it in, because the spread over few seeds is too unsure to subtract from, and a test
  that finds too little is better than one that finds too much.

Intervals are Student t intervals around the estimate, with degrees of freedom joined from the
numbers of dialogues and seeds (Satterthwaite); dialogues of unequal length count as fewer. They are
computed on a scale where the metric is closer to normal (logit for shares, Fisher's z for
correlations, logarithm for errors), except for differences.
`benchmarks/interval_coverage.py` measures their coverage, and how often plain percentile intervals,
which ignore seeds, find a difference between two equal methods.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from models.errors import MetricInputError, UserError
from models.metrics.inputs import Floats, Ints, require_finite
from models.statistics.comparison import Comparison
from models.statistics.resampling import AdditiveMetric, Resamplable, cluster_codes, cluster_sums
from models.statistics.significance import (
    cohens_d,
    holm,
    joined_error,
    seeds_needed,
    two_sided_p,
    win_rate,
)

N_RESAMPLES = 10_000
CHUNK = 1_000  # resamples at a time: bounds memory at any number of methods
_MOST_WEIGHTS = 1 << 25  # weights of dialogues at a time: bounds it at any number of those

ROUNDING = 1e-12  # a smaller difference of two metrics is none
MAX_UNDEFINED_SHARE = 0.05  # more undefined resamples than this leave an interval undefined

Scale = Literal["share", "correlation", "error", "plain"]

_RANGES: dict[Scale, tuple[float, float]] = {
    "share": (0.0, 1.0),
    "correlation": (-1.0, 1.0),
    "error": (0.0, math.inf),
    "plain": (-math.inf, math.inf),
}


def chunk_of(n_clusters: int) -> int:
    """How many resamples of so many dialogues to hold at once."""
    return max(1, min(CHUNK, _MOST_WEIGHTS // n_clusters))


# scale -> (to the normal scale, back, slope of the first)
_TRANSFORMS: dict[Scale, tuple[Callable[..., Floats], Callable[..., Floats], Callable]] = {
    "share": (
        lambda x: np.log(x / (1 - x)),
        lambda z: 1 / (1 + np.exp(-z)),
        lambda x: 1 / (x * (1 - x)),
    ),
    "correlation": (np.arctanh, np.tanh, lambda x: 1 / (1 - x * x)),
    "error": (np.log, np.exp, lambda x: 1 / x),
    "plain": (lambda x: x, lambda z: z, lambda x: 1.0),
}


def scale_of(metric: str) -> Scale:
    """The range a metric of `score_target` lives in, from its name."""
    measure = metric.partition("/")[0].removeprefix("pooled_")
    if measure in ("pearson", "ccc", "ccc_va"):
        return "correlation"
    if measure in ("mse", "rmse", "mae", "log_loss") or measure.startswith("error_at"):
        return "error"
    shares = ("accuracy", "weighted_", "macro_", "micro_", "uar", "precision", "recall", "f1")
    return "share" if measure.startswith((*shares, "map", "acc", "wa", "ap", "top")) else "plain"


@dataclass(frozen=True)
class Resamples:
    """One metric of several methods, recomputed for resampled dialogues.

    Attributes:
        metric: name of the metric.
        estimates: method -> metric on the whole split, per seed (S,).
        bootstrap: method -> metric per bootstrap resample and seed (R, S).
        jackknife: method -> metric without one dialogue, per seed (G, S).
        n_rows: rows of the split.
        n_clusters: dialogues G of the split.
        n_effective: dialogues of equal length that would tell as much, at most G.
    """

    metric: str
    estimates: dict[str, Floats]
    bootstrap: dict[str, Floats]
    jackknife: dict[str, Floats]
    n_rows: int
    n_clusters: int
    n_effective: float

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance over dialogues."""
        return max(self.n_effective - 1.0, 1.0)


@dataclass(frozen=True)
class Interval:
    """A method's mean over seeds with its confidence interval; NaN bounds carry a `remark`.

    `std` is over seeds (ddof 1), NaN for one seed. `low` and `high` cover the metric of a freshly
    trained model on fresh dialogues, averaged over trainings, in the given share of experiments.
    """

    metric: str
    method: str
    mean: float
    std: float
    low: float
    high: float
    confidence: float
    seeds: int
    n_rows: int
    n_clusters: int
    undefined_resamples: int
    remark: str = ""


def resample(
    metric_name: str,
    metric: Resamplable,
    truth: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    clusters: Sequence[str] | NDArray,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Resamples:
    """Recompute a metric for resampled dialogues, jointly for all methods and seeds.

    Args:
        metric_name: its name, kept in the results; decides the scale of intervals.
        metric: its resamplable form, see `models.statistics.resampling.resamplable`.
        truth: (n,) or (n, K).
        predictions: method -> (seeds, n) or (seeds, n, K), rows in the order of `truth`.
        clusters: dialogue of each row (n,).
        n_resamples: bootstrap resamples R, fewer where the metric's `most_resamples` says so.
        seed: of the draws; the same seed gives the same bytes.
    """
    t, p, codes, n_clusters = checked_runs(truth, predictions, clusters)
    n_resamples = min(n_resamples, metric.most_resamples or n_resamples)
    rng = np.random.default_rng(seed)
    weighted = {
        name: [_prepared(metric, t, run, codes, n_clusters) for run in runs]
        for name, runs in p.items()
    }
    whole = np.ones((1, n_clusters))
    chunks: dict[str, list[Floats]] = {name: [] for name in p}
    at_once = chunk_of(n_clusters)
    for start in range(0, n_resamples, at_once):
        size = min(at_once, n_resamples - start)
        draws = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=size)
        weights = draws.astype(np.float64)
        for name, runs in weighted.items():
            chunks[name].append(np.stack([of_run.of(weights) for of_run in runs], axis=1))
    return Resamples(
        metric=metric_name,
        estimates={
            name: np.stack([of_run.of(whole) for of_run in runs], axis=1)[0]
            for name, runs in weighted.items()
        },
        bootstrap={name: np.concatenate(parts) for name, parts in chunks.items()},
        jackknife={
            name: np.stack([of_run.without_each() for of_run in runs], axis=1)
            for name, runs in weighted.items()
        },
        n_rows=len(t),
        n_clusters=n_clusters,
        n_effective=_effective_clusters(codes),
    )


@dataclass(frozen=True)
class _Weighted:
    """One run's metric as a function of the weights of dialogues.

    Attributes:
        of: from weights (R, G) to the metric (R,).
        without_each: the metric without one dialogue, (G,).
    """

    of: Callable[[Floats], Floats]
    without_each: Callable[[], Floats]


def _prepared(
    metric: Resamplable, truth: NDArray, prediction: NDArray, codes: Ints, n_clusters: int
) -> _Weighted:
    """What does not depend on the weights is done once."""
    if isinstance(metric, AdditiveMetric):
        sums = cluster_sums(metric.terms(truth, prediction), codes, n_clusters)
        finish = metric.finish
        return _Weighted(
            lambda weights: finish(weights @ sums), lambda: finish(sums.sum(axis=0) - sums)
        )
    return _Weighted(
        lambda weights: metric.weighted(truth, prediction, codes, weights),
        lambda: metric.without_each(truth, prediction, codes, n_clusters),
    )


def confidence_interval(resamples: Resamples, method: str, *, confidence: float = 0.95) -> Interval:
    """Interval of a method's mean over seeds, for fresh dialogues and fresh seeds."""
    estimates = _of(resamples.estimates, method)
    mean, n_seeds = float(estimates.mean()), len(estimates)
    draws = resamples.bootstrap[method].mean(axis=1)
    left_out = resamples.jackknife[method].mean(axis=1)
    scale = scale_of(resamples.metric)
    forward, back, slope = _TRANSFORMS[scale]
    low, high = _RANGES[scale]
    values = np.concatenate([draws, left_out, [mean]])
    values = values[np.isfinite(values)]
    # A resample on the edge of the range (accuracy 1) has no logit: use the plain scale then.
    if not ((values > low + 1e-9) & (values < high - 1e-9)).all():
        forward, back, slope = _TRANSFORMS["plain"]
    undefined_count, remark = _undefined(resamples, mean, draws, left_out)
    interval = Interval(
        metric=resamples.metric,
        method=method,
        mean=mean,
        std=_sd(estimates),
        low=math.nan,
        high=math.nan,
        confidence=confidence,
        seeds=n_seeds,
        n_rows=resamples.n_rows,
        n_clusters=resamples.n_clusters,
        undefined_resamples=undefined_count,
        remark=remark,
    )
    if remark:
        return interval
    cluster_variance = _cluster_variance(forward(draws), forward(left_out))
    own = _own_variance(resamples, method)
    seed_variance = float(max(_seed_variance(estimates) - own, 0.0) * slope(mean) ** 2)
    error, freedom = joined_error(cluster_variance, resamples.freedom, seed_variance, n_seeds - 1)
    reach = _t_quantile(0.5 + confidence / 2, freedom) * error
    centre = forward(mean)
    return replace(
        interval,
        low=max(low, float(back(centre - reach))),
        high=min(high, float(back(centre + reach))),
        remark=_one_seed_remark(n_seeds),
    )


def compare(
    resamples: Resamples, first: str, second: str, *, confidence: float = 0.95
) -> Comparison:
    """Paired cluster bootstrap test of two methods, seeds counted as a source of variance."""
    a, b = _of(resamples.estimates, first), _of(resamples.estimates, second)
    difference = float(a.mean() - b.mean())
    draws = resamples.bootstrap[first].mean(axis=1) - resamples.bootstrap[second].mean(axis=1)
    left_out = resamples.jackknife[first].mean(axis=1) - resamples.jackknife[second].mean(axis=1)
    _, remark = _undefined(resamples, difference, draws, left_out)
    comparison = Comparison(
        metric=resamples.metric,
        first=first,
        second=second,
        means=(float(a.mean()), float(b.mean())),
        difference=difference,
        low=math.nan,
        high=math.nan,
        confidence=confidence,
        p_value=math.nan,
        p_holm=math.nan,
        family=1,
        effect_size=cohens_d(a, b),
        win_rate=win_rate(a, b),
        seeds=(len(a), len(b)),
        seeds_needed=None,
        n_clusters=resamples.n_clusters,
        remark=remark,
    )
    if remark:
        return comparison
    cluster_variance = _cluster_variance(draws, left_out)
    if abs(difference) + math.sqrt(cluster_variance) <= ROUNDING:
        # the same predictions up to the order of a sum: what is left is no evidence
        difference = cluster_variance = 0.0
        comparison = replace(comparison, difference=difference)
    seed_variance = _seed_variance(a) + _seed_variance(b)
    seed_freedom = len(a) + len(b) - 2
    error, freedom = joined_error(cluster_variance, resamples.freedom, seed_variance, seed_freedom)
    p_value = two_sided_p(difference, error, freedom)
    reach = _t_quantile(0.5 + confidence / 2, freedom) * error
    own = [_own_variance(resamples, name) for name in (first, second)]
    # What the runs' own chance adds to the spread over dialogues falls with more seeds.
    spreads = (_spread(a) + own[0] * len(a), _spread(b) + own[1] * len(b))
    return replace(
        comparison,
        low=difference - reach,
        high=difference + reach,
        p_value=p_value,
        p_holm=p_value,
        seeds_needed=seeds_needed(
            difference,
            max(cluster_variance - sum(own), 0.0),
            spreads,
            resamples.freedom,
            alpha=1 - confidence,
        ),
        remark=_one_seed_remark(min(len(a), len(b))),
    )


def compare_all(
    resamples: Resamples,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Compare the given pairs, by default all, with Holm's correction over them."""
    chosen = list(combinations(resamples.estimates, 2)) if pairs is None else list(pairs)
    results = [compare(resamples, a, b, confidence=confidence) for a, b in chosen]
    adjusted = holm([result.p_value for result in results])
    return [
        replace(result, p_holm=float(p), family=len(results))
        for result, p in zip(results, adjusted, strict=True)
    ]


def checked_runs(
    truth: ArrayLike, predictions: Mapping[str, ArrayLike], clusters: Sequence[str] | NDArray
) -> tuple[NDArray, dict[str, NDArray], Ints, int]:
    """Truth (n, ...), runs per method (S, n, ...), cluster codes (n,) and their number."""
    t = np.asarray(truth)
    if len(t) == 0 or not predictions:
        raise MetricInputError("There is nothing to resample: no row or no method was given.")
    runs: dict[str, NDArray] = {}
    for name, given in predictions.items():
        p = np.asarray(given)
        if p.ndim != t.ndim + 1 or p.shape[1:] != t.shape or len(p) == 0:
            raise MetricInputError(
                f"Predictions of {name} need the shape (seeds, {', '.join(map(str, t.shape))}), "
                f"but it is {p.shape}."
            )
        for index, run in enumerate(p):
            require_finite(f"Prediction of {name}, run {index},", run.astype(np.float64))
        runs[name] = p
    codes, n_clusters = cluster_codes(clusters, len(t))
    return t, runs, codes, n_clusters


def _of(values: Mapping[str, Floats], method: str) -> Floats:
    if method not in values:
        raise UserError(f"There is no method {method!r}: known are {', '.join(values)}.")
    return values[method]


def _undefined(
    resamples: Resamples, estimate: float, draws: Floats, left_out: Floats
) -> tuple[int, str]:
    """Number of undefined resamples, and why no interval can be given ("" if it can)."""
    count = int((~np.isfinite(draws)).sum())
    if not math.isfinite(estimate):
        return count, "the metric is undefined on this split"
    if resamples.n_clusters < 2:
        return count, "the split has a single dialogue"
    if count > MAX_UNDEFINED_SHARE * len(draws):
        return count, f"the metric is undefined in {count} of {len(draws)} resamples"
    if np.isfinite(left_out).sum() < 2:
        return count, "the metric rests on a single dialogue"
    return count, ""


def _cluster_variance(draws: Floats, left_out: Floats) -> float:
    """The larger of bootstrap (R,) and jackknife (G,) variance, both unbiased in G."""
    draws, n_clusters = draws[np.isfinite(draws)], len(left_out)
    left_out = left_out[np.isfinite(left_out)]
    bootstrap = draws.var() * n_clusters / (n_clusters - 1)
    return float(max(bootstrap, left_out.var() * (n_clusters - 1)))


def _effective_clusters(codes: Ints) -> float:
    """Kish's number of equal clusters: G / (1 + squared coefficient of variation of the sizes)."""
    sizes = np.bincount(codes).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes @ sizes))


def _spread(estimates: Floats) -> float:
    """Variance of a single run over seeds; NaN for one seed."""
    return float(estimates.var(ddof=1)) if len(estimates) > 1 else math.nan


def _sd(estimates: Floats) -> float:
    return math.sqrt(_spread(estimates))


def _seed_variance(estimates: Floats) -> float:
    """Variance of the mean over seeds; 0 where one seed tells nothing."""
    return float(estimates.var(ddof=1) / len(estimates)) if len(estimates) > 1 else 0.0


def _own_variance(resamples: Resamples, method: str) -> float:
    """What chance in single runs adds to the variance over dialogues of the mean over seeds.

    Runs of one method differ in the rows that they happen to hit. That chance is in the spread over
    dialogues and in the spread over seeds; counted twice it would make intervals too wide.
    """
    draws = resamples.bootstrap[method]
    draws = draws[np.isfinite(draws).all(axis=1)]
    n_seeds, n_clusters = draws.shape[1], resamples.n_clusters
    if n_seeds < 2 or len(draws) == 0:
        return 0.0
    deviations = draws - draws.mean(axis=1, keepdims=True)
    of_one_run = deviations.var(axis=0).sum() / (n_seeds - 1)
    return float(of_one_run / n_seeds * n_clusters / (n_clusters - 1))


def _t_quantile(share: float, freedom: float) -> float:
    return float(stats.t.ppf(share, freedom))


def _one_seed_remark(n_seeds: int) -> str:
    return "one seed, so chance in training is not counted" if n_seeds == 1 else ""
