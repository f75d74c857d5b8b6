"""What one run of training reads, how it is scored, and a line that says how long it lasts."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np
import torch

from models.batch import Target
from models.errors import UserError
from models.method import Method
from models.metrics.fitness import sentiment_fitness
from models.metrics.regression import mae, pearson, sentiment_scores
from models.metrics.scoring import UNDEFINED_SCORE, selection_score
from tasks.batches.dataset import Dataset, is_labelled
from tasks.batches.part_scales import fit_parts
from tasks.batches.source import Source
from tasks.layout import Layout
from tasks.params.recipes import Recipe


def entries_of(
    entry: Mapping[str, Any],
    found: Mapping[int | None, Mapping[str, Any]] | None,
    folds: Sequence[int],
    place: str,
) -> dict[int, dict[str, Any]]:
    """Fold to the entry it is trained with. What another fold's search found saw its test rows."""
    if found is None:
        return {fold: dict(entry) for fold in folds}
    wanted = {fold: fold if len(folds) > 1 else None for fold in folds}
    if {*wanted.values()} != {*found}:
        raise UserError(
            f"the search of {place} did not search the folds that the splits have "
            f"({', '.join(map(str, folds))}); run stage search for {place} again"
        )
    plain = {key: value for key, value in entry.items() if key != "search"}
    return {fold: {**plain, **found[key]} for fold, key in wanted.items()}


def parts(
    layout: Layout, source: Source, recipe: Recipe, corpus: str, fold: int, names: Sequence[str]
) -> tuple[Dataset, Dataset]:
    """Training and validation rows; an error unless there is something to learn."""
    targets = tuple(t for t in source.targets if t.name in names)
    level = recipe.method.level
    # nothing can be learnt from a picture that is not there; chosen and scored on all alike
    seen = source.images is not None
    train = source.part(fold, "train", level, targets, labelled=True, seen=seen)
    validation = source.part(fold, "validation", level, targets, labelled=True)
    for split, part in (("train", train), ("validation", validation)):
        if not len(part):
            raise UserError(
                f"{layout.splits(corpus)}: the {split} split of fold {fold} has no rows "
                f"labelled with {' or '.join(names)}; change splits or labels in params.yaml"
            )
    _check_variety(layout, train, targets, corpus, fold)
    asked = recipe.train
    if asked.derived_weight != 1:
        train = train.with_derived_at(asked.derived_weight, corpus)
    if asked.part_align != "none" or asked.part_offset:
        # before items come again, for each training row counts once
        spec = fit_parts(train, asked.part_align, asked.part_offset, corpus, fold)
        train = train if spec is None else train.knowing_parts(spec)
    if recipe.train.part_balance:
        train = train.balanced(recipe.train.part_balance, corpus)
    return train.softly() if recipe.train.soft_labels else train, validation


def _check_variety(
    layout: Layout, train: Dataset, targets: Sequence[Target], corpus: str, fold: int
) -> None:
    for target in targets:
        if target.kind != "category":
            continue
        truth = train.truth(target)
        if len(truth[truth >= 0].unique()) < 2:
            raise UserError(
                f"{layout.labels(corpus)}: all training rows of fold {fold} have the same "
                f"{target.name}; there is nothing to learn. Change splits or labels in params.yaml"
            )


def score(data: Dataset, method: Method, outputs: Mapping[str, torch.Tensor]) -> float:
    """What chooses the epoch: fitness of the main target, or the mean selection score of all."""
    if method.main is not None:
        return fitness(method.main, data.truth_to_select_by(method.main), outputs)
    scores = []
    for target in data.targets:
        truth = data.truth_to_select_by(target)
        scores.append(
            selection_score(
                target.name,
                target.kind,
                target.names,
                truth,
                decide(target, outputs[target.name]).numpy(),
                mask=is_labelled(target, truth),
            )
        )
    return float(sum(scores) / len(scores))


def fitness(target: Target, truth: np.ndarray, outputs: Mapping[str, torch.Tensor]) -> float:
    """Fitness of one target's outputs; a score that is undefined counts 0."""
    guess = decide(target, outputs[target.name]).numpy()
    keep = is_labelled(target, truth)
    if target.name == "sentiment" and target.kind == "values":
        t, p = truth[keep, 0], guess[keep, 0]
        scores = sentiment_scores(t, p)
        corr = float(pearson(t, p))
        return sentiment_fitness(
            float(scores["acc7"]), corr, float(mae(t, p)), float(scores["f1_has0"])
        )
    found = selection_score(target.name, target.kind, target.names, truth, guess, mask=keep)
    return 0.0 if found == UNDEFINED_SCORE or math.isnan(found) else found


def decide(target: Target, output: torch.Tensor) -> torch.Tensor:
    """Outputs to predictions: (N,) class index, (N, K) values, or (N, C) label probabilities."""
    if target.kind == "category":
        return output.argmax(-1)
    return output if target.kind == "values" else output.sigmoid()


@dataclass
class EpochClock:
    """Tells on the terminal how far a long run has come: a stage counts whole runs only.

    Attributes:
        what: what the line begins with.
        epochs: at most this many.
        pause_s: shortest time between two lines; runs that are shorter say nothing.
        stream: where the lines go.
    """

    what: str
    epochs: int
    pause_s: float = 30.0
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _shown: float = field(default_factory=lambda: time.monotonic())
    _first: tuple[float, float] | None = None

    def __call__(self, record: Mapping[str, float]) -> None:
        """Hear of an epoch that has ended; ``record`` is that of the history."""
        now, epoch = time.monotonic(), record["epoch"]
        if self._first is None:
            self._first = (now, epoch)
        started, began = self._first
        if epoch > began and now - self._shown >= self.pause_s:
            self._shown = now
            left_s = int((self.epochs - epoch) * (now - started) / (epoch - began))
            self.stream.write(
                f"{self.what}: epoch {epoch:.0f} of at most {self.epochs}, "
                f"at most {left_s // 60}:{left_s % 60:02d} left\n"
            )
            self.stream.flush()
