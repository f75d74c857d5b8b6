"""CORECT's cross-modal branch: every modality asks every other one, then itself."""

import torch
from torch import Tensor, nn

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
        for module in (self.attention.outward, *self.feedforward):
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


class CrossModalBranch(nn.Module):
    """P-CM: every modality asks every other one, then itself.

    Args:
        modalities: M, two or more.
        width: D of the encodings.
        heads: of every attention.
        pair_layers: layers of each stack from one modality to another.
        self_layers: layers of each self-attention stack after it.

    Attributes:
        width_out: features per utterance, D * M * (M - 1).
    """

    def __init__(
        self, modalities: int, width: int, heads: int, pair_layers: int, self_layers: int
    ) -> None:
        super().__init__()
        self.modalities = modalities
        self.pairs = nn.ModuleDict(
            {
                f"{j}_{k}": CrossStack(width, heads, pair_layers)
                for j in range(modalities)
                for k in range(modalities)
                if j != k
            }
        )
        joined = width * (modalities - 1)
        self.selves = nn.ModuleList(
            CrossStack(joined, heads, self_layers) for _ in range(modalities)
        )
        self.width_out = modalities * joined

    def forward(self, x: Tensor, present: Tensor, ragged: Ragged) -> Tensor:
        """Mix.

        Args:
            x: (L, M, D) rows.
            present: (B, M, U) bool; what may be asked.
            ragged: where the rows lie.

        Returns:
            (L, width_out) rows.
        """
        streams = x.unbind(1)
        mixed = []
        for j, stack in enumerate(self.selves):
            answers = [
                self.pairs[f"{j}_{k}"](streams[j], streams[k], ragged, present[:, k])
                for k in range(self.modalities)
                if k != j
            ]
            mixed.append(stack(torch.cat(answers, -1), None, ragged, ragged.mask))
        return torch.cat(mixed, -1)
