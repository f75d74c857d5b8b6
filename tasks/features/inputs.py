"""What an encoder reads of each utterance: its sound, its face crops, or its text with context.

``plan`` turns tables into items with keys that name the content alone, so that the same clip in two
corpora, or twice in one, is computed once. ``Loader`` then brings the content in.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from models.encoders.encoder import Faces, Input, Sound, Text
from models.encoders.faces_in_time import spread
from models.errors import UserError
from tasks.features.silence import trimmed
from tasks.features.sound import decode_sound
from tasks.layout import Layout
from tasks.media.spans import Span
from tasks.media.worker import thread_decoders
from tasks.tables.faces import FACES
from tasks.tables.parquet import read_table, table_files
from tasks.tables.utterances import UTTERANCES

Modality = Literal["audio", "video", "text"]

#: Goes into every key's fingerprint: raise it when the same tables give an encoder other inputs.
INPUT_VERSION = 2
#: Packages whose version can change what is read.
LIBRARIES: dict[Modality, tuple[str, ...]] = {"audio": ("av",), "video": ("pillow",), "text": ()}
#: Sound is brought in by at most this many seconds at once, however many clips make it up.
_AHEAD_S = 240.0


@dataclass(frozen=True)
class Item:
    """One piece of content to encode.

    Attributes:
        key: hash of the content, None where there is none.
        utterance_id: the first utterance that has it.
        reason: why there is no content, or what is less than perfect about it.
        span: of the medium, relative to the folder of media; sound only.
        text: what is said, text only.
        context: what was said before, oldest first, text only.
        size: seconds of sound, or letters: for cutting work into pieces.
        cut_s: of longer sound only so much from its beginning, sound only; None: all.
    """

    key: str | None
    utterance_id: str
    reason: str | None = None
    span: Span | None = None
    text: str | None = None
    context: tuple[str, ...] = ()
    size: float = 0.0
    cut_s: float | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """An item's content, or the reason why there is none or it is less than whole."""

    item: Item
    content: Input | None
    reason: str | None = None
    detail: str | None = None


def plan(
    modality: Modality,
    utterances: pl.DataFrame,
    faces: Path,
    context: int,
    cut_s: float | None = None,
) -> list[Item]:
    """One item per utterance, in the order of the table.

    Args:
        modality: what the encoder reads.
        utterances: table ``utterances``; for text it may have a further column ``noted``: why
            there are no words, or what is to be said of them.
        faces: table ``faces`` of the corpus, for video.
        context: how many turns before the utterance are read with it, for text.
        cut_s: see ``Item``.
    """
    if modality == "audio":
        return [_sound_item(row, cut_s) for row in utterances.iter_rows(named=True)]
    if modality == "text":
        return [_text_item(row) for row in _with_context(utterances, context)]
    return _face_items(utterances, faces)


def _key(*parts: object) -> str:
    text = json.dumps(parts, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _sound_item(row: dict, cut_s: float | None) -> Item:
    if row["media"] is None:
        return Item(None, row["utterance_id"], reason="no_audio")
    start_s, end_s = row["start_s"], row["end_s"]
    length_s = None if end_s is None else end_s - (start_s or 0.0)
    if cut_s is not None and length_s is not None and length_s <= cut_s:
        cut_s = None  # nothing is cut: the same content as without
    size = 10.0 if length_s is None else length_s
    return Item(
        _key("sound", row["media_sha256"], start_s, end_s, *([] if cut_s is None else [cut_s])),
        row["utterance_id"],
        span=Span(row["media"], start_s, end_s),
        size=size if cut_s is None else min(size, cut_s),
        cut_s=cut_s,
    )


def _with_context(utterances: pl.DataFrame, context: int) -> Iterator[dict]:
    """Rows in the order of the table, with the list of texts before each in its dialogue."""
    columns = [name for name in ("utterance_id", "text", "noted") if name in utterances.columns]
    if context == 0:
        for row in utterances.select(columns).iter_rows(named=True):
            yield row | {"context": []}
        return
    before = [
        pl.col("text").shift(turns).over("dialogue_id", order_by="turn")
        for turns in range(context, 0, -1)
    ]
    joined = utterances.select(*columns, pl.concat_list(before).list.drop_nulls().alias("context"))
    yield from joined.iter_rows(named=True)


def _text_item(row: dict) -> Item:
    text = (row["text"] or "").strip()
    noted = row.get("noted")
    if not text:
        return Item(None, row["utterance_id"], reason=noted or "no_text")
    context = tuple(turn.strip() for turn in row["context"] if turn.strip())
    size = len(text) + sum(map(len, context))
    key = _key("text", text, context)
    return Item(key, row["utterance_id"], noted, text=text, context=context, size=size)


def _face_items(utterances: pl.DataFrame, faces: Path) -> list[Item]:
    """Keys are hashes over the speaker's crops and their times."""
    digests: dict[str, tuple] = {}
    reasons: dict[str, list[str]] = {}
    for batch in _face_batches(faces):
        for row in batch.iter_rows(named=True):
            name = row["utterance_id"]
            noted = reasons.setdefault(name, [])
            if row["reason"] is not None:
                noted.append(row["reason"])
            if not row["chosen"] or row["crop"] is None:
                continue
            digest, count = digests.get(name, (hashlib.sha256(b"faces"), 0))
            digest.update(f"{row['time_s']}\0{len(row['crop'])}\0".encode())
            digest.update(row["crop"])
            digests[name] = (digest, count + 1)
    items = []
    for name in utterances.get_column("utterance_id"):
        if name not in reasons:
            raise UserError(f"{faces}: no row for utterance {name}; rerun stage faces")
        reason = min(reasons[name], default=None)
        if name not in digests:
            items.append(Item(None, name, reason=reason or "no_face"))
            continue
        digest, count = digests[name]
        key = _key("faces", digest.hexdigest(), reason)
        items.append(Item(key, name, reason=reason, size=count))
    return items


def _face_batches(faces: Path) -> Iterator[pl.DataFrame]:
    columns = ["utterance_id", "time_s", "chosen", "crop", "status", "reason"]
    for file in table_files(faces, FACES):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=2048, columns=columns):
            frame = pl.DataFrame(pl.from_arrow(batch))
            FACES.check(frame, str(file), columns)
            yield frame


