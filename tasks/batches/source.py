"""Tables to arrays: joins features, frames, pictures and labels of a corpus by id.

Frames and pictures have modules of their own, which are imported by name: a method that reads
neither does not depend on their code.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models import registry
from models.batch import MODALITIES, Target
from models.errors import UserError
from models.method import Level, Need, Spec
from tasks.batches.by_id import ById, Part
from tasks.batches.dataset import Dataset
from tasks.batches.labels import Labels, labels_in_parts
from tasks.batches.pooled import read_pooled
from tasks.batches.targets import COLUMNS, find_targets
from tasks.batches.turns import read_turns
from tasks.layout import Layout
from tasks.params.inputs import Named, names_in
from tasks.params.recipes import Recipe
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_batches
from tasks.tables.splits import SPLIT
from tasks.tables.words import SPLITS

#: Rows of labels that are looked at together for what there is.
_ROWS = 65_536


@dataclass(frozen=True)
class Source:
    """One corpus with the features that methods read, joined by id.

    Rows stand by dialogue and turn; every array has one entry per row.

    Attributes:
        ids: utterance ids.
        dialogues: dialogue ids.
        speakers: (N,) index of the speaker within the dialogue by first appearance.
        people: (N,) index of the speaker in the corpus, by name; -1 where nobody is named.
        parts: (N,) the part of a union; else the corpus.
        part_codes: (N,) place of the part among all by name; None where the corpus is no union, or
            networks see it that were trained on another one.
        features: modality to (N, D) float32; 0 where absent.
        present: modality to (N,) bool.
        targets: every target of the corpus.
        judged: fold to the labels that hold in it.
        splits: fold to (N,) place of the row's split in ``SPLITS``; -1 where it has none.
        frames: modality to ``tasks.batches.sequences.Sequences``, for methods that need frames.
        pooled_only: modalities that come as one vector an utterance though frames were asked
            for, with the first encoder whose table has no sequences.
        partial: modality of several encoders to how many rows have vectors of some of them only;
            the modality is absent there.
        images: ``tasks.batches.face_images.FaceImages``, for methods that need images.
        extra: further input to (N, D) float32; NaN where absent.
    """

    ids: pl.Series
    dialogues: np.ndarray
    speakers: np.ndarray
    people: np.ndarray
    parts: np.ndarray
    features: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    targets: tuple[Target, ...]
    judged: Mapping[int, Labels]
    splits: Mapping[int, np.ndarray]
    frames: Mapping[str, Any] = field(default_factory=dict)
    pooled_only: Mapping[str, str] = field(default_factory=dict)
    partial: Mapping[str, int] = field(default_factory=dict)
    images: Any = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    part_codes: np.ndarray | None = None

    @property
    def dims(self) -> dict[str, int]:
        """Modality to feature width."""
        return {name: values.shape[1] for name, values in self.features.items()}

    @property
    def frame_dims(self) -> dict[str, int]:
        """Modality to width of its frames; empty where no frames were asked for."""
        return {name: sequences.dim for name, sequences in self.frames.items()}

    def spec(self, train: Dataset) -> Spec:
        """What a method is built for that learns from ``train``."""
        return Spec(
            self.dims,
            train.targets,
            train.most_speakers,
            self.frame_dims,
            train.people_met,
            train.part_spec,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """What methods see, in the project's order; pictures are ``video``."""
        return tuple(name for name in MODALITIES if name in self.present)

    @property
    def folds(self) -> list[int]:
        """The folds of the splits table."""
        return sorted(self.splits)

    def notes(self) -> list[str]:
        """A line for a person for each modality that rows lose for want of one of its encoders."""
        return [
            f"{count} utterances have features of some encoders of {modality} and not of all: "
            f"there {modality} counts as missing; `affectloom lint` names the encoders"
            for modality, count in self.partial.items()
        ]

    def of_strangers(self) -> "Source":
        """The same corpus as networks see it that know none of its people and parts."""
        return replace(self, people=np.full_like(self.people, -1), part_codes=None)

    def without_inputs(self) -> "Source":
        """The same rows and labels with nothing to predict from, which takes most of the memory."""
        return replace(self, features={}, frames={}, extra={}, images=None)

    def narrowed(self, recipe: Recipe) -> "Source":
        """The same corpus with no more of its targets than ``recipe`` predicts."""
        narrow = {t.name: (t, recipe.narrowed(t)) for t in self.targets}
        if all(new == old for old, new in narrow.values()):
            return self
        return replace(
            self,
            targets=tuple(new for _, new in narrow.values()),
            judged={fold: labels.narrowed(narrow) for fold, labels in self.judged.items()},
        )

    def part(
        self,
        fold: int,
        split: str,
        level: Level,
        targets: Sequence[Target],
        *,
        labelled: bool,
        seen: bool = False,
    ) -> Dataset:
        """The rows of one split of one fold.

        Args:
            fold: which fold.
            split: ``train``, ``validation`` or ``test``.
            level: dialogues stay whole for ``dialogue``; otherwise every row is an item.
            targets: labels to carry.
            labelled: drop items without any label of ``targets``.
            seen: drop items that have no modality at all.
        """
        labels, people, rows = self.judged[fold], self._met(fold), self._rows(fold, split)
        return Dataset(self, labels, people, rows, level, tuple(targets), labelled, seen)

    def _rows(self, fold: int, split: str) -> np.ndarray:
        return np.flatnonzero(self.splits[fold] == SPLITS.index(split))

    def _met(self, fold: int) -> np.ndarray:
        """(N,) index of the speaker among those of the training rows of ``fold``; -1 for others."""
        is_met = np.zeros(self.people.max(initial=-1) + 2, bool)
        is_met[self.people[self._rows(fold, "train")]] = True
        is_met[-1] = False  # the place of nobody
        index = np.where(is_met, np.cumsum(is_met) - 1, -1).astype(np.int32)
        return index[self.people]


