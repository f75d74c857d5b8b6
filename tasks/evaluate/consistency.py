"""How often predicted valence, arousal and dominance contradict the emotion beside them.

The rates of Huo and Ge by each of their three tables, with and without a tolerance around 0, with
the class that the method predicts and once more with the true one. Dimensions that the method does
not predict do not count. Rows whose class has no signs in their tables (such as *frustrated*) are
left out and counted.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from models.metrics.consistency import (
    COST_TABLES,
    DIMENSIONS,
    TOLERANCES,
    ClassSource,
    class_rows,
    consistency_scores,
)
from models.metrics.inputs import Metric, undefined

_CLASSES: dict[ClassSource, str] = {"pred": "prediction_category", "true": "target_category"}
#: Columns of the predictions that rates are computed of.
COLUMNS = ("seed", "split", *_CLASSES.values(), *(f"prediction_{name}" for name in DIMENSIONS))


def violation_rates(predictions: pl.DataFrame) -> dict[tuple[str, int], dict[str, Metric]]:
    """Split and seed to the violation rates of all its rows; empty without category or VAD.

    Args:
        predictions: the predictions table of one method, ``COLUMNS`` of it at least.
    """
    active = [name for name in DIMENSIONS if f"prediction_{name}" in predictions.columns]
    if not active or not set(_CLASSES.values()) <= set(predictions.columns):
        return {}
    values = [f"prediction_{name}" for name in active]
    found: dict[tuple[str, int], dict[str, Metric]] = {}
    for source, column in _CLASSES.items():
        known = predictions.select("split", "seed", column, *values).drop_nulls([column, *values])
        names = known.get_column(column).unique().sort()
        codes = pl.Series(class_rows(names.to_list()), dtype=pl.Int64)
        rows = known.with_columns(code=pl.col(column).replace_strict(names, codes)).drop(column)
        for (split, seed), part in rows.group_by("split", "seed", maintain_order=True):
            scores = _scores(part, source, active)
            found.setdefault((str(split), int(str(seed))), {}).update(scores)
    return _complete(found)


def _scores(part: pl.DataFrame, source: ClassSource, active: Sequence[str]) -> dict[str, Metric]:
    judged = part.filter(pl.col("code") >= 0)
    if judged.height == 0:
        return {}
    left_out = part.height - judged.height
    remark = f"{left_out} rows of classes without a cost left out" if left_out else ""
    codes = judged.get_column("code").to_numpy()
    vad = judged.select(f"prediction_{name}" for name in active).to_numpy().astype(np.float64)
    found: dict[str, Metric] = {}
    for table in COST_TABLES:
        for zero_tol in TOLERANCES:
            found |= consistency_scores(
                codes, vad, table, zero_tol=zero_tol, dimensions=active, source=source
            )
    return {name: Metric(value, value.n, remark) for name, value in found.items()}


def _complete(
    found: dict[tuple[str, int], dict[str, Metric]],
) -> dict[tuple[str, int], dict[str, Metric]]:
    """Give every seed the same names: what one lacks is undefined there."""
    names = list(dict.fromkeys(name for scores in found.values() for name in scores))
    nothing = undefined(0, "no row has a class with a cost")
    return {
        place: {name: scores.get(name, nothing) for name in names}
        for place, scores in found.items()
    }
