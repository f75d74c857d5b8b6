"""Attention over the utterances of a dialogue, and the post-norm encoder built from it."""

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.ragged import Ragged, attendable


def first_divisor(width: int, candidates: Sequence[int]) -> int:
    """The first of ``candidates`` that divides ``width``; 1 if none does."""
    return next((number for number in candidates if width % number == 0), 1)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention between the utterances of each dialogue.

    Attributes:
        inward: query, key and value projections side by side, D to 3D.
        outward: output projection, D to D.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.inward.weight)
        nn.init.zeros_(self.inward.bias)
        nn.init.zeros_(self.outward.bias)

    def forward(
        self, query: Tensor, source: Tensor, ragged: Ragged, keys: Tensor | None = None
    ) -> Tensor:
        """Attend from ``query`` to ``source`` within each dialogue.

        Args:
            query: (L, D) rows of the real utterances.
            source: (L, D) rows that give keys and values; the same object for self-attention.
            ragged: where the rows lie.
            keys: (B, U) bool; what may be attended to, by default all rows.

        Returns:
            (L, D) rows.
        """
        width = query.shape[-1]
        if query is source:
            q, k, v = self.inward(query).split(width, -1)
        else:
            weight, bias = self.inward.weight, self.inward.bias
            q = F.linear(query, weight[:width], bias[:width])
            k, v = F.linear(source, weight[width:], bias[width:]).split(width, -1)
        q, k, v = (
            rearrange(ragged.unpack(rows), "b u (h d) -> b h u d", h=self.heads)
            for rows in (q, k, v)
        )
        allowed = attendable(ragged.mask if keys is None else keys, ragged.mask)[:, None, None, :]
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=allowed, dropout_p=self.dropout if self.training else 0.0
        )
        return self.outward(ragged.pack(rearrange(mixed, "b h u d -> b u (h d)")))


class PostNormLayer(nn.Module):
    """Self-attention and a feed-forward block, each followed by a residual sum and a norm."""

    def __init__(self, width: int, heads: int, dropout: float, feedforward: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.norm_attention = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, width),
        )
        self.norm_feedforward = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, ragged: Ragged) -> Tensor:
        """(L, D) to (L, D)."""
        rows = self.norm_attention(rows + self.dropout(self.attention(rows, rows, ragged)))
        return self.norm_feedforward(rows + self.dropout(self.feedforward(rows)))


class DialogueTransformer(nn.Module):
    """Post-norm transformer encoder over the utterances of a dialogue, without positions.

    Args:
        width: feature width D, kept throughout.
        heads_from: candidates for the number of heads; the first that divides ``width`` is
            taken, or 1.
        layers: encoder layers.
        dropout: rate on attention weights, feed-forward activations and both residual branches.
        feedforward: inner width of the feed-forward block.
    """

    def __init__(
        self,
        width: int,
        heads_from: tuple[int, ...],
        layers: int = 2,
        dropout: float = 0.5,
        feedforward: int = 2048,
    ) -> None:
        super().__init__()
        self.heads = first_divisor(width, heads_from)
        self.layers = nn.ModuleList(
            PostNormLayer(width, self.heads, dropout, feedforward) for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode; cells outside ``mask`` are neither attended to nor computed and come out 0.

        Args:
            x: (B, U, D).
            mask: (B, U) bool; real (and present) utterances.

        Returns:
            (B, U, D).
        """
        ragged = Ragged(mask)
        rows = ragged.pack(x)
        for layer in self.layers:
            rows = layer(rows, ragged)
        return ragged.unpack(rows)
