"""What networks say of new media, before anything is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from models.batch import Target
from models.training import best_device, compute_steadily, predict
from tasks.batches.source import Source
from tasks.evaluate.networks import Run, sources_of, targets_of
from tasks.layout import Layout
from tasks.predict.corpus import CORPUS, without_sound
from tasks.predict.distance import beyond
from tasks.predict.model import Part
from tasks.tables.parquet import read_table
from tasks.tables.utterances import UTTERANCES
from tasks.targets import TARGETS


@dataclass(frozen=True)
class Said:
    """The outputs of the networks of a part.

    Attributes:
        ids: utterances, in the order of the rows.
        targets: every target that a network predicts.
        outputs: target name to the outputs (N, C) of each network that predicts it.
        fair: target name to (networks, N) bool: False where the network learnt from the medium,
            and others did not.
        present: modality to (N,) bool: what there was to see.
        far: for each row the modalities that are unlike the training data.
    """

    ids: tuple[str, ...]
    targets: tuple[Target, ...]
    outputs: Mapping[str, Sequence[torch.Tensor]]
    fair: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    far: Sequence[Sequence[str]]

    @property
    def is_seen(self) -> np.ndarray:
        """(N,) bool: rows of which there was anything to see."""
        return np.any(list(self.present.values()), axis=0)


def outputs_of(part: Part, layout: Layout, silent: set[str]) -> Said:
    """Every network on every utterance of the corpus of new media.

    Args:
        part: the networks.
        layout: where its tables and features lie.
        silent: utterances whose sound is no voice.
    """
    compute_steadily()
    sources = sources_of(layout, part.runs, CORPUS, part.inputs)
    sources = [
        replace(one, present=without_sound(one.present, one.ids.to_list(), silent))
        for one in sources
    ]
    first = sources[0]  # ids and presence are the same in all
    hashes = _hashes(layout, first.ids.to_list())
    outputs: dict[str, list[torch.Tensor]] = {}
    strange: dict[str, list[np.ndarray]] = {}
    for run, source in zip(part.runs, sources, strict=True):
        learnt = part.learnt.get(run.fold, frozenset())
        is_new = np.array([sha256 not in learnt for sha256 in hashes], bool)
        for name, values in _of_network(run, source).items():
            outputs.setdefault(name, []).append(values)
            strange.setdefault(name, []).append(is_new)
    return Said(
        tuple(first.ids.to_list()),
        tuple(sorted(targets_of(part.runs), key=lambda one: list(TARGETS).index(one.name))),
        outputs,
        {name: _or_all(np.stack(rows)) for name, rows in strange.items()},
        first.present,
        beyond(part.ranges, first.features, first.present),
    )


def _of_network(run: Run, source: Source) -> dict[str, torch.Tensor]:
    """Target name to outputs in the order of the source's rows."""
    data = source.part(0, "test", run.method.level, (), labelled=False)
    data = data.seen_through(run.method.view, run.method.shots)
    found = predict(run.method, data, device=best_device())
    back = np.argsort(data.rows)
    return {target.name: found[target.name][back] for target in run.targets}


def _hashes(layout: Layout, ids: Sequence[str]) -> list[str]:
    """Of the media, in the order of ``ids``."""
    table = read_table(UTTERANCES, layout.utterances(CORPUS), ["utterance_id", "media_sha256"])
    known = dict(table.iter_rows())
    return [known[name] for name in ids]


def _or_all(is_new: np.ndarray) -> np.ndarray:
    """(networks, N) the same, but all networks where every one of them learnt from the medium."""
    return is_new | ~is_new.any(axis=0)
