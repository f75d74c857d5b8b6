"""Methods of which some predict fewer columns of a target than others, on the columns they share.

Over different columns a mean says nothing, so the target itself ranks those with most columns. Huo
and Ge's networks of one dimension each are compared with those of three by that dimension, as in
their Table 3: ``vad: valence`` beside ``vad``.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.report.tested import Tested
from tasks.score_files import Cell, SplitScores, Spread, TargetDetails

#: Means over columns, which follow from those of each.
_MEANS = ("mse", "rmse", "mae", "pearson", "ccc")


def comparisons(tested: Mapping[str, Tested]) -> dict[str, tuple[str, dict[str, Tested]]]:
    """Name of a comparison to its target, and to what there is of these columns by method.

    One for each set of columns that some method predicts alone; none where no other has them.

    Args:
        tested: all methods of a corpus.
    """
    found = {}
    for one in tested.values():
        for name in one.partial:
            columns = one.details["targets"][name]["names"]
            mine = {
                method: _narrowed(other, name, columns)
                for method, other in tested.items()
                if _predicts(other, name, columns)
            }
            if len(mine) > 1:
                found[label(name, columns)] = (name, mine)
    return found


def label(name: str, columns: Sequence[str]) -> str:
    """What a comparison is called."""
    return f"{name}: {', '.join(columns)}"


def _predicts(one: Tested, name: str, columns: Sequence[str]) -> bool:
    target = one.details["targets"].get(name)
    if target is None or not ("test" in target or "validation" in target):
        return False
    return set(columns) <= set(target["names"])


def _narrowed(one: Tested, name: str, columns: Sequence[str]) -> Tested:
    """A method with that target alone, and of it these columns alone."""
    target = one.details["targets"][name]
    own = target if list(target["names"]) == list(columns) else _target(target, columns)
    return replace(one, details={**one.details, "targets": {name: own}}, partial={})


def _target(target: TargetDetails, columns: Sequence[str]) -> TargetDetails:
    """Scores of some columns; the epoch that is best on test was looked for on all of them."""
    headline = target["headline"]
    found: TargetDetails = {
        **target,
        "names": list(columns),
        "subsets": _cells(target["subsets"], headline, columns),
        "missing_rates": _cells(target["missing_rates"], headline, columns),
        "test_oracle": None,
    }
    if "validation" in target:
        found["validation"] = _split(target["validation"], columns)
    if "test" in target:
        found["test"] = _split(target["test"], columns)
    return found


def _split(scores: SplitScores, columns: Sequence[str]) -> SplitScores:
    by_seed = {seed: _metrics(found, columns) for seed, found in scores["by_seed"].items()}
    names = next(iter(by_seed.values()))
    return {
        **scores,
        "by_seed": by_seed,
        "metrics": {name: _spread([found[name] for found in by_seed.values()]) for name in names},
        "undefined": {
            seed: kept
            for seed, reasons in scores["undefined"].items()
            if (kept := {name: why for name, why in reasons.items() if _is_of(name, columns)})
        },
    }


def _metrics(scores: Mapping[str, float | None], columns: Sequence[str]) -> dict[str, float | None]:
    """What there is of each column, and the means over the columns."""
    found = {name: value for name, value in scores.items() if _is_of(name, columns)}
    for name in scores:
        parts = [f"{name}/{column}" for column in columns]
        if name.removesuffix("_all_rows") in _MEANS and set(parts) <= set(scores):
            found[name] = _mean([scores[part] for part in parts])
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """Over columns; an undefined one of several counts 0, as in ``mean_over_columns``."""
    return values[0] if len(values) == 1 else statistics.fmean(v or 0.0 for v in values)


def _is_of(metric: str, columns: Sequence[str]) -> bool:
    return metric.partition("/")[2] in columns


def _cells(cells: Mapping[str, Cell], headline: str, columns: Sequence[str]) -> dict[str, Cell]:
    """Cells of which the scores by column are known; deviations only of single columns."""
    found: dict[str, Cell] = {}
    for name, cell in cells.items():
        metrics = cell.get("metrics", {})
        parts = [metrics[f"{headline}/{c}"] for c in columns if f"{headline}/{c}" in metrics]
        if len(parts) == len(columns):
            std = parts[0]["std"] if len(parts) == 1 else None
            found[name] = {"mean": _mean([part["mean"] for part in parts]), "std": std}
    return found


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        return {"mean": None, "std": None}
    std = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "std": std}
