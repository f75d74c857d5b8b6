"""Does a predicted valence, arousal and dominance fit the predicted emotion? (Huo and Ge)

Three published cost tables disagree; all are here by name. A cost of 1 says that the sign of a
dimension contradicts the class. The tables hold (class, dimension, sign) with signs in the order
x > 0, x = 0, x < 0, so a row written "110" punishes everything but negative values.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from models.errors import MetricInputError, UserError
from models.metrics.inputs import (
    Floats,
    Ints,
    Metric,
    checked_indices,
    require_finite,
    require_same_rows,
)

CostTable = Literal["equations", "table1", "code"]
ClassSource = Literal["pred", "true"]

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
DIMENSIONS = ("valence", "arousal", "dominance")
DEFAULT_TABLE: CostTable = "equations"
#: Values within these of 0 count as 0, on the [-1, 1] scale: the paper's, and one that a continuous
#: output for a neutral face can meet.
TOLERANCES = (0.0, 0.1)

# Other corpora spell the same seven classes differently.
SPELLINGS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "joy": "happy",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}

#                 angry  disgust  fear  happy   sad  surprise  neutral
_EQUATIONS = {
    "valence": "  110    110      110   011     110  000       101",
    "arousal": "  011    011      000   011     100  011       101",
    "dominance": "011    011      000   011     100  000       101",
}
_TABLE1 = _EQUATIONS | {
    "arousal": "  011    011      110   011     110  011       101",
    "dominance": "000    011      110   011     000  110       101",
}
_CODE = _EQUATIONS | {
    "arousal": "  001    001      000   011     110  011       101",
    "dominance": "000    011      110   001     110  110       000",
}


def _table(rows: dict[str, str]) -> Floats:
    costs = [
        [[float(digit) for digit in cell] for cell in rows[dimension].split()]
        for dimension in DIMENSIONS
    ]
    return np.asarray(costs).transpose(1, 0, 2)  # (dimension, class, sign) -> (class, dim, sign)


COST_TABLES: dict[CostTable, Floats] = {
    "equations": _table(_EQUATIONS),  # equations 5, 9 and 13 of the paper
    "table1": _table(_TABLE1),  # table 1 of the paper
    "code": _table(_CODE),  # the spreadsheet that the official script reads
}


def class_rows(names: Sequence[str]) -> Ints:
    """Row of the cost tables for each class name (C,); -1 for a class that the tables lack."""
    spelt = [SPELLINGS.get(name.lower(), name.lower()) for name in names]
    return np.asarray([CLASSES.index(name) if name in CLASSES else -1 for name in spelt])


def consistency_costs(
    classes: ArrayLike,
    vad: ArrayLike,
    table: CostTable = DEFAULT_TABLE,
    zero_tol: float = 0.0,
    dimensions: Sequence[str] = DIMENSIONS,
) -> Floats:
    """0/1 cost (n, K) of each of `dimensions`, for classes (n,) in the order of `CLASSES`.

    Values (n, K) within `zero_tol` of 0 count as 0: see `TOLERANCES`.
    """
    if table not in COST_TABLES:
        raise UserError(
            f"Unknown consistency table {table!r}: choose from {', '.join(COST_TABLES)}."
        )
    unknown = [name for name in dimensions if name not in DIMENSIONS]
    if unknown or not dimensions:
        raise UserError(
            f"Consistency knows the dimensions {', '.join(DIMENSIONS)}, not {list(dimensions)}."
        )
    index, values = np.asarray(classes), np.asarray(vad, dtype=np.float64)
    rows = np.arange(require_same_rows(classes=index, vad=values))
    if values.shape != (len(rows), len(dimensions)):
        raise MetricInputError(
            f"Consistency needs {', '.join(dimensions)} per row, but the shape is {values.shape}."
        )
    require_finite("vad", values)
    index = checked_indices("class", index, len(CLASSES), rows)
    sign = np.where(values > zero_tol, 0, np.where(values < -zero_tol, 2, 1))
    columns = np.asarray([DIMENSIONS.index(name) for name in dimensions])
    return COST_TABLES[table][index[:, None], columns[None, :], sign]


def consistency_scores(
    classes: ArrayLike,
    vad: ArrayLike,
    table: CostTable = DEFAULT_TABLE,
    *,
    zero_tol: float = 0.0,
    dimensions: Sequence[str] = DIMENSIONS,
    source: ClassSource = "pred",
) -> dict[str, Metric]:
    """Violation rates over the columns of `vad`, 0 (consistent) to 1, and the mean total cost.

    `source` only names where the classes came from, so that rates with the predicted and with the
    true class can stand side by side in one report; a tolerance is in the names for the same end.
    """
    costs = consistency_costs(classes, vad, table, zero_tol, dimensions)
    n = len(costs)
    end = f"{source}_{table}" + (f"_tol{zero_tol:g}" if zero_tol else "")
    prefix = f"violation_{end}"
    scores = {
        f"{prefix}/{name}": Metric(float(costs[:, column].mean()), n)
        for column, name in enumerate(dimensions)
    }
    scores[prefix] = Metric(float((costs > 0).any(axis=1).mean()), n)
    scores[f"mean_cost_{end}"] = Metric(float(costs.sum(axis=1).mean()), n)
    return scores
