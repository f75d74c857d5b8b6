"""The judge's entry point: every metric of a target, and the one that selects and ranks.

The metrics themselves live beside this file by concept as pure functions of float64 arrays. They
run once over a whole split; averaging them over batches would be wrong.

A metric that has no value on the rows at hand is NaN and carries the reason (`Metric.reason`); rows
that cannot be scored raise `MetricInputError`. Values are fractions; percent is for reports.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import MetricInputError, UserError
from models.metrics.classification import (
    brier_score,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    summarise_confusion,
    top_k_accuracy,
    weighted_f1,
)
from models.metrics.folds import ALL_ROWS, AVERAGED, by_fold, fold_of_cells, several
from models.metrics.inputs import (
    Floats,
    Metric,
    checked_columns,
    kept_rows,
    mean_over_columns,
    per_column,
    undefined,
)
from models.metrics.multilabel import (
    average_precision,
    binary_scores,
    checked_labels,
    mean_average_precision,
    top_k_scores,
)
from models.metrics.regression import (
    COVERAGE_SHARES,
    COVERAGE_THRESHOLDS,
    ccc,
    ccc_cage_script,
    coverage,
    coverage_area,
    coverage_quantile,
    joint_errors,
    mae,
    mse,
    pearson,
    pooled,
    rmse,
    sentiment_scores,
)

Kind = Literal["category", "values", "labels"]

# Raise this when a definition changes: results made under two conventions do not compare.
CONVENTION = "affectloom-metrics-2"

# target -> (metric, +1 where higher is better, -1 where lower is)
SELECTION: dict[str, tuple[str, int]] = {
    "category": ("weighted_f1", +1),
    "vad": ("ccc", +1),
    "sentiment": ("mae", -1),
    "emi": ("pearson", +1),
    "categories": ("map", +1),
}
HEADLINE: dict[str, tuple[str, int]] = dict(SELECTION)

# What selection sees where the metric is undefined: below any real score, yet finite, so that a
# trainer that keeps "better than before" still keeps something and JSON can hold it.
UNDEFINED_SCORE = -1e9

_VALUE_METRICS = {"mse": mse, "rmse": rmse, "mae": mae, "pearson": pearson, "ccc": ccc}
_POOLED_METRICS = _VALUE_METRICS | {"ccc_cage_script": ccc_cage_script}
#: CAGE's table 6 has valence and arousal in one vector, also where there is dominance.
_POOLED_VA_METRICS = {"mse": mse, "mae": mae, "rmse": rmse, "ccc": ccc}
_COLUMN_SELECTION = {
    ("values", "ccc"): ccc,
    ("values", "pearson"): pearson,
    ("values", "mae"): mae,
}
COVERAGE_LIMIT = 0.5


def score_target(
    kind: Kind,
    names: Sequence[str],
    truth: ArrayLike,
    prediction: ArrayLike,
    probabilities: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    threshold: float = 0.5,
    top_k: int = 3,
    first_labels: ArrayLike | None = None,
    folds: ArrayLike | None = None,
) -> dict[str, Metric]:
    """Every metric of one target as a flat mapping from name to float.

    Args:
        kind: `category`: truth and prediction are class indices (n,). `values`: numbers (n, K), a
            NaN truth meaning not annotated, masked column by column. `labels`: multi-hot truth and
            scores (n, L).
        names: class names, column names or label names.
        truth: what the corpus says.
        prediction: what the method says, finite in every row.
        probabilities: class probabilities (n, C) of a category; adds calibration and top-k.
        mask: boolean (n,), rows to score; the only other way to leave out rows.
        threshold: a label counts as predicted at this score (0.5 for probabilities, 0 for logits).
        top_k: k of the top-k metrics.
        first_labels: first listed true label (n,) of a multi-label row; adds `first_label_top<k>`.
        folds: of each row (n,). With several, correlations and average precision are means over
            folds, and beside them stand those over all rows (`ccc_all_rows`).

    A name with `/` belongs to one class, column or label (`f1/angry`, `ccc/valence`); without, it
    is the summary over them.
    """
    if kind == "category":
        return _category_scores(names, truth, prediction, probabilities, mask, top_k)
    if kind == "values":
        t, p = checked_columns(truth, prediction, mask)
        return _value_scores(names, t, p, several(folds, kept_rows(len(np.asarray(truth)), mask)))
    if kind == "labels":
        return _label_scores(names, truth, prediction, mask, threshold, top_k, first_labels, folds)
    raise UserError(f"Unknown kind of target {kind!r}: choose category, values or labels.")


def undefined_reasons(scores: Mapping[str, Metric]) -> dict[str, str]:
    """Why each undefined metric has no value."""
    return {name: score.reason for name, score in scores.items() if not score.is_defined}


def selection_score(
    target: str,
    kind: Kind,
    names: Sequence[str],
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    folds: ArrayLike | None = None,
) -> float:
    """The target's selection metric, always higher is better and never NaN.

    Computes that one metric only, so it is cheap enough for every epoch. Undefined counts as
    `UNDEFINED_SCORE`; predictions that are not finite still raise. `folds` is that of
    `score_target`.
    """
    if target not in SELECTION:
        raise UserError(
            f"No selection metric for target {target!r}: known are {', '.join(SELECTION)}."
        )
    metric, sign = SELECTION[target]
    if (kind, metric) == ("category", "weighted_f1"):
        score = weighted_f1(truth, prediction, len(names), mask=mask)
    elif (kind, metric) in _COLUMN_SELECTION:
        kept = several(folds, kept_rows(len(np.asarray(truth)), mask))
        of_column = by_fold(_COLUMN_SELECTION[kind, metric], kept if metric in AVERAGED else None)
        score = mean_over_columns(per_column(of_column, *checked_columns(truth, prediction, mask)))
    elif (kind, metric) == ("labels", "map"):
        kept = several(folds, kept_rows(len(np.asarray(truth)), mask))
        score = mean_average_precision(*checked_labels(truth, prediction, mask), kept)
    else:
        raise UserError(f"Target {target!r} is selected by {metric}, which a {kind} target lacks.")
    return sign * float(score) if score.is_defined else UNDEFINED_SCORE


def _category_scores(
    names: Sequence[str],
    truth: ArrayLike,
    prediction: ArrayLike,
    probabilities: ArrayLike | None,
    mask: ArrayLike | None,
    top_k: int,
) -> dict[str, Metric]:
    confusion = confusion_matrix(truth, prediction, len(names), mask=mask)
    n = int(confusion.sum())
    scores = {name: Metric(value, n) for name, value in summarise_confusion(confusion).items()}
    by_class = class_scores(confusion)
    for index, name in enumerate(names):
        scores[f"precision/{name}"] = Metric(by_class.precision[index], n)
        scores[f"recall/{name}"] = Metric(by_class.recall[index], n)
        scores[f"f1/{name}"] = Metric(by_class.f1[index], n)
        scores[f"support/{name}"] = Metric(by_class.support[index], n)
    n_predicted = int((confusion.sum(axis=0) > 0).sum())
    remark = "the prediction is constant" if n_predicted == 1 else ""
    scores["predicted_classes"] = Metric(n_predicted, n, remark)
    if probabilities is not None:
        shape = np.shape(probabilities)
        if len(shape) != 2 or shape[1] != len(names):
            raise MetricInputError(
                f"Probabilities need {len(names)} columns, one per class, but their shape is "
                f"{shape}."
            )
        scores["ece"] = expected_calibration_error(truth, probabilities, mask=mask)
        scores["brier"] = brier_score(truth, probabilities, mask=mask)
        scores["log_loss"] = log_loss(truth, probabilities, mask=mask)
        if top_k < len(names):
            scores[f"top{top_k}_accuracy"] = top_k_accuracy(truth, probabilities, top_k, mask=mask)
    return scores | {"n": Metric(n, n)}


def _value_scores(
    names: Sequence[str], t: Floats, p: Floats, folds: NDArray | None
) -> dict[str, Metric]:
    _require_names(names, t.shape[1], "column")
    annotated = ~np.isnan(t)
    scores: dict[str, Metric] = {}
    by_metric = {
        metric: per_column(by_fold(score, folds if metric in AVERAGED else None), t, p)
        for metric, score in _VALUE_METRICS.items()
    }
    if folds is not None:
        by_metric |= {
            f"{metric}{ALL_ROWS}": per_column(score, t, p)
            for metric, score in _VALUE_METRICS.items()
            if metric in AVERAGED
        }
    for metric, columns in by_metric.items():
        scores[metric] = mean_over_columns(columns)
        scores |= {f"{metric}/{name}": value for name, value in zip(names, columns, strict=True)}
    undefined_columns = sum(c.n > 0 and not c.is_defined for c in by_metric["pearson"])
    scores["pearson_undefined"] = Metric(undefined_columns, len(t))
    if annotated.any():
        cells = pooled(t, p), fold_of_cells(folds, annotated)
        scores |= _pooled_scores("pooled_", _POOLED_METRICS, *cells)
    if {"valence", "arousal"} <= set(names):
        va = [list(names).index(name) for name in ("valence", "arousal")]
        scores["ccc_va"] = mean_over_columns([by_metric["ccc"][column] for column in va])
        if annotated[:, va].any():
            cells = pooled(t[:, va], p[:, va]), fold_of_cells(folds, annotated[:, va])
            scores |= _pooled_scores("pooled_va_", _POOLED_VA_METRICS, *cells)
    for column, name in enumerate(names):
        errors = np.abs(t[annotated[:, column], column] - p[annotated[:, column], column])
        scores |= _coverage_scores(errors, f"/{name}")
        if name == "sentiment" and errors.size:
            scores |= sentiment_scores(t[:, column], p[:, column], mask=annotated[:, column])
        scores[f"n/{name}"] = Metric(errors.size, errors.size)
    if len(names) > 1:
        scores |= _coverage_scores(joint_errors(t, p), "/joint")
    n = int(annotated.any(axis=1).sum())
    return scores | {"n": Metric(n, n)}


def _pooled_scores(
    prefix: str,
    metrics: Mapping[str, Callable[..., Metric]],
    cells: tuple[Floats, Floats],
    folds: NDArray | None,
) -> dict[str, Metric]:
    """Metrics of all columns strung together."""
    return {
        f"{prefix}{name}": by_fold(score, folds if name in AVERAGED else None)(*cells)
        for name, score in metrics.items()
    }


def _coverage_scores(errors: Floats, suffix: str) -> dict[str, Metric]:
    """Share of rows within fixed errors, errors that cover fixed shares, and the area."""
    n = errors.size
    within = [f"within_{limit:g}{suffix}" for limit in COVERAGE_THRESHOLDS]
    reach = [f"error_at_{100 * share:.0f}{suffix}" for share in COVERAGE_SHARES]
    area = f"coverage_area_{COVERAGE_LIMIT:g}{suffix}"
    if n == 0:
        return {name: undefined(0, "no row is annotated") for name in [*within, *reach, area]}
    shares = coverage(errors, COVERAGE_THRESHOLDS)
    scores = {name: Metric(share, n) for name, share in zip(within, shares, strict=True)}
    for name, share in zip(reach, COVERAGE_SHARES, strict=True):
        scores[name] = coverage_quantile(errors, share)
    return scores | {area: coverage_area(errors, COVERAGE_LIMIT)}


def _label_scores(
    names: Sequence[str],
    truth: ArrayLike,
    label_scores: ArrayLike,
    mask: ArrayLike | None,
    threshold: float,
    top_k: int,
    first_labels: ArrayLike | None,
    folds: ArrayLike | None,
) -> dict[str, Metric]:
    t, s = checked_labels(truth, label_scores, mask)
    kept = several(folds, kept_rows(len(np.asarray(truth)), mask))
    _require_names(names, t.shape[1], "label")
    if first_labels is not None:
        first_labels = np.asarray(first_labels)[kept_rows(len(np.asarray(truth)), mask)]
    predicted = s >= threshold
    scores: dict[str, Metric] = {"map": mean_average_precision(t, s, kept)}
    if kept is not None:
        scores[f"map{ALL_ROWS}"] = mean_average_precision(t, s)
    per_label = [binary_scores(t[:, label], predicted[:, label]) for label in range(len(names))]
    for label, name in enumerate(names):
        scores |= {f"{metric}/{name}": value for metric, value in per_label[label].items()}
        scores[f"ap/{name}"] = by_fold(average_precision, kept)(t[:, label], s[:, label])
        scores[f"support/{name}"] = Metric(int(t[:, label].sum()), len(t))
    for metric, name in {
        "accuracy": "accuracy",
        "weighted_f1": "weighted_f1",
        "f1": "macro_f1",
    }.items():
        scores[name] = mean_over_columns([label[metric] for label in per_label])
    defined = [label["wa"] for label in per_label if label["wa"].is_defined]
    remark = f"{len(names) - len(defined)} labels never or always present left out"
    scores["wa"] = (
        Metric(float(np.mean(defined)), len(t), remark if len(defined) < len(names) else "")
        if defined
        else undefined(len(t), "every label is never or always present")
    )
    hits, marked = (t & predicted).sum(), t.sum() + predicted.sum()
    scores["micro_f1"] = Metric(2 * hits / marked if marked else 0.0, len(t))
    scores["exact_match"] = Metric(float((t == predicted).all(axis=1).mean()), len(t))
    if top_k < len(names):
        scores |= top_k_scores(t, s, top_k, first_labels=first_labels)
    scores["labels_without_positive"] = Metric(int((~t.any(axis=0)).sum()), len(t))
    scores["rows_without_label"] = Metric(int((~t.any(axis=1)).sum()), len(t))
    return scores | {"n": Metric(len(t), len(t))}


def _require_names(names: Sequence[str], n_columns: int, noun: str) -> None:
    if len(names) != n_columns or len(set(names)) != len(names):
        raise MetricInputError(
            f"There are {n_columns} {noun}s to score but {len(names)} names, or a name twice: "
            f"{', '.join(names)}."
        )