def source_for(layout: Layout, recipe: Recipe, corpus: str, inputs: Mapping[str, Named]) -> Source:
    """What ``recipe`` reads of a corpus.

    Args:
        recipe: the method with its options.
        corpus: whose tables.
        inputs: modality or further input to its encoders, as params.yaml has them.
    """
    return Wanted.by(recipe, inputs).source(layout, corpus).narrowed(recipe)


@dataclass(frozen=True)
class Wanted:
    """What is to be read of a corpus; what recipes want alike can be read once.

    Attributes:
        inputs: modality to its encoders; may be empty for methods that need images, or nothing.
        needs: ``frames`` and ``images`` are read only where they are named.
        max_frames: longer sequences are thinned evenly to so many frames; 0 = never.
        extra: further input to encoder.
    """

    inputs: Mapping[str, Named]
    needs: Collection[Need] = ("pooled",)
    max_frames: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def by(cls, recipe: Recipe, inputs: Mapping[str, Named]) -> "Wanted":
        """What ``recipe`` reads of these inputs."""
        mine = recipe.inputs(inputs)
        needs = () if recipe.method.is_blind and not mine else recipe.method.needs
        return cls(mine, needs, recipe.max_frames, recipe.extra(inputs))

    def source(self, layout: Layout, corpus: str) -> Source:
        """Read a corpus's tables and what methods need of it."""
        turns = read_turns(layout, corpus)
        ids = turns.ids
        splits, targets, judged = _judged(layout, corpus, ids)
        parts = self._parts(layout, corpus, ids)
        features = {modality: _side_by_side(found) for modality, found in parts.items()}
        present = {m: _of_all(found) for m, found in parts.items()}
        some = {m: np.any([there for _, there in found], 0) for m, found in parts.items()}
        partial = {m: int((some[m] & ~present[m]).sum()) for m in some}
        frames, pooled_only = self._frames(layout, corpus, ids, features, present)
        if frames:
            present = {m: present[m] & (found.counts > 0) for m, found in frames.items()}
        images = None
        if "images" in self.needs:
            face_images = registry.part("tasks.batches.face_images")
            images = face_images.read_face_images(layout, ids, corpus)
            present["video"] = present.get("video", True) & images.present
            present = {name: present[name] for name in MODALITIES if name in present}
        return Source(
            ids=ids,
            dialogues=turns.dialogues,
            speakers=turns.speakers,
            people=turns.people,
            parts=turns.parts,
            part_codes=turns.part_codes,
            features=features,
            present=present,
            targets=targets,
            judged=judged,
            splits=splits,
            frames=frames,
            pooled_only=pooled_only,
            partial={m: count for m, count in partial.items() if count},
            images=images,
            extra={
                name: _read_extra(ids, layout.features(corpus, encoder))
                for name, encoder in self.extra.items()
            },
        )

    def _parts(
        self, layout: Layout, corpus: str, ids: pl.Series
    ) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
        """Pooled features and presence of each encoder of a modality, in the project's order."""
        found = {
            modality: [read_pooled(ids, layout.features(corpus, name)) for name in names_in(named)]
            for modality in MODALITIES
            if (named := self.inputs.get(modality))
        }
        if not found and self.needs and "images" not in self.needs:
            raise UserError(
                "params.yaml: inputs names no encoder; give one for audio, video or text"
            )
        return found

    def _frames(
        self,
        layout: Layout,
        corpus: str,
        ids: pl.Series,
        features: Mapping[str, np.ndarray],
        present: Mapping[str, np.ndarray],
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Sequences of each modality, and ``Source.pooled_only``; nothing unless needed.

        Where one of a modality's encoders keeps no frames, the pooled vectors of all are sequences
        of length 1.
        """
        if "frames" not in self.needs:
            return {}, {}
        sequences = registry.part("tasks.batches.sequences")
        frames: dict[str, Any] = {}
        pooled_only: dict[str, str] = {}
        for modality, named in ((m, self.inputs[m]) for m in features):
            folders = {name: layout.features(corpus, name) for name in names_in(named)}
            parts = {
                name: sequences.read_sequences(ids, folder, layout.cache, self.max_frames)
                for name, folder in folders.items()
            }
            bare = [name for name, found in parts.items() if found is None]
            if bare:
                frames[modality] = sequences.pooled_as_sequences(
                    features[modality], present[modality]
                )
                if present[modality].any():
                    pooled_only[modality] = bare[0]
            else:
                frames[modality] = sequences.side_by_side(parts, present[modality], ids, modality)
        return frames, pooled_only


def _judged(
    layout: Layout, corpus: str, ids: pl.Series
) -> tuple[dict[int, np.ndarray], tuple[Target, ...], dict[int, Labels]]:
    """``Source.splits``, ``Source.targets`` and ``Source.judged``."""
    by_id = ById(ids)
    splits = _splits(len(ids), by_id.parts(SPLIT, layout.splits(corpus)))
    targets = find_targets(read_batches(LABELS, layout.labels(corpus), COLUMNS, _ROWS))
    labels = by_id.parts(LABELS, layout.labels(corpus))
    return splits, targets, labels_in_parts(len(ids), labels, targets, list(splits))


def _splits(count: int, parts: Iterable[Part]) -> dict[int, np.ndarray]:
    """Fold to (count,) place of each row's split in ``SPLITS``; -1 where it has none."""
    found: dict[int, np.ndarray] = {}
    for part in parts:
        known = pl.DataFrame({"utterance_id": part.ids, "row": part.rows})
        code = pl.col("split").replace_strict(
            list(SPLITS), list(range(len(SPLITS))), return_dtype=pl.Int8
        )
        rows = part.table.join(known, on="utterance_id").select("fold", "row", code)
        for (fold,), own in rows.group_by("fold"):
            place = found.setdefault(int(str(fold)), np.full(count, -1, np.int8))
            place[own.get_column("row").to_numpy()] = own.get_column("split").to_numpy()
    return found


def _of_all(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(N,) bool: rows that every encoder has: what one lacks is not made up with zeros."""
    return np.logical_and.reduce([there for _, there in parts])


def _side_by_side(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Vectors of several encoders as (N, D); 0 where one of them is absent."""
    if len(parts) == 1:
        return parts[0][0]
    values = np.hstack([values for values, _ in parts])
    values[~_of_all(parts)] = 0.0
    return values


def _read_extra(ids: pl.Series, folder: Path) -> np.ndarray:
    values, present = read_pooled(ids, folder)
    values[~present] = np.nan
    return values
