"""Losses that tie valence, arousal and dominance to the emotion (Huo and Ge).

``models/metrics/consistency.py`` holds the cost tables, which jump from 0 to 1 and so have no
gradient; the released code adds them as constants, which changes nothing. Here the steps are
smooth, and become the tables as the temperature goes to 0.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.metrics.consistency import COST_TABLES, DIMENSIONS, CostTable, class_rows

#: ``sigmoid`` has the paper's step as its limit; ``softplus`` the distance to the allowed side,
#: which pulls harder the farther a value is off.
Relax = Literal["sigmoid", "softplus"]

#: Rows of the tables: cost of x > 0, x = 0, x < 0. The free row, "000", costs nothing.
PATTERNS = ("110", "011", "100", "001", "101")

#: Sign on which a row of the tables wants x.
_WANTED_SIGN = {"110": -1.0, "100": -1.0, "011": 1.0, "001": 1.0, "101": 0.0, "000": 0.0}


def table_rows(
    names: Sequence[str], dimensions: Sequence[str], table: CostTable
) -> list[list[str]]:
    """The table's row ("110", ...) of each class (C) and dimension (K).

    Classes that the tables do not know cost nothing: "000".
    """
    costs = COST_TABLES[table]
    columns = [DIMENSIONS.index(name) for name in dimensions]
    return [
        [
            "".join(str(int(cost)) for cost in costs[row, column]) if row >= 0 else "000"
            for column in columns
        ]
        for row in class_rows(names)
    ]


def relaxed_costs(x: Tensor, temperature: Tensor | float, relax: Relax = "sigmoid") -> Tensor:
    """Smooth cost of x for each of ``PATTERNS``: (...) -> (..., 5).

    Args:
        x: values on the [-1, 1] scale.
        temperature: T in (0, 1); the steps' width. The steps stand m = T ln(1 / T) aside from 0,
            so that x = 0 itself ends up on the right side of each.
        relax: shape of the step.
    """
    t = torch.as_tensor(temperature, dtype=x.dtype, device=x.device)
    margin = -t * t.log()
    overshoot = torch.stack([x + margin, margin - x, x - margin, -x - margin], -1) / t
    if relax == "sigmoid":
        sides, off_zero = torch.sigmoid(overshoot), -torch.expm1(-(x**2) / (2 * t**2))
    else:
        sides, off_zero = t * F.softplus(overshoot), (x**2 + t**2).sqrt() - t
    return torch.cat([sides, off_zero.unsqueeze(-1)], -1)


class SignConstraints(nn.Module):
    """The cost tables, relaxed.

    Args:
        names: the classes, spelt as in the corpus.
        dimensions: valence, arousal, dominance or some of them.
        table: which of the three tables.
        relax: shape of the step.
        zero_tol: values up to here count as 0.
    """

    def __init__(
        self,
        names: Sequence[str],
        dimensions: Sequence[str],
        table: CostTable = "equations",
        relax: Relax = "sigmoid",
        zero_tol: float = 0.0,
    ) -> None:
        super().__init__()
        self.relax: Relax = relax
        self.zero_tol = zero_tol
        rows = table_rows(names, dimensions, table)
        chosen = [[[float(row == p) for p in PATTERNS] for row in line] for line in rows]
        self.register_buffer("chosen", torch.tensor(chosen), persistent=False)  # (C, K, 5)

    def forward(self, vad: Tensor, temperature: Tensor | float) -> Tensor:
        """Cost of each class: (N, K) values -> (N, C), summed over the dimensions."""
        shrunk = F.softshrink(vad, self.zero_tol)
        costs = relaxed_costs(shrunk, temperature, self.relax)
        return torch.einsum("nkp,ckp->nc", costs, self.chosen)


class GradedConstraints(nn.Module):
    """Constraints that are learned and graded, which the paper leaves to future work.

    Every class has a centre and a typical distance from it (mean absolute deviation) per dimension,
    both learned from images that carry both labels. Values farther off than ``width`` typical
    distances cost, the more the farther. A dimension that varies freely within a class gets a large
    distance and so hardly constrains. The networks cannot move the centres: their gradient comes
    from ``fit_loss`` alone, or the cheapest constraint would be one that always holds.

    Until labels move them, centres lie half-way on the side that the table wants; free rows and
    classes that the tables do not know start wide open.

    Args:
        names: the classes, spelt as in the corpus.
        dimensions: valence, arousal, dominance or some of them.
        table: where the centres start.
        relax: shape of the cost beyond the allowed distance.
        width: allowed distance in typical distances.
    """

    def __init__(
        self,
        names: Sequence[str],
        dimensions: Sequence[str],
        table: CostTable = "equations",
        relax: Relax = "sigmoid",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.relax: Relax = relax
        self.width = width
        rows = table_rows(names, dimensions, table)
        centre = [[0.5 * _WANTED_SIGN[row] for row in line] for line in rows]
        spread = [[1.0 if row == "000" else 0.5 for row in line] for line in rows]
        self.centre = nn.Parameter(torch.tensor(centre))  # (C, K)
        self.spread = nn.Parameter(torch.tensor(spread))  # (C, K)

    def forward(self, vad: Tensor, temperature: Tensor | float) -> Tensor:
        """Cost of each class: (N, K) values -> (N, C), summed over the dimensions."""
        distance = (vad.unsqueeze(1) - self.centre.detach()).abs()  # (N, C, K)
        excess = distance - self.width * self.spread.detach().clamp(min=0)
        may_not_exceed = PATTERNS.index("100")
        return relaxed_costs(excess, temperature, self.relax)[..., may_not_exceed].sum(-1)

    def fit_loss(self, classes: Tensor, vad: Tensor) -> Tensor:
        """How badly centres and typical distances fit the labels; 0 without any.

        Args:
            classes: (N,) long; -1 where unlabelled.
            vad: (N, K); NaN where unlabelled.
        """
        is_known = (classes >= 0).unsqueeze(-1) & ~vad.isnan()
        at = classes.clamp(min=0)
        error = vad.nan_to_num(0.0) - self.centre[at]
        misfit = error**2 + (error.detach().abs() - self.spread[at]) ** 2
        return (misfit * is_known).sum() / is_known.sum().clamp(min=1)


Constraints = SignConstraints | GradedConstraints


def consistency_loss(
    logits: Tensor, vad: Tensor, constraints: Constraints, temperature: Tensor | float
) -> Tensor:
    """Expected cost under the predicted class probabilities, averaged over images.

    As the probabilities become one-hot and the temperature goes to 0, this is the mean of the
    paper's cost.

    Args:
        logits: (N, C).
        vad: (N, K) predicted values.
        constraints: cost of each class.
        temperature: T in (0, 1).
    """
    costs = constraints(vad.float(), temperature)
    return (logits.float().softmax(-1) * costs).sum(-1).mean()


def mean_squared_error(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean of the squared differences of two tensors of one and the same shape.

    The released code compares (B, 1) with (B,), which broadcasts to all B x B pairs and teaches the
    network the mean of the batch.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} differ in shape"
        )
    return (prediction - truth).square().mean()
