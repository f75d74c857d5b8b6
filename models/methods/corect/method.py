"""CORECT: a relational temporal graph beside pairwise cross-modal transformers.

Paper: Nguyen et al., "Conversation Understanding using Relational Temporal Graph Neural Networks
with Auxiliary Cross-Modality Interaction", EMNLP 2023.
Reference code: leson502/CORECT_EMNLP2023 at 96ad012; it carries no licence, so everything here is
written from a description of the computation and checked by counts and small worked examples.

What we changed and why:

* Padding is masked in the text encoder and in the cross-modal attention. The reference masks
  neither, so its logits depend on the other dialogues of a batch. ``mask_padding=False`` brings
  that back.
* The reference sends messages the wrong way round through its windows and leaves out one
  utterance: with (11, 5) a node hears 4 earlier and 11 later ones. ``window_semantics`` keeps this
  for reproduction (``official``); with ``paper`` the two numbers are (earlier, later) as written.
* Absent modalities: the encoding of an absent cell is 0 before the speaker vector is added; its
  node hears the others but sends to nobody except itself, and cross-modal attention skips it.
* Graphs are dense masks per relation; there is no edge list and no scatter.
* No unused layers: the reference also allocates two heads that nothing reads.
* Biases and norms are not decayed; the reference decays everything, by 1e-8
  (``decay_vectors: true``).
* Features are standardised on the training split; the reference takes them as they are.

Speakers: a vector for each index within the dialogue; ``speakers: corpus`` adds one for each
person of the training rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch
from models.errors import UserError
from models.layers.ragged import Ragged
from models.layers.recurrent import BiLstm
from models.layers.speakers import Speakers, SpeakerVectors, check_speakers
from models.layers.transformer import DialogueTransformer
from models.method import Method, Spec, is_known
from models.methods.corect.cross_modal import CrossModalBranch
from models.methods.corect.graph import Edges, GraphBranch
from models.options import refuse_idle

#: Node order of the reference; it only permutes relation ids.
ORDER = ("text", "audio", "video")
TEXT_HEADS = tuple(range(7, 15))


@dataclass(frozen=True)
class Config:
    """Hyperparameters and ablations of CORECT.

    Attributes:
        width: width of every encoding.
        dropout: rate in the text encoder and before the head.
        text_encoder: ``transformer``, ``lstm`` (two bidirectional layers) or ``ffn``.
        feedforward: inner width of the text transformer's feed-forward blocks.
        window: two numbers that ``window_semantics`` explains; -1 = unlimited.
        window_semantics: ``official``: (later heard, earlier heard + 1), as the reference
            computes; ``paper``: (earlier heard, later heard).
        edges: which edges the graph has; ``cross`` keeps self loops, ``temporal`` drops the edges
            between modalities.
        graph_heads: heads of the graph transformer.
        pair_layers: layers of each cross-modal stack.
        self_layers: layers of each self-attention stack after it.
        cross_heads: heads of both.
        use_graph: keep the graph branch.
        use_graph_transformer: keep the graph transformer after the relational convolution.
        use_cross_modal: keep the pairwise cross-modal branch.
        use_speaker: add the speaker vector.
        speaker_scale: factor of the speaker vector.
        speakers: vectors by index within the ``dialogue``, or also by person of the ``corpus``.
        mask_padding: False = attend to padding, as the reference does.
        class_weights: weight of each class in the loss, ``category`` only; empty = 1.
    """

    width: int = 100
    dropout: float = 0.5
    text_encoder: Literal["transformer", "lstm", "ffn"] = "transformer"
    feedforward: int = 2048
    window: tuple[int, int] = (11, 5)
    window_semantics: Literal["official", "paper"] = "official"
    edges: Edges = "temporal_cross"
    graph_heads: int = 7
    pair_layers: int = 2
    self_layers: int = 3
    cross_heads: int = 2
    use_graph: bool = True
    use_graph_transformer: bool = True
    use_cross_modal: bool = True
    use_speaker: bool = True
    speaker_scale: float = 1.0
    speakers: Speakers = "dialogue"
    mask_padding: bool = True
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        choices = {
            "text_encoder": ("transformer", "lstm", "ffn"),
            "window_semantics": ("official", "paper"),
            "edges": ("temporal_cross", "temporal", "cross"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"corect: {name} is '{getattr(self, name)}'; use one of {', '.join(allowed)}"
                )
        check_speakers("corect", self.speakers)
        if len(self.window) != 2 or min(self.window) < -1:
            raise UserError(f"corect: window is {self.window}; give two numbers of at least -1")
        if self.window_semantics == "official" and self.window[1] == 0:
            raise UserError(
                "corect: the second number of an official window counts one more than the "
                "utterances heard; use 1 for none"
            )
        window, cross = (
            ("window", "window_semantics"),
            ("pair_layers", "self_layers", "cross_heads"),
        )
        graph = (*window, "edges", "graph_heads", "use_graph_transformer")
        masks_nothing = self.text_encoder != "transformer" and not self.use_cross_modal
        rules = [
            (
                self.text_encoder != "transformer",
                f"text_encoder: {self.text_encoder}",
                ("feedforward",),
            ),
            (not self.use_graph, "use_graph: false", graph),
            (not self.use_graph_transformer, "use_graph_transformer: false", ("graph_heads",)),
            (self.edges == "cross", "edges: cross", window),
            (not self.use_cross_modal, "use_cross_modal: false", cross),
            (not self.use_speaker, "use_speaker: false", ("speaker_scale", "speakers")),
            (masks_nothing, "neither text transformer nor cross-modal branch", ("mask_padding",)),
        ]
        refuse_idle("corect", self, rules)

    @property
    def heard(self) -> tuple[int, int]:
        """(earlier, later) utterances that a node hears; -1 = all."""
        first, second = self.window
        if self.window_semantics == "paper":
            return first, second
        return (second - 1 if second > 0 else -1), first


class TextEncoder(nn.Module):
    """Text in its dialogue: transformer or bidirectional LSTM, then width D."""

    def __init__(self, dim: int, config: Config) -> None:
        super().__init__()
        self.mask_padding = config.mask_padding
        self.lstm: BiLstm | None = None
        if config.text_encoder == "lstm":
            self.lstm = BiLstm(dim, config.width, layers=2, dropout=config.dropout)
        else:
            self.transformer = DialogueTransformer(
                dim, TEXT_HEADS, 2, config.dropout, config.feedforward
            )
            self.project = nn.Linear(dim, config.width)

    def forward(self, x: Tensor, present: Tensor, mask: Tensor) -> Tensor:
        """(B, U, D_text) to (B, U, D); present and mask are (B, U) bool."""
        if self.lstm is not None:
            return self.lstm(x, mask.sum(1))
        attended = present if self.mask_padding else torch.ones_like(mask)
        return self.project(self.transformer(x, attended))


class UtteranceEncoder(nn.Module):
    """Two linear layers with ReLU on every utterance alone."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, x: Tensor, present: Tensor, mask: Tensor) -> Tensor:
        """(B, U, D_in) to (B, U, D)."""
        return self.layers(x)


