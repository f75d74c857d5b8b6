"""Where a stage meets Prefect: shards become task runs when an API answers, else nothing else."""

import os
import signal
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flows.execution import worker_count
from flows.noting import current
from flows.prefect.home import has_api
from tasks.context import Context, Progress
from tasks.params.model import ExecutionParams
from tasks.plain_context import PlainContext, in_order, make_pool, progress_line

if TYPE_CHECKING:
    from flows.prefect.reporting import Ending, FlowReport

In = TypeVar("In")
Out = TypeVar("Out")

#: Id of the pipeline's flow run, in the environment of its stages.
PIPELINE_RUN = "AFFECTLOOM_PIPELINE_RUN"
#: Process id of the pipeline, in the environment of its stages, which must not outlive it.
PIPELINE_PID = "AFFECTLOOM_PIPELINE_PID"


@contextmanager
def open_context(
    name: str, settings: ExecutionParams, code: str = "", run: uuid.UUID | None = None
) -> Iterator[Context]:
    """The context for one stage: reporting to Prefect when its API answers, plain otherwise.

    ``run`` is the flow run that Prefect opened for the stage, where it was started there.
    """
    is_local = settings.runner in ("threads", "processes")
    runner = "threads" if settings.runner == "threads" else "processes"
    plain = PlainContext(name, runner=runner, workers=worker_count(settings), code=code)
    if PIPELINE_PID in os.environ and not settings.workers:
        plain.share = lambda: plain.workers // _stages_at_work()
    # a pipeline that names its run hears the server: its stages need not wait for another answer
    is_shown = PIPELINE_RUN in os.environ or has_api()
    if is_local and not is_shown:
        yield plain
        return
    context = StageContext(plain, settings, run, is_shown)
    try:
        yield context
    except KeyboardInterrupt:
        context.close("cancelled", "interrupted")
        raise
    except BaseException as error:
        context.close("failed", str(error) or type(error).__name__)
        raise
    context.close("completed")


def _stages_at_work() -> int:
    """How many stages the pipeline has running, this one among them."""
    note = current(Path())
    return max(1, len(note.running)) if note else 1


class StageContext:
    """A ``Context`` whose shards may be task runs of a flow run, and may run on a cluster.

    Both begin with the first work that has several shards: small stages pay for neither.
    """

    def __init__(
        self, plain: PlainContext, settings: ExecutionParams, run: uuid.UUID | None, is_shown: bool
    ) -> None:
        self.plain, self.settings, self.run, self.is_shown = plain, settings, run, is_shown
        self._cluster: tuple[Executor, int] | None = None
        self._opened = ExitStack()
        self._report: FlowReport | None = None

    @property
    def workers(self) -> int:
        """See ``Context.workers``."""
        return self.plain.workers

    @property
    def code(self) -> str:
        """See ``Context.code``."""
        return self.plain.code

    def log(self, message: str) -> None:
        """See ``Context.log``."""
        self.plain.log(message)
        if self._report:
            self._report.say(message)

    def progress(self, progress: Progress) -> None:
        """See ``Context.progress``."""
        self.plain.progress(progress)
        if self._report:
            line = progress_line(self.plain.stage, progress, self.plain.elapsed_s)
            self._report.progress(progress, line)

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """See ``Context.table``."""
        self.plain.table(title, rows)
        if self._report:
            self._report.table(f"{self.plain.stage} {title}", rows)

    def map(self, function: Callable[[In], Out], shards: Sequence[In], what: str) -> Iterable[Out]:
        """See ``Context.map``."""
        if len(shards) < 2:
            return self.plain.map(function, shards, what)
        if self.settings.runner in ("dask", "ray"):
            return self._map(*self._open_cluster(), function, shards, what)
        return self._map_here(function, shards, what)

    def alone(self, function: Callable[[In], Out], shard: In) -> Out:
        """See ``Context.alone``."""
        return self.plain.alone(function, shard)

    def _map_here(
        self, function: Callable[[In], Out], shards: Sequence[In], what: str
    ) -> Iterable[Out]:
        workers = min(self.workers, len(shards))
        with make_pool(self.plain.runner, workers) as pool:
            yield from self._map(pool, workers, function, shards, what)

    def _map(
        self, pool: Executor, workers: int, function: Callable[[In], Out], shards: Sequence[In],
        what: str,
    ) -> Iterable[Out]:  # fmt: skip
        if self.is_shown:
            name = f"{what} {{}}/{len(shards)}"
            pool = _ShownPool(pool, workers, self._open(), name)
        return in_order(pool, function, shards, ahead=2 * workers)

    def _open_cluster(self) -> tuple[Executor, int]:
        if self._cluster is None:
            from flows.clusters import cluster_pool  # whose packages few have

            self._cluster = self._opened.enter_context(cluster_pool(self.settings))
        return self._cluster

    def _open(self) -> "FlowReport":
        if self._report is None:
            from flows.prefect.reporting import FlowReport

            stage = self.plain.stage
            tags = ["affectloom", f"stage:{stage}"]
            if self.run is not None:
                self._report = FlowReport.join(self.run, stage, tags, _interrupt)
                return self._report
            self._report = FlowReport.open(
                flow=f"stage-{stage.split('@')[0]}",
                run=stage,
                tags=tags,
                parent=os.environ.get(PIPELINE_RUN),
                on_cancel=_interrupt,
            )
        return self._report

    def close(self, ending: "Ending", message: str = "") -> None:
        """End the cluster and set the flow run's final state, where there is one."""
        self._opened.close()
        if self._report:
            self._report.finish(ending, message)


class _ShownPool(Executor):
    """A pool whose every call is a task run: pending until one of the workers is free for it."""

    def __init__(self, pool: Executor, workers: int, report: "FlowReport", name: str) -> None:
        self._pool, self._free, self._report, self._name = pool, workers, report, name
        self._sent = 0
        self._queued: deque[uuid.UUID] = deque()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Out], /, *args: Any, **kwargs: Any) -> Future[Out]:
        """See ``Executor.submit``."""
        future = self._pool.submit(fn, *args, **kwargs)
        self._sent += 1
        task = self._report.task(self._name.format(self._sent))
        with self._lock:
            self._queued.append(task)
            self._begin()
        future.add_done_callback(lambda done: self._ended(task, done))
        return future

    def _begin(self) -> None:
        while self._free > 0 and self._queued:  # pools take calls in the order they came
            self._free -= 1
            self._report.start_task(self._queued.popleft())

    def _ended(self, task: uuid.UUID, done: Future[Any]) -> None:
        with self._lock:
            if task in self._queued:
                self._queued.remove(task)
            else:
                self._free += 1
            if not done.cancelled():
                self._begin()
        if done.cancelled():
            self._report.end_task(task, "cancelled", "not begun when another shard failed")
        elif error := done.exception():
            self._report.end_task(task, "failed", str(error) or type(error).__name__)
        else:
            self._report.end_task(task, "completed")


def _interrupt() -> None:
    """Somebody cancelled this run in the UI: end like Ctrl-C."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)
