import errno
import os

import numpy as np
import polars as pl
import pytest

from models.errors import UserError
from tasks.batches import pooled
from tasks.batches.pooled import read_pooled
from tasks.tables.contract import TableError
from tasks.tables.features import FEATURES
from tasks.tables.parquet import write_table
from tests.tasks.corpus_factory import features_frame

VECTORS = {
    f"c/d{n // 4}/u{n:02d}": None if n % 5 == 2 else [n, n / 3, -float(n)] for n in range(30)
}


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        part = dict(list(VECTORS.items())[number::3])
        write_table(FEATURES, features_frame(part, 3), tmp_path / "ears" / f"{number}.parquet")
    return tmp_path / "ears"


def read(folder, order=range(30)):
    ids = pl.Series([list(VECTORS)[n] for n in order])
    values, present = read_pooled(ids, folder)
    return values, [
        None if not there else row.tolist() for row, there in zip(values, present, strict=True)
    ]


@pytest.mark.parametrize("rows", [3, 8_192])
def test_vectors_come_in_the_order_that_is_asked_for(folder, monkeypatch, rows):
    monkeypatch.setattr(pooled, "_ROWS", rows)
    order = [*range(29, 3, -2), 0, 12, 2]
    wanted = [VECTORS[list(VECTORS)[n]] for n in order]
    values, found = read(folder, order)
    assert found == [v and np.float32(v).tolist() for v in wanted]
    assert not values[[v is None for v in wanted]].any()


def test_many_vectors_are_mapped_and_leave_no_file(folder, monkeypatch):
    plain, _ = read(folder)
    monkeypatch.setattr(pooled, "_HELD_BYTES", 0)
    mapped, _ = read(folder)
    assert isinstance(mapped, np.memmap)
    assert not isinstance(plain, np.memmap)
    np.testing.assert_array_equal(mapped, plain)
    assert os.listdir(folder.parent) == ["ears"]


def test_many_vectors_without_room_are_an_error(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pooled, "_HELD_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room for .* GB of features \(No space left on device"):
        read(folder)


def test_files_of_different_widths_are_an_error(folder):
    wide = features_frame({"c/d9/u99": [1.0, 2.0]}, 2)
    write_table(FEATURES, wide, folder / "9.parquet")
    with pytest.raises(TableError, match=r"9\.parquet: its columns have other types or widths"):
        read(folder)
