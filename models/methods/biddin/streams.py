"""The backbone of SPCL: one DialogueRNN stream per modality, none of which hears another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import visible
from models.batch import Batch
from models.layers.party_rnn import Memory, PartyCell, PartyRnn, Sizes
from models.layers.sequence import positions
from models.methods.biddin.readout import Readout


class SimpleMemory:
    """Attention without a query: softmax over j < t of w . (g_j + position_j).

    The scores never change, so a running maximum, weight and sum replace the list of states.

    Args:
        weight: (G, D_g) w.
        shape: (G, B, U, D_g) of the pass.
        dropout: rate on the remembered states with positions; 0 in evaluation.
    """

    def __init__(self, weight: Tensor, shape: tuple[int, int, int, int], dropout: float) -> None:
        groups, batch, length, width = shape
        self.weight = weight.view(groups, 1, width)
        self.places = positions(length, width, weight)
        self.dropout = dropout
        self.top = weight.new_full((groups, batch, 1), -torch.inf)
        self.norm = weight.new_zeros(groups, batch, 1)
        self.sum = weight.new_zeros(groups, batch, width)
        self.step = 0

    def read(self, step: int) -> Tensor:
        """(G, B, D_g); 0 at the first step."""
        return self.sum if step == 0 else self.sum / self.norm

    def write(self, state: Tensor) -> None:
        """Fold a state into the running average."""
        placed = F.dropout(state + self.places[self.step], self.dropout, self.dropout > 0)
        score = (placed * self.weight).sum(-1, keepdim=True)
        top = torch.maximum(self.top, score).detach()
        old, new = torch.exp(self.top - top), torch.exp(score - top)
        self.sum = self.sum * old + placed * new
        self.norm = self.norm * old + new
        self.top = top
        self.step += 1


class SimpleCell(PartyCell):
    """The weights of a stream with the w of its attention over the past."""

    def __init__(self, width_in: int, sizes: Sizes, has_listener: bool = False) -> None:
        super().__init__(width_in, sizes, has_listener)
        self.recall = nn.Linear(sizes.glob, 1, bias=False)


class SimplePartyRnn(PartyRnn):
    """DialogueRNN streams whose past has the same weights for every utterance that asks."""

    cell = SimpleCell
    memory_dropout = 0.1

    def memory(self, cells: Sequence[PartyCell], inputs: Sequence[Tensor]) -> Memory:
        """A running average."""
        weight = torch.cat([cell.recall.weight for cell in cast(Sequence[SimpleCell], cells)])
        batch, length = inputs[0].shape[:2]
        rate = self.memory_dropout if self.training else 0.0
        return SimpleMemory(weight, (len(cells), batch, length, weight.shape[1]), rate)


class Streams(nn.Module):
    """Each modality to a stream of features of its own."""

    def __init__(
        self,
        dims: Mapping[str, int],
        sizes: Sizes,
        hidden: int,
        dropout: float,
        state_dropout: float,
    ) -> None:
        super().__init__()
        self.parties = SimplePartyRnn(dims, sizes, state_dropout)
        #: Widths of the streams that come out.
        self.widths = dict.fromkeys(dims, 2 * hidden)
        self.readouts = nn.ModuleDict(
            {
                name: Readout(2 * sizes.emotion, width, dropout, has_positions=True)
                for name, width in self.widths.items()
            }
        )

    def forward(self, inputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """(B, U, D) of each modality -> (B, U, 2 D_h) each."""
        states = self.parties(inputs, batch.speakers, batch.mask)
        return {
            name: self.readouts[name](values, batch.mask, visible(batch, name))
            for name, values in states.items()
        }

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """Recurrences and readout of a stream."""
        return [*self.parties.cells(stream), self.readouts[stream]]
