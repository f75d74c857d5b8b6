"""The table of faces: clip by clip from the store, without holding all rows."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.atomic import replacing
from tasks.faces.addresses import clip_key
from tasks.faces.clip import empty_row
from tasks.faces.windows import ClipRequest
from tasks.store.segments import Entry, Store
from tasks.tables.contract import TableError
from tasks.tables.faces import FACES
from tasks.tables.parquet import ROW_GROUP


def pack(rows: pl.DataFrame) -> bytes:
    """Rows as bytes of the store."""
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    return sink.getvalue().to_pybytes()


def clip_frames(
    clips: Iterable[ClipRequest], store: Store, passing: Mapping[str, Entry]
) -> Iterator[pl.DataFrame]:
    """Rows of each clip, from the store or from what was not kept there."""
    nothing: pl.DataFrame | None = None
    for clip in clips:
        if clip.span is None:
            nothing = FACES.frame([empty_row(clip, "no_video")]) if nothing is None else nothing
            yield _named(nothing, clip)
            continue
        key = clip_key(clip)
        entry = passing[key] if key in passing else next(iter(store.read([key])))
        rows = pl.DataFrame(pl.from_arrow(pa.ipc.open_stream(entry.blobs["rows"]).read_all()))
        yield _named(rows, clip)


def _named(rows: pl.DataFrame, clip: ClipRequest) -> pl.DataFrame:
    """The rows under the name of a clip; clips of the same content share them."""
    named = rows.with_columns(pl.lit(clip.utterance_id).alias("utterance_id"))
    return named.select(list(FACES.columns))


def write_faces(frames: Iterable[pl.DataFrame], path: Path, made: Mapping[str, str]) -> None:
    """Write the table clip by clip: the bytes of ``write_table``, without holding all rows.

    Clips must come by ascending id, the rows of each sorted by frame and track.
    """
    schema = FACES.empty().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    schema = schema.with_metadata({key: made[key] for key in sorted(made)})
    rest, fresh, height = FACES.empty(), list[pl.DataFrame](), 0
    last = ""
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=1) as writer,
    ):
        for frame in frames:
            utterance = frame.item(0, "utterance_id")
            if utterance <= last:
                raise TableError(f"{path}: {utterance} comes after {last}; sort clips by id")
            last = utterance
            fresh.append(frame)
            height += frame.height
            if rest.height + height >= ROW_GROUP:
                rest = pl.concat([rest, _checked(fresh, path)])
                whole = rest.height // ROW_GROUP * ROW_GROUP
                _append(writer, rest.head(whole), schema)
                rest, fresh, height = rest.slice(whole), [], 0
        if fresh:
            rest = pl.concat([rest, _checked(fresh, path)])
        if rest.height:
            _append(writer, rest, schema)


def _checked(frames: list[pl.DataFrame], path: Path) -> pl.DataFrame:
    """The rows of some clips in one; checking them together costs what checking one costs."""
    rows = pl.concat(frames)
    FACES.check(rows, str(path))
    return rows


def _append(writer: pq.ParquetWriter, rows: pl.DataFrame, schema: pa.Schema) -> None:
    arrow = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    writer.write_table(arrow.replace_schema_metadata(schema.metadata), row_group_size=ROW_GROUP)
