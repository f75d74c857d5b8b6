"""One run: as plain values, and ready to begin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.method import Method
from models.training import compute_steadily, seed_everything
from tasks.batches.dataset import Dataset
from tasks.batches.held import Reader
from tasks.batches.source import Source
from tasks.layout import Layout
from tasks.params.recipes import Recipe, build, resolve
from tasks.train.runs import parts
from tasks.train.warm_start import warm_start


@dataclass(frozen=True)
class Common:
    """What all runs of one call of the stage share, as plain values.

    Attributes:
        reader: of the corpus; each process reads it once.
        method: key under ``methods``.
        data: SHA-256 of every file that is read.
        snapshot_mb: see ``TrainParams``.
        devices: see ``TrainParams``.
    """

    reader: Reader
    method: str
    data: Mapping[str, str]
    snapshot_mb: float
    devices: int

    @property
    def layout(self) -> Layout:
        """Where everything lies."""
        return self.reader.layout

    @property
    def corpus(self) -> str:
        """Whose rows."""
        return self.reader.corpus


@dataclass(frozen=True)
class Job:
    """One run, as plain values that another process can be given.

    Attributes:
        common: what other runs have too.
        entry: of the method, with what was searched.
        seed: of weights, order and masks.
        fold: whose training and validation rows.
        targets: that it predicts.
        folder: where it is published.
        init: the run folder whose weights it begins from.
        key: hash of all that decides its outcome.
    """

    common: Common
    entry: Mapping[str, Any]
    seed: int
    fold: int
    targets: tuple[str, ...]
    folder: str
    init: str | None
    key: str

    @property
    def cached(self) -> Path:
        """Where the finished run waits to be published."""
        return self.common.layout.cache / "runs" / self.key / "run"

    @property
    def unfinished(self) -> Path:
        """Where it is written and removed: whatever lies there is no finished run."""
        return self.cached.with_name("run.tmp")


def run_folder(
    layout: Layout, corpus: str, method: str, seed: int, fold: int | None, targets: Sequence[str]
) -> Path:
    """Where one run lies."""
    folder = layout.runs(corpus, method) / f"seed{seed}"
    if fold is not None:
        folder = folder / f"fold{fold}"
    return folder / "+".join(targets)


@dataclass(frozen=True)
class Setup:
    """A run that is ready to begin."""

    recipe: Recipe
    source: Source
    method: Method
    train: Dataset
    validation: Dataset


def set_up(job: Job) -> Setup:
    """Read what ``job`` needs and build its network."""
    compute_steadily()
    common = job.common
    recipe = resolve(common.method, job.entry)
    source = common.reader.source(recipe)
    train, validation = parts(common.layout, source, recipe, common.corpus, job.fold, job.targets)
    seed_everything(job.seed)
    method = build(recipe, source.spec(train))
    train, validation = train.seen_through(method.view), validation.seen_through(method.view)
    if job.init is not None:
        warm_start(method, Path(job.init))
    return Setup(recipe, source, method, train, validation)
