"""Attention from the utterances of one modality to those of another."""

from itertools import permutations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.ragged import Ragged
from models.layers.transformer import MultiHeadAttention


class PreNormLayer(nn.Module):
    """One layer of a cross-modal stack; the same norm serves queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        for module in self.feedforward:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, source: Tensor | None, ragged: Ragged, keys: Tensor) -> Tensor:
        """(L, D) rows to (L, D); ``source`` None = self-attention."""
        query = self.norm(x)
        source = query if source is None else self.norm(source)
        x = x + self.attention(query, source, ragged, keys)
        return x + self.feedforward(self.norm_feedforward(x))


class CrossStack(nn.Module):
    """Layers that refine one sequence with another (or itself), then a norm."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.scale = width**0.5
        self.layers = nn.ModuleList(PreNormLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, source: Tensor | None, ragged: Ragged, keys: Tensor) -> Tensor:
        """(L, D) rows to (L, D); keys and values stay the source as it came in, at every layer."""
        x = self.scale * x
        source = None if source is None else self.scale * source
        for layer in self.layers:
            x = layer(x, source, ragged, keys)
        return self.norm(x)


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
