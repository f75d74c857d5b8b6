"""The published network: contexts of text and of each speaker, then fusion across graph layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import votes
from models.batch import Batch
from models.layers.gru import encode
from models.layers.multimodal_graph import Gcnii


class BiGru(nn.Module):
    """Two-layer bidirectional GRU; rows of length 0 come out 0."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(
            width, width // 2, 2, batch_first=True, bidirectional=True, dropout=dropout
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(N, U, D), (N,) -> (N, U, D)."""
        return encode(self.gru, x, lengths)


class PartyContext(nn.Module):
    """A GRU over the utterances of each speaker alone, shared by all modalities."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.gru = BiGru(width, dropout)

    def forward(self, x: Tensor, speakers: Tensor, mask: Tensor) -> Tensor:
        """Encode.

        Args:
            x: (M, B, U, D).
            speakers: (B, U) long.
            mask: (B, U) bool.

        Returns:
            (M, B, U, D).
        """
        modalities, batch, length, width = x.shape
        parties = int(speakers.max()) + 1
        said = F.one_hot(speakers, parties) * mask.unsqueeze(-1)  # (B, U, S)
        rank = (said.cumsum(1) - 1).gather(-1, speakers.unsqueeze(-1)).squeeze(-1).clamp(min=0)
        row = torch.arange(batch, device=x.device).unsqueeze(1) * parties + speakers
        slot = (row * length + rank)[mask]  # (L,) place of every utterance in its speaker's row
        sorted_x = x.new_zeros(modalities, batch * parties * length, width)
        sorted_x = sorted_x.index_copy(1, slot, x[:, mask])
        states = self.gru(
            sorted_x.view(modalities * batch * parties, length, width),
            said.sum(1).flatten().repeat(modalities),
        )
        back = states.view(modalities, -1, width)[:, slot]
        index = mask.flatten().nonzero().squeeze(1)
        placed = back.new_zeros(modalities, batch * length, width).index_copy(1, index, back)
        return placed.view_as(x)


@dataclass(frozen=True)
class Shape:
    """What either network is built with: the options of these names, where none is None."""

    unified: int
    hidden: int
    layers: int
    alpha: float
    decay: float
    dropout: float

    def graph(self, has_gate: bool) -> Gcnii:
        """The graph layers."""
        sizes = self.unified, self.hidden, self.layers
        return Gcnii(*sizes, self.dropout, self.alpha, self.decay, has_gate)


class DynamicFusion(nn.Module):
    """Linear maps, contexts, and a graph whose layers are joined by a gate.

    Args:
        dims: modality to width of its features.
        shape: of the network.
        party_weights: modality to how much of its speaker-wise context is added.
    """

    def __init__(
        self, dims: Mapping[str, int], shape: Shape, party_weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.graph = shape.graph(has_gate=True)
        self.party_weights = dict(party_weights)
        self.projects = nn.ModuleDict({n: nn.Linear(dim, shape.unified) for n, dim in dims.items()})
        self.text_gru = BiGru(shape.unified, shape.dropout) if "text" in dims else None
        has_parties = any(self.party_weights.values())
        self.party = PartyContext(shape.unified, shape.dropout) if has_parties else None
        self.late_dropout = nn.Dropout(shape.dropout)
        #: Width of a modality's features.
        self.width = shape.unified + shape.hidden

    def encode(self, inputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """(B, U, D) -> (B, U, unified + hidden) per modality."""
        nodes = self._nodes(inputs, batch)
        exists = torch.stack([votes(batch, name) for name in inputs], 2)
        states = torch.relu(self.late_dropout(self.graph.run(nodes, exists, batch.mask)))
        return dict(zip(inputs, states.unbind(2), strict=True))

    def _nodes(self, inputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """(B, U, M, unified): linear maps, text in its context, each speaker in theirs."""
        projected = {name: self.projects[name](x) for name, x in inputs.items()}
        nodes = dict(projected)
        if self.text_gru is not None:
            nodes["text"] = self.text_gru(projected["text"], batch.lengths)
        if self.party is not None:
            heard = [name for name, weight in self.party_weights.items() if weight]
            stacked = torch.stack([projected[name] for name in heard])
            parties = self.party(stacked, batch.speakers, batch.mask)
            for name, states in zip(heard, parties, strict=True):
                nodes[name] = nodes[name] + self.party_weights[name] * states
        return torch.stack(list(nodes.values()), 2)

    def meet(self, features: Mapping[str, Tensor], batch: Batch) -> Mapping[str, Tensor]:
        """What the classifier of each modality sees: its own features."""
        return features

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """What turns a modality into nodes and nobody else uses."""
        own: list[nn.Module] = [self.projects[stream]]
        if stream == "text" and self.text_gru is not None:
            own.append(self.text_gru)
        return own
