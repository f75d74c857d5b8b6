"""DialogueRNN: global, party and emotion states of a conversation.

Paper: Majumder et al., "DialogueRNN: an attentive RNN for emotion detection in conversations",
AAAI 2019.
Reference code: declare-lab/conv-emotion, read; nothing copied.
Licence of the reference: MIT.
What we changed and why:
    - all dialogues, directions and modality streams take a step together, and only the speaking
      party's new state is computed (``models/layers/party_rnn.py``);
    - ``original`` concatenates the modalities; ``streams`` gives each its own recurrences and sums
      the votes, which is what balancing plug-ins need;
    - sizes, rate and epochs are those published for MELD unless an entry says otherwise; IEMOCAP's
      are larger, slower and class-weighted (``presets``).

Speakers: one state for each index within the dialogue; there are no vectors of speakers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from models.backbone import PUBLISHED, Backbone, BackboneConfig, Variant, visible
from models.batch import Batch
from models.layers.party_rnn import Memory, PartyCell, PartyRnn, Sizes
from models.layers.sequence import MatchingAttention
from models.method import Spec

RECIPE = {**PUBLISHED, "lr": 5e-4, "weight_decay": 1e-5, "batch_size": 30, "epochs": 100}
PRESETS = {
    "iemocap": {
        "global_size": 500,
        "party_size": 500,
        "emotion_size": 300,
        "hidden": 300,
        "class_weights": True,
        "lr": 1e-4,
        "epochs": 60,
    },
    "meld": {},
}


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of DialogueRNN.

    Attributes:
        global_size: D_g.
        party_size: D_p.
        emotion_size: D_e per direction.
        hidden: D_h; the layer before the head has twice as many units.
        dropout: before the head; the emotion states get 0.15 more.
        state_dropout: on global, party and emotion states at every step.
        has_listener: also update the parties that are silent.
    """

    global_size: int = 150
    party_size: int = 150
    emotion_size: int = 100
    hidden: int = 100
    dropout: float = 0.1
    state_dropout: float = 0.1
    has_listener: bool = False


class GeneralMemory:
    """Attention with the utterance as the query: softmax over j < t of g_j . (W x_t).

    Args:
        query: (G, B, U, D_g) the projected utterances W x.
    """

    def __init__(self, query: Tensor) -> None:
        self.query = query.unbind(2)
        self.states: list[Tensor] = []

    def read(self, step: int) -> Tensor:
        """(G, B, D_g); 0 at the first step."""
        if not self.states:
            return torch.zeros_like(self.query[0])
        past = torch.stack(self.states, 2)  # (G, B, t, D_g)
        weight = torch.softmax(past @ self.query[step].unsqueeze(-1), 2)
        return (weight.mT @ past).squeeze(2)

    def write(self, state: Tensor) -> None:
        """Remember a state."""
        self.states.append(state)


class GeneralCell(PartyCell):
    """The weights of a stream with the W of its attention over the past."""

    def __init__(self, width_in: int, sizes: Sizes, has_listener: bool = False) -> None:
        super().__init__(width_in, sizes, has_listener)
        self.recall = nn.Linear(width_in, sizes.glob, bias=False)


class GeneralPartyRnn(PartyRnn):
    """DialogueRNN: every utterance asks the global states before it."""

    cell = GeneralCell

    def memory(self, cells: Sequence[PartyCell], inputs: Sequence[Tensor]) -> Memory:
        """A memory that is asked with the utterances."""
        pairs = zip(cast(Sequence[GeneralCell], cells), inputs, strict=True)
        return GeneralMemory(torch.stack([cell.recall(x) for cell, x in pairs]))


class Readout(nn.Module):
    """Emotion states look at all of their dialogue, then a hidden layer."""

    def __init__(self, width_in: int, width_out: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Dropout(min(dropout + 0.15, 0.95))
        self.attention = MatchingAttention(width_in, is_bounded=False)
        self.project = nn.Linear(width_in, width_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        """(B, U, 2 D_e) -> (B, U, 2 D_h)."""
        matched = self.attention(self.enter(states), seen)
        return self.dropout(torch.relu(self.project(matched)))


class DialogueRnn(Backbone):
    """Bidirectional DialogueRNN with attention over emotion states."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(False, recipe=RECIPE, presets=PRESETS),
        "streams": Variant(True, recipe=RECIPE),
    }
    plugin_variant = "streams"
    recipe: ClassVar[Mapping[str, object]] = RECIPE

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        dims = self.stream_dims()
        sizes = Sizes(config.global_size, config.party_size, config.emotion_size)
        self.parties = GeneralPartyRnn(dims, sizes, config.state_dropout, config.has_listener)
        self.readouts = nn.ModuleDict(
            {name: Readout(2 * sizes.emotion, 2 * config.hidden, config.dropout) for name in dims}
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * config.hidden, self.target.width) for name in dims}
        )

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, 2 D_h) per stream."""
        states = self.parties(self.streams(batch), batch.speakers, batch.mask)
        return {
            name: self.readouts[name](values, visible(batch, name))
            for name, values in states.items()
        }

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """Recurrences and readout of a stream."""
        return [*self.parties.cells(stream), self.readouts[stream]]


METHOD = DialogueRnn
