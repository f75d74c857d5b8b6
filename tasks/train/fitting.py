"""Trains one run into the cache, from its beginning or from where it was interrupted."""

import shutil
import threading
from functools import partial
from pathlib import Path

import torch

from models import parallel
from models.training import Fitted, Hooks, best_device, fit
from tasks.tables.parquet import give_back
from tasks.train.job import Job, Setup, set_up
from tasks.train.record import write_run
from tasks.train.runs import EpochClock, score
from tasks.train.saving import Saver, Snapshots

#: Random numbers come from generators that all threads of a process share, so that two runs side by
#: side would take each other's; runs that are to go in parallel need processes.
_ONE_AT_A_TIME = threading.Lock()


def train_one(job: Job) -> str:
    """Train one run into the cache; goes on from its last epoch if it was interrupted."""
    with _ONE_AT_A_TIME:
        return _train_one(job)


def _train_one(job: Job) -> str:
    final = job.cached
    if final.exists():
        return job.key
    give_back()  # what the last run left
    setup = set_up(job)
    work = final.parent
    work.mkdir(parents=True, exist_ok=True)
    keeper = _snapshots(setup, job)
    if job.common.devices == 1:
        fitted = _fit(setup, job, keeper)
    else:
        parallel.check(setup.method, job.common.method)
        fitted = parallel.launch(job.common.devices, partial(_fit_share, job))
    write_run(job.unfinished, job, setup, fitted)
    keeper.write(job.unfinished)
    job.unfinished.replace(final)
    _state_file(job).unlink(missing_ok=True)
    shutil.rmtree(keeper.folder, ignore_errors=True)
    return job.key


def _fit(setup: Setup, job: Job, keeper: Snapshots, team: parallel.Team | None = None) -> Fitted:
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
            save=Saver(state_file, keeper.flush),
            on_epoch=EpochClock(f"train {place}", setup.recipe.train.epochs),
            keep=keeper.keep,
        ),
    )


def _fit_share(job: Job, team: parallel.Team) -> Fitted:
    """What each of several processes does."""
    setup = set_up(job)
    keeper = _snapshots(setup, job)
    fitted = _fit(setup, job, keeper, team)
    keeper.flush()  # for the process that writes the run
    return fitted


def _state_file(job: Job) -> Path:
    return job.cached.with_name("state.pt")


def _snapshots(setup: Setup, job: Job) -> Snapshots:
    folder = job.cached.with_name("snapshots")
    return Snapshots(setup.method, setup.recipe.train, job.common.snapshot_mb, folder)
