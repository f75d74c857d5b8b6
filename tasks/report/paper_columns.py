"""Which metrics the papers of the field print of a target, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.labels.scales import Scale


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        metric: of `score_target`.
        heading: as printed.
        scale: factor of what is printed.
        digits: after the point.
        is_higher_better: direction of the metric.
        is_percent: the metric is a share, printed in percent.
    """

    metric: str
    heading: str
    scale: float = 1.0
    digits: int = 3
    is_higher_better: bool = True
    is_percent: bool = False


def columns(
    target: str, kind: str, names: Sequence[str], scales: Mapping[str, Scale] | None = None
) -> dict[str, list[Column]]:
    """What papers print of a target: what a table is about, empty for the main one, to columns.

    Args:
        target: the target.
        kind: of it.
        names: its classes, columns or labels.
        scales: column to the scale of its ratings, where known: errors are printed on it too, as
            CAGE does for EMOTIC's 1 to 10. Correlations and CCC are the same on any scale.
    """
    share = {"scale": 100.0, "digits": 2, "is_percent": True}
    if kind == "category":
        per_class = [Column(f"f1/{name}", name, **share) for name in names]
        overall = [Column("accuracy", "Acc", **share), Column("weighted_f1", "wF1", **share)]
        return {
            "": [*per_class, *overall],
            "averages weighted by class size": [
                Column("weighted_precision", "Precision", **share),
                Column("weighted_recall", "Recall", **share),
                Column("weighted_f1", "F1", **share),
            ],
        }
    if kind == "labels":
        top = {"first_label": "first listed", "belong": "all true", "recall": "recall"}
        return {
            "": [
                Column("map", "mAP", **share),
                *(Column(f"{c}_top3", f"Top-3 {words}", **share) for c, words in top.items()),
            ]
        }
    if target == "sentiment":
        return {
            "": [
                Column("mae", "MAE", is_higher_better=False),
                Column("pearson", "Corr"),
                Column("acc7", "Acc-7", **share),
                Column("acc5", "Acc-5", **share),
                Column("acc2_has0", "Acc-2 has0", **share),
                Column("f1_has0", "F1 has0", **share),
                Column("acc2_non0", "Acc-2 non0", **share),
                Column("f1_non0", "F1 non0", **share),
            ]
        }
    if target == "vad":
        initials = [name[0].upper() for name in names]
        errors = _by_column("rmse", [f"{i} RMSE" for i in initials], names)
        agreements = _by_column("ccc", [f"{i} CCC" for i in initials], names)
        together = _pooled("pooled", "".join(initials))
        if len(names) > 2:  # with V and A alone, all dimensions are these two
            together = [*_pooled("pooled_va", "VA"), *together]
        return {
            "": [*errors, *agreements, Column("ccc", "mean CCC")],
            "dimensions pooled into one vector": together,
            "errors on the scales of the ratings": _as_rated(names, initials, scales or {}),
        }
    shown = [name.replace("_", " ") for name in names]
    return {
        "": [*_by_column("pearson", shown, names), Column("pearson", "mean r")],
        "mean squared error": [
            *_by_column("mse", shown, names), Column("mse", "mean", is_higher_better=False),
        ],
        "mean absolute error": [
            *_by_column("mae", shown, names), Column("mae", "mean", is_higher_better=False),
        ],
        "concordance": [*_by_column("ccc", shown, names), Column("ccc", "mean")],
    }  # fmt: skip


def _as_rated(
    names: Sequence[str], initials: Sequence[str], scales: Mapping[str, Scale]
) -> list[Column]:
    """RMSE of each dimension that was rated on a scale other than -1 to 1."""
    widths = {name: (scale.high - scale.low) / 2 for name, scale in scales.items()}
    return [
        Column(
            f"rmse/{name}",
            f"{initial} RMSE, {scales[name].low:g} to {scales[name].high:g}",
            scale=widths[name],
            is_higher_better=False,
        )
        for name, initial in zip(names, initials, strict=True)
        if widths.get(name, 1.0) != 1.0
    ]


_ERRORS = ("mse", "mae", "rmse")


def _by_column(metric: str, headings: Sequence[str], names: Sequence[str]) -> list[Column]:
    """One metric of each dimension."""
    return [
        Column(f"{metric}/{name}", heading, is_higher_better=metric not in _ERRORS)
        for name, heading in zip(names, headings, strict=True)
    ]


def _pooled(prefix: str, initials: str) -> list[Column]:
    """CAGE's Table 6: dimensions concatenated before anything is computed."""
    return [
        Column(f"{prefix}_{m}", f"{initials} {m.upper()}", is_higher_better=m not in _ERRORS)
        for m in (*_ERRORS, "ccc")
    ]
