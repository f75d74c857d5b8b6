"""BiDDIN: bidirectional dynamic dual influence network.

Paper: Zhang et al., "Modeling both intra- and inter-modal influence for real-time emotion detection
in conversations", ACM MM 2020. Variant ``spcl``: the backbone of SPCL, one stream per modality
without any attention between modalities.
Reference code: MANLP-suda/BiDDIN and the SPCL backbones (mattam301/experimental_MM_bachbones,
commit ccce08f), read; nothing copied.
Licence of the references: none stated.
What we changed and why:
    - the gate over a modality's contexts is a softmax over the contexts; the code takes it over
      the batch (``has_batch_gate`` brings that back, and outputs then depend on batch mates);
    - self-attention stays within a dialogue, masked; the code reshapes time into the batch;
    - the layer norm is part of the network; the code makes a new, untrained one per pass;
    - the readout's softmax over a single value is dropped: it is always 1;
    - ``simple`` context attention is a running average (``models/layers/party_rnn.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import JOINT, Backbone, BackboneConfig, Variant, visible
from models.batch import Batch
from models.layers.party_rnn import Memory, PartyCell, PartyRnn, Sizes
from models.layers.ragged import Ragged
from models.layers.sequence import positions
from models.layers.transformer import MultiHeadAttention
from models.method import Spec


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of BiDDIN; None takes the variant's published value.

    Attributes:
        width: D_m that every modality is brought to (``original`` only).
        global_size: D_g.
        party_size: D_p.
        emotion_size: D_e per direction.
        hidden: D_h; units of the hidden layer per modality and direction.
        dropout: before the head.
        state_dropout: on global, party and emotion states at every step.
        has_batch_gate: the reference's softmax over the batch (``original`` only).
    """

    width: int = 100
    global_size: int = 150
    party_size: int = 150
    emotion_size: int = 100
    hidden: int = 100
    dropout: float | None = None
    state_dropout: float | None = None
    has_batch_gate: bool = False


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
        dropout: rate on the remembered states with positions; 0 in evaluation.
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
        weight = torch.softmax(past @ query, -2)  # (d, n, B, t, m)
        found = weight.mT @ past  # (d, n, B, m, D_g)
        share = torch.softmax((found * self.gate).sum(-1, keepdim=True), self.gate_axis)
        found = (found * (1 + share)).permute(0, 3, 2, 1, 4).flatten(3)  # (d, m, B, n D_g)
        return (found @ self.merge + self.merge_bias).flatten(0, 1)

    def write(self, state: Tensor) -> None:
        """Remember a state with its position."""
        placed = state + self.places[len(self.states)]
        self.states.append(F.dropout(placed, self.dropout, self.dropout > 0))


class CrossPartyRnn(PartyRnn):
    """DialogueRNN streams that recall each other's global states."""

    def __init__(
        self, dims: Mapping[str, int], sizes: Sizes, dropout: float, has_batch_gate: bool
    ) -> None:
        super().__init__(dims, sizes, "other", dropout)
        self.has_batch_gate = has_batch_gate
        width = next(iter(dims.values()))
        self.ahead, self.back = (CrossContext(len(dims), width, sizes.glob) for _ in range(2))

    def memory(self, cells: Sequence[PartyCell], inputs: Sequence[Tensor]) -> Memory:
        """A memory that crosses modalities."""
        rate = self.memory_dropout if self.training else 0.0
        return CrossMemory([self.ahead, self.back], inputs, rate, self.has_batch_gate)


class Readout(nn.Module):
    """Self-attention over the dialogue with residual and norm, then a hidden layer."""

    def __init__(self, width_in: int, width_out: int, dropout: float, has_positions: bool) -> None:
        super().__init__()
        self.place_dropout = nn.Dropout(0.1) if has_positions else None
        self.attention = MultiHeadAttention(width_in, 4 if width_in % 4 == 0 else 1)
        self.norm = nn.LayerNorm(width_in)
        self.project = nn.Linear(width_in, width_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        """(B, U, 2 D_e M) -> (B, U, H)."""
        if self.place_dropout is not None:
            places = positions(states.shape[1], states.shape[2], states)
            states = self.place_dropout(states + places)
        ragged = Ragged(mask)
        rows = ragged.pack(states)
        rows = self.norm(rows + self.attention(rows, rows, ragged, seen))
        return ragged.unpack(self.dropout(torch.relu(self.project(rows))))


class Biddin(Backbone):
    """BiDDIN with cross-modal recall, or SPCL's separate streams."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(
            False,
            {"dropout": 0.1, "state_dropout": 0.1},
            {
                "optimizer": "adam",
                "lr": 1e-4,
                "weight_decay": 1e-5,
                "batch_size": 30,
                "epochs": 60,
                "patience": 0,
            },
        ),
        "spcl": Variant(
            True,
            {"dropout": 0.5, "state_dropout": 0.5},
            {
                "optimizer": "adam",
                "lr": 4e-4,
                "weight_decay": 1e-8,
                "clip_norm": 2.0,
                "batch_size": 32,
                "epochs": 50,
                "patience": 0,
            },
        ),
    }
    plugin_variant = "spcl"
    recipe: ClassVar[Mapping[str, object]] = variants["original"].recipe

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        sizes = Sizes(config.global_size, config.party_size, config.emotion_size)
        states, hidden = 2 * sizes.emotion, 2 * config.hidden
        dropout, state_dropout = self.setting("dropout"), self.setting("state_dropout")
        names = spec.modalities
        if self.is_separable:
            self.parties = PartyRnn(spec.dims, sizes, "simple", state_dropout)
        else:
            self.projects = nn.ModuleDict({n: nn.Linear(spec.dims[n], config.width) for n in names})
            self.parties = CrossPartyRnn(
                {n: config.width for n in names}, sizes, state_dropout, config.has_batch_gate
            )
            states, hidden = states * len(names), config.hidden * 3
        streams = names if self.is_separable else (JOINT,)
        self.readouts = nn.ModuleDict(
            {n: Readout(states, hidden, dropout, self.is_separable) for n in streams}
        )
        self.heads = nn.ModuleDict({n: nn.Linear(hidden, self.target.width) for n in streams})

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, H) per stream."""
        inputs = self.inputs(batch)
        if not self.is_separable:
            inputs = {name: self.projects[name](x) for name, x in inputs.items()}
        states = self.parties(inputs, batch.speakers, batch.mask)
        if not self.is_separable:
            states = {JOINT: torch.cat(list(states.values()), -1)}
        return {
            name: self.readouts[name](values, batch.mask, visible(batch, name))
            for name, values in states.items()
        }

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """Recurrences and readout of a stream."""
        return [*self.parties.cells(stream), self.readouts[stream]]


METHOD = Biddin
