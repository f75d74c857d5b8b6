"""Stage ``train``: one method on one corpus, for every seed, fold and target; no test rows.

Each run goes to ``data/runs/<corpus>/<method>/seed<k>/[fold<j>/]<target>/``; where options were
searched, a run has those that the search of its own fold found. Runs that are finished
or half finished wait in the cache folder, outside DVC's outs, so a killed stage goes on where it
was and ends with the same bytes.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

from models import registry
from models.errors import UserError
from tasks.atomic import why
from tasks.batches.held import Reader, forget
from tasks.batches.source import Source
from tasks.context import Context, ForMethod, Progress
from tasks.layout import Layout
from tasks.params.recipes import Recipe, resolve
from tasks.train.fingerprints import fingerprint_inputs, sha256
from tasks.train.fitting import train_one
from tasks.train.job import Common, Job, run_folder
from tasks.train.runs import entries_of, parts
from tasks.train.warm_start import WEIGHTS, find_start


class TrainParams(BaseModel):
    """What all methods share, so that they are compared on the same footing.

    Attributes:
        seeds: every method is trained once with each.
        targets: train only these (default: all that the corpus has labels for).
        snapshot_mb: keep the weights of as many epochs as fit, to show later how much choosing
            the epoch on the test split would have flattered the method.
        devices: GPUs (or processes, where there is no GPU) that share every batch of a run. Other
            than ``execution`` this changes results: each device draws its own dropout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: list[NonNegativeInt] = Field(default=[0, 1, 2], min_length=1)
    targets: list[str] | None = None
    snapshot_mb: float = Field(default=4.0, ge=0, allow_inf_nan=False)
    devices: int = Field(default=1, ge=1)

    @field_validator("seeds")
    @classmethod
    def _are_distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{seeds} names a seed twice; each is one run")
        return seeds


def run(
    asked: ForMethod[TrainParams], layout: Layout, ctx: Context, corpus: str, method: str
) -> None:
    """Train ``method`` on ``corpus`` and write its run folders.

    Args:
        asked: seeds and targets, the method's entry, and the encoders that are read.
        layout: where the tables lie, and the runs are to.
        ctx: runs the seeds side by side.
        corpus: whose features, labels and splits to read.
        method: key under ``methods`` in params.yaml.
    """
    params, inputs = asked.own, dict(asked.inputs)
    recipe = resolve(method, asked.entry)
    recipe.refuse_idle(asked.entry)
    reader = Reader(layout, corpus, inputs)
    source = reader.source(recipe)
    for note in [*recipe.notes(inputs, source.pooled_only), *source.notes()]:
        ctx.log(note)
    data = fingerprint_inputs(layout, corpus, recipe, inputs)
    common = Common(reader, method, data, params.snapshot_mb, params.devices)
    jobs = list(_jobs(asked, common, recipe, source, ctx.code))
    for job in jobs:  # before hours of work: the last fold may be the one that cannot be learnt
        if job.seed == params.seeds[0]:
            parts(layout, source, recipe, corpus, job.fold, job.targets)
    _train_all(jobs, ctx, common)
    forget()
    _publish(layout.runs(corpus, method), jobs)
    for job in jobs:
        _forget(job)


def _jobs(
    asked: ForMethod[TrainParams], common: Common, recipe: Recipe, source: Source, code: str
) -> Iterator[Job]:
    """Every run: each seed, fold and group of targets."""
    layout, corpus, method = common.layout, common.corpus, common.method
    found = None
    if asked.entry.get("search") is not None:  # imported by name: only such an entry depends on it
        found = registry.part("tasks.search.result").searched(layout, corpus, method)
    entries = entries_of(asked.entry, found, source.folds, f"{corpus}-{method}")
    groups = recipe.target_groups(source.targets, asked.own.targets, corpus)
    for seed, fold, group in product(asked.own.seeds, source.folds, groups):
        place = fold if len(source.folds) > 1 else None
        names = tuple(target.name for target in group)
        init = None
        if recipe.init_from is not None:
            where = f"methods.{method}.init_from"
            init = find_start(layout, recipe.init_from, corpus, seed, place, where)
        yield Job(
            common=common,
            entry=entries[fold],
            seed=seed,
            fold=fold,
            targets=names,
            folder=str(run_folder(layout, corpus, method, seed, place, names)),
            init=None if init is None else str(init),
            key=_key(common, entries[fold], (seed, fold, names), init, code),
        )


def _key(
    common: Common,
    entry: Mapping[str, Any],
    place: tuple[int, int, tuple[str, ...]],
    init: Path | None,
    code: str,
) -> str:
    """Hash of all that decides what a run comes to."""
    what = [common.method, entry, common.reader.inputs, *place, common.snapshot_mb]
    if common.devices > 1:
        what.append({"devices": common.devices})
    if init is not None:
        what.append(sha256(init / WEIGHTS))
    text = json.dumps([what, common.data, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _train_all(jobs: Sequence[Job], ctx: Context, common: Common) -> None:
    """Train every run into the cache, those of one seed and fold one after the other."""
    shards = [
        [job for job in jobs if (job.seed, job.fold) == place]
        for place in dict.fromkeys((job.seed, job.fold) for job in jobs)
    ]
    done = 0
    ctx.progress(Progress(done, len(jobs), "runs"))
    # a run that takes all devices leaves none for another beside it
    trained = (
        ctx.map(train_shard, shards, f"train {common.method}")
        if common.devices == 1
        else map(train_shard, shards)
    )
    for keys in trained:
        done += len(keys)
        ctx.progress(Progress(done, len(jobs), "runs"))


def _publish(out: Path, jobs: Sequence[Job]) -> None:
    """Copy the runs when all are there: the out is whole, and nothing older stays in it."""
    temporary = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for job in jobs:
            shutil.copytree(job.cached, temporary / Path(job.folder).relative_to(out))
        if out.exists():
            shutil.rmtree(out)
        temporary.replace(out)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"cannot write {out}: {why(error)}; free space or allow writing there"
        ) from error


def _forget(job: Job) -> None:
    """Remove a run from the cache; half of one must never pass for a run that is finished."""
    shutil.rmtree(job.unfinished, ignore_errors=True)
    with contextlib.suppress(OSError):  # what stays there is a whole run of the same key
        job.cached.rename(job.unfinished)
        shutil.rmtree(job.cached.parent)


def train_shard(jobs: Sequence[Job]) -> list[str]:
    """Train the runs of one seed and fold."""
    return [train_one(job) for job in jobs]
