"""Ways to join the modalities of an utterance: one vector each in, one vector out.

M modalities   H width of each   T frames   ... any leading axes (dialogue, utterance)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.errors import UserError

FusionKind = Literal["concat", "gated", "attention", "low_rank", "late"]
FUSIONS: tuple[FusionKind, ...] = ("concat", "gated", "attention", "low_rank", "late")


@dataclass(frozen=True)
class Branch:
    """What one modality has to say; its missing-modality token where it is absent.

    Attributes:
        pooled: (..., H).
        frames: (..., T, H).
        mask: (..., T) bool; at least one frame of every row is real.
    """

    pooled: Tensor
    frames: Tensor
    mask: Tensor


class Concat(nn.Module):
    """Side by side: width M * H."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.width_out = modalities * width

    def forward(self, branches: Sequence[Branch]) -> Tensor:
        """M branches to (..., M * H)."""
        return torch.cat([branch.pooled for branch in branches], -1)


class GatedSum(nn.Module):
    """A sum whose weights, softmax over the modalities, follow from all of them: width H."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.width_out = width
        self.gate = nn.Linear(modalities * width, modalities)

    def forward(self, branches: Sequence[Branch]) -> Tensor:
        """M branches to (..., H)."""
        pooled = torch.stack([branch.pooled for branch in branches], -2)  # (..., M, H)
        weights = self.gate(pooled.flatten(-2)).softmax(-1)
        return (weights.unsqueeze(-1) * pooled).sum(-2)


class CrossAttention(nn.Module):
    """Each modality's vector looks at the frames of all others: width M * H.

    Args:
        modalities: M; a single one passes unchanged.
        width: H.
        heads: of each attention.
    """

    def __init__(self, modalities: int, width: int, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise UserError(
                f"emi: hidden is {width}; fusion 'attention' has {heads} heads, so give a multiple"
            )
        self.width_out = modalities * width
        count = modalities if modalities > 1 else 0
        self.attend = nn.ModuleList(
            nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(count)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(count))

    def forward(self, branches: Sequence[Branch]) -> Tensor:
        """M branches to (..., M * H)."""
        if len(branches) == 1:
            return branches[0].pooled
        parts = []
        for own, (attend, norm) in enumerate(zip(self.attend, self.norm, strict=True)):
            others = [branch for place, branch in enumerate(branches) if place != own]
            heard = torch.cat([branch.frames for branch in others], -2).flatten(0, -3)
            mask = torch.cat([branch.mask for branch in others], -1).flatten(0, -2)
            asking = branches[own].pooled
            query = asking.flatten(0, -2).unsqueeze(1)  # (rows, 1, H)
            answer, _ = attend(query, heard, heard, key_padding_mask=~mask, need_weights=False)
            parts.append(norm(asking + answer.view_as(asking)))
        return torch.cat(parts, -1)


class LowRank(nn.Module):
    """Products of all modalities, as a sum of rank-1 terms of their outer product: width H.

    Each vector gets a constant 1, so that products of fewer modalities are among the terms.

    Args:
        modalities: M.
        width: H.
        rank: number of terms.
    """

    def __init__(self, modalities: int, width: int, rank: int = 4) -> None:
        super().__init__()
        self.width_out = width
        self.factors = nn.Parameter(torch.empty(modalities, rank, width + 1, width))
        for factor in self.factors.data.flatten(0, 1):
            nn.init.xavier_uniform_(factor)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, branches: Sequence[Branch]) -> Tensor:
        """M branches to (..., H)."""
        pooled = torch.stack([branch.pooled for branch in branches], -2)
        with_one = torch.cat([pooled, torch.ones_like(pooled[..., :1])], -1)
        terms = torch.einsum("...mi,mrio->...mro", with_one, self.factors)
        return terms.prod(-3).sum(-2) + self.bias


def build_fusion(kind: FusionKind, modalities: int, width: int) -> nn.Module | None:
    """The module for ``kind``; None for ``late``, which joins predictions instead."""
    makers = {"concat": Concat, "gated": GatedSum, "attention": CrossAttention, "low_rank": LowRank}
    return makers[kind](modalities, width) if kind != "late" else None


def late_average(outputs: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
    """Mean of each modality's output (..., C) over those present (...); all where none is."""
    there = torch.stack(list(present), -1)
    weights = (there | ~there.any(-1, keepdim=True)).to(outputs[0].dtype)
    weights = weights / weights.sum(-1, keepdim=True)
    return torch.einsum("...m,...mc->...c", weights, torch.stack(list(outputs), -2))
