"""Hiding modalities in training, and measuring how well the hidden ones are guessed.

Cells are (utterance, modality) pairs: (L, M) for L utterances.
"""

from typing import Literal

import torch
from torch import Tensor

from models.batch import Batch
from models.hiding import kept_cells
from models.layers.ragged import Ragged

ErrorKind = Literal["mse", "kl"]


def sample_observed(present: Tensor, rate: float | Tensor, generator: torch.Generator) -> Tensor:
    """Hide cells so that a share ``rate`` is missing on average: see ``models.hiding``.

    Args:
        present: (L, M) bool; what there is.
        rate: wanted share of missing cells, one or (L, 1).
        generator: on the CPU.

    Returns:
        (L, M) bool, a subset of ``present``.
    """
    order, draws = torch.rand(2, *present.shape, generator=generator).to(present.device)
    return kept_cells(present, rate, order, draws)


def dialogue_of(batch: Batch, ragged: Ragged) -> Tensor:
    """(L,) index of the dialogue in the batch of each real utterance."""
    places = torch.arange(len(batch.mask), device=batch.mask.device)
    return ragged.pack(places.unsqueeze(1).expand_as(batch.mask))


def in_dialogues(present: Tensor, dialogues: Tensor) -> Tensor:
    """(B, M) bool: whether any utterance of a dialogue has a modality.

    Args:
        present: (L, M) bool.
        dialogues: (L,) index of the dialogue of each.
    """
    counts = present.new_zeros(int(dialogues.max()) + 1, present.shape[1], dtype=torch.long)
    return counts.index_add_(0, dialogues, present.long()) > 0


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
