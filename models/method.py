"""The contract of a method: a paper's recipe of network, losses and schedule.

``models/methods/<name>.py`` ends with ``METHOD = <class>``. A method says what it works on, what it
can predict and what it needs; one trainer (``models/training.py``) serves all of them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import registry
from models.batch import MODALITIES, Batch, Frames, Kind, Target
from models.errors import UserError, hint
from models.part_scales import PartScales, PartSpec

Level = Literal["dialogue", "utterance", "image"]
Need = Literal["pooled", "frames", "images"]


@dataclass(frozen=True)
class Spec:
    """What a method is built for.

    Attributes:
        dims: modality to feature width D, in the order of ``MODALITIES``; only those in use. Empty
            for methods that read images alone.
        targets: what to predict. Most methods get one; a joint method may get several.
        speakers: most speakers in one dialogue of the training data (ids at or above it are
            clamped to the last).
        frame_dims: modality to width of its frames; only for methods that need ``frames``.
        people: named speakers of the training rows; ``Batch.people`` is below it.
        parts: of a union whose parts are told apart; see ``models.part_scales``.
    """

    dims: Mapping[str, int]
    targets: tuple[Target, ...]
    speakers: int = 2
    frame_dims: Mapping[str, int] = field(default_factory=dict)
    people: int = 0
    parts: PartSpec | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in use, in the project's order."""
        return tuple(name for name in MODALITIES if name in self.dims)


class Data(Protocol):
    """A labelled data set, indexed by dialogue (or by utterance or image for those levels)."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """Targets that the batches carry."""
        ...

    def __len__(self) -> int:
        """Number of dialogues, utterances or images."""
        ...

    def truth(self, target: Target) -> Tensor:
        """Labels of all rows, (N,), (N, K) or (N, C): those of an item follow each other."""
        ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """These items as one padded batch, as they are shown at evaluation."""
        ...

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """A batch for each of ``groups``, made ahead of time where that saves waiting.

        Args:
            groups: items of each batch. At evaluation an item of which there are several pictures
                to show comes again in further batches, with the same ``Batch.index``.
            key: seeds what varies from epoch to epoch in training (augmented images); None at
                evaluation. The same key gives the same batches.
        """
        ...


class Normalise(nn.Module):
    """Standardises features and frames per dimension with statistics of the training data.

    Constant dimensions become 0. Absent cells stay exactly 0, so their values cannot matter.

    Args:
        dims: modality to width of its features.
        frame_dims: modality to width of its frames.
        leave: modalities that keep their mean and scale.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        frame_dims: Mapping[str, int] | None = None,
        leave: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.leave = frozenset(leave)
        self.names = tuple(dims)
        self.frame_names = tuple(frame_dims or {})
        for name, dim in dims.items():
            self._add(name, dim)
        for name, dim in (frame_dims or {}).items():
            self._add(f"frames_{name}", dim)

    def _add(self, name: str, dim: int) -> None:
        self.register_buffer(f"mean_{name}", torch.zeros(dim))
        self.register_buffer(f"scale_{name}", torch.ones(dim))

    def fit(self, train: Data, chunk: int = 256) -> None:
        """Take mean and standard deviation from the present cells of ``train``, in float64."""
        names = [name for name in self.names if name not in self.leave]
        frame_names = [name for name in self.frame_names if name not in self.leave]
        if not (names or frame_names):
            return
        sums: dict[str, list[Tensor]] = {}
        size = 32 if frame_names else chunk  # frames are large
        groups = [
            range(start, min(start + size, len(train))) for start in range(0, len(train), size)
        ]
        for batch in train.batches(groups):
            found = {n: batch.features[n][batch.present[n] & batch.mask] for n in names}
            if batch.frames is not None:
                for name in frame_names:
                    sequence = batch.frames[name]
                    found[f"frames_{name}"] = sequence.values[sequence.mask]
            for name, values in found.items():
                rows = values.double()
                part = [torch.tensor(float(len(rows))), rows.sum(0), (rows**2).sum(0)]
                old = sums.get(name)
                sums[name] = (
                    part if old is None else [a + b for a, b in zip(old, part, strict=True)]
                )
        for name, (count, total, squares) in sums.items():
            mean = total / count.clamp(min=1)
            variance = (squares / count.clamp(min=1) - mean**2).clamp(min=0)
            std = variance.sqrt()
            is_constant = std <= 1e-6 * (1 + mean.abs())
            scale = torch.where(is_constant, torch.zeros_like(std), 1 / std.clamp(min=1e-12))
            self._of("mean", name).copy_(mean)
            self._of("scale", name).copy_(scale)

    def forward(self, batch: Batch) -> Batch:
        """The batch with standardised features (B, U, D) and frames (B, U, T, D)."""
        features = {
            name: self._scaled(name, batch.features[name], batch.present[name])
            for name in self.names
        }
        frames = batch.frames and {
            name: Frames(self._scaled(f"frames_{name}", seq.values, seq.mask), seq.mask)
            for name, seq in batch.frames.items()
        }
        return replace(batch, features=features, frames=frames)

    def _scaled(self, name: str, values: Tensor, is_real: Tensor) -> Tensor:
        scaled = (values - self._of("mean", name)) * self._of("scale", name)
        return scaled.masked_fill(~is_real.unsqueeze(-1), 0.0)

    def _of(self, what: str, name: str) -> Tensor:
        return cast(Tensor, getattr(self, f"{what}_{name}"))