class Corect(Method):
    """Graph branch and cross-modal branch side by side, joined before the head."""

    class_weights: Tensor
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "adam",
        "lr": 2.5e-4,
        "weight_decay": 1e-8,
        "batch_size": 10,
        "epochs": 50,
        "patience": 0,
        "clip_norm": 0.0,
        "scheduler": "plateau",
        "plateau_on": "loss",
        "plateau_factor": 0.1,
        "plateau_patience": 10,
    }

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.order = tuple(name for name in ORDER if name in spec.dims)
        count = len(self.order)
        self.encoders = nn.ModuleDict(
            {
                name: TextEncoder(spec.dims[name], config)
                if name == "text" and config.text_encoder != "ffn"
                else UtteranceEncoder(spec.dims[name], config.width)
                for name in self.order
            }
        )
        self.speaker: SpeakerVectors | None = None
        if config.use_speaker:
            self.speaker = SpeakerVectors(spec, config.width, config.speakers)
        self.graph: GraphBranch | None = None
        if config.use_graph:
            heads = config.graph_heads if config.use_graph_transformer else 0
            self.graph = GraphBranch(count, config.width, heads, config.edges, config.heard)
        self.cross_modal: CrossModalBranch | None = None
        if config.use_cross_modal and count > 1:
            self.cross_modal = CrossModalBranch(
                count, config.width, config.cross_heads, config.pair_layers, config.self_layers
            )
        branches = [branch for branch in (self.graph, self.cross_modal) if branch is not None]
        joined = sum(branch.width_out for branch in branches) or count * config.width
        self.fuse = nn.Sequential(
            nn.Linear(joined, config.width), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.heads = nn.ModuleDict(
            {target.name: nn.Linear(config.width, target.width) for target in spec.targets}
        )
        weights = torch.tensor(config.class_weights)
        for target in spec.targets:
            if len(weights) and (target.kind != "category" or target.width != len(weights)):
                raise UserError(
                    f"corect: class_weights has {len(weights)} numbers, but target "
                    f"'{target.name}' is of kind {target.kind} with {target.width} outputs"
                )
        self.register_buffer("class_weights", weights, persistent=False)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values; 0 on padding."""
        mask = batch.mask
        present = torch.stack([batch.present[name] & mask for name in self.order], 1)
        encoded = self.encode(batch, present)
        real = Ragged(mask)
        rows = []
        if self.graph is not None:
            rows.append(self.graph(encoded, present, mask))
        if self.cross_modal is not None:
            rows.append(self.pair_rows(encoded, present, real))
        if not rows:
            rows.append(real.pack(rearrange(encoded, "b m u d -> b u (m d)")))
        fused = self.fuse(torch.cat(rows, -1))
        return {name: real.unpack(head(fused)) for name, head in self.heads.items()}

    def encode(self, batch: Batch, present: Tensor) -> Tensor:
        """Each modality at width D with the speaker vector added: (B, M, U, D)."""
        streams = []
        for place, name in enumerate(self.order):
            here = present[:, place]
            absent = (batch.mask & ~here).unsqueeze(-1)
            features = batch.features[name].masked_fill(absent, 0.0)
            encoded = self.encoders[name](features, here, batch.mask)
            streams.append(encoded.masked_fill(absent, 0.0))
        x = torch.stack(streams, 1)
        if self.speaker is None:
            return x
        return x + self.config.speaker_scale * self.speaker(batch).unsqueeze(1)

    def pair_rows(self, encoded: Tensor, present: Tensor, real: Ragged) -> Tensor:
        """Cross-modal branch on the real utterances: (L, D * M * (M - 1)) rows."""
        assert self.cross_modal is not None
        x = rearrange(encoded, "b m u d -> b u m d")
        if self.config.mask_padding:
            return self.cross_modal(real.pack(x), present, real)
        everything = Ragged(torch.ones_like(real.mask))
        rows = self.cross_modal(everything.pack(x), torch.ones_like(present), everything)
        return real.pack(everything.unpack(rows))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy (or the target's plain loss), weighted by class where configured."""
        if not self.config.class_weights:
            return super().losses(batch)
        outputs = self.predict(batch)
        return {name: self.weighted_loss(name, outputs[name], batch) for name in outputs}

    def loss_units(self, batch: Batch) -> dict[str, Tensor]:
        """Labelled cells, or the sum of their classes' weights."""
        if not self.config.class_weights:
            return super().loss_units(batch)
        return {
            target.name: self.class_weights[
                batch.targets[target.name][is_known(target, batch)]
            ].sum()
            for target in self.spec.targets
        }

    def weighted_loss(self, name: str, output: Tensor, batch: Batch) -> Tensor:
        """Weighted mean of the cross-entropies of the labelled utterances."""
        truth = batch.targets[name].masked_fill(~batch.mask, -1)
        if not (truth >= 0).any():
            return output.sum() * 0.0
        return F.cross_entropy(
            output.flatten(0, 1), truth.flatten(), self.class_weights, ignore_index=-1
        )


METHOD = Corect
