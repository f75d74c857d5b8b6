"""Stage ``faces``: who is to be seen when, and aligned crops of the one who speaks.

Clips are detected once and kept in the content-addressed store; the table is assembled from the
store, one clip after the other, so that warm and cold runs give the same bytes and memory does not
grow with the number of clips.
"""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from models.errors import UserError
from tasks.context import Context, Progress, shard_count
from tasks.faces.addresses import about, clip_key, metadata
from tasks.faces.detection import Shard, detect_shard
from tasks.faces.params import FacesParams
from tasks.faces.table import clip_frames, write_faces
from tasks.faces.windows import ClipRequest
from tasks.layout import Layout
from tasks.store.segments import CorruptSegment, Entry, Store
from tasks.tables import FACES, UTTERANCES, read_table

__all__ = ["FacesParams", "run"]

#: How often damage in the store is repaired within one run.
_REPAIRS = 3
#: A guess, for cutting shards: seconds of work for one sampled frame, and for a clip beside them.
_FRAME_S, _CLIP_S, _UNKNOWN_CLIP_S = 0.02, 0.05, 5.0


def run(params: FacesParams, layout: Layout, ctx: Context, corpus: str) -> None:
    """Detect the faces of every utterance and write the corpus's table of faces."""
    clips = read_clips(layout, corpus)
    store = Store(layout.store, about(params))
    passing: dict[str, Entry] = {}
    for attempt in range(_REPAIRS + 1):
        _detect_missing(params, clips, store, passing, ctx)
        try:
            write_faces(clip_frames(clips, store, passing), layout.faces(corpus), metadata(params))
        except CorruptSegment as error:
            if attempt == _REPAIRS:
                raise UserError(
                    f"{error.path} is damaged again and again; check the disk under {layout.cache}"
                ) from error
            ctx.log(f"{error}; its clips are detected once more")
            store.set_aside(error.path)
        else:
            break
    store.touch()
    _tell(layout.faces(corpus), ctx)


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
        ClipRequest(
            row["utterance_id"],
            str((layout.media_root / row["media"]).resolve()) if row["media"] is not None else "",
            row["media_sha256"],
            row["start_s"],
            row["end_s"],
            tuple(row["region"]) if row["region"] is not None else None,
        )
        for row in table.iter_rows(named=True)
    ]


def _detect_missing(
    params: FacesParams,
    clips: Sequence[ClipRequest],
    store: Store,
    passing: dict[str, Entry],
    ctx: Context,
) -> None:
    """Detect, side by side, those clips that the store does not hold."""
    by_key = {clip_key(clip): clip for clip in reversed(clips) if clip.path}
    missing = [key for key in store.missing(sorted(by_key)) if key not in passing]
    todo = sorted((by_key[key] for key in missing), key=lambda clip: clip.utterance_id)
    total = len(by_key)
    known = total - len(todo)
    done, degraded, quarantined = known, 0, 0
    for key in by_key:
        if key not in missing and key not in passing:
            status = store.meta(key)["status"]
            degraded += status == "degraded"
            quarantined += status == "quarantined"
    if not todo:
        ctx.progress(Progress(done, total, "clips", degraded, quarantined, known))
        return
    work = partial(detect_shard, params)
    root = store.folder.parent
    for result in ctx.map(work, cut_shards(params, todo, root, ctx.workers), "faces"):
        done += result.clips
        degraded += result.degraded
        quarantined += result.quarantined
        passing |= {entry.key: entry for entry in result.passing}
        ctx.progress(Progress(done, total, "clips", degraded, quarantined, known))
    store.refresh()


def cut_shards(
    params: FacesParams, clips: Sequence[ClipRequest], root: Path, workers: int
) -> list[Shard]:
    """Neighbouring clips together, in shards of about equal work."""
    costs = []
    for clip in clips:
        seconds = None if clip.end_s is None else clip.end_s - (clip.start_s or 0.0)
        frames = None if seconds is None else min(seconds * params.rate_hz, params.max_frames)
        costs.append(_UNKNOWN_CLIP_S if frames is None else _CLIP_S + frames * _FRAME_S)
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
