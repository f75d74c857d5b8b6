"""Frame sequences of a features table, mapped from the cache instead of held in memory.

A batch reads the frames of its own utterances and nothing else. The cache keeps the half floats of
the table; batches get float32.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import torch

from models.batch import Frames
from models.errors import UserError
from tasks.store.spool import Chunk, Places, by_row_group, file_hashes, open_spool
from tasks.tables.features import FEATURES
from tasks.tables.parquet import ROW_GROUP, read_table, table_files

#: Raised when the same tables give other bytes in the cache.
_VERSION = 1
_COLUMNS = ("utterance_id", "frames", "dim", "sequence")


@dataclass(frozen=True, eq=False)
class Sequences:
    """Frames of one modality for the utterances of a corpus.

    Attributes:
        values: (F, D) frames of all utterances one after the other; mapped from a file where they
            come from one.
        starts: (N,) row of each utterance's first frame.
        counts: (N,) frames of each utterance; 0 where it has none.
        max_frames: longer sequences are thinned evenly to so many frames; 0 = never.
    """

    values: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    max_frames: int = 0

    @property
    def dim(self) -> int:
        """Width of a frame."""
        return self.values.shape[1]

    def frames(self, rows: np.ndarray, is_there: np.ndarray) -> Frames:
        """The frames of some utterances, padded to the longest.

        Args:
            rows: (B, U) utterances; any number where ``is_there`` is False.
            is_there: (B, U) bool.
        """
        counts = np.where(is_there, self.counts[rows], 0)
        taken = np.minimum(counts, self.max_frames) if self.max_frames else counts
        longest = max(1, int(taken.max(initial=0)))
        mask = np.arange(longest) < taken[..., None]  # (B, U, T)
        _, _, step = np.nonzero(mask)
        count, take = counts[mask.any(-1)], taken[mask.any(-1)]
        first, count, take = (
            np.repeat(values, take) for values in (self.starts[rows][mask.any(-1)], count, take)
        )
        # from the first frame to the last in equal steps; of one frame the middle one
        middle = (count - 1) // 2
        even = (2 * step * (count - 1) + (take - 1)) // np.maximum(2 * (take - 1), 1)
        at = first + np.where(take == 1, middle, even)
        padded = np.zeros((*mask.shape, self.dim), np.float32)
        padded[mask] = self.values[at]
        return Frames(torch.from_numpy(padded), torch.from_numpy(mask))


def pooled_as_sequences(pooled: np.ndarray, present: np.ndarray) -> Sequences:
    """Pooled vectors (N, D) as sequences of length 1; none where (N,) ``present`` is False."""
    return Sequences(pooled, np.arange(len(pooled)), present.astype(np.int64))


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Frames of several encoders of one modality, taken at the same times, as wider frames.

    Attributes:
        parts: sequences of each; utterances that have frames here have as many in all.
        counts: (N,) frames of each utterance; 0 where one encoder has none.
    """

    parts: Sequence[Sequences]
    counts: np.ndarray

    @property
    def dim(self) -> int:
        """Width of a frame."""
        return sum(part.dim for part in self.parts)

    def frames(self, rows: np.ndarray, is_there: np.ndarray) -> Frames:
        """See ``Sequences.frames``."""
        found = [part.frames(rows, is_there & (self.counts[rows] > 0)) for part in self.parts]
        return Frames(torch.cat([one.values for one in found], -1), found[0].mask)


def side_by_side(
    parts: Mapping[str, Sequences], present: np.ndarray, ids: pl.Series, modality: str
) -> Sequences | SideBySide:
    """Frames of the encoders of one modality; refused where they are not of the same times.

    Args:
        parts: encoder to its sequences.
        present: (N,) utterances that have all of them; the others get no frames.
        ids: the utterances, for the sentence.
        modality: for the sentence.
    """
    (first, one), *others = parts.items()
    if not others:
        return one
    for name, other in others:
        odd = np.flatnonzero(present & (one.counts != other.counts))
        if len(odd):
            at = int(odd[0])
            raise UserError(
                f"params.yaml: inputs of {modality} are {first} and {name}, whose frames do not "
                f"stand side by side ({ids[at]} has {one.counts[at]} and {other.counts[at]}); let "
                f"a method that reads frames name one of them as its own: methods.<name>.inputs"
            )
    return SideBySide(list(parts.values()), np.where(present, one.counts, 0))


