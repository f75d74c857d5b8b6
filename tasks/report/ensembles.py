"""The mean prediction over all networks of a method for every test row, with or without a label.

A challenge that keeps its test labels to itself asks for exactly this. Probabilities of classes
and scores of labels are averaged, and so are values; ``prediction_category`` is the class of the
largest mean probability. ``leaderboard.json`` has the score of these where the labels are known.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tasks.atomic import replacing
from tasks.layout import Layout
from tasks.report.tested import Loaded, Tested
from tasks.score_files import TargetScores


def write_ensembles(layout: Layout, loaded: Mapping[str, Loaded]) -> None:
    """One CSV for each corpus and method that was evaluated.

    Args:
        layout: where to write.
        loaded: corpus to what was evaluated.
    """
    layout.ensembles.mkdir(parents=True, exist_ok=True)
    for corpus, (tested, _) in loaded.items():
        for method, one in tested.items():
            file: Path = layout.ensemble(corpus, method)
            with replacing(file) as temporary:
                mean_predictions(one).write_csv(temporary)


def mean_predictions(one: Tested) -> pl.DataFrame:
    """``utterance_id`` and the columns of every target, ordered by id; empty where none predicts.

    Args:
        one: what evaluation left of a method.
    """
    targets = one.details["targets"]
    means = [mean for name, target in targets.items() for mean in _means(name, target)]
    rows = one.table.group_by("utterance_id").agg(means).sort("utterance_id")
    for name, target in targets.items():
        if target["kind"] == "category":
            names = list(target["names"])
            best = pl.concat_list(f"probability_{n}" for n in names).list.arg_max()
            classes = pl.lit(pl.Series(names, dtype=pl.String)).implode().list
            found = rows.with_columns(classes.get(best).alias(f"prediction_{name}"))
            first = f"prediction_{name}"
            rows = found.select("utterance_id", first, pl.exclude("utterance_id", first))
    return rows


def _means(name: str, target: TargetScores) -> list[pl.Expr]:
    if target["kind"] == "values":
        return [pl.col(f"prediction_{n}").mean() for n in target["names"]]
    is_category = target["kind"] == "category"
    column = "probabilities" if is_category else f"scores_{name}"
    prefix = "probability" if is_category else "score"
    return [
        pl.col(column).list.get(i, null_on_oob=True).mean().alias(f"{prefix}_{n}")
        for i, n in enumerate(target["names"])
    ]
