"""The headline metric by group of people, with intervals and the largest gap between groups.

A group of few rows or few dialogues says nothing about such people: it gets no score, takes no part
in the gap, and is counted. Where a group was not judged on all columns of a target (a corpus
without dominance), its score is of those that it was judged on, and it takes no part in the gap.
"""

import math
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from models.statistics.bootstrap import confidence_interval, resample
from models.statistics.resampling import resamplable
from tasks.clusters import COLUMNS as PLACE_COLUMNS
from tasks.clusters import clusters_of
from tasks.layout import Layout
from tasks.report.tested import Loaded, Rows, Tested, align
from tasks.score_files import TargetScores
from tasks.splits.groups import link
from tasks.tables.parquet import read_table
from tasks.tables.people import COLUMNS, GROUPED_BY
from tasks.tables.utterances import UTTERANCES

#: Smaller groups are too small to be scored.
FEWEST_ROWS, FEWEST_DIALOGUES = 20, 5
#: An interval needs a variance alone, and so many draws give its root to about 2 %.
MOST_RESAMPLES = 1_000


class GroupScore(TypedDict):
    """One method on one group; null where an interval has no end."""

    mean: float | None
    ci_low: float | None
    ci_high: float | None


class Group(TypedDict):
    """One group: rows, dialogues, the columns it was judged on, and its scores by method."""

    name: str
    n: int
    n_dialogues: int
    columns: list[str]
    scores: dict[str, GroupScore]


class Gap(TypedDict):
    """The largest difference between two groups that compare, for one method."""

    size: float
    best: str
    worst: str


class Grouping(TypedDict):
    """All groups of one kind, those that are too small, and the largest gap by method."""

    by: str
    metric: str
    higher_is_better: bool
    groups: list[Group]
    too_small: list[str]
    unknown: int
    gaps: dict[str, Gap]


def by_group(
    layout: Layout, corpus: str, loaded: Loaded, *, resamples: int, seed: int
) -> dict[str, list[Grouping]]:
    """Target to a grouping for each kind of which the test rows hold two groups or more.

    Targets that are scored on validation are left out: their scores are selected.
    """
    tested, _ = loaded
    people = _people(layout, corpus)
    found: dict[str, list[Grouping]] = {}
    for name in dict.fromkeys(target for one in tested.values() for target in one.targets):
        mine = {m: one for m, one in tested.items() if name in one.targets}
        if next(iter(mine.values())).split(name) == "test":
            found[name] = _of_target(name, mine, people, min(resamples, MOST_RESAMPLES), seed)
    return {name: groupings for name, groupings in found.items() if groupings}


def _people(layout: Layout, corpus: str) -> pl.DataFrame:
    columns = list(dict.fromkeys([*PLACE_COLUMNS, *COLUMNS]))
    utterances = read_table(UTTERANCES, layout.utterances(corpus))
    return utterances.select(columns).with_columns(
        expression.alias(f"by {by}") for by, expression in GROUPED_BY.items()
    )


def _of_target(
    name: str, tested: Mapping[str, Tested], people: pl.DataFrame, resamples: int, seed: int
) -> list[Grouping]:
    rows = align(name, tested, people.select(PLACE_COLUMNS))
    target = next(iter(tested.values())).targets[name]
    placed = pl.DataFrame({"utterance_id": rows.ids}).join(
        people, on="utterance_id", how="left", maintain_order="left"
    )
    # many small products: threads only get in each other's way
    with threadpool_limits(1):
        return [
            _grouping(by, target, rows, placed, resamples, seed)
            for by in GROUPED_BY
            if placed[f"by {by}"].drop_nulls().n_unique() > 1
        ]


def _grouping(
    by: str, target: TargetScores, rows: Rows, placed: pl.DataFrame, resamples: int, seed: int
) -> Grouping:
    column = f"by {by}"
    found = placed.with_row_index("row").drop_nulls(column).group_by(column)
    sizes = found.agg("row", n_dialogues=pl.col("dialogue_id").n_unique()).sort(column)
    groups, too_small = [], []
    for name, chosen, n_dialogues in sizes.iter_rows():
        if len(chosen) < FEWEST_ROWS or n_dialogues < FEWEST_DIALOGUES:
            too_small.append(name)
            continue
        own, at = placed[chosen], np.array(chosen)
        # a speaker is one group of people: what varies there is the dialogue
        codes = link(own, ("dialogue_id",)) if by == "speaker" else clusters_of(own).codes
        columns, scores = scores_on(target, rows, at, codes, resamples, seed)
        groups.append(
            Group(
                name=name,
                n=len(at),
                n_dialogues=n_dialogues,
                columns=columns,
                scores=scores,
            )
        )
    return {
        "by": by,
        "metric": target["headline"],
        "higher_is_better": target["higher_is_better"],
        "groups": groups,
        "too_small": too_small,
        "unknown": placed[column].null_count(),
        "gaps": _gaps(groups, target),
    }


def scores_on(
    target: TargetScores,
    rows: Rows,
    chosen: np.ndarray,
    codes: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[list[str], dict[str, GroupScore]]:
    """Columns that the chosen rows were judged on, and each method's headline on them.

    Args:
        target: what it is.
        rows: the aligned rows.
        chosen: (n,) places of those that count.
        codes: of each chosen row, the cluster it is drawn with.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    names, truth = list(target["names"]), rows.truth[chosen]
    guesses = {method: found[:, chosen] for method, found in rows.predictions.items()}
    if target["kind"] == "values":
        kept = np.flatnonzero(~np.isnan(truth).all(axis=0))
        names, truth = [names[k] for k in kept], truth[:, kept]
        guesses = {method: found[..., kept] for method, found in guesses.items()}
    metric = target["headline"]
    drawn = resample(
        metric,
        resamplable(metric, target["kind"], names, rows.folds[chosen]),
        truth,
        guesses,
        codes,
        n_resamples=resamples,
        seed=seed,
    )
    found: dict[str, GroupScore] = {}
    for method in guesses:
        interval = confidence_interval(drawn, method)
        found[method] = {
            "mean": plain(interval.mean),
            "ci_low": plain(interval.low),
            "ci_high": plain(interval.high),
        }
    return names, found


def _gaps(groups: list[Group], target: TargetScores) -> dict[str, Gap]:
    """By method, between the best and the worst of the groups that were judged on all columns."""
    whole = [group for group in groups if group["columns"] == list(target["names"])]
    sign = 1 if target["higher_is_better"] else -1
    found: dict[str, Gap] = {}
    for method in groups[0]["scores"] if groups else ():
        scored = {
            group["name"]: mean
            for group in whole
            if (mean := group["scores"][method]["mean"]) is not None
        }
        if len(scored) > 1:
            ranked = sorted(scored, key=lambda name: (-sign * scored[name], name))
            best, worst = ranked[0], ranked[-1]
            found[method] = {
                "size": abs(scored[best] - scored[worst]),
                "best": best,
                "worst": worst,
            }
    return found


def plain(value: float) -> float | None:
    """A number as JSON has it; null where it is undefined."""
    return value if math.isfinite(value) else None