def read_sequences(
    ids: pl.Series, folder: Path, cache: Path, max_frames: int = 0
) -> Sequences | None:
    """The sequences of ``ids`` in their order; None where the table has no sequences at all.

    Args:
        ids: utterances.
        folder: the features table.
        cache: the cache folder.
        max_frames: see ``Sequences``.
    """
    head = read_table(FEATURES, folder, ["utterance_id", "frames"])
    if not head.get_column("frames").sum():
        return None
    files = table_files(folder, FEATURES)
    hashes = {Path(name).name: found for name, found in file_hashes(files).items()}
    spool = open_spool(cache, "sequences", [_VERSION, hashes], lambda: _chunks(files))
    _check_all_there(head, spool.index, folder)
    dim = int(spool.index.get_column("dim")[0])
    row = Places(ids).of(spool.index.get_column("utterance_id"))
    starts, counts = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    is_known = row >= 0
    starts[row[is_known]] = spool.starts[:-1][is_known] // (2 * dim)
    counts[row[is_known]] = spool.index.get_column("frames").to_numpy()[is_known]
    values = spool.data.view("<f2").reshape(-1, dim)
    return Sequences(values, starts, counts, max_frames)


def _chunks(files: Sequence[Path]) -> Iterator[Chunk]:
    """Row groups with their sequences, checked."""
    dim = None
    for file in files:
        batches = pq.ParquetFile(file).iter_batches(ROW_GROUP, columns=list(_COLUMNS))
        frames = (pl.DataFrame(pl.from_arrow(batch)).select(_COLUMNS) for batch in batches)
        for index, blobs in by_row_group(frames, "sequence"):
            dim = dim or int(index.get_column("dim")[0])
            _check(index, blobs, dim, file)
            yield index, blobs


def _check_all_there(head: pl.DataFrame, index: pl.DataFrame, folder: Path) -> None:
    counted = head.filter(pl.col("frames") > 0)
    lost = counted
    if index.height:
        lost = counted.join(index, on="utterance_id", how="anti")
    if lost.height:
        raise UserError(
            f"{folder}: {lost.get_column('utterance_id')[0]} should have "
            f"{lost.get_column('frames')[0]} frames but has no sequence; rerun stage features"
        )


def _check(index: pl.DataFrame, blobs: Sequence[bytes], dim: int, file: Path) -> None:
    names = index.get_column("utterance_id")
    wide = np.flatnonzero(index.get_column("dim").to_numpy() != dim)
    if len(wide):
        at = int(wide[0])
        raise UserError(
            f"{file}: the sequence of {names[at]} is {index.get_column('dim')[at]} wide, others of "
            f"this encoder {dim}; rerun stage features"
        )
    wanted = index.get_column("frames").to_numpy().astype(np.int64) * dim * 2
    lengths = np.array([len(blob) for blob in blobs])
    odd = np.flatnonzero(lengths != wanted)
    if len(odd):
        at = int(odd[0])
        raise UserError(
            f"{file}: the sequence of {names[at]} has {lengths[at]} bytes, but "
            f"{index.get_column('frames')[at]} frames of {dim} half floats have {wanted[at]}; "
            "rerun stage features"
        )
    is_finite = np.isfinite(np.frombuffer(b"".join(blobs), "<f2"))
    if not is_finite.all():
        at = int(np.searchsorted(np.cumsum(lengths), 2 * np.flatnonzero(~is_finite)[0], "right"))
        raise UserError(
            f"{file}: the sequence of {names[at]} holds NaN or infinity; rerun stage features or "
            "quarantine the clip"
        )
