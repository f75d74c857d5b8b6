"""The contract of a method: a paper's recipe of network, losses and schedule.

``models/methods/<name>.py`` ends with ``METHOD = <class>``. A method says what it works on, what it
can predict and what it needs; one trainer (``models/training.py``) serves all of them.
"""

import difflib
import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import MODALITIES, Batch, Frames, Kind, Target
from models.errors import UserError

Level = Literal["dialogue", "utterance", "image"]
Need = Literal["pooled", "frames", "images"]


@dataclass(frozen=True)
class Spec:
    """What a method is built for.

    Attributes:
        dims: modality to feature width D, in the order of ``MODALITIES``; only those in use.
        targets: what to predict. Most methods get one; a joint method may get several.
        speakers: most speakers in one dialogue of the training data (ids at or above it are
            clamped to the last).
    """

    dims: Mapping[str, int]
    targets: tuple[Target, ...]
    speakers: int = 2

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

    def batch(self, indices: Sequence[int]) -> Batch:
        """These items as one padded batch."""
        ...


class Normalise(nn.Module):
    """Standardises pooled features (and frames) per dimension with statistics of the training data.

    Constant dimensions become 0. Absent cells stay exactly 0, so their values cannot matter.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        for name, dim in dims.items():
            self.register_buffer(f"mean_{name}", torch.zeros(dim))
            self.register_buffer(f"scale_{name}", torch.ones(dim))

    def fit(self, train: Data, chunk: int = 256) -> None:
        """Take mean and standard deviation from the present cells of ``train``, in float64."""
        sums: dict[str, list[Tensor]] = {}
        for start in range(0, len(train), chunk):
            batch = train.batch(range(start, min(start + chunk, len(train))))
            for name, values in batch.features.items():
                rows = values[batch.present[name] & batch.mask].double()
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
            getattr(self, f"mean_{name}").copy_(mean)
            getattr(self, f"scale_{name}").copy_(scale)

    def forward(self, batch: Batch) -> Batch:
        """The batch with standardised features; (B, U, D) stays (B, U, D)."""
        features = {}
        for name, values in batch.features.items():
            scaled = (values - self._of("mean", name)) * self._of("scale", name)
            features[name] = scaled.masked_fill(~batch.present[name].unsqueeze(-1), 0.0)
        frames = batch.frames and {
            name: Frames(
                ((seq.values - self._of("mean", name)) * self._of("scale", name)).masked_fill(
                    ~seq.mask.unsqueeze(-1), 0.0
                ),
                seq.mask,
            )
            for name, seq in batch.frames.items()
        }
        return replace(batch, features=features, frames=frames)

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
    #: Modalities it can use; one must be there.
    can_use: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    #: True: all targets are trained together in one network; False: one network per target.
    is_joint: ClassVar[bool] = False
    #: Hyperparameters of the network and losses; a frozen dataclass of plain values.
    config_type: ClassVar[type]
    #: Trainer settings that differ from the defaults of ``models.training.TrainConfig``.
    recipe: ClassVar[Mapping[str, object]] = {}

    def __init__(self, spec: Spec, config: Any) -> None:
        super().__init__()
        self.spec = spec
        self.config = config
        self.normalise = Normalise(spec.dims)

    def prepare(self, train: Data) -> None:
        """Called once with the training data before the first epoch: statistics, class priors."""
        self.normalise.fit(train)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Raw outputs per target: (B, U, C) logits or (B, U, K) values. Labels are out of reach.

        Rows of padded utterances may hold anything finite.
        """
        raise TypeError(f"{type(self).__name__} has no predict()")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; the trainer minimises their sum. Default: one per target."""
        outputs = self.predict(batch)
        return {
            target.name: target_loss(target, outputs[target.name], batch)
            for target in self.spec.targets
        }

    def on_epoch(self, epoch: int, train: Data) -> Sequence[int] | None:
        """Called before epoch 1, 2, ...; returns the items to train on, or None for all."""
        return None

    def after_backward(self, batch: Batch, epoch: int) -> None:
        """Called between backward and the clipping of gradients: a place to modulate gradients."""

    def after_clip(self, batch: Batch, epoch: int) -> None:
        """Called between the clipping of gradients and the optimiser's step."""

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
        optimizer.step()
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

    def step(self) -> None:
        """Step the optimiser and clear gradients, when enough batches were accumulated."""
        ...


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum of named losses."""
    return torch.stack([loss.reshape(()) for loss in losses.values()]).sum()


def target_loss(target: Target, output: Tensor, batch: Batch) -> Tensor:
    """The plain loss of a target over the labelled utterances; 0 (with gradient) without any.

    Cross-entropy for ``category``, mean squared error for ``values``, binary cross-entropy for
    ``labels``.

    Args:
        target: what is predicted.
        output: (B, U, C) logits or (B, U, K) values.
        batch: carries the labels.
    """
    truth = batch.targets[target.name]
    if target.kind == "category":
        is_known = batch.mask & (truth >= 0)
        if not is_known.any():
            return output.sum() * 0.0
        return F.cross_entropy(output[is_known], truth[is_known])
    is_known = batch.mask.unsqueeze(-1) & ~truth.isnan()
    if not is_known.any():
        return output.sum() * 0.0
    if target.kind == "values":
        return F.mse_loss(output[is_known], truth[is_known].to(output.dtype))
    return F.binary_cross_entropy_with_logits(output[is_known], truth[is_known].to(output.dtype))


def method_names() -> list[str]:
    """Every method there is, by file name."""
    return sorted(file.stem for file in (Path(__file__).parent / "methods").glob("[a-z]*.py"))


def find_method(name: str) -> type[Method]:
    """The ``METHOD`` of ``models/methods/<name>.py``."""
    if name not in method_names():
        near = difflib.get_close_matches(name, method_names(), 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"there is no method '{name}'{hint} Methods: {', '.join(method_names())}")
    return importlib.import_module(f"models.methods.{name}").METHOD


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
            near = difflib.get_close_matches(key, right, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(right) or 'none'}"
            raise UserError(f"params.yaml: {where} has no option '{key}'; {hint}")
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
