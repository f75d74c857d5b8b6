"""Whether it pays to join corpora: a method of a union against the same method on each part alone.

Both are scored on the same rows, the part's own test rows in the folds that the union has, in a
paired test; beside them stands what the method reaches there when it was trained on another part.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from models.statistics.bootstrap import compare, confidence_interval, resample
from models.statistics.comparison import Comparison, verdict
from models.statistics.resampling import resamplable
from models.statistics.significance import holm
from tasks.clusters import clusters_of
from tasks.layout import Layout
from tasks.params.unions import parts_of
from tasks.report.groups import GroupScore, plain
from tasks.report.tested import Loaded, Tested, columns_of, encode, read_places
from tasks.score_files import TargetScores, TransferCell
from tasks.tables.parquet import read_table
from tasks.tables.splits import SPLIT

_KEYS = ("utterance_id", "fold", "seed")
JOINT, ALONE = "joint", "alone"
#: Keys of an entry of ``methods`` that say what is done about parts, and what a part has none of.
_OF_UNIONS = ("part_align", "part_offset", "part_balance", "derived_weight", "corpora")


class FromPart(TypedDict):
    """The score on the part's test rows of networks that were trained on another part."""

    trained_on: str
    mean: float | None
    ci_low: float | None
    ci_high: float | None


class Versus(TypedDict):
    """One method on one target of one part; ``difference`` is joint minus alone.

    ``against`` is the entry that was trained alone: the same, or the one that is the same but for
    what an entry of unions says about their parts.
    """

    method: str
    against: str
    part: str
    target: str
    metric: str
    higher_is_better: bool
    columns: list[str]
    n: int
    n_dialogues: int
    seeds: int
    joint: GroupScore
    alone: GroupScore
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_holm: float | None
    verdict: str
    transfer: list[FromPart]


class UnionScores(TypedDict):
    """What ``analysis/unions/<corpus>.json`` holds; ``card``: which figures compare with others."""

    rows: list[Versus]
    unscored: list[str]
    card: list[str]


@dataclass(frozen=True)
class _Paired:
    """Truth (n, ...) and predictions (S, n, ...) of both on the same rows, with their clusters."""

    target: TargetScores
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    folds: np.ndarray
    codes: np.ndarray
    n_dialogues: int


