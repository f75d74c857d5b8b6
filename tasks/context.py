"""What a stage needs from whoever runs it: spread work, log, show progress and tables.

Stage functions take a ``Context`` and know nothing of Prefect. ``tasks.plain_context`` serves them
on a terminal; ``flows`` has one that reports to a Prefect API as well.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from models.errors import UserError

In = TypeVar("In")
Out = TypeVar("Out")
Own = TypeVar("Own")

#: Seconds of work in one shard: long enough that reporting it costs nothing.
SHARD_S = 20.0
#: Never more shards than this in one stage: the Prefect server digests about 45 a second.
MAX_SHARDS = 200


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    ``degraded`` and ``quarantined`` are counts among ``done``, and so is ``known``: what was done
    before this run and says nothing about its speed.
    """

    done: int
    total: int
    unit: str = "clips"
    degraded: int = 0
    quarantined: int = 0
    known: int = 0


@dataclass(frozen=True)
class ForMethod(Generic[Own]):
    """What a stage that has one instance a method is asked to do.

    Attributes:
        own: the stage's own parameters.
        entry: what stands under the method's key in params.yaml.
        inputs: modality or further input to one or several encoders, of the corpus that is read and
            for this method.
        targets: only these are trained (default: all that the corpus has labels for).
    """

    own: Own
    entry: Mapping[str, Any]
    inputs: Mapping[str, str | Sequence[str]]
    targets: Sequence[str] | None = None


class WorkerDied(UserError):
    """A process ended before its work did; what all of its pool had begun is lost."""


class Context(Protocol):
    """The services a stage function may use."""

    @property
    def workers(self) -> int:
        """How many shards run side by side."""
        ...

    @property
    def code(self) -> str:
        """Fingerprint of the code at work; what other code left half done is not reused."""
        ...

    def map(self, function: Callable[[In], Out], shards: Sequence[In], what: str) -> Iterable[Out]:
        """``function`` over ``shards``, side by side; results in the order of ``shards``.

        ``WorkerDied`` where a process of this machine is killed before its shard is done.
        """
        ...

    def alone(self, function: Callable[[In], Out], shard: In) -> Out:
        """``function`` of ``shard`` in a process of its own, with no other beside it."""
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


def shard_count(items: int, seconds_per_item: float, workers: int) -> int:
    """How many shards to cut ``items`` into so that one lasts about ``SHARD_S`` seconds."""
    wanted = round(items * seconds_per_item / SHARD_S)
    return max(1, min(items, MAX_SHARDS, max(wanted, 4 * workers)))
