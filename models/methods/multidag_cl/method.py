"""MultiDAG + CL: a directed acyclic graph network over a dialogue, taught from calm to stormy.

Paper: Nguyen et al., "Curriculum Learning Meets Directed Acyclic Graph for Multimodal Emotion
Recognition", LREC-COLING 2024; the network is DAG-ERC's (Shen et al., ACL 2021).
Reference code: vanntc711/MultiDAG-CL at 59a7587, a fork of shenwzh3/DAG-ERC; the former carries
no licence, so everything here is written from a description of the computation.

What we changed and why:

* Weights are chosen on validation data by the trainer; the reference keeps the best test epoch.
* Unlabelled utterances are left out of the label sequences that difficulty is counted on; the
  reference counts "none" as a label (``unlabelled_is_a_class=True``).
* The number of buckets is what the data fill: 20 dialogues in 12 buckets make 10, where the
  reference fails.
* The layers that the reference allocates and never uses are not there.
* AdamW divides by sqrt(v) + 1e-8, torch's default; the reference's optimiser, of an old
  ``transformers``, by sqrt(v) + 1e-6, which slows weights whose gradients are that small.
* Features are standardised on the training split; the reference takes them as they are.
* Absent modalities stand as 0 in the concatenation, also after the optional modality encoders.
* All products of a layer that do not wait for earlier utterances are computed for the whole
  dialogue at once; the recurrence runs in ``dag.py`` with its own backward pass.

Speakers: whether two utterances of a dialogue have the same one; there are no vectors of speakers.

Curriculum needs a ``category`` target; for other kinds all dialogues are used from the start.

Known property, kept: attention is a softmax over h_j scores plus a term of the query alone, which
cancels. The query's half of the attention weights and the bias therefore never change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.errors import UserError
from models.layers.graph import masked_softmax
from models.method import Data, Method, Spec
from models.methods.multidag_cl.dag import DagLayer, Schedule
from models.options import refuse_idle


@dataclass(frozen=True)
class Config:
    """Hyperparameters, ablations and curriculum of MultiDAG + CL.

    Attributes:
        width: width of utterance states.
        layers: graph layers.
        dropout: rate before the head.
        window: same-speaker utterances after which the look back stops.
        modality_encoders: project every modality to ``width`` before concatenation.
        nodal_attention: let utterances attend to each other before the head; ``past`` stays
            causal, ``all`` does not.
        curriculum: train on calm dialogues first.
        buckets: stages of the curriculum; one is added per epoch.
        unlabelled_is_a_class: count "none" as a label in emotion shifts, as the reference does.
    """

    width: int = 300
    layers: int = 4
    dropout: float = 0.4
    window: int = 1
    modality_encoders: bool = False
    nodal_attention: Literal["none", "past", "all"] = "none"
    curriculum: bool = True
    buckets: int = 12
    unlabelled_is_a_class: bool = False

    def __post_init__(self) -> None:
        if self.nodal_attention not in ("none", "past", "all"):
            raise UserError(
                f"multidag_cl: nodal_attention is '{self.nodal_attention}'; "
                "use one of none, past, all"
            )
        for name in ("window", "buckets", "layers"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"multidag_cl: {name} is {getattr(self, name)}; at least 1 is needed"
                )
        idle = ("buckets", "unlabelled_is_a_class")
        refuse_idle("multidag_cl", self, [(not self.curriculum, "curriculum: false", idle)])


def same_speaker(speakers: Tensor, mask: Tensor) -> Tensor:
    """(B, U) ids to (B, U, U) bool: both real and of one speaker."""
    real = mask[:, :, None] & mask[:, None, :]
    return real & (speakers[:, :, None] == speakers[:, None, :])


def dag_edges(speakers: Tensor, mask: Tensor, window: int = 1) -> Tensor:
    """Whom each utterance looks back to: everybody until its own speaker's ``window``-th turn.

    Args:
        speakers: (B, U) long.
        mask: (B, U) bool.
        window: own earlier turns included.

    Returns:
        (B, U, U) bool, [target, source].
    """
    own = same_speaker(speakers, mask).tril(-1)
    # own turns strictly between source and target: those from the source on, less the source
    between = own.long().flip(-1).cumsum(-1).flip(-1) - own.long()
    real = (mask[:, :, None] & mask[:, None, :]).tril(-1)
    return real & (between < window)


def emotion_shifts(
    labels: Tensor, speakers: Tensor, mask: Tensor, unlabelled_is_a_class: bool = False
) -> Tensor:
    """(B,) long: turns whose label differs from the same speaker's turn before, per dialogue.

    Args:
        labels: (B, U) long, -1 = none.
        speakers: (B, U) long.
        mask: (B, U) bool.
        unlabelled_is_a_class: compare -1 as well instead of skipping those turns.
    """
    counted = mask if unlabelled_is_a_class else mask & (labels >= 0)
    before = same_speaker(speakers, counted).tril(-1)
    place = torch.arange(labels.shape[1], device=labels.device)
    last = torch.where(before, place, -1).amax(-1)  # (B, U), -1 = first turn
    changed = labels != labels.gather(1, last.clamp(min=0))
    return (changed & (last >= 0)).sum(1)


def difficulty(
    labels: Tensor, speakers: Tensor, mask: Tensor, unlabelled_is_a_class: bool = False
) -> Tensor:
    """(B,) float64 in (0, 1]: (shifts + speakers) / (utterances + speakers) of each dialogue."""
    shifts = emotion_shifts(labels, speakers, mask, unlabelled_is_a_class)
    is_first_turn = mask & ~same_speaker(speakers, mask).tril(-1).any(-1)
    people = is_first_turn.sum(1)
    return (shifts + people).double() / (mask.sum(1) + people)


def bucket_sizes(items: int, buckets: int) -> list[int]:
    """Sizes of consecutive buckets of ceil(items / buckets); may be fewer than ``buckets``."""
    size = -(-items // buckets)
    return [min(size, items - start) for start in range(0, items, size)]


class NodalAttention(nn.Module):
    """Bilinear attention between utterances: softmax of tanh, renormalised within reach."""

    def __init__(self, width: int, is_causal: bool) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.transform = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, U, D), (B, U) bool -> (B, U, D)."""
        allowed = mask[:, :, None] & mask[:, None, :]
        if self.is_causal:
            allowed = allowed.tril()
        return masked_softmax(torch.tanh(self.transform(x) @ x.mT), allowed) @ x


