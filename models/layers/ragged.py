"""Rows of real utterances out of padded dialogues, and back.

Dialogues differ by a factor of ten in length. Layers that treat every utterance alone (linear,
norm, dropout) run on the real rows only; padding then costs nothing and cannot leak.
"""

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


def attendable(keys: Tensor) -> Tensor:
    """``keys`` (B, U) bool with everything True where a dialogue has none.

    Softmax over nothing is NaN. Where a dialogue has no key (a modality absent throughout), what
    is attended to is zeros or padding and says nothing about the input.
    """
    return keys | ~keys.any(1, keepdim=True)