class Loader:
    """Brings content in.

    Args:
        modality: what the encoder reads.
        rate_hz: of sound.
        raw: folder that ``media`` is relative to.
        faces: table ``faces``.
        max_faces: more faces than this are not decoded.
        trim_db: see ``models.encoders.encoder.Settings``.
    """

    def __init__(
        self,
        modality: Modality,
        rate_hz: int,
        raw: Path,
        faces: Path,
        max_faces: int,
        trim_db: float | None = None,
    ) -> None:
        self.modality = modality
        self.rate_hz = rate_hz
        self.raw = raw
        self.faces = faces
        self.max_faces = max_faces
        self.trim_db = trim_db

    def groups(self, items: Sequence[Item], most: int) -> Iterator[list[Loaded]]:
        """Contents in order, by at most ``most`` items and ``_AHEAD_S`` seconds at once."""
        if self.modality == "audio":
            yield from self._sounds(items, most)
            return
        for start in range(0, len(items), most):
            some = items[start : start + most]
            yield self._texts(some) if self.modality == "text" else self._faces(some)

    def _texts(self, items: Sequence[Item]) -> list[Loaded]:
        return [Loaded(item, Text(item.text or "", item.context)) for item in items]

    def _sounds(self, items: Sequence[Item], most: int) -> Iterator[list[Loaded]]:
        spans = [
            replace(item.span, path=str(self.raw / item.span.path))
            for item in items
            if item.span is not None
        ]
        # media from strangers are decoded in a process of their own, which also works ahead
        clips = thread_decoders().clips(partial(decode_sound, rate_hz=self.rate_hz), spans)
        group: list[Loaded] = []
        seconds = 0.0
        for item, clip in zip(items, clips, strict=True):
            problem = clip.problems[0] if clip.problems else None
            reason, detail = (problem.reason, problem.detail) if problem else (None, None)
            if clip.audio is None or not len(clip.audio):
                group.append(Loaded(item, None, reason or "no_audio", detail))
            else:
                kept = None if item.cut_s is None else max(1, round(item.cut_s * self.rate_hz))
                samples = clip.audio if self.trim_db is None else trimmed(clip.audio, self.trim_db)
                sound = Sound(samples[:kept], self.rate_hz)
                group.append(Loaded(item, sound, reason, detail))
                seconds += len(sound.samples) / self.rate_hz
            if len(group) == most or seconds >= _AHEAD_S:
                yield group
                group, seconds = [], 0.0
        if group:
            yield group

    def _faces(self, items: Sequence[Item]) -> list[Loaded]:
        names = [item.utterance_id for item in items]
        columns = ["utterance_id", "frame", "time_s", "chosen", "crop"]
        parts = [
            pq.read_table(file, columns=columns, filters=[("utterance_id", "in", names)])
            for file in table_files(self.faces, FACES)
        ]
        crops = (
            pl.concat([pl.DataFrame(pl.from_arrow(part)) for part in parts])
            .filter(pl.col("chosen") & pl.col("crop").is_not_null())
            .sort("utterance_id", "frame")
            .partition_by("utterance_id", as_dict=True)
        )
        return [self._decode_faces(item, crops[(item.utterance_id,)]) for item in items]

    def _decode_faces(self, item: Item, rows: pl.DataFrame) -> Loaded:
        chosen = rows[spread(rows.height, self.max_faces)]
        images = []
        for crop in chosen.get_column("crop"):
            try:
                images.append(np.asarray(Image.open(io.BytesIO(crop)).convert("RGB")))
            except (UnidentifiedImageError, OSError) as error:
                raise UserError(
                    f"{self.faces}: a crop of utterance {item.utterance_id} is no readable picture "
                    f"({error}); rerun stage faces"
                ) from error
        content = Faces(tuple(images), tuple(chosen.get_column("time_s").fill_null(0.0)))
        return Loaded(item, content, item.reason)


def read_utterances(layout: Layout, corpus: str) -> pl.DataFrame:
    """The columns of table ``utterances`` that encoders need."""
    columns = ["utterance_id", "dialogue_id", "turn", "start_s", "end_s"]
    columns += ["media", "media_sha256", "text"]
    return read_table(UTTERANCES, layout.utterances(corpus), columns)
