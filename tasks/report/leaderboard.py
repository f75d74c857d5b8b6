"""All methods of a corpus on the same test rows: ranks, intervals and paired tests.

Ranks follow the validation-selected test score averaged over seeds; nothing here chooses anything.
A target whose test labels are hidden is scored on validation, which chose the epochs: every entry
of it says so, and has neither interval nor test.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from models.metrics.folds import ALL_ROWS, AVERAGED
from models.metrics.scoring import HEADLINE, UNDEFINED_SCORE, selection_score
from models.statistics.bootstrap import Resamples, compare_all, confidence_interval, resample
from models.statistics.comparison import Comparison, verdict
from models.statistics.resampling import resamplable
from tasks.layout import Layout
from tasks.report.shared_columns import comparisons
from tasks.report.tested import (
    SELECTED,
    Loaded,
    Rows,
    Split,
    Tested,
    align,
    check_seeds,
    load_tested,
    read_places,
)
from tasks.score_files import Against, Entry, Spread, TargetDetails


@dataclass(frozen=True)
class Judged:
    """The verdict on one target of one corpus.

    Attributes:
        entries: as ``leaderboard.json`` has them, best first.
        comparisons: every pair of methods.
        metric: the headline metric.
        higher_is_better: direction of the headline metric.
    """

    entries: list[Entry]
    comparisons: list[Comparison]
    metric: str
    higher_is_better: bool


def judge(
    layout: Layout, corpus: str, methods: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Judged]:
    """Compare ``methods`` on every target of ``corpus``.

    Args:
        corpus: whose metrics and predictions to read.
        methods: keys under ``methods`` in params.yaml.
        resamples: of the cluster bootstrap.
        seed: of the bootstrap.
    """
    loaded = load_tested(layout, corpus, methods)
    return judge_loaded(layout, corpus, loaded, resamples=resamples, seed=seed)


def judge_loaded(
    layout: Layout, corpus: str, loaded: Loaded, *, resamples: int, seed: int
) -> dict[str, Judged]:
    """As ``judge``, of what was read already; besides, ``shared_columns.comparisons``."""
    tested, failed = loaded
    places = read_places(layout, corpus)
    judged = {}
    for name in dict.fromkeys(target for one in tested.values() for target in one.targets):
        mine = {m: one for m, one in tested.items() if name in one.targets}
        rows = align(name, mine, places)
        check_seeds(rows, {m: one.where for m, one in mine.items()})
        # many small products: threads only get in each other's way, and one sums in one order
        with threadpool_limits(1):
            apart = {m: one.partial[name] for m, one in tested.items() if name in one.partial}
            left_out = {**failed, **apart}
            judged[name] = _judge_target(name, mine, left_out, rows, resamples, seed)
    for shared, (name, mine) in comparisons(tested).items():
        rows = align(name, mine, places)
        check_seeds(rows, {m: one.where for m, one in mine.items()})
        with threadpool_limits(1):
            judged[shared] = _judge_target(name, mine, failed, rows, resamples, seed)
    return judged


@dataclass(frozen=True)
class _Case:
    """One target with everything that its entries are made from.

    Attributes:
        name: of the target.
        target: what it is, as the first method has it.
        split: where it is judged.
        tested: methods that predict it.
        rows: the aligned rows.
        drawn: resamples of the headline metric.
        comparisons: every pair of methods; none where the scores were selected.
    """

    name: str
    target: TargetDetails
    split: Split
    tested: Mapping[str, Tested]
    rows: Rows
    drawn: Resamples
    comparisons: list[Comparison]

    @property
    def is_test(self) -> bool:
        """Whether the scores are of rows that chose nothing."""
        return self.split == "test"


def _judge_target(
    name: str,
    tested: Mapping[str, Tested],
    failed: Mapping[str, str],
    rows: Rows,
    resamples: int,
    seed: int,
) -> Judged:
    one = next(iter(tested.values()))
    target, split = one.targets[name], one.split(name)
    # a selected score has no interval
    drawn = _draw(target, rows, resamples if split == "test" else 1, seed)
    comparisons = compare_all(drawn) if split == "test" else []
    case = _Case(name, target, split, tested, rows, drawn, comparisons)
    order = _ranking(drawn, target["higher_is_better"])
    entries = [_entry(case, order, rank) for rank in range(1, len(order) + 1)]
    metric = target["headline"]
    entries += [_failed_entry(method, metric, split, reason) for method, reason in failed.items()]
    return Judged(entries, comparisons, metric, target["higher_is_better"])


def _draw(target: TargetDetails, rows: Rows, resamples: int, seed: int) -> Resamples:
    metric = target["headline"]
    return resample(
        metric,
        resamplable(metric, target["kind"], target["names"], rows.folds),
        rows.truth,
        rows.predictions,
        rows.clusters.codes,
        n_resamples=resamples,
        seed=seed,
    )


def _ranking(drawn: Resamples, higher_is_better: bool) -> list[str]:
    """Methods from the best to the worst mean over seeds.

    An undefined score ranks last; equal scores rank by name, so that the order is stable.
    """
    sign = -1 if higher_is_better else 1
    means = {method: float(values.mean()) for method, values in drawn.estimates.items()}
    return sorted(
        means, key=lambda m: (sign * means[m] if math.isfinite(means[m]) else math.inf, m)
    )


def _entry(case: _Case, order: Sequence[str], rank: int) -> Entry:
    method = order[rank - 1]
    one, metric, rows = case.tested[method], case.target["headline"], case.rows
    interval = confidence_interval(case.drawn, method)
    if not case.is_test:
        interval = replace(interval, low=math.nan, high=math.nan, remark="")
    against = _all_against(case, order, rank)
    metrics = one.scores(case.name)["metrics"]
    return {
        "method": method,
        "rank": rank,
        "split": case.split,
        "selected": not case.is_test,
        "metric": {
            "name": metric,
            "mean": _plain(interval.mean),
            "std": _plain(interval.std),
            "ci_low": _plain(interval.low),
            "ci_high": _plain(interval.high),
        },
        "metrics": metrics,
        "all_rows": _all_rows(metrics, metric),
        "seeds": len(rows.seeds[method]),
        "n": len(rows.truth),
        "n_test": len(rows.truth) if case.is_test else 0,
        "n_dialogues": rows.clusters.n_dialogues,
        "n_clusters": case.drawn.n_clusters,
        "clustered_by": rows.clusters.by,
        "significant_vs_next": bool(against and against[0]["significant"]),
        "verdict": against[0]["verdict"] if against else "",
        "validation": _on_validation(one.targets[case.name], metric),
        "test_oracle": one.targets[case.name]["test_oracle"],
        "ensemble": ensemble(case.name, one, rows, method),
        "parameters": _parameters(case.name, one),
        "remark": "; ".join(filter(None, (interval.remark, *_remarks(case)))),
        "against": against,
    }


def _all_against(case: _Case, order: Sequence[str], rank: int) -> list[Against]:
    """The paired tests of the method at a rank against every one below it."""
    if not case.is_test:
        return []
    method, higher = order[rank - 1], case.target["higher_is_better"]
    return [_against(_pair(case.comparisons, method, other), higher) for other in order[rank:]]


def _remarks(case: _Case) -> tuple[str, ...]:
    """What has to be known of every score of a target."""
    metric, n_folds = case.target["headline"], len(np.unique(case.rows.folds))
    is_averaged = n_folds > 1 and metric in (*AVERAGED, "map")
    scores = next(iter(case.tested.values())).scores(case.name)
    derived, kinds = scores.get("derived", 0), scores.get("kinds", {})
    own, scored = kinds.get("self_report", 0), sum(kinds.values())
    return (
        f"{metric} is the mean over {n_folds} folds" if is_averaged else "",
        f"{own} of {scored} scored labels are the speakers' own, not raters'" if own else "",
        f"{derived} labels that were derived, not given, are not scored" if derived else "",
        case.rows.clusters.remark if case.is_test else SELECTED,
    )


def _parameters(name: str, one: Tested) -> int:
    """Of the largest network that predicts a target."""
    return max(run["parameters"] for run in one.details["runs"] if name in run["targets"])


def ensemble(name: str, one: Tested, rows: Rows, method: str) -> float | None:
    """The headline metric of the mean prediction over seeds, for information; None for one seed.

    Probabilities of classes and scores of labels are averaged, and so are values.

    Args:
        name: the target.
        one: what evaluation left of the method.
        rows: the aligned rows.
        method: key of its predictions there.
    """
    runs = rows.predictions[method]
    if len(runs) < 2:
        return None
    target = one.targets[name]
    if target["kind"] == "category":
        known = one.rows(name).filter(pl.col(f"target_{name}").is_not_null())
        shares = known.sort("utterance_id", "fold", "seed").get_column("probabilities").explode()
        guess = shares.to_numpy().reshape(len(rows.truth), len(runs), -1).mean(1).argmax(1)
    else:
        guess = runs.mean(0)
    score = selection_score(
        name, target["kind"], target["names"], rows.truth, guess, folds=rows.folds
    )
    return None if score == UNDEFINED_SCORE else HEADLINE[name][1] * score


def _against(pair: Comparison, higher_is_better: bool) -> Against:
    """The paired test of a method against one ranked below it."""
    return {
        "method": pair.second,
        "difference": _plain(pair.difference),
        "ci_low": _plain(pair.low),
        "ci_high": _plain(pair.high),
        "p_holm": _plain(pair.p_holm),
        "significant": pair.is_significant(),
        "seeds_needed": pair.seeds_needed,
        "verdict": verdict(pair, higher_is_better=higher_is_better),
    }


def _all_rows(metrics: Mapping[str, Spread], metric: str) -> float | None:
    """A metric over the rows of all folds together, where the score is a mean over folds."""
    found = metrics.get(f"{metric}{ALL_ROWS}")
    return None if found is None else found["mean"]


def _on_validation(target: TargetDetails, metric: str) -> Spread | None:
    return target["validation"]["metrics"].get(metric) if "validation" in target else None


def _failed_entry(method: str, metric: str, split: str, reason: str) -> Entry:
    return {
        "method": method,
        "rank": None,
        "split": split,
        "selected": split != "test",
        "metric": {
            "name": metric,
            "mean": None,
            "std": None,
            "ci_low": None,
            "ci_high": None,
        },
        "metrics": {},
        "all_rows": None,
        "seeds": 0,
        "n": 0,
        "n_test": 0,
        "n_dialogues": 0,
        "n_clusters": 0,
        "clustered_by": "",
        "significant_vs_next": False,
        "verdict": "",
        "validation": None,
        "test_oracle": None,
        "ensemble": None,
        "parameters": None,
        "remark": "",
        "against": [],
        "failed": reason,
    }


def _pair(comparisons: Sequence[Comparison], first: str, second: str) -> Comparison:
    """The paired test of two methods, seen from the first."""
    found = next(c for c in comparisons if {c.first, c.second} == {first, second})
    return found if found.first == first else found.turned()


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_csv(board: Mapping[str, Mapping[str, Judged]]) -> str:
    """One line for each corpus, target and method."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "corpus", "target", "rank", "method", "metric", "mean", "std", "ci_low", "ci_high",
            "seeds", "n_test", "significant_vs_next", "validation", "test_oracle", "ensemble",
            "parameters", "failed", "split", "n", "all_rows", "remark",
        ]
    )  # fmt: skip
    for corpus, targets in board.items():
        for target, judged in targets.items():
            for entry in judged.entries:
                score = entry["metric"]
                writer.writerow(
                    [
                        corpus, target, entry["rank"], entry["method"], score["name"],
                        *(_short(score[key]) for key in ("mean", "std", "ci_low", "ci_high")),
                        entry["seeds"], entry["n_test"], entry["significant_vs_next"],
                        _mean(entry["validation"]), _mean(entry["test_oracle"]),
                        _short(entry["ensemble"]), entry["parameters"], entry.get("failed", ""),
                        entry["split"], entry["n"], _short(entry["all_rows"]), entry["remark"],
                    ]
                )  # fmt: skip
    return stream.getvalue()


def _mean(score: Spread | None) -> str:
    return "" if score is None else _short(score["mean"])


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
