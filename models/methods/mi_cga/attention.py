"""Attention of Mi-CGA: within the window of the graph, and from one modality to another."""

from itertools import permutations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.graph import masked_softmax
from models.layers.ragged import Ragged


class GraphAttention(nn.Module):
    """Several heads of additive attention over the window: ELU of the weighted sums."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, heads * head_width, bias=False)
        self.target = nn.Parameter(torch.empty(heads, head_width))
        self.source = nn.Parameter(torch.empty(heads, head_width))
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.xavier_uniform_(self.target)
        nn.init.xavier_uniform_(self.source)

    def forward(self, x: Tensor, windows: list[Tensor], ragged: Ragged) -> Tensor:
        """(L, D) rows and who hears whom (B', U', U') in each group to (L, heads * head_width)."""
        mixed = []
        for part, window in zip(ragged.spread(self.project(x)), windows, strict=True):
            sent = rearrange(part, "b u (h d) -> b h u d", h=self.heads)
            alpha = self.dropout(self.weights(sent, window))
            mixed.append(rearrange(alpha @ sent, "b h u d -> b u (h d)"))
        return F.elu(ragged.collect(mixed))

    def weights(self, sent: Tensor, window: Tensor) -> Tensor:
        """Attention (B, H, U, U), [target, source], of projected nodes (B, H, U, D)."""
        to = (sent * self.target[:, None]).sum(-1)
        by = (sent * self.source[:, None]).sum(-1)
        scores = F.leaky_relu(to[..., :, None] + by[..., None, :], 0.2)
        return masked_softmax(scores, window[:, None])


class CrossModalAttention(nn.Module):
    """Every modality asks every other one over the whole dialogue, with weights of its own."""

    turned: Tensor

    def __init__(self, modalities: int, width: int, has_residual: bool) -> None:
        super().__init__()
        self.others = max(modalities - 1, 0)
        self.query = nn.Parameter(torch.empty(modalities, width, self.others * width))
        self.key_value = nn.Parameter(torch.empty(modalities, width, self.others * 2 * width))
        for packed, size in ((self.query, width), (self.key_value, 2 * width)):
            for modality in packed.data:
                for block in modality.split(size, 1):  # views, so this fills the parameter
                    nn.init.xavier_uniform_(block)
        self.norm = nn.LayerNorm(width) if has_residual else None
        # keys come by (asked, asking), answers go by (asking, asked)
        pairs = list(permutations(range(modalities), 2))
        turned = torch.tensor([pairs.index((asked, asking)) for asking, asked in pairs])
        self.register_buffer("turned", turned, persistent=False)

    def forward(self, blocks: Tensor, ragged: Ragged) -> Tensor:
        """(L, M, D) rows to (L, M * (M - 1) * D)."""
        by_modality = rearrange(blocks, "l m d -> m l d")
        q = rearrange(by_modality @ self.query, "m l (o d) -> l (m o) d", o=self.others)
        kv = rearrange(by_modality @ self.key_value, "m l (o d) -> l (m o) d", o=self.others)
        kv = kv.index_select(1, self.turned)
        answers = ragged.collect(
            self.answer(asking, asked, group.mask)
            for asking, asked, group in zip(
                ragged.spread(q), ragged.spread(kv), ragged.groups, strict=True
            )
        )  # (L, M * (M - 1), D)
        if self.norm is not None:
            answers = self.norm(answers + blocks.repeat_interleave(self.others, 1))
        return answers.flatten(1)

    def answer(self, q: Tensor, kv: Tensor, mask: Tensor) -> Tensor:
        """(B', U', P, D) and (B', U', P, 2D) of one group to (B', U', P, D); padding is no key."""
        q, k, v = (rearrange(x, "b u p d -> b p u d") for x in (q, *kv.chunk(2, -1)))
        # a dialogue without any utterance has no key; its rows are dropped anyway
        keys = mask | ~mask.any(1, keepdim=True)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys[:, None, None])
        return rearrange(mixed, "b p u d -> b u p d")
