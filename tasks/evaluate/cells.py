"""Test rows predicted with modalities hidden, and with the weights of every kept epoch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from models.kept import Kept
from models.training import best_device, predict
from tasks.batches.dataset import Dataset
from tasks.batches.hiding import Hidden, draw_masks, subsets
from tasks.batches.source import Source
from tasks.evaluate.grids import CHOSEN, Grids, Outputs
from tasks.evaluate.networks import Run
from tasks.evaluate.predictions import scored_truth


@dataclass(frozen=True)
class Masks:
    """How cells are hidden on test, the same for every method.

    Attributes:
        rates: shares of cells to hide.
        count: masks of each rate.
        seed: of the first; the others count on.
        by_dialogue: hide a modality from all of a dialogue or none of it.
    """

    rates: Sequence[float]
    count: int = 3
    seed: int = 0
    by_dialogue: bool = False

    def cells(self, rate: float) -> list[str]:
        """Names of the rate's cells; hiding nothing takes one mask."""
        return [f"{rate:g}, mask {number}" for number in range(self.count if rate > 0 else 1)]

    def draw(self, rate: float, number: int, dialogues: np.ndarray, modalities: int) -> np.ndarray:
        """(N, modalities) bool, True where observed; ``dialogues`` (N,) are all of the corpus."""
        seed = self.seed + number
        if not self.by_dialogue:
            return draw_masks(len(dialogues), rate, seed, modalities)
        names, place = np.unique(dialogues, return_inverse=True)
        return draw_masks(len(names), rate, seed, modalities)[place]


def fill(
    grids: Grids,
    masks: Masks,
    one: Run,
    source: Source,
    names: Sequence[str],
    data: Dataset,
    plain: dict[str, torch.Tensor],
) -> None:
    """Predict test with modalities hidden, and with the weights of every kept epoch.

    Args:
        grids: takes the outputs.
        masks: what to hide.
        one: the run.
        source: what it reads.
        names: modalities of the corpus: masks are drawn over all of them, so that a method that
            uses fewer meets the same ones.
        data: the test rows.
        plain: outputs with nothing hidden.
    """
    there = np.zeros((len(data.rows), len(source.modalities)), bool)
    for column, modality in enumerate(source.modalities):
        there[:, column] = source.present[modality][data.rows]
    left = {"+".join(s): there & np.isin(source.modalities, s) for s in subsets(source.modalities)}
    columns = [names.index(m) for m in source.modalities]
    for rate in masks.rates:
        for number, cell in enumerate(masks.cells(rate)):
            observed = masks.draw(rate, number, source.dialogues, len(names))[data.rows]
            left[cell] = there & observed[:, columns]
    cells = {CHOSEN: plain} | _predict_left(one, data, source.modalities, there, left, plain)
    chosen = {name: value.clone() for name, value in one.method.state_dict().items()}
    epochs, shown = [], Kept(data)
    for state in _kept(one.folder):
        one.method.load_state_dict(state)
        epochs.append(predict(one.method, shown, device=best_device()))
    one.method.load_state_dict(chosen)
    truths = {target: scored_truth(data, target) for target in one.targets}
    grids.add(one.seed, truths, cells, epochs)


def _kept(run: Path) -> Iterator[dict[str, torch.Tensor]]:
    """Weights of every kept epoch, in order."""
    file = run / "snapshots.safetensors"
    if not file.exists():  # a budget of nothing keeps none
        return
    with safe_open(file, "pt") as stream:
        names = [(*key.split("/", 1), key) for key in sorted(stream.keys())]
        for _, found in groupby(names, key=lambda one: one[0]):
            yield {name: stream.get_tensor(key) for _, name, key in found}


class _Looks:
    """What is seen of every item, and where its outputs stand among those of all looks.

    Args:
        starts: (items + 1,) where the rows of each item begin, and N.
        there: (N, M) bool, what there is to see: the first look of every item.
    """

    def __init__(self, starts: np.ndarray, there: np.ndarray) -> None:
        self._starts, self._sizes = starts, np.diff(starts)
        self._known = [(there, starts[:-1])]
        self._items, self._shown = [np.zeros(0, np.int64)], [there[:0]]
        self._count = len(there)

    @property
    def items(self) -> np.ndarray:
        """Items to be predicted beside those with all there is, once for every further look."""
        return np.concatenate(self._items)

    @property
    def shown(self) -> np.ndarray:
        """(rows of ``items``, M) bool, what is to be seen of them."""
        return np.concatenate(self._shown)

    def rows(self, seen: np.ndarray) -> np.ndarray:
        """(N,) where the outputs of a cell stand that leaves (N, M) ``seen``."""
        begins = np.full(len(self._sizes), -1)
        for other, others in self._known:
            same = np.logical_and.reduceat((other == seen).all(1), self._starts[:-1])
            begins = np.where((begins < 0) & same, others, begins)
        is_new = begins < 0
        if is_new.any():
            sizes = self._sizes[is_new]
            begins[is_new] = self._count + np.cumsum(sizes) - sizes
            self._known.append((seen, np.where(is_new, begins, -1)))
            self._items.append(np.flatnonzero(is_new))
            self._shown.append(seen[np.repeat(is_new, self._sizes)])
            self._count += int(sizes.sum())
        return np.repeat(begins - self._starts[:-1], self._sizes) + np.arange(len(seen))


def _predict_left(
    one: Run,
    data: Dataset,
    modalities: Sequence[str],
    there: np.ndarray,
    left: Mapping[str, np.ndarray],
    plain: Mapping[str, torch.Tensor],
) -> dict[str, Outputs]:
    """Outputs of every cell, all predicted together and what looks the same only once.

    An item (a dialogue, or an utterance by itself) that shows the same in several cells has the
    same outputs there: a method of single utterances meets no more looks of each than there are
    subsets, and one of one modality two.

    Args:
        one: the run.
        data: the test rows.
        modalities: columns of the masks.
        there: (N, M) bool, what there is to see.
        left: cell to (N, M) bool, what it leaves of that.
        plain: outputs with nothing hidden; cells that hide nothing have these very objects.
    """
    looks = _Looks(data.starts, there)
    places = {np.arange(len(there), dtype=np.int32).tobytes(): CHOSEN}  # to the first such cell
    cells = {
        cell: places.setdefault(looks.rows(seen).astype(np.int32).tobytes(), cell)
        for cell, seen in left.items()
    }
    every = plain
    if len(looks.items):
        masks = dict(zip(modalities, looks.shown.T, strict=True))
        found = predict(one.method, Hidden(data.again(looks.items), masks), device=best_device())
        every = {name: torch.cat([plain[name], found[name]]) for name in plain}
    outputs: dict[str, Outputs] = {cell: _Picked(every, place) for place, cell in places.items()}
    outputs[CHOSEN] = plain
    return {cell: outputs[first] for cell, first in cells.items()}


class _Picked(Mapping[str, torch.Tensor]):
    """Some rows of outputs, taken when they are asked for: of many cells they would be gigabytes.

    Args:
        outputs: of all looks.
        rows: which of them, as the bytes of int32.
    """

    def __init__(self, outputs: Outputs, rows: bytes) -> None:
        self._outputs, self._rows = outputs, rows

    def __getitem__(self, name: str) -> torch.Tensor:
        rows = np.frombuffer(self._rows, np.int32).astype(np.int64)
        return self._outputs[name][torch.from_numpy(rows)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)