class MultiDagCl(Method):
    """Graph layers over the concatenated features; every layer and the input reach the head."""

    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "adamw",
        "lr": 5e-4,
        "weight_decay": 0.0,
        "batch_size": 16,
        "epochs": 30,
        "patience": 0,
        "clip_norm": 5.0,
    }

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        width = config.width
        self.encoders: nn.ModuleDict | None = None
        joined = sum(spec.dims.values())
        if config.modality_encoders:
            self.encoders = nn.ModuleDict(
                {
                    name: nn.Sequential(nn.Linear(dim, width), nn.ReLU())
                    for name, dim in spec.dims.items()
                }
            )
            joined = width * len(spec.dims)
        self.enter = nn.Sequential(nn.Linear(joined, width), nn.ReLU())
        self.layers = nn.ModuleList(DagLayer(width) for _ in range(config.layers))
        gathered = width * (config.layers + 1) + joined
        self.nodal: NodalAttention | None = None
        if config.nodal_attention != "none":
            self.nodal = NodalAttention(gathered, config.nodal_attention == "past")
        self.read = nn.Sequential(
            nn.Linear(gathered, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.heads = nn.ModuleDict({t.name: nn.Linear(width, t.width) for t in spec.targets})
        self._order: list[int] | None = None

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values, from earlier utterances only; 0 on padding."""
        same = same_speaker(batch.speakers, batch.mask)
        edges = dag_edges(batch.speakers, batch.mask, self.config.window)
        walk = Schedule(batch.mask, edges, same)
        x = self.joined(batch, walk)
        states = [self.enter(x)]
        for layer in self.layers:
            states.append(layer(states[-1], walk))
        gathered = torch.cat([*states, x], -1)  # (L, H * (layers + 1) + D)
        if self.nodal is not None:
            gathered = walk.pack(self.nodal(walk.unpack(gathered), batch.mask))
        read = self.read(gathered)
        return {name: walk.unpack(head(read)) for name, head in self.heads.items()}

    def joined(self, batch: Batch, walk: Schedule) -> Tensor:
        """All modalities side by side, 0 where absent: (L, D) rows."""
        parts = []
        for name in self.spec.modalities:
            absent = ~walk.pack(batch.present[name].unsqueeze(-1))
            part = walk.pack(batch.features[name]).masked_fill(absent, 0.0)
            if self.encoders is not None:
                part = self.encoders[name](part).masked_fill(absent, 0.0)
            parts.append(part)
        return torch.cat(parts, -1)

    def prepare(self, train: Data) -> None:
        """Statistics of the features; forgets the order of another data set."""
        super().prepare(train)
        self._order = None

    def whole_from(self, train: Data) -> int:
        """The epoch of the last bucket."""
        has_classes = any(t.kind == "category" for t in self.spec.targets)
        if not (self.config.curriculum and has_classes):
            return 1
        return len(bucket_sizes(len(train), self.config.buckets))

    def on_epoch(self, epoch: int, train: Data) -> Sequence[int] | None:
        """The calmest buckets, one more each epoch; all dialogues once every bucket is in."""
        target = next((t for t in self.spec.targets if t.kind == "category"), None)
        if not self.config.curriculum or target is None:
            return None
        sizes = bucket_sizes(len(train), self.config.buckets)
        if epoch >= len(sizes):
            return None
        if self._order is None:
            self._order = self.calm_first(train, target.name)
        return self._order[: sum(sizes[:epoch])]

    def calm_first(self, train: Data, target: str, chunk: int = 64) -> list[int]:
        """Dialogues by rising difficulty; equals keep their order."""
        parts = []
        for start in range(0, len(train), chunk):
            batch = train.batch(range(start, min(start + chunk, len(train))))
            parts.append(
                difficulty(
                    batch.targets[target],
                    batch.speakers,
                    batch.mask,
                    self.config.unlabelled_is_a_class,
                )
            )
        return torch.argsort(torch.cat(parts), stable=True).tolist()


METHOD = MultiDagCl
