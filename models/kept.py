"""Evaluation data that are looked at again and again: once an epoch, or with other weights."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from models.batch import Batch, Target
from models.method import Data

#: What a data set of batches may take; a larger one makes them anew for each look.
_MOST_BYTES = 1 << 28


class Kept:
    """A data set that makes its batches once, while they are small; a ``models.method.Data``.

    Only what is the same at each look is kept: pictures of training, which have a key, are not.

    Args:
        data: what is seen.
        most_bytes: of batches that are kept.
    """

    def __init__(self, data: Data, most_bytes: int = _MOST_BYTES) -> None:
        self._data, self._most_bytes = data, most_bytes
        self._groups: list[Sequence[int]] = []
        self._batches: list[Batch] = []

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
        return self._data.batch(indices)

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """See ``Data.batches``."""
        if key is not None:
            return self._data.batches(groups, key)
        if self._batches and self._groups == list(groups):
            return iter(self._batches)
        return self._made(list(groups))

    def _made(self, groups: list[Sequence[int]]) -> Iterator[Batch]:
        made: list[Batch] = []
        room = self._most_bytes
        for batch in self._data.batches(groups):
            room -= batch.nbytes
            if room >= 0:
                made.append(batch)
            yield batch
        if room >= 0:
            self._groups, self._batches = groups, made
