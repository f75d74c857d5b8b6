"""Hiding modalities in training, and measuring how well the hidden ones are guessed.

Cells are (utterance, modality) pairs: (L, M) for L utterances.
"""

from typing import Literal

import torch
from torch import Tensor

from models.hiding import kept_cells

ErrorKind = Literal["mse", "kl"]


def sample_observed(present: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Hide cells so that a share ``rate`` is missing on average: see ``models.hiding``.

    Args:
        present: (L, M) bool; what there is.
        rate: wanted share of missing cells.
        generator: on the CPU.

    Returns:
        (L, M) bool, a subset of ``present``.
    """
    order, draws = torch.rand(2, *present.shape, generator=generator).to(present.device)
    return kept_cells(present, rate, order, draws)


def cell_errors(kind: ErrorKind, estimate: Tensor, truth: Tensor) -> Tensor:
    """Error of each cell, (..., D) and (..., D) to (...).

    ``mse``: mean square over D. ``kl``: KL(softmax(truth) || softmax(estimate)) over D.
    """
    if kind == "mse":
        return (estimate - truth).square().mean(-1)
    expected = truth.log_softmax(-1)
    return (expected.exp() * (expected - estimate.log_softmax(-1))).sum(-1)


def masked_mean(
    errors: Tensor, hidden: Tensor, divide_by: Literal["missing", "valid"] = "missing"
) -> Tensor:
    """Errors (L, M) at ``hidden`` cells over their number, or over L; 0 if none is hidden."""
    count = hidden.sum().clamp(min=1) if divide_by == "missing" else max(len(hidden), 1)
    return (errors * hidden).sum() / count
