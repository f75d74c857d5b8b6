"""A span of a medium: which file, from when to when, and which part of the picture."""

from dataclasses import dataclass

from tasks.media.types import Region


@dataclass(frozen=True)
class Span:
    """What is read of one file; messages call it by its path.

    Attributes:
        path: the file.
        start_s: beginning of the span; None is the beginning of the file.
        end_s: end of the span; None is the end of the file.
        region: part of the upright frame; None is all of it.
    """

    path: str
    start_s: float | None = None
    end_s: float | None = None
    region: Region | None = None

    def __str__(self) -> str:
        return self.path
