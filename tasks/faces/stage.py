"""Stage ``faces``: who is to be seen when, and aligned crops of the one who speaks.

Clips are detected once and kept in the content-addressed store; the table is assembled from the
store, one clip after the other, so that warm and cold runs give the same bytes and memory does not
grow with the number of clips.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from tasks.context import Context, shard_count
from tasks.faces.addresses import about, clip_key, metadata
from tasks.faces.detection import Shard, detect_shard
from tasks.faces.params import FacesParams
from tasks.faces.table import clip_frames, write_faces
from tasks.faces.windows import ClipRequest
from tasks.layout import Layout
from tasks.media.decoding import Region, Span
from tasks.store.compute import Clips, compute
from tasks.store.segments import Entry, Store
from tasks.tables.faces import FACES
from tasks.tables.parquet import read_table
from tasks.tables.utterances import UTTERANCES

__all__ = ["FacesParams", "run"]

#: A guess, for cutting shards: seconds of work for one sampled frame, and for a clip beside them.
_FRAME_S, _CLIP_S, _UNKNOWN_CLIP_S = 0.02, 0.05, 5.0


def run(params: FacesParams, layout: Layout, ctx: Context, corpus: str) -> None:
    """Detect the faces of every utterance and write the corpus's table of faces."""
    clips = read_clips(layout, corpus)
    by_key = {clip_key(clip): clip for clip in reversed(clips) if clip.span}
    store = Store(layout.store, about(params))
    path = layout.faces(corpus)

    def cut(missing: Sequence[str]) -> list[Shard]:
        todo = sorted((by_key[key] for key in missing), key=lambda clip: clip.utterance_id)
        return cut_shards(params, todo, layout.store, ctx.workers)

    def write(passing: Mapping[str, Entry]) -> None:
        write_faces(clip_frames(clips, store, passing), path, metadata(params))

    work = partial(detect_shard, params)
    compute(Clips("faces", sorted(by_key), cut, work, write), store, ctx)
    _tell(path, ctx)


def _tell(path: Path, ctx: Context) -> None:
    """How many clips ended how."""
    ends = read_table(FACES, path, ["utterance_id", "status", "reason"]).unique("utterance_id")
    counts = ends.group_by("status", "reason").len("clips").sort("status", "reason")
    ctx.table("faces", counts.to_dicts())


def read_clips(layout: Layout, corpus: str) -> list[ClipRequest]:
    """The utterances of a corpus as requests, by id."""
    columns = ["utterance_id", "media", "media_sha256", "start_s", "end_s", "region"]
    table = read_table(UTTERANCES, layout.utterances(corpus), columns).sort("utterance_id")
    return [
        ClipRequest(row["utterance_id"], _span(layout, row), row["media_sha256"])
        for row in table.iter_rows(named=True)
    ]


def _span(layout: Layout, row: Mapping[str, Any]) -> Span | None:
    if row["media"] is None:
        return None
    path = str((layout.media_root / row["media"]).resolve())
    region = None if row["region"] is None else Region(*row["region"])
    return Span(str(path), row["start_s"], row["end_s"], region)


def cut_shards(
    params: FacesParams, clips: Sequence[ClipRequest], root: Path, workers: int
) -> list[Shard]:
    """Neighbouring clips together, in shards of about equal work."""
    costs = []
    for clip in clips:
        span = clip.span
        if span is None or span.end_s is None:
            costs.append(_UNKNOWN_CLIP_S)
            continue
        frames = min((span.end_s - (span.start_s or 0.0)) * params.rate_hz, params.max_frames)
        costs.append(_CLIP_S + frames * _FRAME_S)
    total = sum(costs)
    count = shard_count(len(clips), total / len(clips), workers)
    before, number = 0.0, []
    for cost in costs:
        number.append(min(count - 1, int(before / total * count)))
        before += cost
    return [
        Shard(tuple(clip for _, clip in group), root)
        for _, group in groupby(zip(number, clips, strict=True), key=lambda pair: pair[0])
    ]
