"""The contract of a backbone: a method whose output is the sum of one vote per modality.

Balancing plug-ins (``models/plugin.py``) compare and weigh modalities, so they need to see what
each modality says. A backbone therefore splits ``predict`` in two: ``encode`` gives the features
of each modality just before fusion, ``decode`` turns them into per-modality outputs whose sum is
the prediction. A variant of a network that mixes its modalities from the start has one stream
called ``joint``; it works alone, but not under a plug-in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch
from models.errors import UserError
from models.layers.balance import utterance_loss
from models.layers.ragged import attendable
from models.method import Data, Method, Spec, is_known, known_weight, target_loss

JOINT = "joint"
#: How the published scripts of all backbones but SPCL's optimise: no clipping, and decay on biases.
PUBLISHED: Mapping[str, object] = {
    "optimizer": "adam",
    "clip_norm": 0.0,
    "decay_vectors": True,
    "patience": 0,
}
#: How those of SPCL do.
SPCL: Mapping[str, object] = {**PUBLISHED, "weight_decay": 1e-8, "clip_norm": 2.0, "batch_size": 32}


@dataclass(frozen=True)
class Variant:
    """One published form of a backbone.

    Attributes:
        is_separable: True if every modality has its own output, as plug-ins need.
        settings: values for options that the user leaves at None.
        recipe: trainer settings published with this form.
        presets: corpus to the options and trainer settings published for it, where they differ from
            the others here; ``params/backbones.yaml`` has them as entries.
        unused: options that do nothing in this form; other values than the defaults are refused.
    """

    is_separable: bool
    settings: Mapping[str, object] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class BackboneConfig:
    """Options that every backbone has.

    Attributes:
        variant: which published form to build; the backbone's file lists them.
        class_weights: weigh classes by inverse training frequency (``category`` only).
        focal_gamma: exponent of the focal loss; 0 is cross-entropy (``category`` only).
        focal_detached: let no gradient through the focal factor (1 - p)^gamma, as the code of
            MM-DFN does; the loss has the same value.
    """

    variant: str = "original"
    class_weights: bool = False
    focal_gamma: float = 0.0
    focal_detached: bool = False


class Backbone(Method):
    """Base of backbones. Subclasses fill ``heads`` and write ``encode`` and ``encoder``."""

    #: Published forms by name.
    variants: ClassVar[Mapping[str, Variant]]
    #: The form that plug-ins get unless told otherwise; separable.
    plugin_variant: ClassVar[str]

    #: Final classifier of each stream (modality or ``joint``).
    heads: nn.ModuleDict

    def __init__(self, spec: Spec, config: BackboneConfig) -> None:
        super().__init__(spec, config)
        if config.variant not in self.variants:
            raise UserError(
                f"{type(self).__name__} has no variant '{config.variant}'; "
                f"it has: {', '.join(self.variants)}"
            )
        usual = type(config)()
        for name in sorted(self.variants[config.variant].unused):
            if getattr(config, name) != getattr(usual, name):
                raise UserError(
                    f"{name} does nothing in variant '{config.variant}' of {type(self).__name__}; "
                    "leave it out"
                )
        self.target = spec.targets[0]
        self.is_separable = self.variants[config.variant].is_separable
        if self.target.kind != "category" and (config.class_weights or config.focal_gamma > 0):
            raise UserError(
                f"class_weights and focal_gamma need a target of classes, but "
                f"'{self.target.name}' is a target of {self.target.kind}; leave both options out"
            )
        if config.focal_detached and not config.focal_gamma > 0:
            raise UserError(
                "focal_detached does nothing without a focal loss; leave it out or set focal_gamma"
            )
        self.register_buffer("class_weight", torch.ones(self.target.width))

    # --- what subclasses write -----------------------------------------------------------------

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Features of each stream just before fusion, (B, U, H_m)."""
        raise TypeError(f"{type(self).__name__} has no encode()")

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """The modules that only this stream uses, its head aside."""
        raise TypeError(f"{type(self).__name__} has no encoder()")

    def decode(self, features: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Outputs of each stream, (B, U, H_m) -> (B, U, C); absent modalities have no vote."""
        return {
            name: self.heads[name](values) * votes(batch, name).to(values.dtype).unsqueeze(-1)
            for name, values in features.items()
        }

    # --- what everybody gets -------------------------------------------------------------------

    @classmethod
    def learns_softly(cls, config: Any) -> bool:
        """Where the loss is the plain one."""
        return (
            cls.losses is Backbone.losses
            and not config.class_weights
            and not config.focal_gamma > 0
        )

    @classmethod
    def learns_offsets(cls, config: Any) -> bool:
        """Where no plug-in has losses of its own."""
        return cls.losses is Backbone.losses

    @classmethod
    def recipe_for(cls, config: Any) -> Mapping[str, object]:
        """The settings published with the variant that is chosen."""
        form = cls.variants.get(config.variant)
        return cls.recipe if form is None else form.recipe or cls.recipe

    def setting(self, name: str) -> Any:
        """An option, or the variant's published value where the user left it at None."""
        value = getattr(self.config, name)
        return self.variants[self.config.variant].settings[name] if value is None else value

    def stream_dims(self) -> dict[str, int]:
        """Input width of each stream."""
        if self.is_separable:
            return {name: self.spec.dims[name] for name in self.spec.modalities}
        return {JOINT: sum(self.spec.dims[name] for name in self.spec.modalities)}

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Features of each modality in use, (B, U, D); 0 where absent."""
        return {
            name: batch.features[name].masked_fill(~batch.present[name].unsqueeze(-1), 0.0)
            for name in self.spec.modalities
        }

    def streams(self, batch: Batch) -> dict[str, Tensor]:
        """Inputs of each stream, (B, U, D)."""
        features = self.inputs(batch)
        if self.is_separable:
            return features
        return {JOINT: torch.cat([features[name] for name in self.spec.modalities], -1)}

    def encoder_parameters(self, modality: str) -> list[nn.Parameter]:
        """Parameters that only this modality uses before fusion."""
        return [weight for module in self.encoder(modality) for weight in module.parameters()]

    def unimodal(self, batch: Batch) -> dict[str, Tensor]:
        """What each modality votes for, (B, U, C) each; their sum is the prediction."""
        return self.decode(self.encode(batch), batch)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of the votes."""
        return {self.target.name: joint(self.unimodal(batch))}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The task's loss by the target's name."""
        return {self.target.name: self.task_loss(self.outputs(batch)[self.target.name], batch)}

    def loss_units(self, batch: Batch) -> dict[str, Tensor]:
        """Labelled cells, or the sum of their classes' weights."""
        return {self.target.name: self.task_units(batch)}

    def task_units(self, batch: Batch) -> Tensor:
        """() what ``task_loss`` divides by."""
        known = is_known(self.target, batch)
        if self.config.class_weights and not self.config.focal_gamma > 0:
            weight = cast(Tensor, self.class_weight)
            return weight[batch.targets[self.target.name][known]].sum()
        return known.sum() if self.config.focal_gamma > 0 else known_weight(self.target, batch)

    def task_loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Plain, class-weighted or focal loss of an output (B, U, C) over labelled utterances."""
        weight = cast(Tensor, self.class_weight)
        if self.config.focal_gamma > 0:
            truth, known = batch.targets[self.target.name], is_known(self.target, batch)
            shape = self.config.focal_gamma, self.config.focal_detached
            return focal_loss(output[known], truth[known], weight, *shape)
        if self.config.class_weights:
            truth, known = batch.targets[self.target.name], is_known(self.target, batch)
            if not known.any():
                return output.sum() * 0.0
            return F.cross_entropy(output[known], truth[known], weight.to(output.dtype))
        return target_loss(self.target, output, batch)

    def utterance_losses(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """What ``task_loss`` is a mean of, for a target of classes.

        Args:
            output: (B, U, C) logits.
            batch: carries the labels.

        Returns:
            (B, U) weighted losses and (B, U) what each adds to the divisor; 0 where unlabelled.
        """
        loss, is_known = utterance_loss(self.target, output, batch)
        units = is_known.to(loss.dtype)
        truth = batch.targets[self.target.name].clamp(min=0)
        weight = cast(Tensor, self.class_weight).to(loss.dtype)[truth] * units
        if self.config.focal_gamma > 0:
            shape = self.config.focal_gamma, self.config.focal_detached
            return weight * focal_factor(-loss, *shape) * loss, units
        return weight * loss, weight

    def prepare(self, train: Data) -> None:
        """Statistics of the features and, if wanted, frequencies of the classes."""
        super().prepare(train)
        if self.config.class_weights:
            counts = torch.zeros(self.target.width)
            for start in range(0, len(train), 256):
                batch = train.batch(range(start, min(start + 256, len(train))))
                truth = batch.targets[self.target.name]
                known = truth[batch.mask & (truth >= 0)]
                counts += torch.bincount(known, minlength=self.target.width)
            # A class that never occurs gets weight 0: it has no utterance to weigh.
            weight = torch.where(counts > 0, counts.sum() / counts.clamp(min=1), 0.0)
            cast(Tensor, self.class_weight).copy_(weight)


def joint(votes_by_stream: Mapping[str, Tensor]) -> Tensor:
    """The sum of the votes, (B, U, C)."""
    return torch.stack(list(votes_by_stream.values())).sum(0)


def votes(batch: Batch, stream: str) -> Tensor:
    """(B, U) bool: where a stream has a say.

    A modality votes where it is present; an utterance that lost all its modalities is judged from
    its context by every stream.
    """
    if stream == JOINT:
        return batch.mask
    has_any = torch.stack(list(batch.present.values())).any(0)
    return batch.mask & (batch.present[stream] | ~has_any)


def visible(batch: Batch, stream: str) -> Tensor:
    """(B, U) bool: the utterances that a stream may attend to.

    Those where its modality is present, or all of a dialogue where it never is (its values are 0
    there), so that no softmax runs over nothing.
    """
    return batch.mask if stream == JOINT else attendable(batch.present[stream], batch.mask)


def focal_loss(
    logits: Tensor, truth: Tensor, weight: Tensor, gamma: float, is_detached: bool = False
) -> Tensor:
    """Mean of -w_y (1 - p_y)^gamma log p_y over rows; not divided by the weights' sum.

    Args:
        logits: (N, C).
        truth: (N,) long.
        weight: (C,) class weights.
        gamma: 0 gives cross-entropy.
        is_detached: see ``focal_factor``.
    """
    if len(truth) == 0:
        return logits.sum() * 0.0
    log_p = F.log_softmax(logits, -1).gather(-1, truth.unsqueeze(-1)).squeeze(-1)
    factor = weight.to(logits.dtype)[truth] * focal_factor(log_p, gamma, is_detached)
    return -(factor * log_p).mean()


def focal_factor(log_p: Tensor, gamma: float, is_detached: bool = False) -> Tensor:
    """(1 - p)^gamma of the true class's log probability; ``is_detached``: without a gradient."""
    if is_detached:
        log_p = log_p.detach()
    # 1 - p as expm1 keeps the power's gradient finite when p is almost 1.
    return (-torch.expm1(log_p)).clamp(min=1e-6) ** gamma
