"""The rows of one split as batches of items, padded and with or without labels.

Pictures have a module of their own, which is imported by name: a method that reads none does not
depend on its code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain, tee
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models import registry
from models.batch import Batch, Frames, Target
from models.errors import UserError
from models.method import Level
from models.part_scales import PartScales, PartSpec
from tasks.batches.labels import Labels

if TYPE_CHECKING:  # a source makes data sets of itself
    from tasks.batches.source import Source


class Dataset:
    """The ``models.method.Data`` of one split: items are dialogues, or single rows.

    ``rows`` gives, for each row of the outputs of ``models.training.predict``, the row of the
    ``Source``; ``unseen`` counts the items that were left out because they have no modality.
    """

    def __init__(
        self,
        source: Source,
        labels: Labels,
        people: np.ndarray,
        rows: np.ndarray,
        level: Level,
        targets: tuple[Target, ...],
        labelled: bool,
        seen: bool = False,
    ) -> None:
        self._source, self._labels, self._people = source, labels, people
        self._view: Callable[..., np.ndarray] | None = None
        self._is_soft = False
        self._shots = 1
        self._weights: dict[str, np.ndarray] = {}
        self.part_spec: PartSpec | None = None
        self._targets = targets
        self.rows, self._starts = rows, np.arange(len(rows) + 1)
        if level == "dialogue":
            self._starts = _starts_of_dialogues(source.dialogues[rows])
        if labelled:
            self._keep(self._has_label())
        labelled_items = len(self)
        if seen:
            self._keep(np.any(list(source.present.values()), axis=0))
        self.unseen = labelled_items - len(self)

    def _keep(self, wanted: np.ndarray) -> None:
        """Leave out items without any of the rows that (N,) ``wanted`` marks in the source."""
        if len(self):
            has_any = np.logical_or.reduceat(wanted[self.rows], self._starts[:-1])
            self._choose(np.flatnonzero(has_any))

    def _choose(self, items: np.ndarray) -> None:
        """Have these items, each as often as it is named."""
        begins, sizes = self._starts[items], np.diff(self._starts)[items]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        at = np.repeat(begins - self._starts[:-1], sizes) + np.arange(self._starts[-1])
        self.rows = self.rows[at]

    @property
    def targets(self) -> tuple[Target, ...]:
        """Targets that the batches carry."""
        return self._targets

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def starts(self) -> np.ndarray:
        """(len + 1,) where the rows of each item begin in ``rows``, and how many rows there are."""
        return self._starts

    def places(self, item: int) -> np.ndarray:
        """Where the rows of an item stand in ``rows``."""
        return np.arange(self._starts[item], self._starts[item + 1])

    def again(self, items: Sequence[int] | np.ndarray) -> Dataset:
        """A data set of these items, each as often as it is named: to be seen in several ways."""
        other = copy.copy(self)
        other._choose(np.asarray(items, np.int64))
        return other

    def without_inputs(self) -> Dataset:
        """The same rows to be scored, no more to be predicted: see ``Source.without_inputs``."""
        other = copy.copy(self)
        other._source, other._people = self._source.without_inputs(), np.zeros(0, np.int32)
        return other

    @property
    def parts(self) -> np.ndarray:
        """The part of each of ``rows``; the corpus where it is no union."""
        return self._source.parts[self.rows]

    @property
    def part_names(self) -> list[str]:
        """Every part of the union, in the order of ``Batch.parts``."""
        return np.unique(self._source.parts).tolist()

    def knowing_parts(self, spec: PartSpec) -> Dataset:
        """The same items for methods that tell parts apart, labels on the scale in the middle."""
        other = copy.copy(self)
        other.part_spec = spec
        scales, known = PartScales(spec, self._targets), self._labels.values
        places = torch.from_numpy(self._source.part_codes)
        mapped = {
            target.name: scales.common(target, torch.from_numpy(known[target.name]), places).numpy()
            for target in scales.targets
        }
        other._labels = replace(self._labels, values={**known, **mapped})
        return other

    def balanced(self, balance: float, corpus: str) -> Dataset:
        """The same items, those of smaller parts again; see ``TrainConfig.part_balance``.

        Args:
            balance: 0 to 1.
            corpus: who to name in an error.
        """
        part = self.parts[self._starts[:-1]]
        names, counts = np.unique(part, return_counts=True)
        if len(names) < 2:
            raise UserError(
                f"params.yaml: part_balance has no effect on {corpus}: all its training rows are "
                "of one part; leave it out, or limit the entry to unions with corpora: [...]"
            )
        wanted = np.rint(counts * (counts.max() / counts) ** balance).astype(np.int64)
        shown = []
        for name, count in zip(names, wanted, strict=True):
            own = np.flatnonzero(part == name)
            shown.append(own[np.arange(count) * len(own) // count])  # each about as often
        return self.again(np.sort(np.concatenate(shown)).tolist())

    @property
    def most_speakers(self) -> int:
        """Speakers in the dialogue that has most of them."""
        if not len(self.rows):
            return 1
        return int(self._source.speakers[self.rows].max()) + 1

    @property
    def people_met(self) -> int:
        """Named speakers of the training rows."""
        return int(self._people.max(initial=-1)) + 1

    def truth(self, target: Target) -> Tensor:
        """Labels of ``target`` in the order of ``rows``."""
        return torch.from_numpy(self._labels.values[target.name][self.rows])

    def scored(self, target: Target) -> np.ndarray:
        """Bool in the shape of ``truth``: labelled cells that raters or the speakers gave."""
        return self._labels.scored[target.name][self.rows]

    def own(self, target: Target) -> np.ndarray:
        """(N, K) bool for a target of values: labelled cells that the speakers gave themselves."""
        return self._labels.own[target.name][self.rows]

    def truth_to_select_by(self, target: Target) -> np.ndarray:
        """``truth`` without the values that are derived, unless there are no others."""
        truth = self.truth(target).numpy()
        if target.kind != "values" or not (scored := self.scored(target)).any():
            return truth
        return np.where(scored, truth, np.float32("nan"))

    def shares(self, target: Target) -> np.ndarray:
        """(N, C) share of the votes of each class of a category; NaN where nobody voted."""
        return self._labels.soft[target.name][self.rows]

    @property
    def first(self) -> np.ndarray | None:
        """``Labels.first`` in the order of ``rows``."""
        return None if self._labels.first is None else self._labels.first[self.rows]

    def seen_through(self, view: Callable[..., np.ndarray], shots: int = 1) -> Dataset:
        """The same items, with pictures as ``Method.view`` shows them; ``view`` is unused without.

        Needed before the first batch where the source has pictures.

        Args:
            view: how the method looks at a picture.
            shots: most pictures of an item at evaluation: ``Method.shots``.
        """
        other = copy.copy(self)
        other._view, other._shots = view, shots
        return other

    def with_derived_at(self, weight: float, corpus: str) -> Dataset:
        """The same items with values that nobody judged at so much weight; see ``TrainConfig``.

        Args:
            weight: 0 to 1; at 0 such values, and items with no others, are left out.
            corpus: who to name in an error.
        """
        derived = self._labels.derived
        if not any(cells.any() for cells in derived.values()):
            raise UserError(
                f"params.yaml: derived_weight has no effect on {corpus}: every value of its labels "
                "was judged by somebody; leave it out, or derive values (labels.lexicon, "
                "labels.teacher, labels.prior, labels.allow_proxy)"
            )
        other = copy.copy(self)
        if weight > 0:
            other._weights = {
                name: np.where(cells, weight, 1).astype(np.float32)
                for name, cells in derived.items()
            }
        else:
            known = self._labels.values
            judged = {n: np.where(cells, np.nan, known[n]) for n, cells in derived.items()}
            judged = {name: values.astype(np.float32) for name, values in judged.items()}
            other._labels = replace(self._labels, values={**known, **judged})
            other._keep(other._has_label())
        return other

    def _has_label(self) -> np.ndarray:
        """(N,) bool: rows of the source with a label of one of the targets."""
        has_label = np.zeros(len(self._source.ids), bool)
        for target in self._targets:
            has_label |= is_labelled(target, self._labels.values[target.name])
        return has_label

    def softly(self) -> Dataset:
        """The same items, whose batches tell how sure raters were."""
        known = [self._labels.soft.get(target.name) for target in self._targets]
        if not any(soft is not None and np.isfinite(soft[self.rows]).any() for soft in known):
            names = " and ".join(target.name for target in self._targets)
            raise UserError(
                f"params.yaml: soft_labels: the labels table does not tell how sure raters of "
                f"{names} were; leave the option out"
            )
        other = copy.copy(self)
        other._is_soft = True
        return other

    def batch(self, indices: Sequence[int]) -> Batch:
        """These items, padded to the longest, as they are shown at evaluation."""
        once = copy.copy(self)
        once._shots = 1
        (found,) = once.batches([indices])
        return found

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """See ``models.method.Data.batches``. Pictures are made ahead of time."""
        if self._source.images is None:
            return (self._plain(group) for group in groups)
        return self._pictured(groups, key)

    def _pictured(self, groups: Sequence[Sequence[int]], key: int | None) -> Iterator[Batch]:
        if self._view is None:
            raise TypeError("this source has pictures: call seen_through() before the first batch")
        view_ahead = registry.part("tasks.batches.face_images").view_ahead
        images, shots = self._source.images, self._shots if key is None else 1
        shown = (images.items(group, self._rows_of(group), shots) for group in groups)
        wanted, coming = tee(chain.from_iterable(shown))
        with closing(view_ahead(images, coming, self._view, key)) as pictures:
            for items, seen in zip(wanted, pictures, strict=True):
                plain = self._plain([item.number for item in items])
                yield replace(plain, images=torch.from_numpy(seen))

    def _rows_of(self, indices: Sequence[int]) -> np.ndarray:
        """Rows of the source that make up each item, (B, U); -1 on padding."""
        items = np.asarray(indices)
        begins, ends = self._starts[items, None], self._starts[items + 1, None]
        places = begins + np.arange((ends - begins).max())
        return np.where(places < ends, self.rows[np.minimum(places, len(self.rows) - 1)], -1)

    def _plain(self, indices: Sequence[int]) -> Batch:
        """These items without pictures."""
        at = self._rows_of(indices)
        is_there = at >= 0
        codes = self._source.part_codes
        mask = torch.from_numpy(is_there)
        # rows of one item follow each other
        index = self._starts[list(indices)][:, None] + np.arange(at.shape[1])
        source = self._source
        present = {m: torch.from_numpy(values[at]) & mask for m, values in source.present.items()}
        features = {
            m: torch.from_numpy(values[at]) * present[m].unsqueeze(-1)
            for m, values in source.features.items()
        }
        frames: dict[str, Frames] = {
            m: sequences.frames(at, present[m].numpy()) for m, sequences in source.frames.items()
        }
        extra = {
            name: torch.from_numpy(values[at]).masked_fill(~mask.unsqueeze(-1), float("nan"))
            for name, values in source.extra.items()
        }
        return Batch(
            mask=mask,
            speakers=torch.from_numpy(source.speakers[at]).long() * mask,
            people=torch.from_numpy(self._people[at]).long().masked_fill(~mask, -1),
            parts=None if codes is None else torch.from_numpy(codes[at]).masked_fill(~mask, -1),
            features=features,
            present=present,
            targets={
                t.name: _padded(t, self._labels.values[t.name][at], mask) for t in self._targets
            },
            index=torch.from_numpy(np.where(is_there, index, -1)),
            frames=frames or None,
            extra=extra or None,
            soft=self._soft(at, mask) if self._is_soft else None,
            weights={n: torch.from_numpy(found[at]) for n, found in self._weights.items()} or None,
        )

    def _soft(self, at: np.ndarray, mask: Tensor) -> dict[str, Tensor]:
        known = {t.name: self._labels.soft.get(t.name) for t in self._targets}
        return {
            name: torch.from_numpy(values[at]).masked_fill(~mask.unsqueeze(-1), float("nan"))
            for name, values in known.items()
            if values is not None
        }


def _starts_of_dialogues(names: np.ndarray) -> np.ndarray:
    """Where the dialogues of rows (N,) begin, and N."""
    inner = np.flatnonzero(names[1:] != names[:-1]) + 1
    return np.concatenate([[0], inner, [len(names)]]) if len(names) else np.zeros(1, np.int64)


def is_labelled(target: Target, labels: np.ndarray) -> np.ndarray:
    """(N,) bool: rows that have at least one judgement of ``target``."""
    return labels >= 0 if target.kind == "category" else ~np.all(np.isnan(labels), axis=1)


def first_of(target: Target, labels: np.ndarray, first: np.ndarray | None) -> np.ndarray | None:
    """``first`` (N,) if it is known of every row that has one of these labels (N, C)."""
    if target.kind != "labels" or first is None or np.any(first[labels.any(1)] < 0):
        return None
    return first


def _padded(target: Target, labels: np.ndarray, mask: Tensor) -> Tensor:
    values = torch.from_numpy(labels)
    if target.kind == "category":
        return values.masked_fill(~mask, -1)
    return values.masked_fill(~mask.unsqueeze(-1), float("nan"))
