"""Which metrics the papers of the field print of a target, and how."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: a metric of `score_target`, its heading, its unit and its direction."""

    metric: str
    heading: str
    scale: float = 1.0
    digits: int = 3
    is_higher_better: bool = True


def columns(target: str, kind: str, names: Sequence[str]) -> dict[str, list[Column]]:
    """What papers print of a target: what a table is about, empty for the main one, to columns."""
    share = {"scale": 100.0, "digits": 2}
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
        return {"": [Column("map", "mAP", **share)]}
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
