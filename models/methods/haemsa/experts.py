"""Experts over token sequences, routers that weigh them, and what keeps a router even.

N rows   T tokens   D width   K experts
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.gru import encode
from models.layers.tokens import masked_mean

ExpertKind = Literal["mlp", "conv", "gru", "attn"]
HEADS = 4


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and a feed-forward block of twice the width."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, T, D) and (N, T) bool to (N, T, D); rows without a token come out finite."""
        tokens = tokens + self.dropout(self._attend(self.norm_attention(tokens), mask))
        return tokens + self.dropout(self.feedforward(self.norm_feedforward(tokens)))

    def _attend(self, tokens: Tensor, mask: Tensor) -> Tensor:
        q, k, v = rearrange(
            self.inward(tokens), "n t (three h d) -> three n h t d", three=3, h=HEADS
        )
        keys = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.outward(rearrange(mixed, "n h t d -> n t (h d)"))


class _Mlp(nn.Module):
    """Linear, norm and GELU on one vector (N, D), with a residual."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(F.gelu(self.norm(self.linear(x))))


class _Conv(nn.Module):
    """Convolution over three tokens, norm and GELU, with a residual."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        # padding is 0 in every layer, as the edge of a sequence is
        real = tokens * mask.unsqueeze(-1).to(tokens.dtype)
        mixed = rearrange(self.conv(rearrange(real, "n t d -> n d t")), "n d t -> n t d")
        return tokens + self.dropout(F.gelu(self.norm(mixed)))


class _Gru(nn.Module):
    """Bidirectional GRU, half the width for each direction, with a residual."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens + self.dropout(encode(self.gru, tokens, mask.sum(1)))


_LAYERS: dict[ExpertKind, type[nn.Module]] = {
    "mlp": _Mlp, "conv": _Conv, "gru": _Gru, "attn": TransformerLayer,
}  # fmt: skip


class Expert(nn.Module):
    """``depth`` layers of one kind; ``mlp`` works on the mean token, the others on all."""

    def __init__(self, kind: ExpertKind, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList(_LAYERS[kind](width, dropout) for _ in range(depth))

    def tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Every token after the layers, (N, T, D); not for ``mlp``."""
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return tokens

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, T, D) without gaps and (N, T) bool, a token in every row, to (N, D)."""
        if self.kind != "mlp":
            return masked_mean(self.tokens(tokens, mask), mask)
        x = masked_mean(tokens, mask)
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass(frozen=True)
class Gates:
    """What a router decides.

    Attributes:
        kept: (..., K) weights that sum to 1, 0 for experts left out.
        chances: (..., K) softmax over all experts; None where nothing is learnt.
    """

    kept: Tensor
    chances: Tensor | None


class Router(nn.Module):
    """Softmax over the best ``top_k`` of K experts (0 = all); uniform if not ``is_learnt``."""

    def __init__(self, width: int, experts: int, top_k: int, is_learnt: bool = True) -> None:
        super().__init__()
        self.experts = experts
        self.top_k = min(top_k or experts, experts)
        self.linear = nn.Linear(width, experts) if is_learnt and experts > 1 else None

    def forward(self, x: Tensor) -> Gates:
        """(..., D) to gates (..., K)."""
        if self.linear is None:
            return Gates(x.new_full((*x.shape[:-1], self.experts), 1 / self.experts), None)
        logits = self.linear(x)
        return Gates(keep_top(logits, self.top_k), logits.softmax(-1))


def keep_top(logits: Tensor, count: int) -> Tensor:
    """Softmax over the ``count`` largest of (..., K); 0 elsewhere."""
    if count >= logits.shape[-1]:
        return logits.softmax(-1)
    best = logits.topk(count, -1).indices
    dropped = torch.ones_like(logits, dtype=torch.bool).scatter(-1, best, False)
    return logits.masked_fill(dropped, float("-inf")).softmax(-1)


def imbalance(sums: Tensor) -> Tensor:
    """Squared coefficient of variation (population) of (K,) summed gate chances."""
    return sums.var(correction=0) / sums.mean().square().clamp(min=1e-12)
