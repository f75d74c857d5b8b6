"""What the page shows of one target: scores, tests, confusions, coverage, robustness, shares."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from models.metrics.classification import confusion_matrix
from models.metrics.regression import coverage
from tasks.report.error_curves import predicted_errors
from tasks.report.page.corpus import RANGES
from tasks.report.tested import Tested, encode
from tasks.score_files import Cell, Entry, RunDetails, Spread
from tasks.tables.words import MODALITIES

#: Metrics that only serve the coverage curves, which the page draws from predictions.
_HIDDEN = ("within_", "error_at_", "coverage_area")
_GRID = 100
_EPOCHS = 200


def results(
    name: str,
    tested: Mapping[str, Tested],
    failed: Mapping[str, str],
    entries: Sequence[Entry],
) -> dict[str, Any]:
    """One target, ready for JSON.

    Args:
        name: the target.
        tested: all methods of the corpus that were evaluated.
        failed: methods that were not, with the reason.
        entries: of leaderboard.json for this target.
    """
    mine = {m: one for m, one in tested.items() if name in one.targets}
    known = [e for e in entries if e.get("failed") or e["method"] in mine]
    listed = {entry["method"] for entry in known}
    lost = [
        {"method": m, "rank": None, "failed": reason}
        for m, reason in failed.items()
        if m not in listed
    ]
    first = next(iter(mine.values()), None)
    target = first.targets[name] if first else None
    found: dict[str, Any] = {
        "split": first.split(name) if first else "test",
        "kind": target["kind"] if target else "",
        "names": list(target["names"]) if target else [],
        "metric": target["headline"] if target else "",
        "higher": target["higher_is_better"] if target else True,
        "entries": [_entry(entry) for entry in known] + lost,
        "metrics": _metrics({m: one.scores(name)["metrics"] for m, one in mine.items()}),
        "subsets": {m: _means(one.targets[name]["subsets"]) for m, one in mine.items()},
        "rates": {m: _means(one.targets[name]["missing_rates"]) for m, one in mine.items()},
    }
    found["training"] = {m: training(name, one.details["runs"]) for m, one in mine.items()}
    found["contribution"] = _contributions(found)
    if target and target["kind"] == "category":
        found["confusion"] = {m: _confusions(name, one) for m, one in mine.items()}
        found["reliability"] = {
            m: bins for m, one in mine.items() if (bins := one.scores(name).get("reliability"))
        }
    if target and target["kind"] == "values":
        found["coverage"] = _coverages(name, mine, target["names"])
    return found


def _entry(entry: Entry) -> dict[str, Any]:
    return {"against": [], **{key: value for key, value in entry.items() if key != "metrics"}}


def training(name: str, runs: Sequence[RunDetails]) -> list[dict[str, Any]]:
    """Validation scores of the runs of a target, at most ``_EPOCHS`` of each.

    ``late`` says that the kept epoch was among the last tenth of all that were allowed, so that
    more might have been better.
    """
    found = []
    for run in runs:
        history = [entry for entry in run["history"] if "score" in entry]
        if name not in run["targets"] or len(history) < 2:
            continue
        step = math.ceil(len(history) / _EPOCHS)
        shown = [
            e for i, e in enumerate(history) if not i % step or e["epoch"] == run["chosen_epoch"]
        ]
        last = history[-1]["epoch"]
        found.append(
            {
                "seed": run["seed"],
                "fold": run["fold"],
                "chosen": run["chosen_epoch"],
                "late": not run["stopped_early"] and run["chosen_epoch"] > 0.9 * last,
                "epochs": [int(entry["epoch"]) for entry in shown],
                "scores": [_short(entry["score"], 4) for entry in shown],
            }
        )
    return found


def _metrics(scores: Mapping[str, Mapping[str, Spread]]) -> dict[str, Any]:
    """Mean and sd of every metric, each name once: method to two lists."""
    names = list(
        dict.fromkeys(
            name for found in scores.values() for name in found if not name.startswith(_HIDDEN)
        )
    )
    table = {
        method: [
            [_short(found[n][part] if n in found else None) for n in names]
            for part in ("mean", "std")
        ]
        for method, found in scores.items()
    }
    return {"names": names, "values": table}


def _means(cells: Mapping[str, Cell]) -> dict[str, list[float | None]]:
    return {cell: [_short(found["mean"]), _short(found["std"])] for cell, found in cells.items()}


def _short(value: float | None, digits: int = 5) -> float | None:
    return round(value, digits) if value is not None and math.isfinite(value) else None


def _confusions(name: str, one: Tested) -> dict[str, list[list[int]]]:
    """Seed to counts, rows truth and columns prediction."""
    target = one.targets[name]
    rows = one.rows(name).filter(pl.col(f"target_{name}").is_not_null())
    found = {}
    for seed in rows.get_column("seed").unique().sort():
        part = rows.filter(pl.col("seed") == seed)
        truth = encode(part.select(f"target_{name}"), target, one.where)
        guess = encode(part.select(f"prediction_{name}"), target, one.where)
        counts = confusion_matrix(truth, guess, len(target["names"]))
        found[str(seed)] = np.asarray(counts).astype(int).tolist()
    return found


def _coverages(name: str, mine: Mapping[str, Tested], names: Sequence[str]) -> dict[str, Any]:
    """Share of rows within a growing absolute error, pooled over seeds, up to the largest.

    Errors wider than the whole scale would squeeze all curves, so they are not drawn.
    """
    errors = {m: predicted_errors(one.rows(name), names) for m, one in mine.items()}
    reach = max(float(e.max()) for found in errors.values() for e in found.values())
    width = max(high - low for low, high in (RANGES[n] for n in names))
    limit = min(max(0.1, math.ceil(10 * reach) / 10), width)
    grid = np.linspace(0.0, limit, _GRID + 1)
    return {
        "limit": limit,
        "steps": _GRID,
        "is_cut": reach > limit,
        "curves": {
            method: {n: np.round(coverage(e, grid), 4).tolist() for n, e in found.items()}
            for method, found in errors.items()
        },
    }


def _contributions(found: Mapping[str, Any]) -> dict[str, Any]:
    """Shapley value of each modality, for methods scored on every subset of theirs."""
    floor = _floor(found)
    shares = {}
    for method, subsets in found["subsets"].items():
        value = {frozenset(cell.split("+")): mean for cell, (mean, _) in subsets.items()}
        value[frozenset()] = floor
        used = [m for m in MODALITIES if frozenset([m]) in value]
        if used and all(v is not None for v in value.values()) and len(value) == 2 ** len(used):
            shares[method] = {k: round(v, 5) for k, v in shapley(used, value).items()}
    return {"floor": floor, "shares": shares}


def _floor(found: Mapping[str, Any]) -> float | None:
    """The score without any modality: that of the best constant where it was measured, or 0."""
    constant = next((e for e in found["entries"] if e["method"] == "constant"), None)
    if constant and not constant.get("failed") and constant["metric"]["mean"] is not None:
        return float(constant["metric"]["mean"])
    return 0.0 if found["higher"] else None


def shapley(players: Sequence[str], value: Mapping[frozenset[str], float]) -> dict[str, float]:
    """Average gain from adding each player over all orders; sums to value(all) - value(none).

    Args:
        players: their names.
        value: of every subset, the empty one included.
    """
    n = len(players)
    result = {}
    for player in players:
        others = [p for p in players if p != player]
        result[player] = sum(
            math.factorial(size)
            * math.factorial(n - size - 1)
            / math.factorial(n)
            * (value[frozenset({*subset, player})] - value[frozenset(subset)])
            for size in range(n)
            for subset in combinations(others, size)
        )
    return result
