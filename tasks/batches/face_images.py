"""Face crops as the pictures that methods look at: decoded, viewed and batched ahead of time.

At evaluation an utterance shows its best crop, or several from equal parts of its time; in training
one of its chosen crops at random. All randomness of an item comes from
``np.random.default_rng([key, item])``, so that neither the order of items, nor the number of
threads, nor a restart changes a byte.
"""

import io
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import polars as pl
import pyarrow.parquet as pq
from PIL import Image

from models.errors import UserError
from tasks.layout import Layout
from tasks.store.spool import Chunk, Places, Spool, by_row_group, file_hashes, open_spool
from tasks.tables.faces import FACES
from tasks.tables.parquet import ROW_GROUP, read_table

#: How a method looks at one picture: ``models.method.Method.view``.
View = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]

#: Raised when the same table gives other bytes in the cache.
_VERSION = 1
_COLUMNS = ("utterance_id", "chosen", "quality", "crop")
#: Decoded crops that are kept: FER2013 whole. First come stays, for in passes over data that do not
#: fit, whatever was seen last is what is needed last.
_KEPT_BYTES = 1 << 29
#: Batches that are made while the trainer is busy with one.
_AHEAD = 3
#: Items for a thread at a time.
_ITEMS = 4
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
# What damaged bytes make Pillow's readers raise.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, TypeError)


class Item(NamedTuple):
    """An item of a data set.

    Attributes:
        number: of the item.
        rows: the utterances that make it up, -1 where there is none.
        moment: of the clip, in (0, 1), whose crop is shown at evaluation; None: the best crop.
    """

    number: int
    rows: np.ndarray
    moment: float | None = None


