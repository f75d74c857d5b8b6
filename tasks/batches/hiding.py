"""Which modalities are hidden, for the robustness grid: the same masks for every method.

Masks follow the protocol of the missing-modality papers, as training does: see ``models.hiding``.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from models.batch import MODALITIES, Batch
from models.hiding import View, kept_cells
from models.method import Data


def draw_masks(
    count: int, rate: float, seed: int, modalities: int = 3, present: np.ndarray | None = None
) -> np.ndarray:
    """(count, modalities) bool, True where observed; at least one of ``present`` in every row.

    Args:
        count: utterances, in the corpus's canonical order.
        rate: share of cells that are to be missing, 0 to 1.
        seed: of the masks; models have seeds of their own.
        modalities: M.
        present: (count, M) bool; what there is: by default all. Without it an utterance that lacks
            modalities may lose all it has.
    """
    if modalities <= 1:
        return np.ones((count, modalities), bool)
    random = np.random.default_rng([seed, round(1000 * rate)])
    kept_for_sure = random.integers(modalities, size=count)
    draws = random.random((count, modalities))
    order = random.random((count, modalities))  # where the one that is to stay does not exist
    order[np.arange(count), kept_for_sure] = 1.0
    there = np.ones((count, modalities), bool) if present is None else present
    observed = kept_cells(
        torch.from_numpy(there), rate, torch.from_numpy(order), torch.from_numpy(draws)
    )
    return observed.numpy()


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, single ones first."""
    return [
        subset
        for size in range(1, len(modalities) + 1)
        for subset in combinations(modalities, size)
    ]


class Hidden(View):
    """A data set seen through presence masks.

    Args:
        data: what is seen.
        observed: modality to (N,) bool over the rows of ``data``.
    """

    def __init__(self, data: Data, observed: Mapping[str, np.ndarray]) -> None:
        super().__init__(data)
        self._observed = {name: torch.from_numpy(mask) for name, mask in observed.items()}

    def seen(self, batch: Batch) -> Batch:
        """See ``View.seen``."""
        return batch.with_present(
            {name: mask & self._kept(name, batch.index) for name, mask in batch.present.items()}
        )

    def _kept(self, name: str, index: Tensor) -> Tensor:
        return self._observed[name][index.clamp(min=0)]


def only(data: Data, keep: Iterable[str], rows: int) -> Hidden:
    """``data`` as if only the modalities in ``keep`` existed."""
    kept = set(keep)
    return Hidden(data, {name: np.full(rows, name in kept) for name in MODALITIES})
