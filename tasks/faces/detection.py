"""Faces of a shard of clips, into the store: one process decodes ahead while this one detects."""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import cv2
import polars as pl
import torch

from models.mtcnn.detector import Mtcnn, MtcnnConfig
from tasks.faces.addresses import about, clip_key
from tasks.faces.clip import ClipFaces
from tasks.faces.params import FacesParams
from tasks.faces.table import pack
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
from tasks.media.decoding import Media
from tasks.media.worker import Decoders, Outcome, thread_decoders
from tasks.store.compute import Done, Keeper
from tasks.store.passing import PASSING
from tasks.store.segments import Entry, Json, Store
from tasks.tables.faces import FACES


@dataclass(frozen=True)
class Shard:
    """Clips for one worker to detect and keep."""

    clips: tuple[ClipRequest, ...]
    store_root: Path


def detect_shard(params: FacesParams, shard: Shard) -> Done:
    """Detect a shard's clips and keep them in the store, some at a time."""
    keeper = Keeper(Store(shard.store_root, about(params)), _may_pass)
    for clip, rows in zip(shard.clips, detect_clips(params, shard.clips), strict=True):
        first = rows.row(0, named=True)
        meta = {"status": first["status"], "reason": first["reason"]}
        blobs = {"rows": pack(rows.drop("utterance_id"))}
        keeper.keep([Entry(clip_key(clip), meta, blobs)])
    return keeper.done()


def _may_pass(meta: Mapping[str, Json]) -> bool:
    """Faces of a part of a clip do not stand for it where the rest may be seen next time."""
    return meta["reason"] in PASSING


def detect_clips(params: FacesParams, clips: Sequence[ClipRequest]) -> Iterator[pl.DataFrame]:
    """Rows of the faces table for each clip, in order.

    One process decodes ahead while this one detects. The rows of a clip do not depend on the
    others.
    """
    with ExitStack() as stack:
        decoders = thread_decoders()
        stack.enter_context(_one_thread())
        media = _probe(decoders, clips)
        plans = [list(_windows(clip, media[_path(clip)], params)) for clip in clips]
        asked = (window for plan in plans for window in plan)
        outcomes = cast(Generator[Outcome[Window], None, None], decoders.map(decode_window, asked))
        stack.callback(outcomes.close)  # whatever happens, the process is free for the next shard
        for clip, plan in zip(clips, plans, strict=True):
            faces = _collector(clip, media[_path(clip)], params)
            if not plan:
                faces.fail(_why_unseen(media[_path(clip)]))
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
    return ClipFaces(clip, media, detector(params.thresholds), params)


def _path(clip: ClipRequest) -> str:
    return clip.span.path if clip.span else ""


def _why_unseen(media: Media) -> str:
    """Reason where a file has no picture to decode."""
    return media.problems[0].reason if media.problems else "no_video"


def _probe(decoders: Decoders, clips: Sequence[ClipRequest]) -> dict[str, Media]:
    """What each file holds."""
    files = list(dict.fromkeys(_path(clip) for clip in clips))
    found = {}
    for file, outcome in zip(files, decoders.map(probe_file, files), strict=True):
        problems = (outcome.problem,) if outcome.problem else ()
        found[file] = outcome.value or Media(kind=None, problems=problems)
    return found


def _windows(clip: ClipRequest, media: Media, params: FacesParams) -> Iterator[WindowRequest]:
    if clip.span is None or not media.has_video:
        return iter(())
    return windows(clip.span, media, params.rate_hz, params.max_frames, params.frame_height_px)


@cache
def detector(thresholds: tuple[float, float, float]) -> Mtcnn:
    """The detector with these thresholds, once in a process."""
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
