"""Scores on test with modalities hidden, and of epochs chosen on test for information.

A cell is scored like the plain test score: once over the folds of a seed together, then averaged
over seeds. So the cell with nothing hidden is the score of the leaderboard.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.batch import Target
from models.metrics.scoring import HEADLINE, UNDEFINED_SCORE, selection_score
from tasks.batches.dataset import is_labelled

Outputs = Mapping[str, torch.Tensor]
Score = Callable[[Target, np.ndarray, torch.Tensor, np.ndarray], Mapping[str, float]]
#: Cell of the networks as they were chosen, with everything that there is to see.
CHOSEN = "chosen"


def probabilities(target: Target, output: torch.Tensor) -> np.ndarray:
    """(N, C) probabilities of a category or of each label; (N, K) values as they are."""
    if target.kind == "category":
        return output.double().softmax(-1).numpy()
    if target.kind == "labels":
        return output.double().sigmoid().numpy()
    return output.double().numpy()


def headline(
    target: Target, truth: np.ndarray, output: torch.Tensor, folds: np.ndarray | None = None
) -> float:
    """The headline metric over the labelled rows; NaN where it is undefined or there are none.

    Args:
        target: what is scored.
        truth: as ``Dataset.truth`` has it.
        output: of the network.
        folds: of each row (n,), where there are several.
    """
    values = probabilities(target, output)
    guess = values.argmax(1) if target.kind == "category" else values
    keep = is_labelled(target, truth)
    if not keep.any():
        return math.nan
    score = selection_score(
        target.name, target.kind, target.names, truth, guess, mask=keep, folds=folds
    )
    return math.nan if score == UNDEFINED_SCORE else HEADLINE[target.name][1] * score


@dataclass
class _Fold:
    """Test rows of one run: labels, outputs by cell, and outputs of every kept epoch."""

    truth: np.ndarray
    cells: Mapping[str, Outputs]
    epochs: list[torch.Tensor]


class Grids:
    """Outputs of all runs in every cell, to be scored over the folds of each seed."""

    def __init__(self) -> None:
        self._folds: dict[str, dict[int, list[_Fold]]] = {}

    def add(
        self,
        seed: int,
        truths: Mapping[Target, np.ndarray],
        cells: Mapping[str, Outputs],
        epochs: Sequence[Outputs],
    ) -> None:
        """Take the outputs of one run.

        Args:
            seed: of the run.
            truths: labels of its test rows, for every target that it predicts.
            cells: name of a cell to outputs.
            epochs: outputs of every kept epoch.
        """
        for target, truth in truths.items():
            fold = _Fold(truth, cells, [outputs[target.name] for outputs in epochs])
            self._folds.setdefault(target.name, {}).setdefault(seed, []).append(fold)

    def scores(
        self, target: Target, cells: Sequence[str], score: Score
    ) -> dict[str, list[Mapping[str, float]]]:
        """Cell to all metrics of each seed, for the cells that there are; none without a label.

        Args:
            target: what is scored.
            cells: their names.
            score: of truth, output and folds; cells that hide the same are scored once.
        """
        found: dict[str, list[Mapping[str, float]]] = {}
        for _, folds in sorted(self._folds.get(target.name, {}).items()):
            known: dict[tuple[int, ...], Mapping[str, float]] = {}
            for cell in cells:
                parts = [fold for fold in folds if cell in fold.cells]
                if not parts:
                    continue
                outputs = [fold.cells[cell] for fold in parts]
                same = tuple(map(id, outputs))
                if same not in known:
                    own = [every[target.name] for every in outputs]
                    truth, output, numbers = _together(parts, own)
                    has_label = is_labelled(target, truth).any()
                    known[same] = score(target, truth, output, numbers) if has_label else {}
                found.setdefault(cell, []).append(known[same])
        return found

    def oracle(self, target: Target, chosen: str) -> list[float]:
        """What choosing each fold's epoch on test would have given, for each seed.

        Args:
            target: what is scored.
            chosen: the cell of the networks as validation chose them, where the search begins.
        """
        found = []
        for _, folds in sorted(self._folds.get(target.name, {}).items()):
            if not any(fold.epochs for fold in folds):
                continue
            best = [fold.cells[chosen][target.name] for fold in folds]
            score = _pooled(target, folds, best)
            for place, fold in enumerate(folds):
                for output in fold.epochs:
                    tried = [*best[:place], output, *best[place + 1 :]]
                    value = _pooled(target, folds, tried)
                    sign = HEADLINE[target.name][1]
                    if math.isnan(score) or sign * value > sign * score:
                        best, score = tried, value
            found.append(score)
        return [score for score in found if math.isfinite(score)]

    def epochs_tried(self, target: Target) -> int:
        """Kept epochs of the run that has most of them."""
        seeds = self._folds.get(target.name, {}).values()
        return max((len(fold.epochs) for folds in seeds for fold in folds), default=0)


def _pooled(target: Target, folds: Sequence[_Fold], outputs: Sequence[torch.Tensor]) -> float:
    return headline(target, *_together(folds, outputs))


def _together(
    folds: Sequence[_Fold], outputs: Sequence[torch.Tensor]
) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
    """Truth and outputs of several folds, and the number of the fold of each row."""
    truth = np.concatenate([fold.truth for fold in folds])
    numbers = np.repeat(np.arange(len(folds)), [len(fold.truth) for fold in folds])
    return truth, torch.cat(list(outputs)), numbers
