"""Rows of real utterances out of padded dialogues, and back.

Dialogues differ by a factor of ten in length. Layers that treat every utterance alone (linear,
norm, dropout) run on the real rows only; padding then costs nothing and cannot leak.
"""

import torch
from torch import Tensor


class Ragged:
    """Converts between padded (B, U, D) and rows (L, D), where L counts the True cells of a mask.

    Attributes:
        mask: (B, U) bool; the cells that have a row.
        index: (L,) long; their places in the flattened (B * U).
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.index = mask.flatten().nonzero().squeeze(1)

    def pack(self, padded: Tensor) -> Tensor:
        """(B, U, ...) to rows (L, ...), dialogue by dialogue."""
        return padded.flatten(0, 1).index_select(0, self.index)

    def unpack(self, rows: Tensor) -> Tensor:
        """Rows (L, ...) to (B, U, ...), 0 elsewhere."""
        padded = rows.new_zeros(self.mask.numel(), *rows.shape[1:])
        return padded.index_copy(0, self.index, rows).unflatten(0, self.mask.shape)


def attendable(keys: Tensor, mask: Tensor) -> Tensor:
    """``keys`` where a dialogue has any, else its real utterances, else everything.

    Softmax over nothing is NaN. Where a modality is absent throughout a dialogue, its cells hold
    nothing of the input and may as well be attended to; padding never may, because how much of it
    there is depends on the other dialogues.

    Args:
        keys: (B, U) bool; what should be attended to.
        mask: (B, U) bool; real utterances.
    """
    wanted = keys & mask
    wanted = torch.where(wanted.any(1, keepdim=True), wanted, mask)
    return wanted | ~wanted.any(1, keepdim=True)
