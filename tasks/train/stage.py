"""Stage ``train``: one method on one corpus, for every seed, fold and target; no test rows.

Each run goes to ``data/runs/<corpus>/<method>/seed<k>/[fold<j>/]<target>/``; where options were
searched, a run has those that the search of its own fold found. Runs that are finished
or half finished wait in the cache folder, outside DVC's outs, so a killed stage goes on where it
was and ends with the same bytes.
"""

import hashlib
import json
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator
from safetensors.torch import save_file

from models import parallel, registry
from models.batch import MODALITIES
from models.errors import UserError
from models.method import Method
from models.training import (
    Fitted,
    Hooks,
    TrainConfig,
    best_device,
    compute_steadily,
    fit,
    seed_everything,
)
from tasks.atomic import replacing, write_json
from tasks.batches.held import Reader
from tasks.batches.source import Dataset, Source
from tasks.context import Context, ForMethod, Progress
from tasks.layout import Layout
from tasks.recipes import Recipe, build, resolve
from tasks.train.runs import EpochClock, entries_of, parts, score
from tasks.warm_start import WEIGHTS, find_start, warm_start


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


#: Random numbers come from generators that all threads of a process share, so that two runs side by
#: side would take each other's; runs that are to go in parallel need processes.
_ONE_AT_A_TIME = threading.Lock()


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
    for note in recipe.notes(inputs, source.pooled_only):
        ctx.log(note)
    data = fingerprint_inputs(layout, corpus, recipe, inputs)
    common = Common(reader, method, data, params.snapshot_mb, params.devices)
    jobs = list(_jobs(asked, common, recipe, source, ctx.code))
    for job in jobs:  # before hours of work: the last fold may be the one that cannot be learnt
        if job.seed == params.seeds[0]:
            parts(layout, source, recipe, corpus, job.fold, job.targets)
    _train_all(jobs, ctx, common)
    _publish(layout.runs(corpus, method), jobs)
    for job in jobs:
        shutil.rmtree(job.cached.parent, ignore_errors=True)


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
        what.append(_sha256(init / WEIGHTS))
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
            f"cannot write {out}: {error.strerror or error}; free space or allow writing there"
        ) from error


def run_folder(
    layout: Layout, corpus: str, method: str, seed: int, fold: int | None, targets: Sequence[str]
) -> Path:
    """Where one run lies."""
    folder = layout.runs(corpus, method) / f"seed{seed}"
    if fold is not None:
        folder = folder / f"fold{fold}"
    return folder / "+".join(targets)


def train_shard(jobs: Sequence[Job]) -> list[str]:
    """Train the runs of one seed and fold."""
    return [train_one(job) for job in jobs]


def train_one(job: Job) -> str:
    """Train one run into the cache; goes on from its last epoch if it was interrupted."""
    with _ONE_AT_A_TIME:
        return _train_one(job)


def _train_one(job: Job) -> str:
    final = job.cached
    if final.exists():
        return job.key
    setup = _set_up(job)
    work = final.parent
    work.mkdir(parents=True, exist_ok=True)
    if job.common.devices == 1:
        fitted = _fit(setup, job)
    else:
        parallel.check(setup.method, job.common.method)
        fitted = parallel.launch(job.common.devices, partial(_fit_share, job))
    keeper = _snapshots(setup, job)
    _write_run(work / "run.tmp", job, setup, fitted)
    keeper.write(work / "run.tmp")
    (work / "run.tmp").replace(final)
    _state_file(job).unlink(missing_ok=True)
    shutil.rmtree(keeper.folder, ignore_errors=True)
    return job.key


@dataclass(frozen=True)
class _Setup:
    """A run that is ready to begin."""

    recipe: Recipe
    source: Source
    method: Method
    train: Dataset
    validation: Dataset


def _set_up(job: Job) -> _Setup:
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
    return _Setup(recipe, source, method, train, validation)


def _fit(setup: _Setup, job: Job, team: parallel.Team | None = None) -> Fitted:
    """Train from the beginning or from where an interrupted run was last saved."""
    state_file = _state_file(job)
    resume = torch.load(state_file, weights_only=True) if state_file.exists() else None
    place = f"{job.common.corpus}-{job.common.method}, seed {job.seed}, fold {job.fold}"
    return fit(
        setup.method,
        setup.train,
        setup.validation,
        partial(score, setup.validation, setup.method),
        setup.recipe.train,
        seed=job.seed,
        where=team or best_device(),
        resume=resume,
        hooks=Hooks(
            save=_Saver(state_file),
            on_epoch=EpochClock(f"train {place}", setup.recipe.train.epochs),
            keep=_snapshots(setup, job).keep,
        ),
    )


def _fit_share(job: Job, team: parallel.Team) -> Fitted:
    """What each of several processes does."""
    return _fit(_set_up(job), job, team)


def _state_file(job: Job) -> Path:
    return job.cached.with_name("state.pt")


