"""One corpus in memory: runs that a process makes one after the other read it once."""

import threading
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from uuid import uuid4

from tasks.batches.source import Source, Wanted
from tasks.layout import Layout
from tasks.params.inputs import Named
from tasks.params.recipes import Recipe

_LOCK = threading.Lock()
#: The last source that this process read, by what was wanted of which call.
_HELD: dict[tuple[object, ...], Source] = {}


@dataclass(frozen=True)
class Reader:
    """Reads a corpus for one call of a stage; each process that is given it reads it once.

    Attributes:
        layout: where the tables lie; they do not change while the stage runs.
        corpus: whose tables.
        inputs: modality or further input to its encoders, as params.yaml has them.
        token: of the call; another one reads anew.
    """

    layout: Layout
    corpus: str
    inputs: Mapping[str, Named]
    token: str = field(default_factory=lambda: uuid4().hex)

    def source(self, recipe: Recipe) -> Source:
        """See ``tasks.batches.source.source_for``."""
        wanted = Wanted.by(recipe, self.inputs)
        key = (self.token, *(repr(part) for part in astuple(wanted)))
        with _LOCK:
            if key not in _HELD:
                _HELD.clear()
                _HELD[key] = wanted.source(self.layout, self.corpus)
            return _HELD[key].narrowed(recipe)


def forget() -> None:
    """Let go of what this process read: when it ends, torch maps another 100 MB of its code."""
    with _LOCK:
        _HELD.clear()
