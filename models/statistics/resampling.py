"""Metrics that can be recomputed for thousands of resamples of dialogues at once.

A resample gives every cluster (dialogue) a weight: how often it was drawn. Most metrics are a
function of sums over rows (counts for F1, moments for CCC), so a resample is one matrix product of
weights (R, G) with sums per cluster (G, P). mAP needs its ranks and has its own product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import MetricInputError, UserError
from models.metrics.classification import ratio
from models.metrics.folds import AVERAGED, fold_groups
from models.metrics.inputs import Bools, Floats, Ints
from models.metrics.multilabel import TOP_K, mean_average_precision, top_k_rows
from models.metrics.regression import CONSTANT_SD, SENTIMENT_LIMITS, sentiment_classes
from models.metrics.scoring import Kind
from models.statistics.precision import precision_without_each, weighted_precision

# E[x^2] - E[x]^2 of a constant leaves rounding of this size relative to E[x^2].
CONSTANT_VARIANCE = 1e-13
VALUE_METRICS = ("mse", "rmse", "mae", "pearson", "ccc")


class Resamplable(Protocol):
    """A metric as the resampling procedures need it; `codes` (n,) number the clusters 0 to G-1.

    `most_resamples` bounds the draws of a metric that is dear to recompute; None: as many as asked.
    """

    most_resamples: ClassVar[int | None]

    def weighted(self, truth: NDArray, prediction: NDArray, codes: Ints, weights: Floats) -> Floats:
        """Metric (R,) with each row counted as often as its cluster weighs in `weights` (R, G)."""
        ...

    def without_each(
        self, truth: NDArray, prediction: NDArray, codes: Ints, n_clusters: int
    ) -> Floats:
        """Metric (G,) without one cluster after the other."""
        ...

    def swapped(
        self, truth: NDArray, first: NDArray, second: NDArray, codes: Ints, swaps: Bools
    ) -> Floats:
        """Metric (R, 2) of both predictions after exchanging the clusters marked in (R, G)."""
        ...


def cluster_sums(terms: Floats, codes: Ints, n_clusters: int) -> Floats:
    """Sum terms per row (n, P) over clusters: (G, P)."""
    sums = np.zeros((n_clusters, terms.shape[1]))
    np.add.at(sums, codes, terms)
    return sums


@dataclass(frozen=True)
class AdditiveMetric:
    """A metric that is `finish(sum over rows of terms(truth, prediction))`.

    Attributes:
        terms: maps truth and prediction of n rows to (n, P).
        finish: maps sums (..., P) to the metric (...), NaN where it is undefined.
    """

    most_resamples: ClassVar[int | None] = None

    terms: Callable[[NDArray, NDArray], Floats]
    finish: Callable[[Floats], Floats]

    def weighted(self, truth: NDArray, prediction: NDArray, codes: Ints, weights: Floats) -> Floats:
        """See `Resamplable.weighted`."""
        return self.finish(
            weights @ cluster_sums(self.terms(truth, prediction), codes, weights.shape[1])
        )

    def without_each(
        self, truth: NDArray, prediction: NDArray, codes: Ints, n_clusters: int
    ) -> Floats:
        """See `Resamplable.without_each`."""
        sums = cluster_sums(self.terms(truth, prediction), codes, n_clusters)
        return self.finish(sums.sum(axis=0) - sums)

    def swapped(
        self, truth: NDArray, first: NDArray, second: NDArray, codes: Ints, swaps: Bools
    ) -> Floats:
        """See `Resamplable.swapped`."""
        n_clusters = swaps.shape[1]
        a = cluster_sums(self.terms(truth, first), codes, n_clusters)
        b = cluster_sums(self.terms(truth, second), codes, n_clusters)
        moved = swaps.astype(np.float64) @ (b - a)
        return np.stack(
            [self.finish(a.sum(axis=0) + moved), self.finish(b.sum(axis=0) - moved)], axis=-1
        )


def _swap_rows(
    metric: Callable[[NDArray, NDArray], float],
    truth: NDArray,
    first: NDArray,
    second: NDArray,
    codes: Ints,
    swaps: Bools,
) -> Floats:
    """Recompute a metric from rows for every swap (R, G): (R, 2)."""
    values = np.empty((len(swaps), 2))
    for index, swap in enumerate(swaps):
        exchange = swap[codes].reshape(-1, *([1] * (first.ndim - 1)))
        values[index, 0] = metric(truth, np.where(exchange, second, first))
        values[index, 1] = metric(truth, np.where(exchange, first, second))
    return values


@dataclass(frozen=True)
class MeanAveragePrecision:
    """mAP over labels (n, L), resampled without sorting again.

    Precision at a positive row is (weighted positives scored at least as high) over (weighted rows
    scored at least as high), and both are products of the weights with counts per cluster. Still,
    10,000 draws of 2,000 rows take a second; the interval needs a variance only, and 1,000 draws
    give its square root to 2 %.

    Attributes:
        folds: of each row (n,): the precision of a label is a mean over folds; None: over all rows.
    """

    most_resamples: ClassVar[int | None] = 1_000

    folds: NDArray | None = None

    def weighted(self, truth: NDArray, prediction: NDArray, codes: Ints, weights: Floats) -> Floats:
        """See `Resamplable.weighted`."""
        n_clusters = weights.shape[1]
        return self._mean(
            truth,
            prediction,
            codes,
            lambda *label: weighted_precision(*label, weights=weights),
            lambda codes: weights @ np.bincount(codes, minlength=n_clusters),
        )

    def without_each(
        self, truth: NDArray, prediction: NDArray, codes: Ints, n_clusters: int
    ) -> Floats:
        """See `Resamplable.without_each`."""
        return self._mean(
            truth,
            prediction,
            codes,
            lambda *label: precision_without_each(*label, n_clusters=n_clusters),
            lambda codes: len(codes) - np.bincount(codes, minlength=n_clusters),
        )

    def _mean(
        self,
        truth: NDArray,
        prediction: NDArray,
        codes: Ints,
        precision: Callable[[Bools, Floats, Ints], tuple[Floats, Bools]],
        count: Callable[[Ints], NDArray],
    ) -> Floats:
        """Mean over labels (R,) of a precision, and of the rows that it is of."""
        n_resamples = len(count(codes))
        total, n_labels = np.zeros(n_resamples), np.zeros(n_resamples)
        for label in range(truth.shape[1]):
            positive, score = truth[:, label].astype(bool), prediction[:, label]
            if not positive.any():
                continue
            sums, n_rows = np.zeros(n_resamples), np.zeros(n_resamples)
            for part in self._parts(positive):
                value, is_there = precision(positive[part], score[part], codes[part])
                size = count(codes[part]) * is_there
                sums, n_rows = sums + value * size, n_rows + size
            total += ratio(sums, n_rows)
            n_labels += n_rows > 0
        return _quotient(total, n_labels)

    def _parts(self, positive: Bools) -> list[Ints]:
        """Rows that a label's precision is computed on together."""
        if self.folds is None:
            return [np.arange(len(positive))]
        groups = fold_groups(self.folds, positive)
        return [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)]

    def swapped(
        self, truth: NDArray, first: NDArray, second: NDArray, codes: Ints, swaps: Bools
    ) -> Floats:
        """See `Resamplable.swapped`."""
        metric = partial(mean_average_precision, folds=self.folds)
        return _swap_rows(metric, truth, first, second, codes, swaps)


