"""The published network: three DialogueRNN streams that recall each other's global states."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import JOINT
from models.batch import Batch
from models.layers.party_rnn import Memory, PartyCell, PartyRnn, Sizes
from models.layers.sequence import positions
from models.methods.biddin.readout import Readout


class CrossContext(nn.Module):
    """Weights of one direction: M x M attentions, gates and the merging of contexts."""

    def __init__(self, modalities: int, width_in: int, global_size: int) -> None:
        super().__init__()
        self.attend = nn.Parameter(torch.empty(modalities, modalities, width_in, global_size))
        self.gate = nn.Parameter(torch.empty(modalities, global_size))
        self.merge = nn.Parameter(torch.empty(modalities, modalities * global_size, global_size))
        self.merge_bias = nn.Parameter(torch.zeros(modalities, global_size))
        for weight, fan_in in (
            (self.attend, width_in),
            (self.gate, global_size),
            (self.merge, modalities * global_size),
        ):
            nn.init.uniform_(weight, -(fan_in**-0.5), fan_in**-0.5)


class CrossMemory:
    """Every modality recalls the global states of all of them, weighs and merges what it finds.

    Args:
        contexts: of the two directions.
        inputs: (B, U, D) per stream, forward streams first.
        dropout: rate on the states with positions, drawn anew at every step; 0 in evaluation.
        has_batch_gate: gate by a softmax over the batch.
    """

    def __init__(
        self,
        contexts: Sequence[CrossContext],
        inputs: Sequence[Tensor],
        dropout: float,
        has_batch_gate: bool,
    ) -> None:
        # d directions, m modalities that ask, n modalities that are asked
        self.gate = torch.stack([c.gate for c in contexts])[:, None, None]
        self.merge = torch.stack([c.merge for c in contexts])
        self.merge_bias = torch.stack([c.merge_bias for c in contexts]).unsqueeze(2)
        asked = torch.stack([c.attend for c in contexts])
        utterances = torch.stack(list(inputs)).unflatten(0, (2, -1))  # (d, m, B, U, D)
        queries = torch.einsum("dmbui,dmnig->udnbgm", utterances, asked)
        self.places = positions(queries.shape[0], queries.shape[-2], queries)
        self.query = queries.unbind()  # per step: an index's gradient is as large as the whole
        self.dropout = dropout
        self.gate_axis = 2 if has_batch_gate else 1
        self.states: list[Tensor] = []

    def read(self, step: int) -> Tensor:
        """(G, B, D_g); 0 at the first step."""
        query = self.query[step]  # (d, n, B, D_g, m)
        if not self.states:
            d, _, b, g, m = query.shape
            return query.new_zeros(d * m, b, g)
        past = torch.stack(self.states, 2).unflatten(0, (2, -1))  # (d, n, B, t, D_g)
        past = F.dropout(past, self.dropout, self.dropout > 0)
        weight = torch.softmax(past @ query, -2)  # (d, n, B, t, m)
        found = weight.mT @ past  # (d, n, B, m, D_g)
        share = torch.softmax((found * self.gate).sum(-1, keepdim=True), self.gate_axis)
        found = (found * (1 + share)).permute(0, 3, 2, 1, 4).flatten(3)  # (d, m, B, n D_g)
        return (found @ self.merge + self.merge_bias).flatten(0, 1)

    def write(self, state: Tensor) -> None:
        """Remember a state with its position."""
        self.states.append(state + self.places[len(self.states)])


@dataclass(frozen=True)
class Shape:
    """What the network is built with.

    Attributes:
        width: D_m that every modality is brought to.
        sizes: D_g, D_p, D_e.
        hidden: D_h.
        dropout: on the emotion states and before the head.
        state_dropout: on the states at every step.
        has_batch_gate: gate by a softmax over the batch.
    """

    width: int
    sizes: Sizes
    hidden: int
    dropout: float
    state_dropout: float
    has_batch_gate: bool


class CrossPartyRnn(PartyRnn):
    """DialogueRNN streams that recall each other's global states."""

    memory_dropout = 0.1

    def __init__(self, dims: Mapping[str, int], shape: Shape) -> None:
        super().__init__(dict.fromkeys(dims, shape.width), shape.sizes, shape.state_dropout)
        self.has_batch_gate = shape.has_batch_gate
        self.enter_ahead, self.enter_back = (
            nn.ModuleDict({n: nn.Linear(dim, shape.width) for n, dim in dims.items()})
            for _ in range(2)
        )
        self.ahead, self.back = (
            CrossContext(len(dims), shape.width, shape.sizes.glob) for _ in range(2)
        )

    def sides(self, streams: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], ...]:
        """(B, U, D) -> (B, U, D_m) by the projections of each direction."""
        entries = self.enter_ahead, self.enter_back
        return tuple({n: enter[n](x) for n, x in streams.items()} for enter in entries)

    def memory(self, cells: Sequence[PartyCell], inputs: Sequence[Tensor]) -> Memory:
        """A memory that crosses modalities."""
        rate = self.memory_dropout if self.training else 0.0
        return CrossMemory([self.ahead, self.back], inputs, rate, self.has_batch_gate)


class Crossed(nn.Module):
    """All modalities to one stream of features."""

    def __init__(self, dims: Mapping[str, int], shape: Shape) -> None:
        super().__init__()
        self.parties = CrossPartyRnn(dims, shape)
        #: Widths of the streams that come out.
        self.widths = {JOINT: 3 * shape.hidden}
        self.enter = nn.Dropout(shape.dropout)
        states = 2 * shape.sizes.emotion * len(dims)
        self.readout = Readout(states, self.widths[JOINT], shape.dropout, has_positions=False)

    def forward(self, inputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """(B, U, D) of each modality -> (B, U, 3 D_h)."""
        states = self.parties(inputs, batch.speakers, batch.mask)
        joint = self.enter(torch.cat(list(states.values()), -1))
        return {JOINT: self.readout(joint, batch.mask, batch.mask)}

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """Everything: there is one stream."""
        return [self.parties, self.readout]