def _snapshots(setup: _Setup, job: Job) -> "_Snapshots":
    folder = job.cached.with_name("snapshots")
    return _Snapshots(setup.method, setup.recipe.train, job.common.snapshot_mb, folder)


def _save_state(path: Path, state: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        torch.save(state, temporary)


class _Saver:
    """Saves the state of a run for a killed one to go on from, at a small share of the time."""

    share = 0.05

    def __init__(self, path: Path) -> None:
        self.path, self.not_before = path, 0.0

    def __call__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        began = time.monotonic()
        if began < self.not_before:
            return
        _save_state(self.path, state())
        ended = time.monotonic()
        self.not_before = ended + (ended - began) / self.share


class _Snapshots:
    """Keeps the validated weights of evenly spaced epochs, as many as the budget allows."""

    def __init__(self, method: Method, config: TrainConfig, budget_mb: float, folder: Path) -> None:
        size_mb = sum(v.numel() * v.element_size() for v in method.state_dict().values()) / 1e6
        count = int(budget_mb / size_mb) if size_mb else 0
        self.stride = max(1, -(-config.epochs // count)) if count else 0
        self.folder = folder

    def keep(self, epoch: int, state: Mapping[str, torch.Tensor]) -> None:
        """Keep the weights of ``epoch`` if it is one of those chosen."""
        if self.stride and epoch % self.stride == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / f"epoch{epoch:04d}.safetensors") as temporary:
                save_file(dict(state), temporary)

    def write(self, run: Path) -> None:
        """Put the kept weights beside the chosen ones."""
        if self.folder.exists():
            unfinished = shutil.ignore_patterns(".*")  # what a kill in the middle of writing left
            shutil.copytree(self.folder, run / "snapshots", ignore=unfinished)


def _write_run(
    folder: Path,
    job: Job,
    setup: _Setup,
    fitted: Fitted,
) -> None:
    method, source, common = setup.method, setup.source, job.common
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file(fitted.state, folder / WEIGHTS)
    config = {
        "method": common.method,
        "entry": dict(job.entry),
        "inputs": dict(common.reader.inputs),
        "dims": source.dims,
        **({"frame_dims": source.frame_dims} if source.frame_dims else {}),
        "speakers": method.spec.speakers,
        "people": method.spec.people,
        "targets": [asdict(target) for target in method.spec.targets],
        "seed": job.seed,
        "fold": job.fold,
    }
    write_json(folder / "config.json", config)
    report = {
        **config,
        "corpus": common.corpus,
        "method_options": asdict(setup.recipe.config),
        "training": asdict(setup.recipe.train),
        **({"init_from": job.init} if job.init is not None else {}),
        **({"devices": common.devices} if common.devices > 1 else {}),
        "data": dict(common.data),
        "versions": {
            # without the patch release, which computes the same: run folders are compared by bytes
            "python": ".".join(platform.python_version_tuple()[:2]),
            "torch": torch.__version__,
            "affectloom": version("affectloom"),
        },
        "parameters": sum(p.numel() for p in method.parameters()),
        "rows": {"train": len(setup.train.rows), "validation": len(setup.validation.rows)},
        **({"train_items_without_picture": setup.train.unseen} if source.images else {}),
        "chosen_epoch": fitted.chosen_epoch,
        "validation_score": fitted.score,
        "stopped_early": fitted.stopped_early,
        "history": fitted.history,
    }
    write_json(folder / "report.json", report)
    if fitted.history:
        (folder / "history.tsv").write_text(history_table(fitted.history))


def history_table(history: Sequence[Mapping[str, float]]) -> str:
    """One line for each epoch as `dvc plots` reads it; a loss that an epoch lacks stays empty."""
    columns = list(dict.fromkeys(name for record in history for name in record))
    lines = ["\t".join("step" if name == "epoch" else name for name in columns)]
    lines += [
        "\t".join(f"{record[name]:.9g}" if name in record else "" for name in columns)
        for record in history
    ]
    return "\n".join(lines) + "\n"


def fingerprint_inputs(
    layout: Layout, corpus: str, recipe: Recipe, inputs: Mapping[str, str]
) -> dict[str, str]:
    """SHA-256 of every table that training ``recipe`` reads, and of local weights."""
    files = [layout.utterances(corpus), layout.labels(corpus), layout.splits(corpus)]
    mine = recipe.inputs(inputs)
    encoders = [mine[modality] for modality in MODALITIES if modality in mine]
    for encoder in dict.fromkeys([*encoders, *recipe.extra(inputs).values()]):
        files += sorted(layout.features(corpus, encoder).glob("*.parquet"))
    if "images" in recipe.method.needs:
        files.append(layout.faces(corpus))
    pretrained = str(getattr(recipe.config, "pretrained", ""))
    if pretrained.endswith(".safetensors"):
        if not (file := Path(pretrained)).is_file():
            raise UserError(
                f"params.yaml: methods.{recipe.name}.pretrained: there is no file {file}; put it "
                "there, or leave pretrained empty to train from scratch"
            )
        files.append(file)
    return {str(file): _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