def resamplable(
    metric: str,
    kind: Kind,
    names: Sequence[str],
    folds: ArrayLike | None = None,
    first_labels: ArrayLike | None = None,
) -> Resamplable:
    """The fast form of a metric of `score_target`, by the same name.

    Category: accuracy, weighted, macro and per-class precision, recall, F1, UAR. Values: mse, rmse,
    mae, pearson, ccc, over all columns or of one (`ccc/valence`), ccc_va, each of them pooled over
    all columns (`pooled_mse`) or over V and A (`pooled_va_mse`), and the sentiment accuracies and
    F1. Labels: map, and every `<criterion>_top<k>`, of which that of the first listed label needs
    `first_labels` (n,). With several `folds` (n,) correlations and map are means over folds.
    """
    of_row = None if folds is None or len(np.unique(folds)) < 2 else np.asarray(folds)
    if kind == "category":
        return AdditiveMetric(_confusion_terms(len(names)), _confusion_finish(metric, names))
    if kind == "values" and metric in _SENTIMENT:
        column = list(names).index("sentiment") if "sentiment" in names else -1
        if column < 0:
            raise UserError(f"{metric} is a metric of the column sentiment, not of {list(names)}.")
        terms, finish = _SENTIMENT[metric]
        return AdditiveMetric(_on_column(terms, column), finish)
    if kind == "values":
        base, columns = _value_columns(metric, names)
        if of_row is not None and base in AVERAGED:
            is_pooled = metric.startswith("pooled_")
            return _moments_by_fold(base, columns, of_row, is_pooled=is_pooled)
        finish = _pooled_finish(base) if metric.startswith("pooled_") else _moment_finish(base)
        return AdditiveMetric(_moment_terms(columns), finish)
    if kind == "labels" and metric == "map":
        return MeanAveragePrecision(of_row)
    criterion, _, k = metric.rpartition("_top")
    if kind == "labels" and criterion in TOP_K and k.isdigit():
        first = None if first_labels is None else np.asarray(first_labels)
        if criterion == "first_label" and first is None:
            raise UserError(f"{metric} needs the label that was listed first in each row.")
        return AdditiveMetric(_top_k_terms(criterion, int(k), first), _share)
    raise UserError(f"{metric} of a {kind} target cannot be resampled.")


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise quotient, NaN where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0
    )


