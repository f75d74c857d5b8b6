"""Rows of real utterances out of padded dialogues, and back.

Dialogues differ by a factor of ten in length. Layers that treat every utterance alone (linear,
norm, dropout) run on the real rows only; padding then costs nothing and cannot leak.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Dialogues of similar length, padded to the longest among them.

    Attributes:
        mask: (B', U') bool; cells that have a row.
        index: (L',) long; their places in the flattened (B' * U').
    """

    mask: Tensor
    index: Tensor


class Ragged:
    """Converts between padded (B, U, D) and rows (L, D), where L counts the True cells of a mask.

    What costs U * U per dialogue is better done on a few groups of similar length (``spread`` and
    ``collect``) than on the whole batch padded to its longest dialogue.

    Attributes:
        mask: (B, U) bool; the cells that have a row.
        index: (L,) long; their places in the flattened (B * U). Flat order, dialogue by dialogue;
            with groups the longest dialogues come first.
        groups: the dialogues again, in contiguous groups of rows.
    """

    def __init__(self, mask: Tensor, group_size: int = 0) -> None:
        """Find the rows.

        Args:
            mask: (B, U) bool.
            group_size: most dialogues in a group; 0 = one group with all, in flat order.
        """
        self.mask = mask
        self.index = mask.flatten().nonzero().squeeze(1)
        if group_size == 0:
            self.groups = [Group(mask, self.index)]
            return
        order = torch.argsort(mask.sum(1), descending=True, stable=True)
        places = torch.arange(mask.numel(), device=mask.device).view_as(mask)
        self.groups = []
        parts = []
        for chosen in order.split(group_size):
            used = mask[chosen]
            used = used[:, : max(1, int((used.any(0) * places[0]).max() + 1))]
            parts.append(places[chosen, : used.shape[1]][used])
            self.groups.append(Group(used, used.flatten().nonzero().squeeze(1)))
        self.index = torch.cat(parts)

    def pack(self, padded: Tensor) -> Tensor:
        """(B, U, ...) to rows (L, ...)."""
        return padded.flatten(0, 1).index_select(0, self.index)

    def unpack(self, rows: Tensor) -> Tensor:
        """Rows (L, ...) to (B, U, ...), 0 elsewhere."""
        return _place(rows, self.index, self.mask)

    def spread(self, rows: Tensor) -> list[Tensor]:
        """Rows (L, ...) to one (B', U', ...) per group, 0 on padding."""
        # split, not slices: the gradient of a slice is a zero tensor of the whole size
        parts = rows.split([len(group.index) for group in self.groups])
        return [
            _place(part, group.index, group.mask)
            for part, group in zip(parts, self.groups, strict=True)
        ]

    def collect(self, parts: Iterable[Tensor]) -> Tensor:
        """One (B', U', ...) per group to rows (L, ...)."""
        return torch.cat(
            [
                part.flatten(0, 1).index_select(0, group.index)
                for part, group in zip(parts, self.groups, strict=True)
            ]
        )


def _place(rows: Tensor, index: Tensor, mask: Tensor) -> Tensor:
    padded = rows.new_zeros(mask.numel(), *rows.shape[1:])
    return padded.index_copy(0, index, rows).unflatten(0, mask.shape)


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
