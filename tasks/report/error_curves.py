"""How often absolute errors stay small: the coverage curves of CAGE's Figures 10 and 11.

One curve for each dimension and one, ``joint``, for all dimensions at once, over all networks
together. The area above a curve is the mean absolute error.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from models.metrics.inputs import Floats
from models.metrics.regression import COVERAGE_STEP, coverage_curve, joint_errors
from tasks.score_files import Curve

#: Points of a curve at most; only errors far outside the scale make the steps wider.
_MOST_STEPS = 1_000


def absolute_errors(truth: Floats, prediction: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Dimension, or ``joint``, to the errors of its annotated rows; those without any left out.

    Args:
        truth: (n, K), NaN where not annotated.
        prediction: (n, K).
        names: of the K dimensions.
    """
    found = {
        name: np.abs(prediction[known, i] - truth[known, i])
        for i, name in enumerate(names)
        if (known := ~np.isnan(truth[:, i])).any()
    }
    if len(names) > 1 and len(joint := joint_errors(truth, prediction)):
        found["joint"] = joint
    return found


def predicted_errors(rows: pl.DataFrame, names: Sequence[str]) -> dict[str, Floats]:
    """Absolute errors of a table of predictions, all its seeds together."""
    truth, guess = (
        rows.select(pl.col(f"{part}_{n}").cast(pl.Float64) for n in names)
        .fill_null(math.nan)
        .to_numpy()
        for part in ("target", "prediction")
    )
    return absolute_errors(truth, guess, names)


def curves(errors: Mapping[str, Floats]) -> dict[str, Curve]:
    """Dimension to ``step`` and ``shares``: coverage at 0, step, ... up to the largest error."""
    found: dict[str, Curve] = {}
    for name, one in errors.items():
        step = COVERAGE_STEP * max(1, math.ceil(one.max() / (COVERAGE_STEP * _MOST_STEPS)))
        _, shares = coverage_curve(one, step)
        found[name] = {"step": step, "shares": np.round(shares, 6).tolist()}
    return found
