"""Hiding modalities: one rule for training, for validation and for the grids of evaluation.

Of the n modalities that an utterance (or a dialogue) has, one drawn uniformly stays, and each other
one stays with probability 1 - rate n / (n - 1), or 0 where that is negative. So a share ``rate`` of
all cells is hidden on average, up to (n - 1) / n, and never all of one utterance.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.batch import MODALITIES, Batch, Target
from models.method import Data


def most_hidden(modalities: int) -> float:
    """The largest share of cells that can be hidden where there are so many modalities."""
    return (modalities - 1) / modalities if modalities else 0.0


def kept_cells(present: Tensor, rate: float | Tensor, order: Tensor, draws: Tensor) -> Tensor:
    """(..., M) bool, a subset of ``present``: what is left to see.

    Args:
        present: (..., M) bool; what there is.
        rate: wanted share of hidden cells, one or (..., 1).
        order: (..., M) at least 0; of the present cells the one with the largest stays.
        draws: (..., M) uniform in [0, 1).
    """
    stays = order.masked_fill(~present, -1.0).argmax(-1, keepdim=True)
    count = present.sum(-1, keepdim=True)
    chance = 1 - rate * count / (count - 1).clamp(min=1)
    return (draws < chance).scatter(-1, stays, True) & present


def hide(
    batch: Batch, rate: float | Tensor, order: Tensor, draws: Tensor, by_dialogue: bool
) -> Batch:
    """``batch`` with cells hidden.

    Args:
        batch: what there is.
        rate: see ``kept_cells``; (B, 1, 1) where it differs by dialogue.
        order: (B, U, M), see ``kept_cells``.
        draws: (B, U, M).
        by_dialogue: a modality is hidden from all of a dialogue or from none; an utterance that has
            others only may lose all.
    """
    names = list(batch.present)
    present = torch.stack([batch.present[name] for name in names], -1)  # (B, U, M)
    if by_dialogue:
        kept = kept_cells(present.any(1, keepdim=True), rate, order[:, :1], draws[:, :1])
    else:
        kept = kept_cells(present, rate, order, draws)
    kept = kept & present
    return batch.with_present({name: kept[..., i] for i, name in enumerate(names)})


class View(ABC):
    """A data set as a mask lets it be seen; a ``models.method.Data`` itself."""

    def __init__(self, data: Data) -> None:
        self._data = data

    @property
    def targets(self) -> tuple[Target, ...]:
        """See ``Data.targets``."""
        return self._data.targets

    def __len__(self) -> int:
        return len(self._data)

    def truth(self, target: Target) -> Tensor:
        """See ``Data.truth``."""
        return self._data.truth(target)

    def batch(self, indices: Sequence[int]) -> Batch:
        """See ``Data.batch``."""
        return self.seen(self._data.batch(indices))

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """See ``Data.batches``."""
        return (self.seen(batch) for batch in self._data.batches(groups, key))

    @abstractmethod
    def seen(self, batch: Batch) -> Batch:
        """What is left of a batch to see."""


class Masked(View):
    """A data set with a share of its cells hidden, the same ones whenever it is looked at.

    Args:
        data: what is seen.
        rows: of it.
        rate: share of hidden cells.
        seed: of the masks.
        by_dialogue: see ``hide``.
    """

    def __init__(self, data: Data, rows: int, rate: float, seed: int, by_dialogue: bool) -> None:
        super().__init__(data)
        self._rate, self._by_dialogue = rate, by_dialogue
        generator = torch.Generator().manual_seed(seed)
        self._chance = torch.rand(2, rows, len(MODALITIES), generator=generator)

    def seen(self, batch: Batch) -> Batch:
        """See ``View.seen``."""
        columns = [MODALITIES.index(name) for name in batch.present]
        order, draws = self._chance[:, batch.index.clamp(min=0)][..., columns]
        return hide(batch, self._rate, order, draws, self._by_dialogue)
