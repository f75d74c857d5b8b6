"""One candidate of a search: trained on training rows, judged on validation rows, remembered.

What a candidate came to is kept in the cache under everything that decides it, so a search that is
killed, repeated or made longer computes no candidate twice.
"""

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from models.batch import Batch, Target
from models.errors import MetricInputError, UserError
from models.method import Data, Method
from models.metrics.fitness import genome_fitness
from models.training import (
    NotFinite,
    best_device,
    compute_steadily,
    fit,
    predict,
    seed_everything,
)
from tasks.atomic import replacing
from tasks.batches.dataset import Dataset
from tasks.batches.held import Reader
from tasks.batches.hiding import only, subsets
from tasks.batches.source import Source
from tasks.context import Context, WorkerDied
from tasks.layout import Layout
from tasks.params.inputs import Named
from tasks.params.recipes import Recipe, build, resolve
from tasks.train.runs import fitness, parts, score

Status = Literal["ok", "diverged", "failed", "late"]
#: Fitness of a candidate that could not be trained.
FAILED = -1.0
_VERSION = 1
#: Random numbers come from generators that all threads of a process share.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Job:
    """One training, as plain values that another process can be given.

    Attributes:
        corpus: whose rows.
        method: key under ``methods``.
        entry: what stands there, with this candidate's options.
        inputs: modality or further input to its encoders.
        groups: targets of each network.
        fold: whose training and validation rows.
        seed: of the training.
        epochs: instead of the entry's; 0 = as the entry says.
        share: share of the training items.
        min_rows: at least so many of them.
        subset_seed: which training items; the same for all candidates.
        scenario: how a genome is judged; None for the score that selects epochs.
        max_parameters: of each network; 0 = no limit.
        token: of the call of the stage, for which each process reads the corpus once.
        deadline: Unix time after which it is not begun; 0 = none.
        key: hash of all that decides the outcome.
    """

    corpus: str
    method: str
    entry: Mapping[str, Any]
    inputs: Mapping[str, Named]
    groups: tuple[tuple[str, ...], ...]
    fold: int
    seed: int
    epochs: int
    share: float
    min_rows: int
    subset_seed: int
    scenario: Literal["partial", "full"] | None
    max_parameters: int = 0
    token: str = ""
    deadline: float = 0.0
    key: str = ""

    def keyed(self, data: Mapping[str, str], code: str) -> "Job":
        """The same job with its key, for these data and this code."""
        decisive = {k: v for k, v in asdict(self).items() if k not in ("token", "deadline", "key")}
        text = json.dumps([_VERSION, decisive, data, code], sort_keys=True)
        return replace(self, key=hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        status: ``late`` was not begun for want of time.
        fitness: higher is better; ``FAILED`` unless ok.
        parts: what the fitness is made of: by fold, modalities and so on.
        parameters: of all its networks.
        error: why it is not ok.
        seconds: how long it took; no part of any record that has to repeat.
    """

    status: Status
    fitness: float
    parts: Mapping[str, float]
    parameters: int = 0
    error: str = ""
    seconds: float = 0.0


#: What comes of a job, by training it. Worker processes get it pickled.
Trainer = Callable[[Layout, Job], Outcome]


def evaluate(layout: Layout, trainer: Trainer, job: Job) -> Outcome:
    """The outcome of ``job``, from the cache where it is known."""
    file = _file(layout, job)
    known = _remembered(file)
    if known is not None:
        return known
    if job.deadline and time.time() >= job.deadline:
        return Outcome("late", FAILED, {}, error="the search had no time left")
    started = time.monotonic()
    with _ONE_AT_A_TIME, _begun(layout, job):
        found, repeats = _guarded(layout, trainer, job)
    found = replace(found, seconds=round(time.monotonic() - started, 2))
    if repeats:
        _remember(file, found)
    return found


def evaluate_all(
    layout: Layout, ctx: Context, trainer: Trainer, jobs: Sequence[Job], what: str
) -> Iterator[Outcome]:
    """``evaluate`` of each job, in order; one that kills its process is an outcome like others.

    What was begun when a process died gets a process to itself: there it is found out which
    candidate was to blame. So does what a search had begun in its own process when it was killed.
    """
    outcome_of = partial(evaluate, layout, trainer)
    left = list(jobs)
    begun_before = [job for job in left if _mark(layout, job).exists()]
    if len(begun_before) > 1:  # by workers, whose deaths that search would have heard of
        for job in begun_before:
            _mark(layout, job).unlink(missing_ok=True)
    while left:
        if _mark(layout, left[0]).exists():
            ctx.log(f"{what}: a candidate whose process was killed is tried in one of its own")
            yield _evaluated_alone(layout, ctx, trainer, left.pop(0))
            continue
        ready = list(takewhile(lambda job: not _mark(layout, job).exists(), left))
        try:
            for outcome in ctx.map(outcome_of, ready, what):
                del left[0]
                yield outcome
        except WorkerDied:
            if not any(_mark(layout, job).exists() for job in ready):
                raise  # it was none of them


def _evaluated_alone(layout: Layout, ctx: Context, trainer: Trainer, job: Job) -> Outcome:
    try:
        return ctx.alone(partial(evaluate, layout, trainer), job)
    except WorkerDied:  # and would again: this is remembered
        why = "its process was killed with no other beside it, as happens when memory runs out"
        found = Outcome("failed", FAILED, {}, error=why)
        _remember(_file(layout, job), found)
        return found
    finally:
        _mark(layout, job).unlink(missing_ok=True)


@contextmanager
def _begun(layout: Layout, job: Job) -> Iterator[None]:
    """Marks ``job`` as begun; only a process that is killed leaves the mark behind."""
    mark = _mark(layout, job)
    with replacing(mark):
        pass
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def _mark(layout: Layout, job: Job) -> Path:
    return _file(layout, job).with_suffix(".begun")


def _file(layout: Layout, job: Job) -> Path:
    return layout.cache / "search" / f"{job.key}.json"


def _remember(file: Path, found: Outcome) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(asdict(found), sort_keys=True))


def _remembered(file: Path) -> Outcome | None:
    try:
        return Outcome(**json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # not there, or damaged: it is computed


def _guarded(layout: Layout, trainer: Trainer, job: Job) -> tuple[Outcome, bool]:
    """A candidate that fails is an outcome, with its reason, and no end of the search.

    The second is whether the same job would end in the same way again: a number that cannot be
    computed stays one, but memory that ran out may do next time, and what a sentence asks the user
    to mend may be mended.
    """
    try:
        return trainer(layout, job), True
    except NotFinite as error:
        return Outcome("diverged", FAILED, {}, error=_one_line(error)), True
    except (MetricInputError, ValueError, ArithmeticError) as error:
        return _failed(error), True
    except (UserError, RuntimeError, MemoryError) as error:
        return _failed(error), False


def _failed(error: Exception) -> Outcome:
    return Outcome("failed", FAILED, {}, error=f"{type(error).__name__}: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def train(layout: Layout, job: Job) -> Outcome:
    """Train the networks of ``job`` and judge them on its validation rows."""
    compute_steadily()
    recipe = resolve(job.method, job.entry)
    if job.epochs:
        recipe = replace(recipe, train=replace(recipe.train, epochs=job.epochs))
    source = Reader(layout, job.corpus, job.inputs, job.token).source(recipe)
    found: list[float] = []
    details: dict[str, float] = {}
    parameters = 0
    for names in job.groups:
        value, more, size = _fit(layout, job, recipe, source, names)
        found.append(value)
        prefix = f"fold{job.fold}/{'+'.join(names)}"
        details |= {f"{prefix}/{name}": part for name, part in more.items()}
        parameters += size
    return Outcome("ok", sum(found) / len(found), details, parameters)


def _fit(
    layout: Layout, job: Job, recipe: Recipe, source: Source, names: tuple[str, ...]
) -> tuple[float, dict[str, float], int]:
    """Fitness, its parts and the number of parameters of one network."""
    training, validation = parts(layout, source, recipe, job.corpus, job.fold, names)
    seed_everything(job.seed)
    method = build(recipe, source.spec(training))
    size = sum(p.numel() for p in method.parameters())
    if 0 < job.max_parameters < size:
        raise ValueError(
            f"{size:,} parameters are more than max_parameters, {job.max_parameters:,}"
        )
    training, validation = training.seen_through(method.view), validation.seen_through(method.view)
    main = method.main or training.targets[0]
    fitted = fit(
        method,
        thinned(training, job.share, job.min_rows, job.subset_seed, main),
        validation,
        partial(score, validation, method),
        recipe.train,
        seed=job.seed,
        where=best_device(),
    )
    chosen = {"epoch": float(fitted.chosen_epoch), "selection": fitted.score}
    if job.scenario is None:
        return fitted.score, chosen, size
    found = by_subset(method, main, validation, source.modalities, job.scenario)
    full = found["+".join(source.modalities)]
    partly = [value for name, value in found.items() if name != "+".join(source.modalities)]
    return genome_fitness(full, partly, size), {**chosen, **found}, size


def by_subset(
    method: Method, target: Target, data: Dataset, modalities: Sequence[str], scenario: str
) -> dict[str, float]:
    """Fitness of ``target`` with only some modalities: subset to fitness."""
    wanted = subsets(modalities) if scenario == "partial" else [tuple(modalities)]
    truth = data.truth(target).numpy()
    device = next(method.parameters()).device
    return {
        "+".join(subset): fitness(
            target, truth, predict(method, only(data, subset, len(data.rows)), device=device)
        )
        for subset in wanted
    }


class Thinned:
    """Some items of a data set; a ``models.method.Data`` itself."""

    def __init__(self, data: Dataset, items: Sequence[int]) -> None:
        self._data, self._items = data, list(items)

    @property
    def targets(self) -> tuple[Target, ...]:
        """See ``Data.targets``."""
        return self._data.targets

    def __len__(self) -> int:
        return len(self._items)

    def truth(self, target: Target) -> Tensor:
        """See ``Data.truth``."""
        return self._data.truth(target)[np.concatenate([self._data.places(i) for i in self._items])]

    def batch(self, indices: Sequence[int]) -> Batch:
        """See ``Data.batch``."""
        return self._data.batch([self._items[i] for i in indices])

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """See ``Data.batches``."""
        return self._data.batches([[self._items[i] for i in group] for group in groups], key)


def thinned(data: Dataset, share: float, fewest: int, seed: int, target: Target) -> Data:
    """A fixed share of the items, at least ``fewest``, with labels in their proportions.

    Strata are the classes of ``target``, or sevenths of its first column. Dialogues are drawn as
    they come.
    """
    count = max(math.ceil(share * len(data)), fewest)
    if count >= len(data):
        return data
    chance = np.random.Generator(np.random.PCG64(seed)).permutation(len(data))
    strata = np.zeros(len(data), np.int64)
    if len(data.rows) == len(data):  # an item is a row
        strata = _strata(target, data.truth(target).numpy())
    # the place of each item within its stratum, as a share of it: taking the smallest takes the
    # same share of every stratum
    order = np.lexsort((chance, strata))
    sizes = np.bincount(strata)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(data))
    ordered = strata[order]
    place[order] = (np.arange(len(data)) - starts[ordered] + 0.5) / sizes[ordered]
    return Thinned(data, np.sort(np.lexsort((chance, place))[:count]).tolist())


def _strata(target: Target, truth: np.ndarray) -> np.ndarray:
    """(N,) stratum of each row from 0; rows without a label are one of their own."""
    if target.kind == "category":
        return truth + 1
    column = truth[:, 0]
    rank = np.argsort(np.argsort(column, kind="stable"), kind="stable")  # NaN comes last
    known = np.isfinite(column)
    return np.where(known, 1 + rank * 7 // max(1, int(known.sum())), 0)
