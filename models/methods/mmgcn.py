"""MMGCN: one graph over utterances and modalities, deep graph convolution.

Paper: Hu et al., "MMGCN: multimodal fusion via deep graph convolution network for emotion
recognition in conversation", ACL 2021. Variant ``spcl``: the backbone of SPCL.
Reference code: hujingwen6666/MMGCN and the SPCL backbones (mattam301/experimental_MM_bachbones,
commit ccce08f), read; nothing copied.
Licence of the references: none stated.
What we changed and why:
    - 4 graph layers, the paper's value; the code builds 64 whatever is asked for;
    - cross-modal edges join the nodes of the same utterance; the code's index is read row by row by
      today's torch;
    - the classifier of the concatenation is kept as one block per modality, the same function, so
      that plug-ins see each modality's vote;
    - the focal loss is the proper one (``focal_gamma``); the reference's, which it uses on MELD,
      averages over all classes, so the preset there is cross-entropy.

Speakers: a vector for each index within the dialogue; ``speakers: corpus`` adds one for each
person of the training rows. Variant ``spcl`` has none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.backbone import (
    PUBLISHED,
    SPCL,
    Backbone,
    BackboneConfig,
    Variant,
    visible,
    votes,
)
from models.batch import Batch
from models.errors import UserError
from models.layers.multimodal_graph import Gcnii
from models.layers.recurrent import BiLstm
from models.layers.sequence import ContextEncoder
from models.layers.speakers import Speakers, SpeakerVectors, check_speakers
from models.method import Spec
from models.options import refuse_idle


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of MMGCN; None takes the variant's published value.

    Attributes:
        unified: width that every modality is brought to.
        hidden: width of the graph layers.
        layers: graph layers K.
        alpha: share of the initial features in every layer.
        decay: lambda of the identity mapping.
        dropout: in encoders, graph and before the classifier.
        speaker_embedding: modalities that get it, ``text``, ``all`` or ``none``.
        speakers: vectors by index within the ``dialogue``, or also by person of the ``corpus``.
    """

    unified: int | None = None
    hidden: int | None = None
    layers: int | None = None
    alpha: float = 0.1
    decay: float = 0.5
    dropout: float = 0.4
    speaker_embedding: str | None = None
    speakers: Speakers = "dialogue"

    def __post_init__(self) -> None:
        check_speakers("mmgcn", self.speakers)


class SequenceEncoder(nn.Module):
    """Linear map, then a two-layer bidirectional LSTM over the dialogue (text only)."""

    def __init__(self, width_in: int, width_out: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(width_in, width_out)
        self.lstm = BiLstm(width_out, width_out, 2, dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, H)."""
        return self.lstm(self.project(x), lengths)


class Mmgcn(Backbone):
    """MMGCN with the paper's encoders, or with SPCL's transformers."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(
            True,
            {"unified": 200, "hidden": 100, "layers": 4, "speaker_embedding": "text"},
            {**PUBLISHED, "lr": 3e-4, "weight_decay": 3e-5, "batch_size": 16, "epochs": 20},
            {
                "iemocap": {"class_weights": True},
                "meld": {"lr": 1e-3, "weight_decay": 0.0, "epochs": 60},
            },
        ),
        "spcl": Variant(
            True,
            {"unified": 256, "hidden": 256, "layers": 2, "speaker_embedding": "none"},
            {**SPCL, "lr": 1e-4, "epochs": 60, "patience": 20},
        ),
    }
    plugin_variant = "spcl"
    recipe: ClassVar[Mapping[str, object]] = variants["original"].recipe

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        unified, hidden = self.setting("unified"), self.setting("hidden")
        self.is_original = config.variant == "original"
        self.encoders = nn.ModuleDict(
            {name: self._encoder(name, dim, unified) for name, dim in self.stream_dims().items()}
        )
        self.speaking = self._speaking()
        refuse_idle("mmgcn", config, [(not self.speaking, "no speaker embedding", ("speakers",))])
        self.speaker: SpeakerVectors | None = None
        if self.speaking:
            self.speaker = SpeakerVectors(spec, unified, config.speakers)
        self.graph = Gcnii(
            unified, hidden, self.setting("layers"), config.dropout, config.alpha, config.decay
        )
        self.late_dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(unified + hidden, self.target.width) for name in spec.modalities}
        )

    def _encoder(self, name: str, width: int, unified: int) -> nn.Module:
        if not self.is_original:
            return ContextEncoder(width, unified, 2, self.config.dropout)
        if name == "text":
            return SequenceEncoder(width, unified, self.config.dropout)
        return nn.Linear(width, unified)

    def _speaking(self) -> frozenset[str]:
        """Modalities whose nodes know their speaker."""
        which = self.setting("speaker_embedding")
        if which not in ("text", "all", "none"):
            raise UserError(
                f"mmgcn: speaker_embedding is '{which}', expected 'text', 'all' or 'none'"
            )
        if self.config.speaker_embedding == "text" and "text" not in self.spec.modalities:
            raise UserError(
                "mmgcn: speaker_embedding is 'text', but there is no text; take 'all' or leave it "
                "out"
            )
        if which == "all":
            return frozenset(self.spec.modalities)
        return frozenset({"text"} & set(self.spec.modalities)) if which == "text" else frozenset()

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, unified + hidden) per modality."""
        nodes = torch.stack(
            [self._nodes(name, x, batch) for name, x in self.streams(batch).items()], 2
        )
        exists = torch.stack([votes(batch, name) for name in self.spec.modalities], 2)
        states = self.graph.run(nodes, exists, batch.mask)
        if self.is_original:
            states = torch.relu(self.late_dropout(states))
        return dict(zip(self.spec.modalities, states.unbind(2), strict=True))

    def _nodes(self, name: str, x: Tensor, batch: Batch) -> Tensor:
        """(B, U, unified) of one modality."""
        encoder = self.encoders[name]
        if isinstance(encoder, ContextEncoder):
            nodes = encoder(x, visible(batch, name))
        elif isinstance(encoder, SequenceEncoder):
            nodes = encoder(x, batch.lengths)
        else:
            nodes = encoder(x)
        if self.speaker is not None and name in self.speaking:
            nodes = nodes + self.speaker(batch)
        return nodes

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """What turns a modality into nodes."""
        return [self.encoders[stream]]


METHOD = Mmgcn
