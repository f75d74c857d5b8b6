"""The one shape in which data reach a method, and the legend of axes.

B dialogues   U utterances   T frames in an utterance   D features   C classes   K values   E edges

Methods that work on single utterances or images get batches with U = 1. Missing modalities are
data, not a special case: ``present`` says which exist, and the values of absent ones are 0 and
never looked at. Padded utterances are False in ``mask``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

#: What a tensor takes beside its values.
_OBJECT_BYTES = 650

MODALITIES = ("audio", "video", "text")

Kind = Literal["category", "values", "labels"]


@dataclass(frozen=True)
class Target:
    """What is to be predicted.

    Attributes:
        name: ``category``, ``vad``, ``sentiment``, ``emi`` or ``categories``.
        kind: ``category``: one of C classes; ``values``: K numbers; ``labels``: a set out of C.
        names: the classes, the value columns or the labels, in order.
        lower: smallest value, ``values`` only.
        upper: largest value, ``values`` only.
    """

    name: str
    kind: Kind
    names: tuple[str, ...]
    lower: float = -1.0
    upper: float = 1.0

    @property
    def width(self) -> int:
        """Outputs that a head for this target has: C or K."""
        return len(self.names)


@dataclass(frozen=True)
class Frames:
    """Frame sequences of one modality.

    Attributes:
        values: (B, U, T, D) float; 0 where ``mask`` is False.
        mask: (B, U, T) bool; True on real frames.
    """

    values: Tensor
    mask: Tensor


class LabelsHidden(RuntimeError):
    """Somebody looked at labels while predicting."""


class _NoLabels(Mapping[str, Tensor]):
    """Stands where the labels were; touching it is an error, so no method predicts from them."""

    def __getitem__(self, key: str) -> Tensor:
        raise LabelsHidden(f"predict() asked for the label '{key}'")

    def __iter__(self):
        raise LabelsHidden("predict() asked for labels")

    def __len__(self) -> int:
        raise LabelsHidden("predict() asked for labels")


@dataclass(frozen=True)
class Batch:
    """Dialogues padded to the longest.

    Attributes:
        mask: (B, U) bool; True on real utterances. Real ones come first, without gaps.
        speakers: (B, U) long; index of the speaker within the dialogue by first appearance, 0 on
            padding. Ids mean nothing across dialogues.
        features: modality to (B, U, D) float, pooled over the utterance; 0 where absent.
        present: modality to (B, U) bool; True where the modality exists.
        frames: every modality's frame sequences, for methods whose ``needs`` has ``frames``; a
            modality without sequences (a sentence vector) comes as sequences of length 1.
        images: (B, U, 3, H, W) float as ``Method.view`` made them, for methods whose ``needs`` has
            ``images``; 0 where ``present["video"]`` is False.
        extra: further inputs that a method asks for in ``extra_inputs``, by name: (B, U, D) float,
            NaN where there are none.
        targets: target name to labels: (B, U) long, -1 = none, for ``category``; (B, U, K)
            float, NaN = none, for ``values``; (B, U, C) float 0 or 1, NaN = none, for ``labels``.
        index: (B, U) long; row of each utterance in the data set, -1 on padding.
        people: (B, U) long; index of the speaker among those of the training rows, the same in all
            dialogues; -1 on padding, where nobody is named, for people whom training never met, and
            so for everybody of another corpus.
        parts: (B, U) long; index of the part of a union, the same in all dialogues; -1 on padding.
            None where the corpus is no union, or not the one that was trained on.
        soft: how sure raters were, in training with soft labels only: target name to (B, U, C)
            share of votes for ``category``, (B, U, K) standard deviation over raters for
            ``values``; NaN where unknown.
        weights: how much values count, in training with ``derived_weight`` only: target name to
            (B, U, K) for ``values``.
    """

    mask: Tensor
    speakers: Tensor
    features: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    index: Tensor
    frames: Mapping[str, Frames] | None = None
    images: Tensor | None = None
    extra: Mapping[str, Tensor] | None = None
    people: Tensor | None = None
    parts: Tensor | None = None
    soft: Mapping[str, Tensor] | None = None
    weights: Mapping[str, Tensor] | None = None

    @property
    def lengths(self) -> Tensor:
        """(B,) long: utterances in each dialogue."""
        return self.mask.sum(1)

    def without_labels(self) -> "Batch":
        """The same batch with its labels out of reach."""
        return replace(self, targets=_NoLabels(), soft=None, weights=None)

    def with_modalities(self, keep: frozenset[str] | set[str]) -> "Batch":
        """The same batch as if only the modalities in ``keep`` existed."""
        present = {
            name: mask if name in keep else torch.zeros_like(mask)
            for name, mask in self.present.items()
        }
        return self.with_present(present)

    def with_present(self, present: Mapping[str, Tensor]) -> "Batch":
        """The same batch with other presence masks; values of absent cells become 0."""
        features = {
            name: values * present[name].unsqueeze(-1).to(values.dtype)
            for name, values in self.features.items()
        }
        frames = self.frames and {
            name: Frames(
                seq.values * present[name][..., None, None].to(seq.values.dtype),
                seq.mask & present[name].unsqueeze(-1),
            )
            for name, seq in self.frames.items()
        }
        images = self.images
        if images is not None and "video" in present:
            images = images * present["video"][..., None, None, None].to(images.dtype)
        return replace(self, features=features, present=dict(present), frames=frames, images=images)

    @property
    def nbytes(self) -> int:
        """Memory that it takes; its labels must not be hidden."""
        return sum(_nbytes(getattr(self, f.name)) for f in fields(self))

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return replace(self, **{f.name: _move(getattr(self, f.name), device) for f in fields(self)})


def _nbytes(value) -> int:
    if isinstance(value, Tensor):
        return value.nbytes + _OBJECT_BYTES
    if isinstance(value, Frames):
        return _nbytes(value.values) + _nbytes(value.mask)
    return 0 if value is None else sum(_nbytes(item) for item in value.values())


def _move(value, device):
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Frames):
        return Frames(value.values.to(device), value.mask.to(device))
    if isinstance(value, _NoLabels) or value is None:
        return value
    return {name: _move(item, device) for name, item in value.items()}
