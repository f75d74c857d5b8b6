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
    - state sizes default to the published MELD ones (150, 150, 100, 100); IEMOCAP used
      500, 500, 300, 300 and class weights.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.backbone import Backbone, BackboneConfig, Variant, visible
from models.batch import Batch
from models.layers.party_rnn import PartyRnn, Sizes
from models.layers.sequence import MatchingAttention
from models.method import Spec

RECIPE = {
    "optimizer": "adam",
    "lr": 5e-4,
    "weight_decay": 1e-5,
    "batch_size": 30,
    "epochs": 60,
    "patience": 0,
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
        "original": Variant(False, recipe=RECIPE),
        "streams": Variant(True, recipe=RECIPE),
    }
    plugin_variant = "streams"
    recipe: ClassVar[Mapping[str, object]] = RECIPE

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        dims = self.stream_dims()
        sizes = Sizes(config.global_size, config.party_size, config.emotion_size)
        self.parties = PartyRnn(dims, sizes, "general", config.state_dropout, config.has_listener)
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
