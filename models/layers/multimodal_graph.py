"""The graph of MMGCN over utterances times modalities, and the deep GCN that runs on it.

A node is an utterance in one modality. Within a modality all utterances of the dialogue are
connected, across modalities only the nodes of the same utterance; so the adjacency is M dense
(U, U) blocks per dialogue and one (M, M) block per utterance, never a full (M U, M U) matrix. Nodes
are rows (L, M, D) of real utterances: padding costs nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.ragged import Ragged


def angular_similarity(cosine: Tensor) -> Tensor:
    """1 - arccos(0.99999 cos) / pi, in (0, 1); the factor keeps arccos' slope finite."""
    return 1 - torch.arccos(0.99999 * cosine) / math.pi


#: Dialogues padded to a common length together.
GROUP = 8


@dataclass(frozen=True)
class MultimodalGraph:
    """Symmetrically normalised adjacency D^-1/2 A D^-1/2.

    Attributes:
        rows: where the utterances stand in their dialogues.
        intra: (B', M, U', U') for each group: edges within each modality, self included.
        cross: (L, M, M) edges between the modalities of an utterance; 0 on the diagonal.
    """

    rows: Ragged
    intra: Sequence[Tensor]
    cross: Tensor

    @staticmethod
    def build(nodes: Tensor, exists: Tensor, rows: Ragged) -> "MultimodalGraph":
        """Connect nodes by the angle between their features; gradients flow through the weights.

        Args:
            nodes: (L, M, D).
            exists: (L, M) bool; absent modalities have no edges.
            rows: of the utterances.
        """
        with torch.autocast(nodes.device.type, enabled=False):
            # bfloat16 would round the 0.99999 away, and with it the finite slope of arccos.
            return MultimodalGraph._build(nodes.float(), exists, rows)

    @staticmethod
    def _build(nodes: Tensor, exists: Tensor, rows: Ragged) -> "MultimodalGraph":
        unit = F.normalize(nodes.masked_fill(~exists.unsqueeze(-1), 0.0), dim=-1, eps=1e-8)
        intra = []
        for group, there in zip(rows.spread(unit), rows.spread(exists), strict=True):
            within, vectors = there.transpose(1, 2), group.transpose(1, 2)  # (B', M, U', ...)
            edges = angular_similarity(vectors @ vectors.mT)
            intra.append(edges * (within.unsqueeze(-1) & within.unsqueeze(-2)))
        other = ~torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
        between = exists.unsqueeze(-1) & exists.unsqueeze(-2) & other
        cross = angular_similarity(unit @ unit.mT) * between
        degree = rows.collect(edges.sum(-1).transpose(1, 2) for edges in intra) + cross.sum(-1)
        # Every existing node has its self edge, so only nodes without edges are clamped.
        scale = degree.clamp(min=1e-6).rsqrt()  # (L, M)
        scaled = [
            edges * part.mT.unsqueeze(-1) * part.mT.unsqueeze(-2)
            for edges, part in zip(intra, rows.spread(scale), strict=True)
        ]
        return MultimodalGraph(rows, scaled, cross * scale.unsqueeze(-1) * scale.unsqueeze(-2))

    def propagate(self, nodes: Tensor) -> Tensor:
        """Weighted sum over neighbours, (L, M, H) -> (L, M, H)."""
        groups = zip(self.intra, self.rows.spread(nodes), strict=True)
        heard = [(edges @ part.transpose(1, 2)).transpose(1, 2) for edges, part in groups]
        return self.rows.collect(heard) + self.cross @ nodes


class GcniiLayer(nn.Module):
    """theta [p ; h0] W + (1 - theta)((1 - alpha) p + alpha h0), p = A h, theta = ln(lambda/l + 1).

    Args:
        width: H.
        number: l, from 1.
        alpha: share of the initial features.
        decay: lambda.
    """

    def __init__(self, width: int, number: int, alpha: float, decay: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.theta = math.log(decay / number + 1)
        self.mix = nn.Linear(2 * width, width, bias=False)
        bound = 1 / math.sqrt(width)
        nn.init.uniform_(self.mix.weight, -bound, bound)

    def forward(self, hidden: Tensor, initial: Tensor, graph: MultimodalGraph) -> Tensor:
        """(L, M, H) -> (L, M, H), before the activation."""
        heard = graph.propagate(hidden)
        kept = torch.lerp(heard, initial, self.alpha)
        return torch.lerp(kept, self.mix(torch.cat([heard, initial], -1)), self.theta)


class Gcnii(nn.Module):
    """Deep graph convolution with initial residual and identity mapping.

    Args:
        width_in: D of the nodes.
        width: H.
        layers: K.
        dropout: rate before, between and after layers.
        alpha: share of the initial features in every layer.
        decay: lambda of the identity mapping.
        has_gate: pass the hidden state through one LSTM across layers and add it to every
            layer's output (MM-DFN's dynamic fusion).
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        layers: int,
        dropout: float,
        alpha: float = 0.1,
        decay: float = 0.5,
        has_gate: bool = False,
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(width_in, width)
        self.layers = nn.ModuleList(
            GcniiLayer(width, number, alpha, decay) for number in range(1, layers + 1)
        )
        self.gate = nn.LSTMCell(width, width) if has_gate else None
        self.dropout = nn.Dropout(dropout)

    def run(self, nodes: Tensor, exists: Tensor, mask: Tensor) -> Tensor:
        """Connect and convolve the nodes of padded dialogues.

        Args:
            nodes: (B, U, M, D).
            exists: (B, U, M) bool; absent modalities have no edges.
            mask: (B, U) bool; real utterances.

        Returns:
            (B, U, M, D + H), 0 on padding.
        """
        rows = Ragged(mask, GROUP)
        packed = rows.pack(nodes)
        return rows.unpack(self(packed, MultimodalGraph.build(packed, rows.pack(exists), rows)))

    def forward(self, nodes: Tensor, graph: MultimodalGraph) -> Tensor:
        """(L, M, D) -> (L, M, D + H): the nodes after dropout beside their last state."""
        nodes = self.dropout(nodes)
        initial = torch.relu(self.enter(nodes))
        hidden = self.dropout(initial)
        state = None
        for layer in self.layers:
            if self.gate is None:
                hidden = self.dropout(torch.relu(layer(hidden, initial, graph)))
                continue
            state = self.gate(hidden.flatten(0, -2), state)
            gated = state[0].view_as(hidden)
            hidden = self.dropout(torch.relu(layer(gated, initial, graph))) + hidden
        return torch.cat([nodes, hidden], -1)
