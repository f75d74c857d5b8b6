"""Mi-CGA's guess of the complete features, from what the dialogue's graph has of them."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.ragged import Ragged


def symmetric_normalise(adjacency: Tensor) -> Tensor:
    """Deg^-1/2 A Deg^-1/2 with degrees taken over sources; rows without sources stay 0.

    Args:
        adjacency: (B, U, U) bool.

    Returns:
        (B, U, U) float.
    """
    weights = adjacency.to(torch.get_default_dtype())
    scale = weights.sum(-1).clamp(min=1).rsqrt()
    return scale[:, :, None] * weights * scale[:, None, :]


class FeatureEstimation(nn.Module):
    """Two graph convolutions and a small network that guess the complete features."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Linear(width, hidden), nn.Linear(hidden, hidden)])
        self.dropout = nn.Dropout(dropout)
        self.decode = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, graphs: list[Tensor], ragged: Ragged) -> Tensor:
        """(L, D) rows and the normalised graph (B', U', U') of each group to (L, D)."""
        first, second = self.convolutions
        x = F.relu(_spread(x, first, graphs, ragged))
        x = F.relu(_spread(self.dropout(x), second, graphs, ragged))
        return self.decode(x)


def _spread(x: Tensor, layer: nn.Module, graphs: list[Tensor], ragged: Ragged) -> Tensor:
    """A~ X W + b on rows; the bias is added after the sum over neighbours."""
    linear = cast(nn.Linear, layer)
    sent = ragged.spread(F.linear(x, linear.weight))
    heard = [a.to(part.dtype) @ part for a, part in zip(graphs, sent, strict=True)]
    return ragged.collect(heard) + linear.bias


def smooth(coarse: Tensor, incomplete: Tensor, share: float) -> Tensor:
    """(1 - share) coarse + share incomplete."""
    return (1 - share) * coarse + share * incomplete
