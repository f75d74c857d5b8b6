"""Tables as Parquet files: checked, sorted, written whole, read with their metadata."""

import itertools
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.atomic import replacing, replacing_folder
from tasks.tables.contract import Table, TableError
from tasks.tables.parts import in_parts
from tasks.tables.sorting import in_groups

#: Rows in a row group of features or faces: small enough to read one without its neighbours.
ROW_GROUP = 128


def write_table(
    table: Table, frame: pl.DataFrame, path: Path, metadata: Mapping[str, str] | None = None
) -> Path:
    """Check ``frame``, sort it by the table's key and write it as Parquet, atomically.

    The same rows give the same bytes, whatever their order was. ``metadata`` goes into the schema.
    """
    table.check(frame, str(path))
    said = [n for n, c in table.columns.items() if not c.optional or _has_values(frame, n)]
    ordered = frame.select(said).sort([name for name in table.key if name in said], nulls_last=True)
    arrow = ordered.to_arrow(compat_level=pl.CompatLevel.oldest())
    return _write(table, iter([arrow]), path, _encoded(metadata))


def write_ranges(
    table: Table,
    ranges: Iterable[pl.DataFrame],
    path: Path,
    metadata: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> Path:
    """``write_table`` of rows that come range after range of the key's first column.

    The bytes are those of all rows written at once.

    Args:
        table: the contract; its key may repeat, or each range holds all rows of its keys.
        ranges: at least one.
        path: the file.
        metadata: goes into the schema.
        without: optional columns that have no value in any range.
    """
    said = [name for name in table.columns if name not in without]
    key = [name for name in table.key if name in said]

    def checked() -> Iterator[pa.Table]:
        last = None
        for frame in ranges:
            table.check(frame, str(path))
            ordered = frame.select(said).sort(key, nulls_last=True)
            if ordered.height:
                if last is not None and ordered.row(0)[0] <= last:
                    raise RuntimeError(f"{path}: ranges are not in the order of {key[0]}")
                last = ordered[key[0]][-1]
            yield ordered.to_arrow(compat_level=pl.CompatLevel.oldest())

    _write(table, checked(), path, _encoded(metadata))
    give_back()
    return path


def _write(
    table: Table, rows: Iterator[pa.Table], path: Path, metadata: dict[str, str] | None
) -> Path:
    """Write rows in their order: as a file, or as a folder of files where the table is long."""
    if not table.part_rows:
        _write_file(in_groups(rows, table.row_group), path, table.row_group, metadata)
        return path
    parts = in_parts(rows, table.part_rows)
    first, second = next(parts), next(parts, None)
    if second is None:
        _write_file(iter([first.combine_chunks()]), path, table.row_group, metadata)
        return path
    with replacing_folder(path) as folder:
        # by itself, since it counts rows: none of the others changes with it
        _write_file(iter([first.slice(0, 0)]), folder / "about.parquet", 1, metadata)
        for number, part in enumerate(itertools.chain([first, second], parts)):
            name, whole = f"part-{number:04d}.parquet", part.combine_chunks()
            _write_file(iter([whole]), folder / name, whole.num_rows, None)
    return path


def _write_file(
    tables: Iterator[pa.Table], path: Path, row_group: int, metadata: dict[str, str] | None
) -> None:
    tables = (table.replace_schema_metadata(metadata) for table in tables)
    first = next(tables)
    with replacing(path) as temporary:
        with pq.ParquetWriter(
            temporary, first.schema, compression="zstd", compression_level=1
        ) as writer:
            for table in itertools.chain([first], tables):
                writer.write_table(table, row_group_size=row_group)
        if path.is_dir():
            shutil.rmtree(path)  # of a table that was longer


def _encoded(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    return {key: metadata[key] for key in sorted(metadata)} if metadata else None


def _has_values(frame: pl.DataFrame, name: str) -> bool:
    return name in frame.columns and frame.get_column(name).null_count() < frame.height


def read_table(table: Table, path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read and check a table; ``path`` is one file or a folder of files.

    Args:
        table: the contract to hold the file to.
        path: a Parquet file, or a folder whose ``*.parquet`` files together are the table.
        columns: read only these; an optional one that the file does not have is null.
    """
    files = table_files(path, table)
    try:
        frames = [_frame(file, columns) for file in files]
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(table, path, error) from error
    for file, frame in zip(files, frames, strict=True):
        table.check(frame, str(file), columns)
        _check_alike(table, file, frame, files[0], frames[0])
    whole = pl.concat(frames)
    if len(frames) > 1:
        table.check(whole, str(path), columns)  # a key may stand in two files
    complete = table.completed(whole)
    return complete if columns is None else complete.select(columns)


def _frame(file: Path, columns: Sequence[str] | None) -> pl.DataFrame:
    """What a file has of ``columns``."""
    with pq.ParquetFile(file) as source:
        known = source.schema_arrow.names
        asked = known if columns is None else [name for name in columns if name in known]
        table = source.read(asked).select(asked).replace_schema_metadata(None)
    frame = pl.DataFrame(pl.from_arrow(table))
    del table
    give_back()
    return frame


def read_batches(
    table: Table, path: Path, columns: Sequence[str], rows: int
) -> Iterator[pl.DataFrame]:
    """Some columns, ``rows`` rows at a time in the order of ``read_table``, each part checked.

    A key that stands twice is not noticed: no part knows of another.
    """
    files, first = table_files(path, table), None
    try:
        for file in files:
            with pq.ParquetFile(file) as source:
                for batch in source.iter_batches(rows, columns=list(columns)):
                    frame = pl.DataFrame(pl.from_arrow(batch)).select(columns)
                    table.check(frame, str(file), columns)
                    first = frame.clear() if first is None else first
                    _check_alike(table, file, frame, files[0], first)
                    yield frame
            give_back()
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(table, path, error) from error


def give_back() -> None:
    """Let the system have what is free: Arrow's pool keeps a quarter of a table that it decoded.

    In a process of ``flows`` the pool is the C library's, so what arrays and tensors left goes too.
    """
    pa.default_memory_pool().release_unused()


def _check_alike(
    table: Table, file: Path, frame: pl.DataFrame, other_file: Path, other: pl.DataFrame
) -> None:
    if frame.schema != other.schema:
        raise TableError(
            f"{file}: its columns have other types or widths than those of {other_file.name}; "
            f"rerun {table.made_by}"
        )


def read_ranges(table: Table, path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """A table's rows in its order, about ``rows`` at a time, each part checked; at least one part.

    Rows that agree in the first column of the key, which the table is sorted by, are in one part.
    """
    files = table_files(path, table)
    try:  # now, so that a broken file shows before anything is read
        schemas = [pq.read_schema(file) for file in files]
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(table, path, error) from error
    return _ranges(table, path, schemas[0], rows)


def _ranges(table: Table, path: Path, schema: pa.Schema, rows: int) -> Iterator[pl.DataFrame]:
    first = table.key[0]
    rest = pl.DataFrame(pl.from_arrow(schema.remove_metadata().empty_table()))
    table.check(rest, str(path))
    last = None
    for frame in read_batches(table, path, schema.names, rows):
        ids = frame.get_column(first)
        if not ids.is_sorted() or (last is not None and ids[0] < last):
            raise TableError(f"{path}: rows are not sorted by {first}; rerun {table.made_by}")
        last = ids[-1]
        rest = pl.concat([rest, frame])
        done = rest.filter(pl.col(first) != last)
        if done.height:
            yield table.completed(done)
            rest = rest.filter(pl.col(first) == last)
    yield table.completed(rest)


def _unreadable(table: Table, path: Path, error: Exception) -> TableError:
    return TableError(f"{path}: not a readable Parquet file ({error}); rerun {table.made_by}")


def read_metadata(path: Path) -> dict[str, str]:
    """What a table's writer recorded in the schema: encoder, weights, versions, parameters."""
    files = files_of(path)
    if not files:
        raise TableError(f"{path}: no such table; run the stage that writes it first")
    found = pq.read_schema(files[0]).metadata or {}
    return {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}


def table_files(path: Path, table: Table) -> list[Path]:
    """The Parquet files of a table, or an error that says which stage makes them."""
    files = files_of(path)
    if not files:
        raise TableError(f"{path}: no such table; run {table.made_by} first")
    return files


def files_of(path: Path) -> list[Path]:
    """The Parquet files of a table in their order; none if it is not there."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path] * path.exists()