def union_scores(
    layout: Layout,
    raw: Mapping[str, Any],
    corpus: str,
    loaded: Mapping[str, Loaded],
    across: Sequence[TransferCell],
    *,
    resamples: int,
    seed: int,
) -> UnionScores | None:
    """Joint against alone on every part; None where the corpus is no union.

    Args:
        raw: all of params.yaml.
        corpus: the union.
        loaded: corpus to what was evaluated.
        across: what the stages ``transfer`` found.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    if not (parts := parts_of(raw, corpus)):
        return None
    rows: list[Versus] = []
    pairs: list[Comparison] = []
    unscored: list[str] = []
    places = read_places(layout, corpus)
    for method, joint in loaded[corpus][0].items():
        for part in parts:
            known = loaded[part][0] if part in loaded else {}
            against = counterpart(raw["methods"], method, list(known))
            alone = known.get(against)
            for name in joint.targets:
                found = _pair(name, joint, alone, places, part)
                if isinstance(found, str):
                    unscored.append(f"{method}, {name}, {part}: {found}")
                    continue
                with threadpool_limits(1):
                    row, pair = _judge(found, resamples, seed)
                row |= {"method": method, "against": against, "part": part, "target": name}
                row["transfer"] = _from_parts(across, parts, part, against, name)
                rows.append(cast(Versus, row))
                pairs.append(pair)
    _correct(rows, pairs)
    return {"rows": rows, "unscored": unscored, "card": _card(layout, corpus, parts)}


def counterpart(entries: Mapping[str, Any], method: str, known: Sequence[str]) -> str:
    """Of the methods that were evaluated on a part the one to hold ``method`` of a union against.

    Itself where it is one of them, or where none is the same but for what is said about parts.
    """

    def plain(name: str) -> dict[str, Any]:
        entry = entries.get(name) or {}
        kept = {key: value for key, value in entry.items() if key not in _OF_UNIONS}
        return {"method": name, **kept}

    alike = [name for name in known if plain(name) == plain(method)]
    return method if method in known or not alike else alike[0]


def _pair(
    name: str, joint: Tested, alone: Tested | None, places: pl.DataFrame, part: str
) -> _Paired | str:
    """The rows that both tested, or why there are none."""
    if alone is None:
        return "the method was not evaluated on the part alone"
    if name not in alone.targets:
        return "the part is not judged on it"
    if {joint.split(name), alone.split(name)} != {"test"}:
        return "scored on validation, which chose the epochs"
    target = _shared(joint.targets[name], alone.targets[name])
    if target is None:
        return "the label sets differ, and scores of sets hold for one set"
    truths, guesses = columns_of(name, target)
    known = pl.any_horizontal(pl.col(column).is_not_null() for column in truths)
    mine = joint.table.filter(known).select(*_KEYS, *truths, *guesses)
    theirs = alone.table.select(*_KEYS, *truths, *guesses)
    both = mine.join(theirs, on=_KEYS, suffix="_alone").sort("utterance_id", "fold", "seed")
    if not both.height:
        return "no row is tested by both"
    own = [f"{column}_alone" for column in truths]
    if not both.select(truths).equals(both.select(own).rename(dict(zip(own, truths, strict=True)))):
        return f"the labels of {part} changed since; rerun stages train and evaluate"
    seeds = both["seed"].unique().sort().to_list()
    first = both.filter(pl.col("seed") == seeds[0])
    predictions = {
        who: np.stack(
            [_guesses(both.filter(pl.col("seed") == s), guesses, who, target) for s in seeds]
        )
        for who in (JOINT, ALONE)
    }
    placed = first.select("utterance_id").join(
        places, on="utterance_id", how="left", maintain_order="left"
    )
    clusters = clusters_of(placed)
    return _Paired(
        target,
        encode(first.select(truths), target, joint.where, is_truth=True),
        predictions,
        first["fold"].to_numpy(),
        clusters.codes,
        clusters.n_dialogues,
    )


def _shared(joint: TargetScores, alone: TargetScores) -> TargetScores | None:
    """The target with what both predict; None where that is not comparable."""
    names = list(joint["names"])
    if joint["kind"] == "values":
        names = [name for name in names if name in alone["names"]]
    elif joint["kind"] == "labels" and names != list(alone["names"]):
        return None
    # classes: those of the union, for it may name one that the part lacks
    return {**joint, "names": names}  # type: ignore[typeddict-item]


def _guesses(
    rows: pl.DataFrame, guesses: Sequence[str], who: str, target: TargetScores
) -> np.ndarray:
    suffix = "_alone" if who == ALONE else ""
    return encode(rows.select(f"{column}{suffix}" for column in guesses), target, who)


def _judge(found: _Paired, resamples: int, seed: int) -> tuple[dict[str, Any], Comparison]:
    """Scores of both with intervals, and the paired difference."""
    target = found.target
    drawn = resample(
        target["headline"],
        resamplable(target["headline"], target["kind"], target["names"], found.folds),
        found.truth,
        found.predictions,
        found.codes,
        n_resamples=resamples,
        seed=seed,
    )
    intervals = {who: confidence_interval(drawn, who) for who in (JOINT, ALONE)}
    pair = compare(drawn, JOINT, ALONE)
    row = {
        "metric": target["headline"],
        "higher_is_better": target["higher_is_better"],
        "columns": list(target["names"]) if target["kind"] == "values" else [],
        "n": len(found.truth),
        "n_dialogues": found.n_dialogues,
        "seeds": len(found.predictions[JOINT]),
        **{
            who: {"mean": plain(one.mean), "ci_low": plain(one.low), "ci_high": plain(one.high)}
            for who, one in intervals.items()
        },
        "difference": plain(pair.difference),
        "ci_low": plain(pair.low),
        "ci_high": plain(pair.high),
    }
    return row, pair


def _correct(rows: list[Versus], pairs: list[Comparison]) -> None:
    """Fill in what Holm's correction over all comparisons of the union leaves of each."""
    adjusted = holm([pair.p_value for pair in pairs]) if pairs else []
    for row, pair, p in zip(rows, pairs, adjusted, strict=True):
        corrected = replace(pair, p_holm=float(p), family=len(pairs))
        row["p_holm"] = plain(float(p))
        row["verdict"] = verdict(corrected, higher_is_better=row["higher_is_better"])


def _from_parts(
    across: Sequence[TransferCell], parts: Sequence[str], part: str, method: str, target: str
) -> list[FromPart]:
    return [
        {
            "trained_on": cell["trained_on"],
            "mean": cell.get("mean"),
            "ci_low": cell.get("ci_low"),
            "ci_high": cell.get("ci_high"),
        }
        for cell in across
        if (cell["method"], cell["target"], cell["tested_on"]) == (method, target, part)
        and cell["trained_on"] in parts
        and cell.get("mean") is not None
    ]


def _card(layout: Layout, corpus: str, parts: Sequence[str]) -> list[str]:
    """Which figures may stand beside those of others, part by part."""
    tested = _tested(layout, corpus)
    sentences = []
    for part in parts:
        own = _tested(layout, part)
        shared = len(own & tested)
        rows = f"{shared:,} of its {len(own):,} test rows"
        leaks = json.loads(layout.leaks(part).read_text(encoding="utf-8"))
        if leaks["protocol"] == "published" and shared == len(own):
            sentences.append(
                f"{part}: both columns are of all {len(own):,} rows of its published test part and "
                "may stand beside published figures of that part"
            )
        elif leaks["protocol"] == "published":
            sentences.append(
                f"{part}: {rows} are tested here, so neither column may stand beside published "
                "figures"
            )
        else:
            sentences.append(
                f"{part}: {rows}, of the split {leaks['protocol']}; only figures of the very same "
                "split compare"
            )
    return [*sentences, f"figures over all of {corpus} are of this union alone"]


def _tested(layout: Layout, corpus: str) -> set[tuple[str, int]]:
    splits = read_table(SPLIT, layout.splits(corpus)).filter(pl.col("split") == "test")
    return set(splits.select("utterance_id", "fold").iter_rows())
