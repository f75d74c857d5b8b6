"""Bytes of many utterances in one file that is mapped instead of read: frames and pictures.

Columns of a Parquet file cannot be read row by row, so they are copied once, row group after row
group, into the cache: ``<name>.bin`` with the bytes one after the other and ``<name>.parquet`` with
their lengths. The name is the hash of the tables that they come from, so a copy is never out of
date; it appears whole, is checked by size when it is opened, and may be deleted at any time.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.atomic import replacing

#: Column of the index with the length of each blob in bytes.
_LENGTH = "spool_length"
#: Some index rows, without lengths, and their blobs.
Chunk = tuple[pl.DataFrame, Sequence[bytes]]


@dataclass(frozen=True, eq=False)
class Spool:
    """Blobs that lie one after the other.

    Attributes:
        data: (bytes,) uint8, mapped from the file.
        index: one row for each blob, in order; says what it belongs to.
        starts: (N + 1,) where each blob begins; the last entry is the end.
    """

    data: np.ndarray
    index: pl.DataFrame
    starts: np.ndarray


def open_spool(
    cache: Path, kind: str, made_from: object, chunks: Callable[[], Iterable[Chunk]]
) -> Spool:
    """The spool of this content, made by reading ``chunks()`` once if it is not there.

    Several processes may do so at once: each writes files of its own, and the last one to finish
    puts the same bytes in their place.

    Args:
        cache: the cache folder.
        kind: folder of the cache.
        made_from: whatever decides the bytes, e.g. hashes of files and a version.
        chunks: yields the content.
    """
    name = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    stem = cache / kind / name
    found = _load(stem)
    if found is None:
        _write(stem, chunks())
        found = _load(stem)
    if found is None:
        raise UserError(
            f"{stem}.bin cannot be read back right after it was written; free space or check the "
            "disk, then run the same command again"
        )
    return found


def _write(stem: Path, chunks: Iterable[Chunk]) -> None:
    parts: list[pl.DataFrame] = []
    with replacing(stem.with_suffix(".bin")) as temporary, temporary.open("wb") as stream:
        for index, blobs in chunks:
            lengths = [stream.write(blob) for blob in blobs]
            parts.append(index.with_columns(pl.Series(_LENGTH, lengths, pl.Int64)))
    whole = pl.concat(parts) if parts else pl.DataFrame(schema={_LENGTH: pl.Int64})
    with replacing(stem.with_suffix(".parquet")) as temporary:  # last: its being there says: whole
        whole.write_parquet(temporary)


def _load(stem: Path) -> Spool | None:
    """The spool, or None where it is not there or not whole."""
    data_file, index_file = stem.with_suffix(".bin"), stem.with_suffix(".parquet")
    try:
        index = pl.read_parquet(index_file)
        lengths = index.get_column(_LENGTH).to_numpy()
        size = data_file.stat().st_size
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        if size != starts[-1]:
            return None
        # an empty file cannot be mapped
        data = np.memmap(data_file, np.uint8, "r") if size else np.zeros(0, np.uint8)
    except (OSError, pl.exceptions.PolarsError):
        return None  # not there, or damaged: it is made again
    return Spool(data, index.drop(_LENGTH), starts)


def file_hashes(files: Iterable[Path]) -> dict[str, str]:
    """Path to SHA-256 of the content."""
    return {str(file): _sha256(file.resolve(), *_identity(file)) for file in files}


def _identity(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4096)
def _sha256(file: Path, _inode: int, _size: int, _modified_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Places:
    """Where names stand in a list of them; asked for a few at a time it takes no memory but theirs.

    Args:
        ids: the list, each name once.
    """

    def __init__(self, ids: pl.Series) -> None:
        self._order = None if ids.is_sorted() else ids.arg_sort()
        self._ids = ids if self._order is None else ids.gather(self._order)

    def of(self, found: pl.Series) -> np.ndarray:
        """(N,) position in ``ids`` of each entry of ``found``; -1 where it is none of them."""
        if not len(self._ids):
            return np.full(len(found), -1)
        at = self._ids.search_sorted(found).clip(upper_bound=len(self._ids) - 1)
        is_there = (self._ids.gather(at) == found).to_numpy()
        place = at if self._order is None else self._order.gather(at)
        return np.where(is_there, place.cast(pl.Int64).to_numpy(), -1)


def by_row_group(batches: Iterable[pl.DataFrame], column: str) -> Iterator[Chunk]:
    """Chunks of frames whose ``column`` holds the blobs; rows without one are left out."""
    for frame in batches:
        kept = frame.filter(pl.col(column).is_not_null())
        if kept.height:
            yield kept.drop(column), kept.get_column(column).to_list()
