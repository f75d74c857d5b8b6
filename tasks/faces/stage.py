"""Stage ``faces``: who is to be seen when, and aligned crops of the one who speaks.

Clips are detected once and kept in the content-addressed store; the table is assembled from the
store, one clip after the other, so that warm and cold runs give the same bytes and memory does not
grow with the number of clips.
"""

import hashlib
import importlib.metadata
import json
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import cast

import cv2
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.errors import UserError
from models.mtcnn import Mtcnn, MtcnnConfig, weights_sha256
from tasks.context import Context, Progress, shard_count
from tasks.faces.clip import ClipFaces, empty_row
from tasks.faces.params import FacesParams
from tasks.faces.whole import WholeClip
from tasks.faces.windows import (
    ClipRequest,
    Window,
    WindowRequest,
    decode_window,
    failed_window,
    probe_file,
    windows,
)
from tasks.layout import Layout
from tasks.media.decoding import Media
from tasks.media.worker import Decoders, Outcome
from tasks.store.passing import PASSING
from tasks.store.segments import CorruptSegment, Entry, Store, fingerprint
from tasks.tables import FACES, ROW_GROUP, UTTERANCES, TableError, read_table, replacing

__all__ = ["FACES_VERSION", "FacesParams", "detect_clips", "run"]

#: Raised when the same clip and parameters give other rows than before.
FACES_VERSION = 1
#: Clips in one segment of the store: what a kill costs at most, for each worker.
_CLIPS_PER_SEGMENT = 16
#: What a clip may take to decode a window before its worker is stopped.
_DECODE_TIMEOUT_S = 120.0
#: How often damage in the store is repaired within one run.
_REPAIRS = 3
#: A guess, for cutting shards: seconds of work for one sampled frame, and for a clip beside them.
_FRAME_S, _CLIP_S, _UNKNOWN_CLIP_S = 0.02, 0.05, 5.0
_LIBRARIES = ("torch", "torchvision", "opencv-python-headless", "av", "numpy", "facenet-pytorch")


_local = threading.local()


@dataclass(frozen=True)
class Shard:
    """Clips for one worker to detect and keep."""

    clips: tuple[ClipRequest, ...]
    store_root: Path


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard; ``passing`` holds what must not be kept for later runs."""

    clips: int
    degraded: int
    quarantined: int
    passing: tuple[Entry, ...]


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


def about(params: FacesParams) -> dict[str, object]:
    """Everything but the clip on which a clip's rows depend."""
    return {
        "stage": "faces",
        "version": FACES_VERSION,
        "params": params.model_dump(mode="json"),
        "weights_sha256": weights_sha256(),
        "libraries": _libraries(),
    }


def _libraries() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def metadata(params: FacesParams) -> dict[str, str]:
    """What the table's schema says about how it was made."""
    knobs = params.model_dump(mode="json")
    flat = {f"param.{key}": json.dumps(value) for key, value in knobs.items()}
    flat |= {f"library.{name}": version for name, version in _libraries().items()}
    return flat | {
        "stage": "faces",
        "fingerprint": fingerprint(about(params)),
        "version": str(FACES_VERSION),
        "detector": "mtcnn" if params.detect == "faces" else "none",
        "weights_sha256": weights_sha256(),
    }


def clip_key(clip: ClipRequest) -> str:
    """Hash of what a clip's rows depend on beside ``about``: bytes, span and region."""
    content = [clip.media_sha256, clip.start_s, clip.end_s, clip.region]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


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


def detect_shard(params: FacesParams, shard: Shard) -> ShardResult:
    """Detect a shard's clips and keep them in the store, some at a time."""
    store = Store(shard.store_root, about(params))
    statuses: list[str] = []
    passing: list[Entry] = []
    pending: list[Entry] = []
    for clip, rows in zip(shard.clips, detect_clips(params, shard.clips), strict=True):
        first = rows.row(0, named=True)
        statuses.append(first["status"])
        entry = Entry(
            clip_key(clip),
            {"status": first["status"], "reason": first["reason"]},
            {"rows": _pack(rows.drop("utterance_id"))},
        )
        (passing if first["reason"] in PASSING else pending).append(entry)
        if len(pending) >= _CLIPS_PER_SEGMENT:
            store.write(pending)
            pending = []
    store.write(pending)
    return ShardResult(
        len(statuses), statuses.count("degraded"), statuses.count("quarantined"), tuple(passing)
    )


