"""Full pictures from interlaced ones, whose odd and even rows were taken at different times."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.error import BlockingIOError as MoreNeeded
from av.error import EOFError as Ended
from av.filter import Graph


class Deinterlacer:
    """Passes frames on; from the first interlaced one on, each comes out with its rows made whole.

    Frames keep their times and number. Progressive video never meets the filter, so its pictures
    stay the same bytes; frames that are marked progressive among interlaced ones stay theirs.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def add(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Frames that are ready: the filter holds one back, for it looks at the next."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and shape != self._shape:
            yield from self.finish()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph, self._shape = deinterlacer(frame), shape
        self._graph.vpush(frame)
        yield from self._ready()

    def finish(self) -> Iterator[av.VideoFrame]:
        """The frame that was held back; afterwards the next one begins anew."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()
            self._graph = None

    def _ready(self) -> Iterator[av.VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                yield self._graph.vpull()
            except (MoreNeeded, Ended):
                return


def deinterlacer(frame: av.VideoFrame) -> Graph:
    """One frame in, one frame out; of each the rows of the field shown first are kept."""
    graph = Graph()
    graph.threads = 1  # clips run side by side, not their frames
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    deinterlace = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    graph.link_nodes(source, deinterlace, graph.add("buffersink")).configure()
    return graph