def _confusion_terms(n_classes: int) -> Callable[[NDArray, NDArray], Floats]:
    """Rows to indicator columns [hit of class, predicted class, true class], (n, 3C)."""

    def terms(truth: NDArray, prediction: NDArray) -> Floats:
        one_hot = np.eye(n_classes)
        t, p = one_hot[truth], one_hot[prediction]
        return np.concatenate([t * p, p, t], axis=1)

    return terms


def _confusion_finish(metric: str, names: Sequence[str]) -> Callable[[Floats], Floats]:
    measure, _, class_name = metric.partition("/")
    per_class = measure in ("precision", "recall", "f1")
    if not (class_name in names if per_class and class_name else metric in _CLASS_AVERAGES):
        raise UserError(
            f"{metric} cannot be resampled for the classes {', '.join(names)}: known are "
            f"{', '.join(_CLASS_AVERAGES)}, precision/<class>, recall/<class>, f1/<class>."
        )

    def finish(sums: Floats) -> Floats:
        hits, predicted, support = np.split(sums, 3, axis=-1)
        by_class = {
            "precision": ratio(hits, predicted),
            "recall": ratio(hits, support),
            "f1": ratio(2 * hits, predicted + support),
        }
        if class_name:
            return by_class[measure][..., list(names).index(class_name)]
        source, weighting = _CLASS_AVERAGES[measure]
        weight = {"support": support, "present": support > 0, "all": np.ones_like(support)}
        used = weight[weighting].astype(np.float64)
        return _quotient((by_class[source] * used).sum(axis=-1), used.sum(axis=-1))

    return finish


# summary -> (per-class measure, weight of a class); recall weighted by support is accuracy
_CLASS_AVERAGES = {
    "accuracy": ("recall", "support"),
    "weighted_precision": ("precision", "support"),
    "weighted_recall": ("recall", "support"),
    "weighted_f1": ("f1", "support"),
    "macro_precision": ("precision", "present"),
    "macro_f1": ("f1", "present"),
    "macro_f1_all": ("f1", "all"),
    "uar": ("recall", "present"),
    "uar_all": ("recall", "all"),
}


def _value_columns(metric: str, names: Sequence[str]) -> tuple[str, list[int]]:
    """Split `ccc/valence` into the measure and the columns it runs over."""
    measure, _, column = metric.removeprefix("pooled_").partition("/")
    wanted = [column] if column else list(names)
    if metric == "ccc_va":
        measure, wanted = "ccc", ["valence", "arousal"]
    if metric.startswith("pooled_va_"):
        measure, wanted = metric.removeprefix("pooled_va_"), ["valence", "arousal"]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(f"{metric}: there is no column {missing[0]!r} among {', '.join(names)}.")
    if measure not in VALUE_METRICS:
        raise UserError(
            f"{metric} of values cannot be resampled: known are {', '.join(VALUE_METRICS)}, "
            f"ccc_va, pooled_<metric>, {', '.join(_SENTIMENT)}."
        )
    return measure, [list(names).index(name) for name in wanted]