class Method(nn.Module):
    """Base of all methods. Subclasses build blocks in ``__init__`` and write ``predict``.

    State that must survive a restart (a pacing threshold, say) is a buffer, so that one
    ``state_dict`` restores everything.
    """

    level: ClassVar[Level] = "dialogue"
    #: Kinds of target it can predict.
    kinds: ClassVar[frozenset[Kind]] = frozenset({"category", "values", "labels"})
    #: What it reads from a batch.
    needs: ClassVar[frozenset[Need]] = frozenset({"pooled"})
    #: Modalities it can use; one must be there, unless it looks at none of them.
    can_use: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    #: Modalities whose features it reads as the encoder made them, not standardised.
    not_standardised: ClassVar[frozenset[str]] = frozenset()
    #: Modalities of which it wants one vector an utterance, though it reads frames of others.
    as_vectors: ClassVar[frozenset[str]] = frozenset()
    #: True: what it predicts does not depend on what it is shown.
    is_blind: ClassVar[bool] = False
    #: Most pictures of an utterance that the stage ``evaluate`` shows it, to average what it says;
    #: epochs are chosen on one, for ten times as many would cost more than training.
    shots: int = 1
    #: Further inputs it can use, named in ``inputs`` beside the modalities: see ``Batch.extra``.
    extra_inputs: ClassVar[tuple[str, ...]] = ()
    #: True: all targets are trained together in one network; False: one network per target.
    is_joint: ClassVar[bool] = False
    #: Share of cells that it hides itself in training, and is to be chosen by.
    missing_rate: float = 0.0
    #: How it hides them: the settings of training, which ``fit`` sets.
    hide_rate: Literal["fixed", "random"] = "fixed"
    hide_unit: Literal["utterance", "dialogue"] = "utterance"
    #: Of several targets the one whose fitness chooses the epoch; None = the mean over all of them.
    main: Target | None = None
    #: Hyperparameters of the network and losses; a frozen dataclass of plain values.
    config_type: ClassVar[type]
    #: Trainer settings that differ from the defaults of ``models.training.TrainConfig``.
    recipe: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def columns(cls, target: Target, config: Any) -> tuple[str, ...]:
        """Names of a target that it predicts and is scored by: all, unless its options say less."""
        return target.names

    @classmethod
    def learns_softly(cls, config: Any) -> bool:
        """Whether its loss heeds ``Batch.soft``: the default losses do.

        A method with losses of its own says so, where they are made of ``target_loss``.
        """
        is_plain = cls.losses is Method.losses and cls.after_clip is Method.after_clip
        return is_plain and not cls.is_blind

    @classmethod
    def learns_offsets(cls, config: Any) -> bool:
        """Whether its loss is of ``outputs``, where parts have offsets: the default losses are."""
        is_plain = cls.losses is Method.losses and cls.after_clip is Method.after_clip
        return is_plain and not cls.is_blind

    @classmethod
    def recipe_for(cls, config: Any) -> Mapping[str, object]:
        """The trainer settings published with these options."""
        return cls.recipe

    def __init__(self, spec: Spec, config: Any) -> None:
        super().__init__()
        self.spec = spec
        self.config = config
        self.normalise = Normalise(spec.dims, spec.frame_dims, self.not_standardised)
        self.part_scales = None if spec.parts is None else PartScales(spec.parts, spec.targets)

    @classmethod
    def extra_in_use(cls, config: Any, modalities: Collection[str]) -> tuple[str, ...]:
        """Those of ``extra_inputs`` that would change what is learnt with these options."""
        return cls.extra_inputs

    def prepare(self, train: Data) -> None:
        """Called once with the training data before the first epoch: statistics, class priors."""
        self.normalise.fit(train)

    def view(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """How the method looks at one picture; called in the workers that load images.

        Args:
            image: (H, W, 3) uint8, RGB, of any size.
            rng: source of augmentation in training; None at evaluation.

        Returns:
            (3, h, w) float32; all views of training have one size, all of evaluation too.
        """
        raise TypeError(f"{type(self).__name__} needs images but has no view()")

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Raw outputs per target: (B, U, C) logits or (B, U, K) values. Labels are out of reach.

        Rows of padded utterances may hold anything finite.
        """
        raise TypeError(f"{type(self).__name__} has no predict()")

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """What ``predict`` says, with the offsets of parts; on the scale that is trained on."""
        found = self.predict(batch)
        return found if self.part_scales is None else self.part_scales.shifted(found, batch)

    def answers(self, batch: Batch) -> dict[str, Tensor]:
        """``outputs`` on the scale of each row's own part: what is scored."""
        found = self.outputs(batch)
        return found if self.part_scales is None else self.part_scales.own(found, batch)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; the trainer minimises their sum. Default: one per target."""
        outputs = self.outputs(batch)
        return {
            target.name: target_loss(target, outputs[target.name], batch)
            for target in self.spec.targets
        }

    def loss_units(self, batch: Batch) -> dict[str, Tensor]:
        """() over how many cells each loss of the last ``losses(batch)`` is a mean.

        Asked for where several devices share a batch: see ``models/parallel.py``. A method with
        other losses than the default ones says its own, or trains on one device only.
        """
        return {target.name: known_weight(target, batch) for target in self.spec.targets}

    def on_epoch(self, epoch: int, train: Data) -> Sequence[int] | None:
        """Called before epoch 1, 2, ...; returns the items to train on, or None for all."""
        return None

    def whole_from(self, train: Data) -> int:
        """First epoch that trains on all of ``train`` for good: patience is counted from there.

        Asked after every epoch, for an automatic pace is known only when it has begun.
        """
        return 1

    def after_backward(self, batch: Batch, epoch: int) -> None:
        """Called between backward and the clipping of gradients: a place to modulate gradients."""

    def apart(self) -> Sequence[Sequence[nn.Parameter]]:
        """Groups of parameters that learn without shaping the rest; each is clipped by itself."""
        return ()

    def after_clip(self, batch: Batch, epoch: int) -> None:
        """Called between the clipping of gradients and the optimiser's step."""

    def slowed(self) -> Mapping[nn.Parameter, Tensor]:
        """Parameters whose update in the coming step is scaled, and by what; see ``Stepper.step``.

        Asked once for each step, after ``after_clip``.
        """
        return {}

    def update(self, batch: Batch, optimizer: "Stepper") -> dict[str, Tensor]:
        """One optimisation step. Override for a second backward pass; call ``optimizer`` parts.

        Returns the named losses for the history.
        """
        losses = self.losses(batch)
        optimizer.backward(total(losses))
        if optimizer.is_last_part:  # gradients are whole: changing parts of a sum would repeat it
            self.after_backward(batch, optimizer.epoch)
            optimizer.clip()
            self.after_clip(batch, optimizer.epoch)
        optimizer.step(self.slowed())
        return losses


class Stepper(Protocol):
    """What the trainer offers to ``Method.update``: scaled backward, clipping, accumulating."""

    epoch: int

    @property
    def is_last_part(self) -> bool:
        """True when the gradient of this batch completes an accumulated one."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` (precision scaling and accumulation are taken care of)."""
        ...

    def clip(self) -> float:
        """Clip as configured; returns the norm before."""
        ...

    def step(self, slowed: Mapping[nn.Parameter, Tensor] | None = None) -> None:
        """Step the optimiser and clear gradients, when enough batches were accumulated.

        Args:
            slowed: parameters to factors that broadcast to them: at .5 the step goes half of the
                way. A factor on the gradient does this under plain descent only: Adam divides it
                out again. Weights are averaged after it.
        """
        ...


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum of named losses."""
    return torch.stack([loss.reshape(()) for loss in losses.values()]).sum()


def target_loss(target: Target, output: Tensor, batch: Batch) -> Tensor:
    """The plain loss of a target over the labelled utterances; 0 (with gradient) without any.

    Cross-entropy for ``category``, mean squared error for ``values``, binary cross-entropy for
    ``labels``. With soft labels the cross-entropy is that against the shares of votes, and an error
    counts the less, the more raters differed: see ``certainty``.

    Args:
        target: what is predicted.
        output: (B, U, C) logits or (B, U, K) values.
        batch: carries the labels.
    """
    truth = batch.targets[target.name]
    known = is_known(target, batch)
    if not known.any():
        return output.sum() * 0.0
    soft = (batch.soft or {}).get(target.name)
    if target.kind == "category":
        if soft is not None:
            shares = _shares_or_label(soft[known], truth[known]).to(output.dtype)
            return F.cross_entropy(output[known], shares)
        return F.cross_entropy(output[known], truth[known])
    if target.kind == "values":
        if (counts := _value_weights(target, batch)) is not None:
            errors = (output[known] - truth[known].to(output.dtype)) ** 2
            weight = counts[known].to(output.dtype)
            return (weight * errors).sum() / weight.sum()
        return F.mse_loss(output[known], truth[known].to(output.dtype))
    return F.binary_cross_entropy_with_logits(output[known], truth[known].to(output.dtype))


def _shares_or_label(shares: Tensor, truth: Tensor) -> Tensor:
    """(N, C) share of votes; all on the label where nobody's vote is known."""
    alone = F.one_hot(truth, shares.shape[-1]).to(shares.dtype)
    return torch.where(shares.isnan(), alone, shares)


def _value_weights(target: Target, batch: Batch) -> Tensor | None:
    """(B, U, K) how much each value counts; None where all count alike."""
    soft, counts = ((found or {}).get(target.name) for found in (batch.soft, batch.weights))
    if soft is None:
        return counts
    known = is_known(target, batch)
    sure = torch.zeros_like(soft).masked_scatter(known, certainty(target, soft[known]))
    return sure if counts is None else sure * counts


def certainty(target: Target, std: Tensor) -> Tensor:
    """How much the error of a value counts: 1 where raters agree, 1/2 at a quarter of its range.

    Args:
        target: of values.
        std: standard deviation over raters, any shape; where it is unknown, the mean of those that
            are known, or 0.
    """
    known = ~std.isnan()
    mean = std[known].mean() if known.any() else std.new_zeros(())
    quarter = (target.upper - target.lower) / 4
    return 1 / (1 + (torch.where(known, std, mean) / quarter) ** 2)


def known_weight(target: Target, batch: Batch) -> Tensor:
    """() what ``target_loss`` divides by: labelled cells, or the sum of what each counts."""
    known = is_known(target, batch)
    counts = _value_weights(target, batch) if target.kind == "values" else None
    return known.sum() if counts is None else counts[known].sum()


def is_known(target: Target, batch: Batch) -> Tensor:
    """(B, U) bool for ``category``, (B, U, K) or (B, U, C) bool otherwise: the labelled cells."""
    truth = batch.targets[target.name]
    if target.kind == "category":
        return batch.mask & (truth >= 0)
    return batch.mask.unsqueeze(-1) & ~truth.isnan()


def method_names() -> list[str]:
    """Every method there is, by file name."""
    return registry.names("methods")


def find_method(name: str) -> type[Method]:
    """The ``METHOD`` of the file or folder of that name in ``models/methods``."""
    if name not in method_names():
        near = hint(name, method_names(), "")
        raise UserError(
            f"there is no method '{name}'{near and f'; {near}'} "
            f"Methods: {', '.join(method_names())}"
        )
    return registry.load("methods", name).METHOD


def configure(
    kind: type, options: Mapping[str, object], where: str, also: Collection[str] = ()
) -> Any:
    """``kind(**options)`` with an error that names the nearest right key for a wrong one.

    Args:
        kind: a dataclass of plain values.
        options: keys and values from ``params.yaml``.
        where: e.g. ``methods.corect``, for the message.
        also: keys that are right there but read by somebody else; suggested for a misspelt one.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{kind!r} is not a dataclass")
    known = {item.name: item for item in fields(kind)}
    for key in options:
        if key not in known:
            right = [*known, *sorted(also)]
            near = hint(key, right, f"it has: {', '.join(right) or 'none'}")
            raise UserError(f"params.yaml: {where} has no option '{key}'; {near}")
    built = kind()
    values: dict[str, object] = {}
    for key, value in options.items():
        default = getattr(built, key)
        values[key] = _as_type_of(default, value, f"params.yaml: {where}.{key}")
    return kind(**values)


def _as_type_of(default: object, value: object, where: str) -> object:
    """``value`` if it fits the type of ``default`` (ints serve as floats, lists as tuples)."""
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, float):
        if isinstance(value, int):
            return float(value)
        fits = isinstance(value, float)
    elif isinstance(default, tuple):
        if isinstance(value, list | tuple):
            return tuple(value)
        fits = False
    else:
        fits = default is None or isinstance(value, type(default))
    if not fits:
        raise UserError(
            f"{where} is {value!r}, expected a {type(default).__name__} like {default!r}"
        )
    return value
