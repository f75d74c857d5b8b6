"""Method ``haemsa``: a hierarchy of experts over modalities, its shape found by evolution.

After Qin, Liu and Zong, "Hierarchical Adaptive Expert for Multimodal Sentiment Analysis" (arXiv
2503.22715). Only the abstract was open to us and the promised code was not found, so this is a
design of our own that has every part named there: local experts for each modality, experts that
all share, experts for combinations, knowledge transfer between modalities, several tasks, full and
partial modalities, and a genome for the evolution (``genome.py``, stage ``search``).
No constant here is the authors'.

Tasks: all targets are trained in one network. The main one is the first there is of sentiment,
category, categories, vad and emi, with weight 1. The others are second tasks: together they weigh
``weight_second`` of the genome (its mean over them). With weight 0 they do not shape the network:
their towers learn from it as from fixed features, so that what they predict is still honest.
Missing labels are left out of every loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from models.batch import Batch, Target
from models.evolution import GenomeSpace
from models.layers.tokens import masked_mean, packed_left
from models.method import Data, Method, Spec
from models.methods.haemsa.blocks import Mixture, SharedMixture, Stem, TopFusion, some_modalities
from models.methods.haemsa.experts import Gates, TransformerLayer, imbalance
from models.methods.haemsa.genome import COMBINATIONS, DEFAULT, SPACE, checked, decode
from models.methods.haemsa.losses import (
    class_weights,
    known_rows,
    masked_average,
    orthogonality,
    row_losses,
    task_loss,
    teacher_weights,
    transfer,
)
from models.options import refuse_idle

#: Which target is the main one, if it is there.
MAIN_FIRST = ("sentiment", "category", "categories", "vad", "emi")


@dataclass(frozen=True)
class Config:
    """Options of HAEMSA.

    Attributes:
        genome: 23 indices into the choices of ``models.methods.haemsa.genome``.
        max_frames: longer sequences are strided to so many frames; 0 = all.
        partial: train on random subsets of the modalities as well.
        no_hierarchy: leave out shared and combination experts.
        no_transfer: no knowledge transfer.
        single_task: second tasks do not shape the network.
        no_shared: leave out the shared experts.
        no_router: equal weights for all experts of a group.
        weight_unimodal: of the losses of each modality alone.
        weight_balance: of keeping routers even.
        temperature: softens outputs that are transferred.
        teacher_temperature: smaller listens more to the best other modality.
    """

    genome: tuple[int, ...] = DEFAULT
    max_frames: int = 128
    partial: bool = True
    no_hierarchy: bool = False
    no_transfer: bool = False
    single_task: bool = False
    no_shared: bool = False
    no_router: bool = False
    weight_unimodal: float = 0.2
    weight_balance: float = 0.01
    temperature: float = 2.0
    teacher_temperature: float = 0.5

    def __post_init__(self) -> None:
        rules = [
            (self.no_hierarchy, "no_hierarchy: true", ("no_shared",)),
            (self.no_router, "no_router: true", ("weight_balance",)),
            (self.no_transfer, "no_transfer: true", ("temperature", "teacher_temperature")),
        ]
        refuse_idle("haemsa", self, rules)


@dataclass(frozen=True)
class State:
    """What the levels give for N utterances and M modalities.

    Attributes:
        rows: (N,) place of each utterance in the flattened batch.
        available: (N, M) bool.
        local: (N, M, D); 0 where absent.
        shared: (N, M, D), or None without shared experts.
        fused: (N, D).
        gates: what each router decided, with the rows it was asked about.
    """

    rows: Tensor
    available: Tensor
    local: Tensor
    shared: Tensor | None
    fused: Tensor
    gates: list[tuple[Gates, Tensor]]


class Haemsa(Method):
    """Local, shared and combination experts under one fusion, with a tower for each target."""

    level = "utterance"
    needs = frozenset({"pooled", "frames"})
    is_joint = True
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "adamw", "lr": 5e-4, "weight_decay": 1e-2, "batch_size": 32, "clip_norm": 1.0,
        "scheduler": "cosine", "warmup": 0.05, "epochs": 50, "patience": 8,
    }  # fmt: skip
    #: What the stage ``search`` may evolve.
    genome_space: ClassVar[GenomeSpace] = SPACE

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.plan = plan = decode(checked(config.genome))
        self.epoch = 1
        names, width = spec.modalities, plan.width
        order = [t for name in MAIN_FIRST for t in spec.targets if t.name == name]
        self.main: Target = (order or list(spec.targets))[0]
        second = 0.0 if config.single_task else plan.weight_second
        others = max(1, len(spec.targets) - 1)
        #: Share of each target in what shapes the network.
        self.shares = {t.name: second / others for t in spec.targets} | {self.main.name: 1.0}

        self.stems = nn.ModuleDict(
            {m: Stem(self._input_width(m), width, plan.dropout) for m in names}
        )
        learns = not config.no_router
        self.local = nn.ModuleDict({m: Mixture(plan.local(m), plan, learns) for m in names})
        is_hierarchy = not config.no_hierarchy
        has_shared = is_hierarchy and not config.no_shared
        self.shared = SharedMixture(len(names), plan, learns) if has_shared else None
        self.combinations = nn.ModuleDict(
            {
                "+".join(members): TransformerLayer(width, plan.dropout)
                for members in plan.combinations
                if is_hierarchy and set(members) <= set(names)
            }
        )
        self.fusion = TopFusion(plan)
        self.towers = nn.ModuleDict(
            {
                t.name: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, t.width))
                for t in spec.targets
            }
        )
        self.heads = nn.ModuleDict(
            {t.name: nn.ModuleList(nn.Linear(width, t.width) for _ in names) for t in spec.targets}
        )
        for target in spec.targets:
            self.register_buffer(f"class_weight_{target.name}", torch.ones(target.width))

    def _input_width(self, modality: str) -> int:
        return self.spec.frame_dims.get(modality, self.spec.dims[modality])

    def prepare(self, train: Data) -> None:
        """Statistics of the features and frequencies of the classes."""
        super().prepare(train)
        labels: dict[str, list[Tensor]] = {t.name: [] for t in self.spec.targets}
        for start in range(0, len(train), 64):
            batch = train.batch(range(start, min(start + 64, len(train))))
            for name, found in labels.items():
                found.append(batch.targets[name][batch.mask])
        for target in self.spec.targets:
            weight = class_weights(target, torch.cat(labels[target.name]))
            self._class_weight(target).copy_(weight)

    def on_epoch(self, epoch: int, train: Data) -> None:
        """Remember the epoch: transfer begins when there is something to teach."""
        self.epoch = epoch

    def apart(self) -> list[list[nn.Parameter]]:
        """Towers and heads of targets that do not shape the network."""
        return [
            [*self.towers[name].parameters(), *self.heads[name].parameters()]
            for name, share in self.shares.items()
            if share == 0
        ]

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values."""
        state = self.encode(batch)
        return {
            name: _placed(tower(state.fused), state.rows, batch.mask)
            for name, tower in self.towers.items()
        }

    def unimodal(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """What each modality alone says: target to modality to (B, U, W), 0 where absent."""
        state = self.encode(batch)
        return {
            t.name: {
                m: _placed(found[:, i] * state.available[:, i : i + 1], state.rows, batch.mask)
                for i, m in enumerate(self.spec.modalities)
            }
            for t in self.spec.targets
            for found in [self._alone(t, state.local)]
        }

    def encode(self, batch: Batch) -> State:
        """Stems, local and shared experts, combinations and fusion, in this order."""
        rows = batch.mask.flatten().nonzero().squeeze(1)
        tokens, masks = self._tokens(batch, rows)
        available = torch.stack([mask.any(1) for mask in masks], 1)
        local, gates = self._local(tokens, masks, available)
        shared = None
        if self.shared is not None:
            shared, gate = self.shared.of_all(tokens, masks)
            gates.append((gate, available))
        fused = self.fusion(*self._slots(local, shared, available))
        return State(rows, available, local, shared, fused, gates)

    def _tokens(self, batch: Batch, rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        tokens, masks = [], []
        for modality in self.spec.modalities:
            if batch.frames is not None and modality in self.spec.frame_dims:
                frames = batch.frames[modality]
                values, mask = frames.values.flatten(0, 1)[rows], frames.mask.flatten(0, 1)[rows]
                mask = mask & batch.present[modality].flatten()[rows].unsqueeze(1)
            else:  # no sequences: the pooled vector is the only token
                values = batch.features[modality].flatten(0, 1)[rows].unsqueeze(1)
                mask = batch.present[modality].flatten()[rows].unsqueeze(1)
            values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
            values, mask = packed_left(values, mask)
            tokens.append(self.stems[modality](values))
            masks.append(mask)
        return tokens, masks

    def _local(
        self, tokens: list[Tensor], masks: list[Tensor], available: Tensor
    ) -> tuple[Tensor, list[tuple[Gates, Tensor]]]:
        found, gates = [], []
        for i, modality in enumerate(self.spec.modalities):
            here = available[:, i].nonzero().squeeze(1)
            place = tokens[i].new_zeros(len(available), self.plan.width)
            if len(here):
                answer, gate = self.local[modality](tokens[i][here], masks[i][here])
                place = place.to(answer.dtype).index_copy(0, here, answer)
                gates.append((gate, torch.ones_like(here, dtype=torch.bool)))
            found.append(place)
        return torch.stack(found, 1), gates

    def _slots(
        self, local: Tensor, shared: Tensor | None, available: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Slots (N, 8, D) of the fusion and which are available (N, 8)."""
        names = self.spec.modalities
        nothing = torch.zeros_like(local[:, 0])
        never = torch.zeros_like(available[:, 0])
        slots, usable = [], []
        for modality in ("text", "audio", "video"):
            place = names.index(modality) if modality in names else None
            slots.append(nothing if place is None else local[:, place])
            usable.append(never if place is None else available[:, place])
        count = available.sum(1, keepdim=True).clamp(min=1)
        slots.append(nothing if shared is None else shared.sum(1) / count)
        usable.append(never if shared is None else available.any(1))
        for members in COMBINATIONS:
            name = "+".join(members)
            if name not in self.combinations:
                slots.append(nothing)
                usable.append(never)
                continue
            places = [names.index(member) for member in members]
            everyone = available[:, places].all(1)
            mask = everyone.unsqueeze(1).expand(-1, len(places))
            slots.append(masked_mean(self.combinations[name](local[:, places], mask), mask))
            usable.append(everyone)
        return torch.stack(slots, 1), torch.stack(usable, 1)

    # training ---------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Tasks, each modality alone, transfer, shared against specific, even routers."""
        if self.training and self.config.partial:
            batch = batch.with_present(some_modalities(batch.present))
        state = self.encode(batch)
        truths = {
            t.name: batch.targets[t.name].flatten(0, 1)[state.rows] for t in self.spec.targets
        }
        losses: dict[str, Tensor] = {}
        alone, taught = [], []
        for target in self.spec.targets:
            share, truth = self.shares[target.name], truths[target.name]
            shapes = share > 0
            fused = self.towers[target.name](state.fused if shapes else state.fused.detach())
            single = self._alone(target, state.local if shapes else state.local.detach())
            weight = share if shapes else 1.0
            class_weight = self._class_weight(target)
            losses[target.name] = weight * task_loss(target, fused, truth, class_weight)
            alone.append(weight * self._alone_loss(target, single, truth, state.available))
            if shapes:
                taught.append(
                    share * self._transfer_loss(target, fused, single, truth, state.available)
                )
        losses["unimodal"] = self.config.weight_unimodal * torch.stack(alone).sum()
        if self._transfers:
            losses["transfer"] = self.plan.weight_transfer * torch.stack(taught).sum()
        if state.shared is not None and self.plan.weight_orthogonality > 0:
            losses["orthogonality"] = self.plan.weight_orthogonality * orthogonality(
                state.local, state.shared, state.available
            )
        uneven = [
            imbalance(gate.chances[rows].sum(0))
            for gate, rows in state.gates
            if gate.chances is not None and rows.any()
        ]
        if uneven:
            losses["balance"] = self.config.weight_balance * torch.stack(uneven).sum()
        return losses

    @property
    def _transfers(self) -> bool:
        is_wanted = not self.config.no_transfer and self.plan.weight_transfer > 0
        return is_wanted and self.epoch > 1

    def _class_weight(self, target: Target) -> Tensor:
        return cast(Tensor, getattr(self, f"class_weight_{target.name}"))

    def _alone(self, target: Target, local: Tensor) -> Tensor:
        """Outputs of the heads of each modality, (N, M, D) to (N, M, W)."""
        heads = cast(nn.ModuleList, self.heads[target.name])
        return torch.stack([head(local[:, i]) for i, head in enumerate(heads)], 1)

    def _alone_loss(
        self, target: Target, single: Tensor, truth: Tensor, available: Tensor
    ) -> Tensor:
        row, modality = available.nonzero(as_tuple=True)
        weight = self._class_weight(target)
        return task_loss(target, single[row, modality], truth[row], weight)

    def _transfer_loss(
        self, target: Target, fused: Tensor, single: Tensor, truth: Tensor, available: Tensor
    ) -> Tensor:
        """From the whole to each modality, and from better modalities to worse ones."""
        config = self.config
        if not self._transfers:
            return fused.new_zeros(())
        students = available & known_rows(target, truth).unsqueeze(1)  # (N, M)
        whole = fused.detach().unsqueeze(1).expand_as(single)
        from_whole = transfer(target, whole, single, config.temperature)
        with torch.no_grad():
            losses = torch.stack(
                [row_losses(target, single[:, i], truth) for i in range(single.shape[1])], 1
            )
            weights = teacher_weights(losses, students, config.teacher_temperature)
        pairs = transfer(
            target,
            single.detach().unsqueeze(1).expand(-1, single.shape[1], -1, -1),
            single.unsqueeze(2).expand(-1, -1, single.shape[1], -1),
            config.temperature,
        )  # (N, student, teacher)
        from_peers = (weights * pairs).sum(-1)
        has_teacher = weights.sum(-1) > 0
        return masked_average(from_whole, students) + masked_average(from_peers, has_teacher)


def _placed(rows: Tensor, index: Tensor, mask: Tensor) -> Tensor:
    """Rows (N, W) back to (B, U, W), 0 on padding."""
    return (
        rows.new_zeros(mask.numel(), rows.shape[1])
        .index_copy(0, index, rows)
        .unflatten(0, tuple(mask.shape))
    )


METHOD = Haemsa
