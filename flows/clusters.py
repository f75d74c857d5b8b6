"""Shards on a Dask or Ray cluster; extras ``dask`` and ``ray``, installed where they are wanted.

A cluster is one more pool: who sends shards and who tells Prefect of them is the same as on one
machine. Workers need this code, the media and the shared cache folder (``AFFECTLOOM_CACHE``) at the
same paths. Losing a worker is harmless: its shards are done again, and what they write is
content-addressed.
"""

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from flows.execution import worker_count
from models.errors import UserError
from tasks.context import WorkerDied
from tasks.params.model import ExecutionParams

Out = TypeVar("Out")

#: How often a shard whose worker died is sent to another.
RETRIES = 3


@contextmanager
def cluster_pool(settings: ExecutionParams) -> Iterator[tuple[Executor, int]]:
    """The cluster that ``settings`` name, or a new one on this machine; and its size in shards."""
    with (_dask if settings.runner == "dask" else _ray)(settings) as found:
        yield found


@contextmanager
def _dask(settings: ExecutionParams) -> Iterator[tuple[Executor, int]]:
    distributed = runner_package("distributed", settings.runner)
    logging.getLogger("distributed").setLevel(logging.WARNING)  # dozens of lines a stage else
    local = {
        "n_workers": worker_count(settings),
        "threads_per_worker": 1,
        "dashboard_address": None,  # a port that nobody asked for
    }
    options = {"address": settings.address} if settings.address else local
    try:
        opened = distributed.Client(**options)
    except RuntimeError as error:  # what Dask makes of it
        raise WorkerDied(
            f"a worker of the Dask cluster died while it started ({error}); run the same command "
            "again, with fewer execution.workers in params.yaml if it dies again"
        ) from error
    with opened as client:
        size = sum(client.nthreads().values())
        yield _Placed(client.get_executor(retries=RETRIES)), max(1, size)


@contextmanager
def _ray(settings: ExecutionParams) -> Iterator[tuple[Executor, int]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # half a minute fails under load
    ray = runner_package("ray", settings.runner)
    local = {"num_cpus": worker_count(settings), "include_dashboard": False}
    ray.init(**({"address": settings.address} if settings.address else local))
    try:
        yield _Placed(_RayPool(ray)), max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


class _RayPool(Executor):
    """Ray's tasks with the face of a pool."""

    def __init__(self, ray: Any) -> None:
        self._call = ray.remote(max_retries=RETRIES)(_call)

    def submit(self, fn: Callable[..., Out], /, *args: Any, **kwargs: Any) -> Future[Out]:
        """See ``Executor.submit``."""
        return self._call.remote(fn, *args, **kwargs).future()


class _Placed(Executor):
    """A pool whose workers stand in this process's folder, with its settings."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._folder = os.getcwd()
        ours = ("AFFECTLOOM_", "OMP_", "HF_")
        self._environment = {k: v for k, v in os.environ.items() if k.startswith(ours)}

    def submit(self, fn: Callable[..., Out], /, *args: Any, **kwargs: Any) -> Future[Out]:
        """See ``Executor.submit``."""
        return self._pool.submit(_call_in, self._folder, self._environment, fn, *args, **kwargs)


def _call(fn: Callable[..., Out], *args: Any, **kwargs: Any) -> Out:
    return fn(*args, **kwargs)


def _call_in(
    folder: str, environment: Mapping[str, str], fn: Callable[..., Out], *args: Any, **kwargs: Any
) -> Out:
    if not os.path.isdir(folder):
        raise UserError(
            f"a worker has no folder {folder}; workers need the project at the same path"
        )
    os.chdir(folder)
    os.environ.update(environment)
    return fn(*args, **kwargs)


def runner_package(name: str, runner: str) -> Any:
    """The library that a runner needs, or what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"execution.runner is {runner}, but {name} is not installed; install the extra: "
            f"uv pip install -e '.[{runner}]'"
        ) from error
