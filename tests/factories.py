"""Tiny data sets with a planted signal, all generated."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.batch import MODALITIES, Batch, Frames, Target

CATEGORY = Target("category", "category", ("angry", "happy", "neutral"))
VAD_TARGET = Target("vad", "values", ("valence", "arousal", "dominance"))
LABELS = Target("categories", "labels", ("calm", "tense"))
DIMS = {"audio": 5, "video": 7, "text": 6}


class ToyData:
    """Dialogues whose labels follow from all modalities together; a ``models.method.Data``.

    Args:
        lengths: utterances of each dialogue.
        targets: labels to carry.
        dims: modality to width.
        seed: of features and labels.
        noise: of the features.
        speakers: speakers of each dialogue, taking turns at random.
        absent: share of cells without the modality; one is always kept.
        frame_dims: modality to width of its frames: 1 to 5 a cell, around one planted vector.
        image_px: height and width of pictures whose colour is the signal; 0 for none.
        extra: width of further inputs by name: planted, with noise, missing for every third cell.
    """

    def __init__(
        self,
        lengths: Sequence[int] = (4, 2, 5, 1, 3, 6),
        targets: Sequence[Target] = (CATEGORY,),
        dims: dict[str, int] | None = None,
        seed: int = 0,
        noise: float = 0.3,
        speakers: int = 2,
        absent: float = 0.0,
        frame_dims: dict[str, int] | None = None,
        image_px: int = 0,
        extra: dict[str, int] | None = None,
    ) -> None:
        self.dims = dict(DIMS if dims is None else dims)
        self.targets = tuple(targets)
        self.lengths = list(lengths)
        made = torch.Generator().manual_seed(seed)
        plan = torch.Generator().manual_seed(1234)  # the same relation for every seed
        total = sum(lengths)
        factor = torch.randn(total, 3, generator=made)
        self._features = {
            name: factor @ torch.randn(3, dim, generator=plan)
            + noise * torch.randn(total, dim, generator=made)
            for name, dim in self.dims.items()
        }
        self._present = {name: torch.ones(total, dtype=torch.bool) for name in self.dims}
        if absent:
            keep = torch.randint(len(self.dims), (total,), generator=made)
            for i, name in enumerate(self.dims):
                drop = (torch.rand(total, generator=made) < absent) & (keep != i)
                self._present[name] = ~drop
        self._labels = {target.name: _label(target, factor) for target in targets}
        self._speakers = torch.randint(speakers, (total,), generator=made)
        self._starts = [sum(lengths[:i]) for i in range(len(lengths))]
        self._frames = {
            name: self._make_frames(factor, dim, noise, made, plan)
            for name, dim in (frame_dims or {}).items()
        }
        self._images = None
        if image_px:
            colour = torch.sigmoid(factor)[:, :, None, None]
            shape = (total, 3, image_px, image_px)
            self._images = (colour + 0.2 * noise * torch.randn(shape, generator=made)).clamp(0, 1)
        self._extra = {}
        for name, dim in (extra or {}).items():
            values = torch.tanh(factor[:, :dim]) + noise * torch.randn(total, dim, generator=made)
            values[::3] = float("nan")
            self._extra[name] = values

    @staticmethod
    def _make_frames(
        factor: Tensor, dim: int, noise: float, made: torch.Generator, plan: torch.Generator
    ) -> Frames:
        total = len(factor)
        centre = factor @ torch.randn(3, dim, generator=plan)
        values = centre[:, None] + noise * torch.randn(total, 5, dim, generator=made)
        counts = torch.randint(1, 6, (total, 1), generator=made)
        mask = torch.arange(5) < counts
        return Frames(values * mask.unsqueeze(-1), mask)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int]) -> Batch:
        """These dialogues, padded."""
        indices = list(indices)
        longest = max(self.lengths[i] for i in indices)
        index = torch.full((len(indices), longest), -1)
        for b, i in enumerate(indices):
            index[b, : self.lengths[i]] = torch.arange(self.lengths[i]) + self._starts[i]
        mask = index >= 0
        at = index.clamp(min=0)
        present = {name: values[at] & mask for name, values in self._present.items()}
        targets = {}
        for target in self.targets:
            values = self._labels[target.name][at]
            fill = -1 if target.kind == "category" else float("nan")
            hidden = ~mask if target.kind == "category" else ~mask.unsqueeze(-1)
            targets[target.name] = values.masked_fill(hidden, fill)
        return Batch(
            mask=mask,
            speakers=self._speakers[at] * mask,
            features={m: v[at] * present[m].unsqueeze(-1) for m, v in self._features.items()},
            present=present,
            targets=targets,
            index=index,
            frames=self._framed(at, present) if self._frames else None,
            images=None if self._images is None else self._pictured(at, present, mask),
            extra=self._extended(at, mask) if self._extra else None,
        )

    def _framed(self, at: Tensor, present: dict[str, Tensor]) -> dict[str, Frames]:
        found = {}
        for name, all_frames in self._frames.items():
            mask = all_frames.mask[at] & present[name].unsqueeze(-1)
            found[name] = Frames(all_frames.values[at] * mask.unsqueeze(-1), mask)
        return found

    def _pictured(self, at: Tensor, present: dict[str, Tensor], mask: Tensor) -> Tensor:
        assert self._images is not None
        seen = present.get("video", mask)
        return self._images[at] * seen[..., None, None, None]

    def _extended(self, at: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {
            name: values[at].masked_fill(~mask.unsqueeze(-1), float("nan"))
            for name, values in self._extra.items()
        }

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """A batch for each group."""
        return (self.batch(group) for group in groups)

    def truth(self, target: Target) -> Tensor:
        """Labels of every utterance in order."""
        return self._labels[target.name]


def _label(target: Target, factor: Tensor) -> Tensor:
    if target.kind == "category":
        return factor[:, : target.width].argmax(-1)
    if target.kind == "values":
        return torch.tanh(factor[:, : target.width])
    return (factor[:, : target.width] > 0).float()


def subsets_of(names: Sequence[str] = MODALITIES) -> list[dict[str, int]]:
    """Dims of some modality subsets: each alone, one pair, all."""
    picks = [*([name] for name in names), [names[0], names[2]], list(names)]
    return [{name: DIMS[name] for name in pick} for pick in picks]
