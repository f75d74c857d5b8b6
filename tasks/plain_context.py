"""The ``Context`` of a stage that runs without Prefect: local workers, one progress line."""

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO, TypeVar

from models.errors import UserError
from tasks.context import Progress, WorkerDied

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger("affectloom")


@dataclass
class PlainContext:
    """Runs shards on this machine and shows one progress line on the terminal.

    Attributes:
        stage: what the line begins with.
        runner: threads share memory; processes give every worker its own interpreter.
        workers: how many shards at once.
        stream: where progress goes; lines are rewritten in place only on a terminal.
        code: see ``Context.code``.
        share: how many of the workers have a core now that no other stage is at work on; asked
            before each shard.
    """

    stage: str = ""
    runner: Literal["threads", "processes"] = "threads"
    workers: int = 1
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    code: str = ""
    share: Callable[[], int] | None = None
    _started: float = field(default_factory=time.monotonic)
    _shown: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._started

    def map(self, function: Callable[[In], Out], shards: Sequence[In], what: str) -> Iterable[Out]:
        """See ``Context.map``. Results are yielded as soon as they and those before are there.

        While other stages have the other cores, this process works by itself: a pool beside it
        would only wait for them, after seconds of imports in each of its processes.
        """
        for done, shard in enumerate(shards):
            if not self._is_alone(len(shards) - done):
                yield from self._spread(function, shards[done:])
                return
            yield function(shard)

    def _is_alone(self, left: int) -> bool:
        return left < 2 or self.workers == 1 or (self.share is not None and self.share() < 2)

    def _spread(self, function: Callable[[In], Out], shards: Sequence[In]) -> Iterable[Out]:
        with make_pool(self.runner, min(self.workers, len(shards))) as pool:
            yield from in_order(pool, function, shards, ahead=2 * self.workers)

    def alone(self, function: Callable[[In], Out], shard: In) -> Out:
        """See ``Context.alone``."""
        with make_pool("processes", 1) as pool:
            (found,) = in_order(pool, function, [shard], ahead=1)
        return found

    def log(self, message: str) -> None:
        """See ``Context.log``."""
        log.info("%s: %s", self.stage, message) if self.stage else log.info("%s", message)

    def progress(self, progress: Progress) -> None:
        """See ``Context.progress``. At most five lines a second on a terminal, else one in 10 s."""
        now = time.monotonic()
        is_last = progress.done >= progress.total
        pause = 0.2 if self.stream.isatty() else 10.0
        if not is_last and now - self._shown < pause:
            return
        self._shown = now
        line = progress_line(self.stage, progress, self.elapsed_s)
        if self.stream.isatty():
            self.stream.write(f"\r\033[K{line}" + ("\n" if is_last else ""))
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """See ``Context.table``."""
        for row in rows:
            cells = [f"{key} {value}" for key, value in row.items() if value not in (None, "")]
            self.log(f"{title}: {', '.join(cells)}")


def make_pool(runner: Literal["threads", "processes"], workers: int) -> Executor:
    """A pool of ``workers`` threads or processes.

    Processes come from a fork server: forking this one would copy the locks of polars and torch in
    whatever state they are, which can hang the child.
    """
    if runner == "threads":
        return ThreadPoolExecutor(workers)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "torch", "polars"])
    try:
        return ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_start_worker,
            initargs=(os.getpid(), dict(os.environ)),
        )
    except OSError as error:  # of the semaphores, which lie in shared memory
        raise UserError(
            f"cannot start {workers} processes: {error.strerror or error}; free /dev/shm (a "
            "container: --shm-size=1g), or set `execution: {runner: threads}` in params.yaml"
        ) from error


def _start_worker(pid: int, environment: Mapping[str, str]) -> None:
    """Give a worker this process's environment: its own is that of the fork server's start."""
    os.environ.update(environment)
    end_with(pid)


def end_with(pid: int, pause_s: float = 1.0) -> None:
    """From now on, end this process with status 130 soon after process ``pid`` is gone.

    Without it a killed stage would leave its workers behind, waiting for ever.
    """

    def watch() -> None:
        while _is_running(pid):
            time.sleep(pause_s)
        os._exit(130)  # the work is in files written atomically; nothing needs to be tidied up

    threading.Thread(target=watch, name=f"watch-{pid}", daemon=True).start()


def _is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # after the name in brackets; a killed process whose parent does not wait for it stays as "Z"
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def in_order(
    pool: Executor,
    function: Callable[[In], Out],
    shards: Sequence[In],
    ahead: int,
    started: Callable[[int], None] = lambda index: None,
) -> Iterable[Out]:
    """Results in the order of ``shards``, with at most ``ahead`` waiting: memory stays flat.

    The first failure cancels what has not started and is raised. ``started`` hears the index of
    every shard that is handed to the pool.
    """
    waiting: dict[int, Future[Out]] = {}
    sent = 0
    try:
        for index in range(len(shards)):
            while sent < len(shards) and sent < index + ahead:
                waiting[sent] = pool.submit(function, shards[sent])
                started(sent)
                sent += 1
            yield waiting.pop(index).result()
    except BrokenExecutor as error:
        raise WorkerDied(
            "a worker process died, as happens when memory runs out; run the same command again, "
            "with fewer execution.workers in params.yaml if it dies again"
        ) from error
    finally:
        for future in waiting.values():
            future.cancel()


def progress_line(stage: str, progress: Progress, elapsed_s: float) -> str:
    """``faces: 120/200 clips, 14.2/s, 0:06 left, 2 degraded, 1 quarantined``."""
    rate = (progress.done - progress.known) / elapsed_s if elapsed_s > 0 else 0.0
    parts = [f"{progress.done}/{progress.total} {progress.unit}"]
    if rate > 0:
        left_s = (progress.total - progress.done) / rate
        parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min")
        parts.append(f"{int(left_s) // 60}:{int(left_s) % 60:02d} left")
    if progress.degraded:
        parts.append(f"{progress.degraded} degraded")
    if progress.quarantined:
        parts.append(f"{progress.quarantined} quarantined")
    return (f"{stage}: " if stage else "") + ", ".join(parts)
