"""Files from strangers whose headers claim more than the files hold, told before they are read."""

import math
import os
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy

from models.errors import UserError

#: Values of one array, or of what a file unpacks to, that are read at once.
_MOST_BYTES = 4 << 30
#: Rows that a byte of a Parquet file may stand for: rows have ids of their own, which take room.
_MOST_ROWS_A_BYTE = 100
#: Of a value in memory by its kind in the file; others are texts, which are read as views.
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8, "INT96": 8}
_BLOCK_BYTES = 1 << 20
_COMPRESSED = 15  # MATLAB's number for an element that zlib packed


def check_npy(file: Path) -> None:
    """Raise where a ``.npy`` file does not hold the values that its header claims.

    Raises:
        UserError: for such a file.
        ValueError: for a file that is no array, as numpy says it.
    """
    with file.open("rb") as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"format version {version} is not known")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
        held = os.fstat(stream.fileno()).st_size - stream.tell()
    claimed = math.prod(shape) * np.dtype(dtype).itemsize
    if claimed > held and not dtype.hasobject:
        raise UserError(
            f"{file}: its header claims {claimed:,} bytes of values, but it holds {held:,}; the "
            "file is cut off or made to fill the memory"
        )
    if claimed > _MOST_BYTES:
        raise UserError(
            f"{file}: has {claimed / 2**30:.1f} GB of values; at most {_MOST_BYTES >> 30} GB are "
            "read of one array: cut it into several"
        )


def check_parquet(file: Path, columns: Collection[str] | None = None) -> None:
    """Raise where a Parquet file claims more rows than its bytes can stand for, or unpacks to much.

    Args:
        file: the table.
        columns: those that will be read; None: all.
    """
    try:
        told = pq.read_metadata(file)
    except (OSError, pa.ArrowException):
        return  # whoever reads it says what is wrong with it
    rows, size = told.num_rows, file.stat().st_size
    if rows > _MOST_ROWS_A_BYTE * size:
        raise UserError(
            f"{file}: claims {rows:,} rows but holds {size:,} bytes; the file is damaged or made "
            "to fill the memory"
        )
    unpacked = sum(_unpacked_bytes(told.row_group(n), columns) for n in range(told.num_row_groups))
    if unpacked > _MOST_BYTES:
        raise UserError(
            f"{file}: {size:,} bytes unpack to {unpacked / 2**30:.1f} GB; at most "
            f"{_MOST_BYTES >> 30} GB are read of one table: cut it into several"
        )


def _unpacked_bytes(group: pq.RowGroupMetaData, columns: Collection[str] | None) -> int:
    """Memory that a row group takes; a repeated value is stored once and takes room each time."""
    total = 0
    for part in (group.column(number) for number in range(group.num_columns)):
        if columns is None or part.path_in_schema.split(".")[0] in columns:
            values = part.num_values * _VALUE_BYTES.get(part.physical_type, 16)
            total += max(part.total_uncompressed_size, values)
    return total


def check_mat(file: Path) -> None:
    """Raise where a MATLAB file unpacks to more than is read; unpacked here piece by piece."""
    total = 0
    with file.open("rb") as stream:
        order = "<" if stream.read(128)[126:128] == b"IM" else ">"
        while len(tag := stream.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            if kind != _COMPRESSED:
                stream.seek(size, os.SEEK_CUR)
                continue
            packed, left = zlib.decompressobj(), size
            while left > 0 and (block := stream.read(min(left, _BLOCK_BYTES))):
                left -= len(block)
                while block:
                    try:
                        total += len(packed.decompress(block, _BLOCK_BYTES))
                    except zlib.error:
                        return  # whoever reads it says what is wrong with it
                    block = packed.unconsumed_tail
                    if total > _MOST_BYTES:
                        raise UserError(
                            f"{file}: unpacks to more than {_MOST_BYTES >> 30} GB; the file is "
                            "damaged or made to fill the memory"
                        )
