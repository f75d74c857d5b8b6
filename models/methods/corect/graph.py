"""CORECT's graph branch: a relational convolution over typed edges, then a graph transformer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.graph import offsets
from models.layers.ragged import Ragged

Edges = Literal["temporal_cross", "temporal", "cross"]


@dataclass(frozen=True)
class Relation:
    """One edge type: where the source stands relative to the target, and both modalities."""

    kind: Literal["past", "future", "self", "cross"]
    source: int
    target: int


def relations(modalities: int, edges: Edges = "temporal_cross") -> tuple[Relation, ...]:
    """All edge types for M modalities, in the order of their ids: 3M + M(M-1) with all edges."""
    kinds = ("self",) if edges == "cross" else ("past", "future", "self")
    within = [Relation(kind, k, k) for kind in kinds for k in range(modalities)]
    if edges == "temporal":
        return tuple(within)
    pairs = [(k, n) for k in range(modalities) for n in range(modalities) if k != n]
    return tuple(within + [Relation("cross", k, n) for k, n in pairs])


def typed_edges(
    mask: Tensor, present: Tensor, kinds: tuple[Relation, ...], earlier: int, later: int
) -> Tensor:
    """Edges of every relation, as (target, source) masks over the utterances.

    Args:
        mask: (B, U) bool; real utterances.
        present: (B, M, U) bool; absent cells send to nobody but themselves.
        kinds: the relations.
        earlier: utterances before the target that it hears; -1 = all.
        later: utterances after the target that it hears; -1 = all.

    Returns:
        (B, R, U, U) bool.
    """
    offset = offsets(mask.shape[1], mask.device)
    same = offset == 0
    bands = {
        "past": (offset < 0) & ((offset >= -earlier) if earlier >= 0 else True),
        "future": (offset > 0) & ((offset <= later) if later >= 0 else True),
        "self": same,
        "cross": same,
    }
    shape = torch.stack([bands[r.kind] for r in kinds])  # (R, U, U)
    keeps_self = torch.tensor([r.kind == "self" for r in kinds], device=mask.device)
    sends = present[:, [r.source for r in kinds]] | keeps_self[:, None]  # (B, R, U)
    is_real = (mask[:, :, None] & mask[:, None, :])[:, None]
    return shape & is_real & sends[:, :, None, :]


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


class GraphTransformer(nn.Module):
    """Attention of every node over those it hears, in several heads, plus a skip projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(width, 3 * heads * width)
        self.skip = nn.Linear(width, heads * width)

    def forward(self, nodes: Tensor, heard: Tensor) -> Tensor:
        """Attend.

        Args:
            nodes: (B, N, D).
            heard: (B, N, N) bool, [target, source]; padded nodes may have no source.

        Returns:
            (B, N, heads * D).
        """
        # a padded node attends to itself: softmax over nothing would be NaN
        loops = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
        q, k, v = rearrange(
            self.inward(nodes), "b n (three h d) -> three b h n d", three=3, h=self.heads
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=(heard | loops)[:, None])
        return rearrange(mixed, "b h n d -> b n (h d)") + self.skip(nodes)


class GraphBranch(nn.Module):
    """RT-GCN: relational convolution, then graph transformer, over all nodes of a dialogue.

    Args:
        modalities: M.
        width: D of the encodings.
        heads: of the graph transformer; 0 leaves it out.
        edges: which edges the graph has.
        heard: (earlier, later) utterances that a node hears; -1 = all.

    Attributes:
        width_out: features per utterance.
    """

    def __init__(
        self, modalities: int, width: int, heads: int, edges: Edges, heard: tuple[int, int]
    ) -> None:
        super().__init__()
        self.kinds = relations(modalities, edges)
        self.earlier, self.later = heard
        self.convolve = RelationalConv(width, [(r.source, r.target) for r in self.kinds])
        self.width_out = modalities * width
        self.transformer: GraphTransformer | None = None
        if heads:
            self.transformer = GraphTransformer(width, heads)
            self.norm = NodeNorm(heads * width)
            self.width_out *= heads

    def forward(self, x: Tensor, present: Tensor, mask: Tensor) -> Tensor:
        """Nodes in, utterances out.

        Args:
            x: (B, M, U, D) encodings.
            present: (B, M, U) bool.
            mask: (B, U) bool.

        Returns:
            (L, width_out) rows of the real utterances.
        """
        edges = typed_edges(mask, present, self.kinds, self.earlier, self.later)
        nodes = self.convolve(x, edges)
        ragged = Ragged(mask)
        if self.transformer is None:
            return ragged.pack(rearrange(nodes, "b m u d -> b u (m d)"))
        modalities = x.shape[1]
        mixed = self.transformer(
            rearrange(nodes, "b m u d -> b (m u) d"), self.any_relation(edges, modalities)
        )
        # every real node counts once in the statistics, padding never
        rows = ragged.pack(rearrange(mixed, "b (m u) d -> b u m d", m=modalities))
        normed = F.leaky_relu(self.norm(rows.flatten(0, 1)), 0.01)
        return rearrange(normed, "(l m) d -> l (m d)", m=modalities)

    def any_relation(self, edges: Tensor, modalities: int) -> Tensor:
        """(B, R, U, U) typed edges to (B, M * U, M * U) whether there is one."""
        block = torch.tensor([r.target * modalities + r.source for r in self.kinds])
        joined = edges.new_zeros(
            edges.shape[0], modalities**2, *edges.shape[2:], dtype=torch.uint8
        ).index_add(1, block.to(edges.device), edges.to(torch.uint8))
        return rearrange(joined > 0, "b (t s) i j -> b (t i) (s j)", t=modalities)
