"""bc-LSTM: contextual LSTM over the utterances of a conversation.

Paper: Poria et al., "Context-dependent sentiment analysis in user-generated videos", ACL 2017.
Reference code: declare-lab/conv-emotion, read; nothing copied.
Licence of the reference: MIT.
What we changed and why:
    - sequences are packed, so padding never enters the recurrence;
    - ``original`` concatenates the modalities; ``streams`` gives each its own LSTM and sums the
      votes, which is what balancing plug-ins need;
    - ``hierarchical`` is the paper's two-stage form. The paper trains the unimodal networks first
      and the fusing one on their frozen activations; here the fusing network learns on detached
      activations at the same time, which ends in the same two optimisation problems. Adam takes
      Adadelta's place, and patience follows the validation score, not its loss;
    - the attention over the dialogue is off by default, as in the conversational baseline.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.backbone import JOINT, PUBLISHED, Backbone, BackboneConfig, Variant, visible
from models.batch import Batch
from models.layers.recurrent import BiLstm
from models.layers.sequence import MatchingAttention
from models.method import Spec

RECIPE = {**PUBLISHED, "lr": 1e-4, "weight_decay": 1e-5, "batch_size": 32, "epochs": 60}


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of bc-LSTM.

    Attributes:
        hidden: units per direction; None takes 100, or the paper's 300 for ``hierarchical``.
        layers: stacked LSTM layers; ``hierarchical`` has one and refuses others.
        dropout: between layers and before the head; ``hierarchical`` has the paper's rates.
        has_attention: let every utterance look at all states of its dialogue; not in
            ``hierarchical``.
    """

    hidden: int | None = None
    layers: int = 2
    dropout: float = 0.25
    has_attention: bool = False


class Context(nn.Module):
    """LSTM over the dialogue, optional attention, a hidden layer."""

    def __init__(self, width_in: int, hidden: int, config: Config) -> None:
        super().__init__()
        self.lstm = BiLstm(width_in, 2 * hidden, config.layers, config.dropout)
        self.attention = (
            MatchingAttention(2 * hidden, is_bounded=True) if config.has_attention else None
        )
        self.project = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor, seen: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, H)."""
        states = self.lstm(x, lengths)
        if self.attention is not None:
            states = self.attention(states, seen)
        return self.dropout(torch.relu(self.project(states)))


class Stage(nn.Module):
    """One network of the paper's hierarchy: LSTM, dropout, dense, dropout."""

    def __init__(
        self, width_in: int, hidden: int, width_out: int, rate_in: float, activation: nn.Module
    ) -> None:
        super().__init__()
        self.enter = nn.Dropout(rate_in)
        self.lstm = BiLstm(width_in, 2 * hidden)
        self.dropout = nn.Dropout(0.9)
        self.project = nn.Linear(2 * hidden, width_out)
        self.activation = activation

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, H) activations before the last dropout."""
        states = self.dropout(self.lstm(self.enter(x), lengths))
        return self.activation(self.project(states))


class BcLstm(Backbone):
    """bc-LSTM in its conversational, per-modality and hierarchical forms."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(False, {"hidden": 100}, RECIPE, {"iemocap": {}, "meld": {}}),
        "streams": Variant(True, {"hidden": 100}, RECIPE),
        "hierarchical": Variant(
            False,
            {"hidden": 300},
            RECIPE | {"batch_size": 10, "epochs": 200, "patience": 10},
            unused=frozenset({"layers", "dropout", "has_attention"}),
        ),
    }
    plugin_variant = "streams"
    recipe: ClassVar[Mapping[str, object]] = RECIPE

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        hidden, width = self.setting("hidden"), self.target.width
        self.is_hierarchical = config.variant == "hierarchical"
        if self.is_hierarchical:
            self.stages = nn.ModuleDict(
                {
                    name: Stage(spec.dims[name], hidden, 100, 0.6, nn.Tanh())
                    for name in spec.modalities
                }
            )
            self.probes = nn.ModuleDict({name: nn.Linear(100, width) for name in spec.modalities})
            self.fusion = Stage(100 * len(spec.modalities), hidden, 500, 0.4, nn.ReLU())
            self.late_dropout = nn.Dropout(0.9)
            self.heads = nn.ModuleDict({JOINT: nn.Linear(500, width)})
            return
        dims = self.stream_dims()
        self.contexts = nn.ModuleDict(
            {name: Context(dim, hidden, config) for name, dim in dims.items()}
        )
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, width) for name in dims})

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, 100) per stream."""
        if self.is_hierarchical:
            return {JOINT: self.fuse(self.activations(batch), batch)}
        return {
            name: self.contexts[name](x, batch.lengths, visible(batch, name))
            for name, x in self.streams(batch).items()
        }

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """The LSTM of a stream."""
        return [self.contexts[stream]]

    def activations(self, batch: Batch) -> dict[str, Tensor]:
        """First stage: (B, U, 100) per modality."""
        return {
            name: self.stages[name](x, batch.lengths) * batch.present[name].unsqueeze(-1)
            for name, x in self.inputs(batch).items()
        }

    def fuse(self, activations: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Second stage on frozen activations: (B, U, 500)."""
        frozen = torch.cat([values.detach() for values in activations.values()], -1)
        return self.late_dropout(self.fusion(frozen, batch.lengths))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The task's loss; ``hierarchical`` adds one per unimodal network."""
        if not self.is_hierarchical:
            return super().losses(batch)
        activations = self.activations(batch)
        output = self.decode({JOINT: self.fuse(activations, batch)}, batch)[JOINT]
        losses = {self.target.name: self.task_loss(output, batch)}
        if self.training:
            for name, values in activations.items():
                vote = self.probes[name](self.late_dropout(values))
                losses[f"{self.target.name}_{name}"] = self.task_loss(vote, batch)
        return losses

    def loss_units(self, batch: Batch) -> dict[str, Tensor]:
        """The same for all: every network learns from all labelled utterances."""
        names = [self.target.name, *(f"{self.target.name}_{m}" for m in self.spec.modalities)]
        return dict.fromkeys(names, self.task_units(batch))


METHOD = BcLstm