def detect_clips(params: FacesParams, clips: Sequence[ClipRequest]) -> Iterator[pl.DataFrame]:
    """Rows of the faces table for each clip, in order.

    One process decodes ahead while this one detects. The rows of a clip do not depend on the
    others.
    """
    with ExitStack() as stack:
        decoders = _thread_decoders()
        stack.enter_context(_one_thread())
        media = _probe(decoders, clips)
        plans = [list(_windows(clip, media[clip.path], params)) for clip in clips]
        asked = (window for plan in plans for window in plan)
        outcomes = cast(Generator[Outcome[Window], None, None], decoders.map(decode_window, asked))
        stack.callback(outcomes.close)  # whatever happens, the process is free for the next shard
        for clip, plan in zip(clips, plans, strict=True):
            faces = _collector(clip, media[clip.path], params)
            if not plan:
                faces.fail(_why_unseen(media[clip.path]))
            for _ in plan:
                outcome = next(outcomes)
                if outcome.value is not None:
                    faces.add(outcome.value)
                elif outcome.problem is not None:
                    faces.add(failed_window(outcome.problem))
            yield FACES.frame(faces.rows())


def _collector(clip: ClipRequest, media: Media, params: FacesParams) -> ClipFaces | WholeClip:
    if params.detect == "whole":
        return WholeClip(clip, media, params)
    return ClipFaces(clip, media, _detector(params.thresholds), params)


def _thread_decoders() -> Decoders:
    """This thread's decoding process; it serves one shard after the other."""
    if not hasattr(_local, "decoders"):
        _local.decoders = Decoders(workers=1, timeout_s=_DECODE_TIMEOUT_S)
    return _local.decoders


def _why_unseen(media: Media) -> str:
    """Reason where a file has no picture to decode."""
    return media.problems[0].reason if media.problems else "no_video"


def _probe(decoders: Decoders, clips: Sequence[ClipRequest]) -> dict[str, Media]:
    """What each file holds."""
    files = list(dict.fromkeys(clip.path for clip in clips))
    found = {}
    for file, outcome in zip(files, decoders.map(probe_file, files), strict=True):
        problems = (outcome.problem,) if outcome.problem else ()
        found[file] = outcome.value or Media(kind=None, problems=problems)
    return found


def _windows(clip: ClipRequest, media: Media, params: FacesParams) -> Iterator[WindowRequest]:
    if not media.has_video:
        return iter(())
    return windows(clip, media, params.rate_hz, params.max_frames, params.frame_height_px)


@cache
def _detector(thresholds: tuple[float, float, float]) -> Mtcnn:
    return Mtcnn(MtcnnConfig(thresholds=thresholds))


_threads_lock = threading.Lock()
_threads_before: list[tuple[int, int]] = []  # one entry for each shard at work in this process


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread each for torch and OpenCV: shards are the parallelism, and sums keep their order.

    With another number of threads the same clip could differ in the last bit. Shards may run in
    threads of one process, so the last one to end puts the numbers back.
    """
    with _threads_lock:
        _threads_before.append((torch.get_num_threads(), cv2.getNumThreads()))
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        with _threads_lock:
            before = _threads_before.pop()
            if not _threads_before:  # the oldest entry, from before anything was changed
                torch.set_num_threads(before[0])
                cv2.setNumThreads(before[1])


def _pack(rows: pl.DataFrame) -> bytes:
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    return sink.getvalue().to_pybytes()


def clip_frames(
    clips: Iterable[ClipRequest], store: Store, passing: Mapping[str, Entry]
) -> Iterator[pl.DataFrame]:
    """Rows of each clip, from the store or from what was not kept there."""
    for clip in clips:
        if not clip.path:
            yield FACES.frame([empty_row(clip, "no_video")])
            continue
        key = clip_key(clip)
        entry = passing[key] if key in passing else next(iter(store.read([key])))
        rows = pl.DataFrame(pl.from_arrow(pa.ipc.open_stream(entry.blobs["rows"]).read_all()))
        named = rows.with_columns(pl.lit(clip.utterance_id).alias("utterance_id"))
        yield named.select(list(FACES.columns))


def write_faces(frames: Iterable[pl.DataFrame], path: Path, made: Mapping[str, str]) -> None:
    """Write the table clip by clip: the bytes of ``write_table``, without holding all rows.

    Clips must come by ascending id, the rows of each sorted by frame and track.
    """
    schema = FACES.empty().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    schema = schema.with_metadata({key: made[key] for key in sorted(made)})
    rest = FACES.empty()
    last = ""
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=1) as writer,
    ):
        for frame in frames:
            FACES.check(frame, str(path))
            utterance = frame.item(0, "utterance_id")
            if utterance <= last:
                raise TableError(f"{path}: {utterance} comes after {last}; sort clips by id")
            last = utterance
            rest = pl.concat([rest, frame])
            whole = rest.height // ROW_GROUP * ROW_GROUP
            if whole:
                _append(writer, rest.head(whole), schema)
                rest = rest.slice(whole)
        if rest.height:
            _append(writer, rest, schema)


def _append(writer: pq.ParquetWriter, rows: pl.DataFrame, schema: pa.Schema) -> None:
    arrow = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    writer.write_table(arrow.replace_schema_metadata(schema.metadata), row_group_size=ROW_GROUP)