def _moment_terms(columns: list[int]) -> Callable[[NDArray, NDArray], Floats]:
    """Per column: annotated, t, p, t^2, p^2, tp, |p-t|, (p-t)^2, flattened to (n, 8K).

    A NaN truth gives 0. In float64 whatever comes in: squares of float32 would lose the variance.
    """

    def terms(truth: NDArray, prediction: NDArray) -> Floats:
        t, p = (
            np.asarray(a, dtype=np.float64).reshape(len(a), -1)[:, columns]
            for a in (truth, prediction)
        )
        annotated = ~np.isnan(t)
        t, p = np.where(annotated, t, 0.0), np.where(annotated, p, 0.0)
        gap = p - t
        parts = [annotated.astype(np.float64), t, p, t * t, p * p, t * p, np.abs(gap), gap * gap]
        return np.concatenate(parts, axis=1)

    return terms


def _moment_finish(measure: str) -> Callable[[Floats], Floats]:
    def finish(sums: Floats) -> Floats:
        n, *rest = np.split(sums, 8, axis=-1)
        values = _moment_measure(measure, n, *(_quotient(part, n) for part in rest))
        return _over_columns(values, n > 0)

    return finish


def _pooled_finish(measure: str) -> Callable[[Floats], Floats]:
    """The measure over the cells of all columns as if they were one."""

    def finish(sums: Floats) -> Floats:
        parts = np.split(sums, 8, axis=-1)
        n, *rest = (part.sum(axis=-1, keepdims=True) for part in parts)
        return _moment_measure(measure, n, *(_quotient(part, n) for part in rest))[..., 0]

    return finish


def _moments_by_fold(
    measure: str, columns: list[int], folds: NDArray, *, is_pooled: bool
) -> AdditiveMetric:
    """The mean over folds: every moment has a column for each fold and column of values."""
    plain, n_folds, n_columns = _moment_terms(columns), len(np.unique(folds)), len(columns)

    def groups(truth: NDArray) -> Ints:
        """(n, K): group of folds of each cell; a cell without truth weighs nothing anywhere."""
        t = np.asarray(truth, dtype=np.float64).reshape(len(truth), -1)[:, columns]
        annotated = ~np.isnan(t)
        found = np.zeros(t.shape, np.int64)
        if is_pooled:
            of_cells = np.broadcast_to(folds[:, None], t.shape)
            found[annotated] = fold_groups(of_cells[annotated], t[annotated])
            return found
        for column, known in enumerate(annotated.T):
            found[known, column] = fold_groups(folds[known], t[known, column])
        return found

    def terms(truth: NDArray, prediction: NDArray) -> Floats:
        sums = plain(truth, prediction).reshape(len(truth), 8, 1, n_columns)
        chosen = groups(truth)[:, None] == np.arange(n_folds)[:, None]  # (n, F, K)
        spread = sums * chosen[:, None]
        if is_pooled:
            spread = spread.sum(axis=-1)
        return spread.reshape(len(truth), -1)

    def finish(sums: Floats) -> Floats:
        n, *rest = np.split(sums, 8, axis=-1)
        values = _moment_measure(measure, n, *(_quotient(part, n) for part in rest))
        shape = (*n.shape[:-1], n_folds, 1 if is_pooled else n_columns)
        n, values = n.reshape(shape), values.reshape(shape)
        # As in `models.metrics.folds.by_fold`: undefined in one of several folds counts 0.
        is_alone = (n > 0).sum(axis=-2, keepdims=True) == 1
        values = np.where(np.isnan(values) & ~(is_alone & (n > 0)), 0.0, values)
        rows = n.sum(axis=-2)
        of_column = _quotient((values * n).sum(axis=-2), rows)
        return _over_columns(of_column, rows > 0)

    return AdditiveMetric(terms, finish)


def _over_columns(values: Floats, annotated: Bools) -> Floats:
    """As `mean_over_columns`: undefined counts 0, a column without annotation is left out."""
    if values.shape[-1] == 1:
        return values[..., 0]
    filled = np.where(annotated & ~np.isnan(values), values, 0.0).sum(axis=-1)
    return _quotient(filled, annotated.sum(axis=-1).astype(np.float64))


