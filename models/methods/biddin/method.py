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
    - self-attention has biases, which begin at 0; the code has none;
    - losses are divided by the sum of their weights, which the code makes larger by 1;
    - the readout's softmax over a single value is dropped: it is always 1;
    - in ``spcl``, context attention is a running average (``streams.py``), so the dropout of a
      remembered state is drawn once; the code draws it anew at every step.

Speakers: one state for each index within the dialogue; there are no vectors of speakers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from models.backbone import PUBLISHED, SPCL, Backbone, BackboneConfig, Variant
from models.batch import Batch
from models.layers.party_rnn import Sizes
from models.method import Spec
from models.methods.biddin.crossed import Crossed, Shape
from models.methods.biddin.streams import Streams


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of BiDDIN; None takes the variant's published value.

    Attributes:
        width: D_m that every modality is brought to (``original`` only).
        global_size: D_g.
        party_size: D_p.
        emotion_size: D_e per direction.
        hidden: D_h; units of the hidden layer per modality and direction.
        dropout: before the head, in ``original`` also on the emotion states before self-attention.
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


class Biddin(Backbone):
    """BiDDIN with cross-modal recall, or SPCL's separate streams."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(
            False,
            {"dropout": 0.1, "state_dropout": 0.1},
            {**PUBLISHED, "lr": 1e-4, "weight_decay": 1e-5, "batch_size": 30, "epochs": 60},
            {"iemocap": {"class_weights": True}},
        ),
        "spcl": Variant(
            True,
            {"dropout": 0.5, "state_dropout": 0.5},
            {**SPCL, "lr": 4e-4, "epochs": 50},
            unused=frozenset({"width", "has_batch_gate"}),
        ),
    }
    plugin_variant = "spcl"
    recipe: ClassVar[Mapping[str, object]] = variants["original"].recipe

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.network = self._streams() if self.is_separable else self._crossed()
        self.heads = nn.ModuleDict(
            {n: nn.Linear(width, self.target.width) for n, width in self.network.widths.items()}
        )

    def _sizes(self) -> Sizes:
        config = self.config
        return Sizes(config.global_size, config.party_size, config.emotion_size)

    def _crossed(self) -> Crossed:
        shape = Shape(
            width=self.config.width,
            sizes=self._sizes(),
            hidden=self.config.hidden,
            dropout=self.setting("dropout"),
            state_dropout=self.setting("state_dropout"),
            has_batch_gate=self.config.has_batch_gate,
        )
        return Crossed(self.spec.dims, shape)

    def _streams(self) -> Streams:
        rates = self.setting("dropout"), self.setting("state_dropout")
        return Streams(self.spec.dims, self._sizes(), self.config.hidden, *rates)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, H) per stream."""
        return self.network(self.inputs(batch), batch)

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """What only this stream uses."""
        return self.network.encoder(stream)


METHOD = Biddin
