"""The levels of HAEMSA as modules: stems, groups of experts, fusion; and hiding modalities.

N rows   T tokens   F frame width   D width   M modalities   K experts
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from models.layers.sequence import positions
from models.layers.tokens import masked_mean
from models.methods.haemsa.experts import Expert, Gates, Router, TransformerLayer
from models.methods.haemsa.genome import Experts, Plan


class Stem(nn.Module):
    """Frames to tokens of the common width, with fixed positions."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, T, F) to (N, T, D)."""
        tokens = self.dropout(self.norm(self.linear(frames)))
        return tokens + positions(tokens.shape[1], tokens.shape[2], tokens)


class Mixture(nn.Module):
    """Experts of one kind and the router that weighs them."""

    def __init__(self, group: Experts, plan: Plan, is_learnt: bool) -> None:
        super().__init__()
        self.kind = group.kind
        self.experts = nn.ModuleList(
            Expert(group.kind, plan.width, group.depth, plan.dropout) for _ in range(group.count)
        )
        self.router = Router(plan.width, group.count, plan.top_k, is_learnt)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Gates]:
        """(N, T, D) and (N, T) bool, a token in every row, to (N, D)."""
        gates = self.router(masked_mean(tokens, mask))
        answers = torch.stack([expert(tokens, mask) for expert in self.experts], -1)
        return (answers * gates.kept.unsqueeze(-2)).sum(-1), gates


class SharedMixture(Mixture):
    """Experts that serve every modality; attention sees the tokens of all of them at once."""

    def __init__(self, modalities: int, plan: Plan, is_learnt: bool) -> None:
        super().__init__(plan.shared, plan, is_learnt)
        self.embedding = nn.Parameter(torch.empty(modalities, plan.width))
        nn.init.normal_(self.embedding, std=0.02)

    def of_all(self, tokens: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Gates]:
        """Each modality's (N, T_m, D) and (N, T_m) to (N, M, D); absent ones come out 0."""
        marked = [t + e for t, e in zip(tokens, self.embedding, strict=True)]
        available = torch.stack([mask.any(1) for mask in masks], 1)  # (N, M)
        means = [masked_mean(t, m) for t, m in zip(marked, masks, strict=True)]
        gates = self.router(torch.stack(means, 1))
        answers = torch.stack([self._one(cast(Expert, e), marked, masks) for e in self.experts], -1)
        mixed = (answers * gates.kept.unsqueeze(-2)).sum(-1)
        return mixed * available.unsqueeze(-1), gates

    def _one(self, expert: Expert, marked: list[Tensor], masks: list[Tensor]) -> Tensor:
        if expert.kind == "mlp":
            return torch.stack([expert(t, m) for t, m in zip(marked, masks, strict=True)], 1)
        found = expert.tokens(torch.cat(marked, 1), torch.cat(masks, 1))
        parts = found.split([mask.shape[1] for mask in masks], 1)
        return torch.stack([masked_mean(t, m) for t, m in zip(parts, masks, strict=True)], 1)


class TopFusion(nn.Module):
    """The vectors of all levels that are available, made one."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.kind, width = plan.fusion, plan.width
        if self.kind == "gated_sum":
            self.query = nn.Parameter(torch.empty(width))
            nn.init.normal_(self.query)
        elif self.kind == "concat":
            self.linear = nn.Linear(8 * width + 8, width)
        else:
            self.layer = TransformerLayer(width, plan.dropout)

    def forward(self, slots: Tensor, available: Tensor) -> Tensor:
        """(N, 8, D) and (N, 8) bool to (N, D); slots that are not available never matter.

        The slots are text, audio, video, shared and the four combinations.
        """
        real = slots * available.unsqueeze(-1).to(slots.dtype)
        if self.kind == "concat":
            return self.linear(torch.cat([real.flatten(1), available.to(slots.dtype)], 1))
        if self.kind == "attention":
            return masked_mean(self.layer(real, available), available)
        scores = real @ self.query / slots.shape[-1] ** 0.5
        scores = scores.masked_fill(~available, torch.finfo(scores.dtype).min)
        return (scores.softmax(-1).unsqueeze(-1) * real).sum(1)


def some_modalities(present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hide modalities at random: half of the utterances stay whole.

    The others keep one of the proper subsets of all modalities, uniformly among those that leave
    them something.

    Args:
        present: modality to (B, U) bool.
    """
    names = list(present)
    if len(names) < 2:
        return dict(present)
    there = torch.stack([present[name] for name in names], -1)  # (B, U, M)
    device = there.device
    codes = torch.arange(1, 2 ** len(names) - 1, device=device)
    subsets = (codes.unsqueeze(1) >> torch.arange(len(names), device=device)) & 1  # (S, M)
    leaves = (there.unsqueeze(-2) & subsets.bool()).any(-1).flatten(0, 1)  # (B * U, S)
    # an utterance with nothing draws as well, so that it cannot shift the draws of others
    chances = torch.where(leaves.any(1, keepdim=True), leaves, True).double()
    drawn = subsets.bool()[torch.multinomial(chances, 1).squeeze(1)].unflatten(0, there.shape[:2])
    stays = torch.rand(there.shape[:2], device=device) < 0.5
    kept = there & (stays.unsqueeze(-1) | drawn)
    return {name: kept[..., i] for i, name in enumerate(names)}
