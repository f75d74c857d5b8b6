"""Evaluation data that are looked at again and again: once an epoch, or with other weights."""

from collections.abc import Iterator, Sequence

from models.batch import Batch
from models.hiding import View
from models.method import Data

#: What a data set of batches may take; a larger one makes them anew for each look.
_MOST_BYTES = 1 << 25


class Kept(View):
    """A data set that makes its batches once, while they are small.

    Only what is the same at each look is kept: pictures of training, which have a key, are not.

    Args:
        data: what is seen.
        most_bytes: of batches that are kept.
    """

    def __init__(self, data: Data, most_bytes: int = _MOST_BYTES) -> None:
        super().__init__(data)
        self._most_bytes = most_bytes
        self._groups: list[Sequence[int]] = []
        self._batches: list[Batch] = []

    def seen(self, batch: Batch) -> Batch:
        """See ``View.seen``: all of it."""
        return batch

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """See ``Data.batches``."""
        if key is not None:
            return super().batches(groups, key)
        if self._batches and self._groups == list(groups):
            return iter(self._batches)
        return self._made(list(groups))

    def _made(self, groups: list[Sequence[int]]) -> Iterator[Batch]:
        made: list[Batch] = []
        room = self._most_bytes
        for batch in super().batches(groups):
            room -= batch.nbytes
            if room >= 0:
                made.append(batch)
            else:
                made.clear()
            yield batch
        if room >= 0:
            self._groups, self._batches = groups, made
