"""Blocks over the utterances of a dialogue that several conversation methods share."""

import torch
from torch import Tensor, nn

from models.layers.graph import masked_softmax
from models.layers.transformer import DialogueTransformer

#: Candidates for the number of attention heads of an encoder at raw feature width.
RAW_HEADS = tuple(range(5, 15))


class ContextEncoder(nn.Module):
    """Transformer over the dialogue at the features' own width, then a linear map.

    Args:
        width_in: D of the features.
        width_out: H.
        layers: encoder layers.
        dropout: rate inside the encoder.
        heads_from: candidates for the number of heads.
        feedforward: inner width of the feed-forward blocks.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        layers: int = 2,
        dropout: float = 0.5,
        heads_from: tuple[int, ...] = RAW_HEADS,
        feedforward: int = 2048,
    ) -> None:
        super().__init__()
        self.transformer = DialogueTransformer(width_in, heads_from, layers, dropout, feedforward)
        self.project = nn.Linear(width_in, width_out)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """(B, U, D), (B, U) bool -> (B, U, H)."""
        return self.project(self.transformer(x, visible))


class MatchingAttention(nn.Module):
    """Every utterance looks at all of its dialogue: softmax over j of m_j . (W x + b).

    Args:
        width: D.
        is_bounded: pass scores through tanh first (bc-LSTM and DialogueGCN do, DialogueRNN does
            not).
    """

    def __init__(self, width: int, is_bounded: bool) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.is_bounded = is_bounded

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, U, D), (B, U) bool -> (B, U, D)."""
        scores = self.project(x) @ x.mT  # (B, U query, U memory)
        if self.is_bounded:
            scores = torch.tanh(scores)
        return masked_softmax(scores, mask.unsqueeze(1)) @ x


def positions(length: int, width: int, like: Tensor) -> Tensor:
    """(U, D) sinusoidal positions: sine on even dimensions, cosine on odd ones."""
    place = torch.arange(length, device=like.device, dtype=torch.float32).unsqueeze(1)
    even = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angle = place * torch.pow(10_000.0, -even / width)  # (U, ceil(D / 2))
    table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]
    return table.to(like.dtype)


def reversal(mask: Tensor) -> Tensor:
    """(B, U) long: index that reverses the real part of each dialogue and keeps the padding."""
    place = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - place, place)


def reorder(x: Tensor, index: Tensor) -> Tensor:
    """(B, U, D) with its utterances taken in the order of ``index`` (B, U)."""
    return x.gather(1, index.unsqueeze(-1).expand_as(x))
