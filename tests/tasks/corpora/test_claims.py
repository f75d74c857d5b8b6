"""Small files that claim to hold more than the memory."""

import struct
import zlib

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.io import savemat

from models.errors import UserError
from tasks.corpora import claims
from tasks.corpora.claims import check_mat, check_npy, check_parquet
from tasks.corpora.imports import plain_tables
from tasks.corpora.table_files import read_table_parts


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.zeros((4, 3), np.float32))
    check_npy(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="claims 48 bytes of values, but it holds 47"):
        check_npy(file)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2097152, 300000), }\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(UserError, match="made to fill the memory"):
        check_npy(file)
    file.write_bytes(b"\x93NUMPY\x09\x00")
    with pytest.raises(ValueError, match="version"):
        check_npy(file)


def test_a_table_that_claims_more_rows_than_its_bytes_can_tell_is_refused(tmp_path):
    file = tmp_path / "t.parquet"
    pl.DataFrame({"id": ["a", "b"]}).write_parquet(file)
    check_parquet(file)
    count = 3_000_000
    constant = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array(["x"]))
    pq.write_table(pa.table({"id": constant}), file, row_group_size=count)
    with pytest.raises(UserError, match="claims 3,000,000 rows but holds"):
        check_parquet(file)
    file.write_bytes(b"PAR1 no such file")
    check_parquet(file)  # its reader says what is wrong


def packed_table(file):
    """Two million numbers and a million equal numbers in a few kilobytes, and some names."""
    names = [f"{number:02d}" for number in range(20)]
    lists = pa.array([np.zeros(100_000, np.float32)] * 20, pa.list_(pa.float32()))
    alike = pa.array([np.ones(50_000)] * 20, pa.list_(pa.float64()))
    table = pa.table({"id": names, "x": lists, "alike": alike})
    pq.write_table(table, file, compression="zstd", use_dictionary=["alike"])
    assert file.stat().st_size < 50_000


@pytest.mark.parametrize(("column", "unpacked"), [("x", 8_000_000), ("alike", 8_000_000)])
def test_a_table_that_unpacks_to_more_than_is_read_is_refused(
    tmp_path, monkeypatch, column, unpacked
):
    file = tmp_path / "t.parquet"
    packed_table(file)
    monkeypatch.setattr(claims, "_MOST_BYTES", unpacked + 100_000)
    check_parquet(file, ["id", column])
    with pytest.raises(UserError, match=r"bytes unpack to .* GB; at most 0 GB are read"):
        check_parquet(file)
    monkeypatch.setattr(claims, "_MOST_BYTES", unpacked - 100_000)
    check_parquet(file, ["id"])
    with pytest.raises(UserError, match="unpack to"):
        check_parquet(file, ["id", column])


def test_both_readers_of_tables_look_before_they_read(tmp_path, monkeypatch):
    file = tmp_path / "t.parquet"
    packed_table(file)
    monkeypatch.setattr(claims, "_MOST_BYTES", 1_000_000)
    monkeypatch.setattr(pl, "read_parquet", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(UserError, match="unpack to"):
        next(read_table_parts(file, ["id", "x"], None, "utf-8", 100))
    with pytest.raises(UserError, match="unpack to"):
        plain_tables._load(file)


def test_a_matlab_file_is_unpacked_only_as_far_as_is_read(tmp_path, monkeypatch):
    file = tmp_path / "a.mat"
    savemat(file, {"x": np.zeros(100_000)}, do_compression=True)
    check_mat(file)
    monkeypatch.setattr(claims, "_MOST_BYTES", 50_000_000)
    packed = zlib.compress(bytes(100_000_000))
    bomb = b" " * 124 + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed
    assert len(bomb) < 200_000
    file.write_bytes(bomb)
    with pytest.raises(UserError, match="unpacks to more than"):
        check_mat(file)