class FaceImages:
    """The chosen crops of a corpus; their bytes are mapped from the cache, not held in memory.

    Attributes:
        present: (N,) bool: utterances with a crop.

    Args:
        spool: the crops, with ``utterance_id`` and ``quality``, frames of an utterance in order.
        ids: the utterances of the corpus.
        table: the faces table, for messages.
        kept_bytes: how much of what was decoded is kept.
    """

    def __init__(
        self, spool: Spool, ids: pl.Series, table: Path, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self._spool, self._ids, self._table = spool, ids, table
        if spool.index.height:
            row = Places(ids).of(spool.index.get_column("utterance_id"))
            quality = spool.index.get_column("quality").fill_null(0.0).to_numpy()
        else:
            row, quality = np.zeros(0, np.int64), np.zeros(0, np.float32)
        self._crops = np.argsort(row, kind="stable")  # crops of one utterance side by side
        everyone = np.arange(len(ids))
        self._first = np.searchsorted(row[self._crops], everyone, "left")
        self._count = np.searchsorted(row[self._crops], everyone, "right") - self._first
        self.present = self._count > 0
        ranked = np.lexsort((-quality, row))  # stable: of equals the first
        self._best = np.full(len(ids), -1)
        self._best[self.present] = ranked[np.searchsorted(row[ranked], everyone[self.present])]
        self._kept: dict[int, np.ndarray] = {}
        self._room = kept_bytes
        self._lock = threading.Lock()

    def items(self, numbers: Sequence[int], rows: np.ndarray, shots: int) -> Iterator[list[Item]]:
        """A batch, then further ones with those of its items that have more pictures to show.

        Args:
            numbers: of the items.
            rows: (B, U) the utterances of each, -1 where there is none.
            shots: most pictures of an item; 1: its best.
        """
        counts = np.where(rows >= 0, self._count[rows], 0).max(1).clip(1, shots)
        for shot in range(counts.max()):
            yield [
                Item(number, own, None if count == 1 else (shot + 0.5) / count)
                for number, own, count in zip(numbers, rows, counts.tolist(), strict=True)
                if shot < count
            ]

    def picture(
        self, row: int, rng: np.random.Generator | None, moment: float | None = None
    ) -> np.ndarray:
        """A crop (H, W, 3) uint8 of an utterance that has one.

        Args:
            row: the utterance.
            rng: draws one of its crops; None: the one at ``moment``.
            moment: in (0, 1) of the utterance's crops in order of time; None: the best.
        """
        count = int(self._count[row])
        if rng is not None:
            crop = int(self._crops[self._first[row] + rng.integers(count)])
        elif moment is None:
            crop = int(self._best[row])
        else:
            crop = int(self._crops[self._first[row] + int(moment * count)])
        found = self._kept.get(crop)
        return self._decode(crop, row) if found is None else found

    def _decode(self, crop: int, row: int) -> np.ndarray:
        start, end = self._spool.starts[crop : crop + 2]
        try:
            found = decode(self._spool.data[start:end].tobytes())
        except UserError as error:
            raise UserError(
                f"{self._table}: a crop of utterance {self._ids[row]} {error}; rerun stage faces, "
                "or mend the picture if the table is your own"
            ) from error
        found.flags.writeable = False  # whoever looks next must see the same
        with self._lock:
            if found.nbytes <= self._room and crop not in self._kept:
                self._kept[crop] = found
                self._room -= found.nbytes
        return found


def read_face_images(layout: Layout, ids: pl.Series, corpus: str) -> FaceImages:
    """The crops of ``ids``, which all have a row in the corpus's faces table."""
    table = layout.faces(corpus)
    named = read_table(FACES, table, ["utterance_id"]).get_column("utterance_id")
    missing = ids.filter(~ids.is_in(named.implode()))
    if len(missing):
        raise UserError(
            f"{table}: {len(missing)} utterances have no row, e.g. {missing[0]}; rerun stage faces"
        )
    cv2.setNumThreads(1)  # views run side by side, and sums keep their order
    hashes = list(file_hashes([table]).values())
    spool = open_spool(layout.cache, "pictures", [_VERSION, hashes], lambda: read_pictures(table))
    return FaceImages(spool, ids, table)


def read_pictures(table: Path) -> Iterator[Chunk]:
    """Row groups of chosen crops."""
    batches = pq.ParquetFile(table).iter_batches(ROW_GROUP, columns=list(_COLUMNS))
    frames = (pl.DataFrame(pl.from_arrow(batch)).select(_COLUMNS) for batch in batches)
    yield from by_row_group((frame.filter("chosen").drop("chosen") for frame in frames), "crop")


def decode(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an encoded picture in any mode.

    Transparent parts lie on black. Sixteen-bit grey is scaled to eight bits, where Pillow alone
    would cut values off at 255.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.load()
            if image.mode in ("I", "F"):
                raise UserError("has 32-bit grey values")
            if image.mode.startswith("I;16"):
                grey = np.round(np.asarray(image).astype(np.float32) / 257.0).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            if image.has_transparency_data:
                layers = np.asarray(image.convert("RGBA")).astype(np.uint16)
                return ((layers[..., :3] * layers[..., 3:] + 127) // 255).astype(np.uint8)
            return np.array(image.convert("RGB"))
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise UserError(f"is no readable picture ({str(error).replace(chr(10), ' ')})") from error


def view_ahead(
    images: FaceImages, batches: Iterable[Sequence[Item]], view: View, key: int | None
) -> Iterator[np.ndarray]:
    """Pictures of each batch, (B, U, 3, h, w) float32; 0 where an utterance has none.

    A few threads decode and look at the next batches while the caller is busy with one.

    Args:
        images: where pictures come from.
        batches: items of each batch, all with the same number of utterances.
        view: how the method looks at a picture.
        key: seeds augmentation; None at evaluation.
    """
    size = view(np.zeros((64, 64, 3), np.uint8), _rng(key, 0)).shape
    waiting: deque[tuple[np.ndarray, list[Future[None]]]] = deque()
    with ThreadPoolExecutor(reading_threads(), "pictures") as pool:
        try:
            for items in batches:
                made = np.zeros((len(items), len(items[0].rows), *size), np.float32)
                jobs = [
                    pool.submit(_look, images, items[i : i + _ITEMS], view, key, made[i:])
                    for i in range(0, len(items), _ITEMS)
                ]
                waiting.append((made, jobs))
                if len(waiting) > _AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            for _, jobs in waiting:
                for job in jobs:
                    job.cancel()


def reading_threads() -> int:
    """As many as there are cores, for views hold Python's lock only now and then."""
    return min(8, len(os.sched_getaffinity(0)))


def _rng(key: int | None, item: int) -> np.random.Generator | None:
    return None if key is None else np.random.default_rng([key, item])


def _look(
    images: FaceImages, items: Sequence[Item], view: View, key: int | None, made: np.ndarray
) -> None:
    """Fill the first entries of ``made`` with what ``items`` show."""
    for item, shown in zip(items, made, strict=False):
        rng = _rng(key, item.number)
        for place, row in enumerate(item.rows):
            if row < 0 or not images.present[row]:
                continue
            seen = view(images.picture(int(row), rng, item.moment), rng)
            if seen.shape != shown.shape[1:]:
                raise TypeError(f"view() gave {seen.shape} and, of another, {shown.shape[1:]}")
            shown[place] = seen


def _finished(made: np.ndarray, jobs: Sequence[Future[None]]) -> np.ndarray:
    for job in jobs:
        job.result()
    return made
