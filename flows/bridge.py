"""Where a stage meets Prefect: shards become task runs when an API answers, else nothing else."""

import http.client
import os
import signal
import threading
import urllib.request
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flows.execution import worker_count
from models.errors import UserError
from tasks.context import Context, Progress
from tasks.params import ExecutionParams
from tasks.plain_context import PlainContext, in_order, make_pool, progress_line

if TYPE_CHECKING:
    from flows.prefect.reporting import Ending, FlowReport

In = TypeVar("In")
Out = TypeVar("Out")

#: Id of the pipeline's flow run, in the environment of its stages.
PIPELINE_RUN = "AFFECTLOOM_PIPELINE_RUN"
#: Process id of the pipeline, in the environment of its stages, which must not outlive it.
PIPELINE_PID = "AFFECTLOOM_PIPELINE_PID"
DEFAULT_API = "http://127.0.0.1:4200/api"
_PROBE_S = 1.5


def api_url() -> str:
    """Where the Prefect API is looked for."""
    return (os.environ.get("PREFECT_API_URL") or DEFAULT_API).rstrip("/")


def has_api() -> bool:
    """Does a Prefect API answer? Asked without importing prefect, within 1.5 seconds."""
    if os.environ.get("AFFECTLOOM_PREFECT") == "off":
        return False
    try:
        with urllib.request.urlopen(f"{api_url()}/health", timeout=_PROBE_S) as answer:
            # other servers like port 4200 too, and some answer every path with a page
            return answer.status == 200 and answer.read(16).strip() == b"true"
    except (OSError, ValueError, http.client.HTTPException):
        return False


def prepare_environment(root: Path) -> None:
    """Settings that Prefect reads while it is imported; what the user has set stays."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_API_URL", api_url())
    os.environ.setdefault("PREFECT_HOME", str(root.resolve() / ".prefect"))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")


@contextmanager
def open_context(name: str, settings: ExecutionParams, code: str = "") -> Iterator[Context]:
    """The context for one stage: reporting to Prefect when its API answers, plain otherwise."""
    runner = settings.runner if settings.runner in ("threads", "processes") else "processes"
    is_local = runner == settings.runner
    plain = PlainContext(name, runner=runner, workers=worker_count(settings), code=code)
    if not has_api():
        if not is_local:
            raise UserError(
                f"execution.runner is {settings.runner}, which needs a Prefect API, but none "
                f"answers at {api_url()}; start one with `affectloom ui` or use processes"
            )
        yield plain
        return
    prepare_environment(Path.cwd())
    context = PrefectContext(plain, settings)
    try:
        yield context
    except KeyboardInterrupt:
        context.close("cancelled", "interrupted")
        raise
    except BaseException as error:
        context.close("failed", str(error) or type(error).__name__)
        raise
    context.close("completed")


class PrefectContext:
    """A ``Context`` whose shards are task runs of a flow run, opened when there are several."""

    def __init__(self, plain: PlainContext, settings: ExecutionParams) -> None:
        self.plain, self.settings = plain, settings
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
            self._report.table(title, rows)

    def map(self, function: Callable[[In], Out], shards: Sequence[In], what: str) -> Iterable[Out]:
        """See ``Context.map``."""
        if len(shards) < 2:
            return self.plain.map(function, shards, what)
        report = self._open()
        if self.settings.runner in ("dask", "ray"):
            from flows.prefect.clusters import map_on_cluster

            return map_on_cluster(function, shards, what, self.settings)
        return self._map_here(function, shards, what, report)

    def alone(self, function: Callable[[In], Out], shard: In) -> Out:
        """See ``Context.alone``."""
        return self.plain.alone(function, shard)

    def _map_here(
        self, function: Callable[[In], Out], shards: Sequence[In], what: str, report: "FlowReport"
    ) -> Iterable[Out]:
        workers = min(self.workers, len(shards))
        with make_pool(self.plain.runner, workers) as pool:
            shown = _ShownPool(pool, workers, report, f"{what} {{}}/{len(shards)}")
            yield from in_order(shown, function, shards, ahead=2 * workers)

    def _open(self) -> "FlowReport":
        if self._report is None:
            from flows.prefect.reporting import FlowReport

            stage = self.plain.stage
            self._report = FlowReport.open(
                flow=f"stage-{stage.split('@')[0]}",
                run=stage,
                tags=["affectloom", f"stage:{stage}"],
                parent=os.environ.get(PIPELINE_RUN),
                on_cancel=_interrupt,
            )
        return self._report

    def close(self, ending: "Ending", message: str = "") -> None:
        """Set the flow run's final state, where one was opened."""
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
