"""Graphs over the utterances of a dialogue, as dense (target, source) masks.

A dialogue has at most a few hundred nodes, so a dense mask is smaller and faster than an edge list,
and it batches. Axis order is always [..., target, source]: a row lists whom a node hears.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.ragged import Ragged


def offsets(utterances: int, device: torch.device | None = None) -> Tensor:
    """(U, U) long: position of the source minus position of the target."""
    place = torch.arange(utterances, device=device)
    return place[None, :] - place[:, None]


def window_mask(mask: Tensor, past: int, future: int) -> Tensor:
    """Who hears whom: sources at most ``past`` before and ``future`` after the target, and itself.

    Args:
        mask: (B, U) bool; real utterances.
        past: earlier utterances heard; -1 = all.
        future: later utterances heard; -1 = all.

    Returns:
        (B, U, U) bool, False wherever padding is involved.
    """
    offset = offsets(mask.shape[1], mask.device)
    within = torch.ones_like(offset, dtype=torch.bool)
    if past >= 0:
        within = within & (offset >= -past)
    if future >= 0:
        within = within & (offset <= future)
    return within & mask[:, :, None] & mask[:, None, :]


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


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis within ``mask``; rows without any True are all 0.

    Args:
        scores: (..., N) float.
        mask: (..., N) bool, broadcastable.
    """
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled, -1).masked_fill(~mask, 0.0)


class RelationalConv(nn.Module):
    """Relational graph convolution: one weight per relation, mean over the sources of each.

    g_i = W_root x_i + b + sum_r mean_{j in N_r(i)} W_r x_j. Nodes come in groups (one group per
    modality); every relation leads from one group to one group, so its edges are a (U, U) mask.

    Args:
        width: D, kept.
        blocks: (source group, target group) of each relation.
    """

    source: Tensor
    target: Tensor

    def __init__(self, width: int, blocks: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(blocks), width, width))
        self.root = nn.Linear(width, width)
        for weight in self.weight.data:
            nn.init.xavier_uniform_(weight)
        nn.init.xavier_uniform_(self.root.weight)
        nn.init.zeros_(self.root.bias)
        ends = torch.tensor(blocks)
        self.register_buffer("source", ends[:, 0], persistent=False)
        self.register_buffer("target", ends[:, 1], persistent=False)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        """Convolve.

        Args:
            nodes: (B, M, U, D); M groups.
            adjacency: (B, R, U, U) bool; edges of each relation between its two groups.

        Returns:
            (B, M, U, D).
        """
        mean = adjacency.to(nodes.dtype)
        mean = mean / mean.sum(-1, keepdim=True).clamp(min=1)
        sent = nodes[:, self.source] @ self.weight  # (B, R, U, D)
        return self.root(nodes).index_add(1, self.target, mean @ sent)


class NodeNorm(nn.BatchNorm1d):
    """Batch normalisation over rows (L, D) that also takes a batch of one row in training.

    One node has no variance; it is then normalised with the running statistics.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(L, D) to (L, D)."""
        if self.training and len(input) < 2:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0,
                self.eps,
            )  # fmt: skip
        return super().forward(input)


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
