"""What a stage needs from whoever runs it: spread work, log, show progress and tables.

Stage functions take a ``Context`` and know nothing of Prefect. ``PlainContext`` serves them on a
terminal; ``flows`` has one that reports to a Prefect API as well.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass, field
from typing import Literal, Protocol, TextIO, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

log = logging.getLogger("affectloom")

#: Seconds of work in one shard: long enough that reporting it costs nothing.
SHARD_S = 20.0
#: Never more shards than this in one stage: the Prefect server digests about 45 a second.
MAX_SHARDS = 200


@dataclass(frozen=True)
class Progress:
    """How far a stage has come. ``degraded`` and ``quarantined`` are counts among ``done``."""

    done: int
    total: int
    unit: str = "clips"
    degraded: int = 0
    quarantined: int = 0


class Context(Protocol):
    """The services a stage function may use."""

    @property
    def workers(self) -> int:
        """How many shards run side by side."""
        ...

    def map(self, function: Callable[[In], Out], shards: Sequence[In], what: str) -> Iterable[Out]:
        """``function`` over ``shards``, side by side; results in the order of ``shards``."""
        ...

    def log(self, message: str) -> None:
        """One line for a person."""
        ...

    def progress(self, progress: Progress) -> None:
        """Tell how far the stage has come; cheap enough to call for every clip."""
        ...

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A small table for a person, shown at the end of the stage."""
        ...


@dataclass
class PlainContext:
    """Runs shards on this machine and shows one progress line on the terminal.

    Attributes:
        stage: what the line begins with.
        runner: threads share memory; processes give every worker its own interpreter.
        workers: how many shards at once.
        stream: where progress goes; lines are rewritten in place only on a terminal.
    """

    stage: str = ""
    runner: Literal["threads", "processes"] = "threads"
    workers: int = 1
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _started: float = field(default_factory=time.monotonic)
    _shown: float = 0.0

    def map(self, function: Callable[[In], Out], shards: Sequence[In], what: str) -> Iterable[Out]:
        """See ``Context.map``. Results are yielded as soon as they and those before are there."""
        if len(shards) < 2 or self.workers == 1:
            yield from (function(shard) for shard in shards)
            return
        pool_type = ThreadPoolExecutor if self.runner == "threads" else ProcessPoolExecutor
        with pool_type(self.workers) as pool:
            yield from _in_order(pool.submit, function, shards, ahead=2 * self.workers)

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
        line = progress_line(self.stage, progress, now - self._started)
        if self.stream.isatty():
            self.stream.write(f"\r\033[K{line}" + ("\n" if is_last else ""))
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """See ``Context.table``."""
        for row in rows:
            self.log(f"{title}: " + ", ".join(f"{key} {value}" for key, value in row.items()))


def _in_order(
    submit: Callable[..., "Future[Out]"],
    function: Callable[[In], Out],
    shards: Sequence[In],
    ahead: int,
) -> Iterable[Out]:
    """Results in order, with at most ``ahead`` shards waiting: memory stays flat."""
    waiting: dict[int, Future[Out]] = {}
    sent = 0
    for index in range(len(shards)):
        while sent < len(shards) and sent < index + ahead:
            waiting[sent] = submit(function, shards[sent])
            sent += 1
        # a failure anywhere ends the stage at once instead of when its turn comes
        wait([waiting[index]], return_when=FIRST_COMPLETED)
        yield waiting.pop(index).result()


def progress_line(stage: str, progress: Progress, elapsed_s: float) -> str:
    """``faces: 120/200 clips, 14.2/s, 0:06 left, 2 degraded, 1 quarantined``."""
    rate = progress.done / elapsed_s if elapsed_s > 0 else 0.0
    parts = [f"{progress.done}/{progress.total} {progress.unit}"]
    if rate > 0:
        left_s = (progress.total - progress.done) / rate
        parts.append(f"{rate:.1f}/s")
        parts.append(f"{int(left_s) // 60}:{int(left_s) % 60:02d} left")
    if progress.degraded:
        parts.append(f"{progress.degraded} degraded")
    if progress.quarantined:
        parts.append(f"{progress.quarantined} quarantined")
    return (f"{stage}: " if stage else "") + ", ".join(parts)


def shard_count(items: int, seconds_per_item: float, workers: int) -> int:
    """How many shards to cut ``items`` into so that one lasts about ``SHARD_S`` seconds."""
    wanted = round(items * seconds_per_item / SHARD_S)
    return max(1, min(items, MAX_SHARDS, max(wanted, 4 * workers)))
