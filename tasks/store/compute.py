"""The loop of every stage that computes clip by clip: missing, shards, table, repair.

What the store lacks is computed side by side, in shards; then the table is written from the store.
Where that meets damage, the damaged segment is set aside and what it held is computed again.
Failures that may pass are not kept for later runs, but the table is told of them.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import UserError
from tasks.context import Context, Progress
from tasks.store.passing import may_pass
from tasks.store.segments import CorruptSegment, Entry, Json, Store

#: How often a table is begun before the disk is blamed for the damage.
_ATTEMPTS = 4


@dataclass(frozen=True)
class Done:
    """What became of a shard; ``passing`` holds the entries that were not kept."""

    clips: int
    degraded: int
    quarantined: int
    seconds: float
    passing: tuple[Entry, ...]


class Keeper:
    """Takes the entries of a shard: counts them, and keeps all but failures that may pass.

    Entries wait until there is enough for a segment: a million quick clips are then thousands of
    files, not a file for every few.

    Attributes:
        pause_s: seconds of work that a kill costs at most, beside what is computed together.
        most_bytes: of a segment.
        most_entries: of a segment.

    Args:
        store: where they are kept.
        is_passing: tells by its ``meta`` which entry is not kept.
    """

    pause_s = 2.0
    most_bytes = 8 << 20
    most_entries = 1_024

    def __init__(
        self, store: Store, is_passing: Callable[[Mapping[str, Json]], bool] = may_pass
    ) -> None:
        self.store, self.is_passing = store, is_passing
        self._began = self._written = time.monotonic()
        self._states: Counter[str] = Counter()
        self._passing: list[Entry] = []
        self._waiting: list[Entry] = []
        self._bytes = 0

    def keep(self, entries: Sequence[Entry]) -> None:
        """Take entries, and write a segment where there is enough for one."""
        for entry in entries:
            self._states[str(entry.meta["status"])] += 1
            if self.is_passing(entry.meta):
                self._passing.append(entry)
            else:
                self._waiting.append(entry)
                self._bytes += sum(len(blob) for blob in entry.blobs.values())
        if (
            len(self._waiting) >= self.most_entries
            or self._bytes >= self.most_bytes
            or time.monotonic() - self._written >= self.pause_s
        ):
            self._write()

    def _write(self) -> None:
        self.store.write(self._waiting)
        self._waiting, self._bytes = [], 0
        self._written = time.monotonic()

    def done(self) -> Done:
        """What became of everything so far, all of it written."""
        self._write()
        return Done(
            self._states.total(),
            self._states["degraded"],
            self._states["quarantined"],
            time.monotonic() - self._began,
            tuple(self._passing),
        )


Shard = TypeVar("Shard")
Result = TypeVar("Result", bound=Done)


@dataclass(frozen=True)
class Clips(Generic[Shard, Result]):
    """What the loop is told of a stage's clips.

    Attributes:
        what: name of the stage, for people.
        keys: of every clip that has content; one that stands twice is computed once.
        cut: makes shards of the keys that are missing.
        work: computes a shard with a ``Keeper``; workers may be other processes.
        write: writes the table, given the entries by key that were not kept.
        hear: is told of each shard that is done.
        absent: clips without content, which count as done and set aside.
    """

    what: str
    keys: Sequence[str]
    cut: Callable[[Sequence[str]], Sequence[Shard]]
    work: Callable[[Shard], Result]
    write: Callable[[Mapping[str, Entry]], None]
    hear: Callable[[Result], None] = lambda _: None
    absent: int = 0


def compute(clips: Clips[Shard, Result], store: Store, ctx: Context) -> None:
    """Bring the store up to date and write the table from it."""
    passing: dict[str, Entry] = {}
    for _ in range(_ATTEMPTS):
        passing |= _compute_missing(clips, store, passing, ctx)
        try:
            clips.write(passing)
        except CorruptSegment as damage:
            ctx.log(f"{damage}; set aside, its clips are computed again")
            store.set_aside(damage.path)
            continue
        store.touch()
        return
    raise UserError(
        f"{store.folder}: segments of the feature store were damaged {_ATTEMPTS} times in a row; "
        "check the disk, or set AFFECTLOOM_CACHE to a folder on another one"
    )


def _compute_missing(
    clips: Clips[Shard, Result], store: Store, passing: Mapping[str, Entry], ctx: Context
) -> dict[str, Entry]:
    """Compute what neither the store nor this run has; returns what was not kept."""
    missing = [key for key in store.missing(clips.keys) if key not in passing]
    todo = set(missing)
    states: Counter[str] = Counter(quarantined=clips.absent)
    for key in clips.keys:
        if key not in todo:
            states[str((passing[key].meta if key in passing else store.meta(key))["status"])] += 1
    done = known = states.total()
    total = known + len(missing)

    def tell() -> None:
        degraded, quarantined = states["degraded"], states["quarantined"]
        ctx.progress(Progress(done, total, "clips", degraded, quarantined, known))

    tell()
    found: dict[str, Entry] = {}
    if not missing:
        return found
    shards = clips.cut(missing)
    ctx.log(f"{len(missing)} of {total} clips to compute, in {len(shards)} shards")
    for result in ctx.map(clips.work, shards, clips.what):
        done += result.clips
        states["degraded"] += result.degraded
        states["quarantined"] += result.quarantined
        found |= {entry.key: entry for entry in result.passing}
        clips.hear(result)
        tell()
    store.refresh()
    return found