def _moment_measure(
    measure: str,
    n: Floats,
    t: Floats,
    p: Floats,
    tt: Floats,
    pp: Floats,
    tp: Floats,
    mae: Floats,
    mse: Floats,
) -> Floats:
    """One measure per column from mean moments (..., K)."""
    if measure == "mae":
        return mae
    if measure in ("mse", "rmse"):
        return np.sqrt(np.maximum(mse, 0.0)) if measure == "rmse" else mse
    var_t, var_p, covariance = tt - t * t, pp - p * p, tp - t * p
    varies_t, varies_p = (
        variance > np.maximum(CONSTANT_VARIANCE * square, CONSTANT_SD**2)
        for variance, square in ((var_t, tt), (var_p, pp))
    )
    both = varies_t & varies_p
    enough = n > 1
    if measure == "pearson":
        product = np.sqrt(np.where(both, var_t * var_p, 1.0))
        return np.where(enough & both, np.clip(covariance / product, -1.0, 1.0), np.nan)
    spread = np.where(both, var_t + var_p + (t - p) ** 2, 1.0)
    equal = np.abs(t - p) <= 1e-12 * np.maximum(1.0, np.abs(t))
    constant = np.where(varies_t | varies_p, 0.0, equal.astype(np.float64))
    return np.where(enough, np.where(both, 2 * covariance / spread, constant), np.nan)


def _on_column(
    terms: Callable[[Floats, Floats], Floats], column: int
) -> Callable[[NDArray, NDArray], Floats]:
    def on_column(truth: NDArray, prediction: NDArray) -> Floats:
        t, p = (
            np.asarray(a, dtype=np.float64).reshape(len(a), -1)[:, column]
            for a in (truth, prediction)
        )
        annotated = ~np.isnan(t)
        return terms(np.where(annotated, t, 0.0), p) * annotated[:, None]

    return on_column


def _class_match_terms(limit: float) -> Callable[[Floats, Floats], Floats]:
    def terms(truth: Floats, prediction: Floats) -> Floats:
        same = sentiment_classes(truth, limit) == sentiment_classes(prediction, limit)
        return np.stack([same.astype(np.float64), np.ones(len(truth))], axis=1)

    return terms


def _has0_terms(truth: Floats, prediction: Floats) -> Floats:
    return _confusion_terms(2)((truth >= 0).astype(int), (prediction >= 0).astype(int))


def _non0_terms(truth: Floats, prediction: Floats) -> Floats:
    terms = _confusion_terms(2)((truth > 0).astype(int), (prediction > 0).astype(int))
    return terms * (truth != 0)[:, None]


def _top_k_terms(
    criterion: str, k: int, first: NDArray | None
) -> Callable[[NDArray, NDArray], Floats]:
    """Rows to [score, has a true label], (n, 2)."""

    def terms(truth: NDArray, prediction: NDArray) -> Floats:
        labels = truth.astype(bool)
        has_label = labels.any(axis=1).astype(np.float64)
        return np.stack(
            [top_k_rows(labels, prediction, k, first)[criterion] * has_label, has_label], axis=1
        )

    return terms


def _share(sums: Floats) -> Floats:
    return _quotient(sums[..., 0], sums[..., 1])


_POLARITY = ("negative", "positive")
_SENTIMENT: dict[str, tuple[Callable[[Floats, Floats], Floats], Callable[[Floats], Floats]]] = {
    **{name: (_class_match_terms(limit), _share) for name, limit in SENTIMENT_LIMITS.items()},
    "acc2_has0": (_has0_terms, _confusion_finish("accuracy", _POLARITY)),
    "f1_has0": (_has0_terms, _confusion_finish("weighted_f1", _POLARITY)),
    "acc2_non0": (_non0_terms, _confusion_finish("accuracy", _POLARITY)),
    "f1_non0": (_non0_terms, _confusion_finish("weighted_f1", _POLARITY)),
}


def cluster_codes(clusters: Sequence[str] | NDArray, n_rows: int) -> tuple[Ints, int]:
    """Number the clusters of n rows 0 to G-1, in sorted order of their names."""
    names = np.asarray(clusters)
    if names.shape != (n_rows,):
        raise MetricInputError(
            f"Each of the {n_rows} rows needs its dialogue, but {names.shape} were given."
        )
    unique, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), len(unique)
