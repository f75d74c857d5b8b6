"""Shards on a Dask or Ray cluster through Prefect's task runners; extras ``dask`` and ``ray``."""

import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from prefect import flow, task
from prefect.utilities.annotations import quote

from flows.execution import worker_count
from models.errors import UserError
from tasks.params import ExecutionParams

In = TypeVar("In")
Out = TypeVar("Out")


def map_on_cluster(
    function: Callable[[In], Out], shards: Sequence[In], what: str, settings: ExecutionParams
) -> Iterable[Out]:
    """``function`` over ``shards`` as task runs on a cluster; results in order.

    Workers need the same checkout, the shared cache folder (``AFFECTLOOM_CACHE``) and the data.
    Losing a worker is harmless: what shards write is content-addressed.
    """
    folder = os.getcwd()

    @task(name=what, retries=1, persist_result=False)
    def step(shard: Any) -> Any:
        os.chdir(folder)
        return function(shard)

    @flow(name=f"{what} on {settings.runner}", task_runner=_runner(settings), log_prints=False)
    def spread() -> list[Any]:
        # quote: Prefect would otherwise walk through every value of a shard
        return [future.result() for future in [step.submit(quote(shard)) for shard in shards]]

    yield from spread()


def _runner(settings: ExecutionParams) -> Any:
    package = f"prefect_{settings.runner}"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"execution.runner is {settings.runner}, but {package.replace('_', '-')} is not "
            f"installed; install the extra: uv pip install -e '.[{settings.runner}]'"
        ) from error
    if settings.runner == "dask":
        if settings.address:
            return module.DaskTaskRunner(address=settings.address)
        local = {"n_workers": worker_count(settings), "threads_per_worker": 1}
        return module.DaskTaskRunner(cluster_kwargs=local)
    options: dict[str, Any] = {"num_cpus": worker_count(settings)}
    if settings.address:
        return module.RayTaskRunner(address=settings.address)
    return module.RayTaskRunner(init_kwargs=options)
