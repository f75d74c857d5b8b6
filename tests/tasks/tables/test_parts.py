"""Long tables as folders: what is in them, and what changes with them."""

import hashlib
import itertools
import os
import time
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.atomic import replacing_folder, sweep
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import (
    files_of,
    read_batches,
    read_metadata,
    read_ranges,
    read_table,
    write_ranges,
    write_table,
)
from tasks.tables.parts import in_parts, most_rows

PART = 60
TABLE = replace(ANNOTATIONS, part_rows=PART)


def judgements(dialogues, raters=3, turns=4):
    return ANNOTATIONS.frame(
        [
            {
                "utterance_id": f"c/d{d:03d}/{turn}", "rater": f"r{rater}", "target": "valence",
                "value": float(d + turn + rater), "source": "s.csv",
            }
            for d, turn, rater in itertools.product(dialogues, range(turns), range(raters))
        ]
    )  # fmt: skip


def sums(path):
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files_of(path)]


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 400), max_size=5),
    part_rows=st.integers(2, 50),
)
def test_parts_hold_the_rows_in_their_order(lengths, cuts, part_rows):
    ids = [f"u{n:03d}" for n, length in enumerate(lengths) for _ in range(length)]
    whole = pa.table({"id": ids, "row": range(len(ids))})
    places = sorted({0, *(cut for cut in cuts if cut < len(ids)), len(ids)})
    given_in = (whole.slice(a, b - a) for a, b in itertools.pairwise(places))
    parts = list(in_parts(given_in, part_rows))
    assert pa.concat_tables(parts).equals(whole)
    assert all(part.num_rows <= most_rows(part_rows) for part in parts)
    assert all(part.num_rows >= part_rows // 2 for part in parts[:-1])
    if max(lengths) <= part_rows // 2:  # there is room for a cut between utterances
        last = [set(part["id"].to_pylist()) for part in parts]
        assert all(a.isdisjoint(b) for a, b in itertools.pairwise(last))
    again = list(in_parts(iter([whole]), part_rows))
    assert [part.num_rows for part in again] == [part.num_rows for part in parts]


def test_a_long_table_is_a_folder_that_reads_like_a_file(tmp_path):
    rows, said = judgements(range(40)), {"card": "{}", "counts": "480"}
    path = write_table(
        TABLE, rows.sample(fraction=1.0, shuffle=True, seed=1), tmp_path / "a.parquet", said
    )
    assert len(files_of(path)) > 4
    whole = read_table(TABLE, write_table(ANNOTATIONS, rows, tmp_path / "b.parquet"))
    assert read_table(TABLE, path).equals(whole)
    assert pl.read_parquet(path).equals(pl.read_parquet(tmp_path / "b.parquet"))  # as others do
    assert pl.concat(read_ranges(TABLE, path, 50)).equals(whole)
    assert pl.concat(read_batches(TABLE, path, ["rater", "value"], 50)).equals(
        whole.select("rater", "value")
    )
    assert all(
        set(a["utterance_id"]).isdisjoint(b["utterance_id"])
        for a, b in itertools.pairwise(read_ranges(TABLE, path, 50))
    )
    assert read_metadata(path) == said


def test_ranges_make_the_same_files(tmp_path):
    rows = judgements(range(40))
    one = write_table(TABLE, rows, tmp_path / "a.parquet", {"x": "1"})
    ranges = (rows.slice(at, 12 * 7) for at in range(0, rows.height, 12 * 7))
    two = write_ranges(TABLE, ranges, tmp_path / "b.parquet", {"x": "1"}, without=["position"])
    assert sums(one) == sums(two)


def test_a_changed_row_changes_one_file(tmp_path):
    rows = judgements(range(60))
    before = sums(write_table(TABLE, rows, tmp_path / "a.parquet", {"rows": "720"}))
    is_it = (pl.col("utterance_id") == "c/d031/2") & (pl.col("rater") == "r1")
    changed = rows.with_columns(value=pl.when(is_it).then(-1.0).otherwise("value"))
    after = sums(write_table(TABLE, changed, tmp_path / "a.parquet", {"rows": "720"}))
    assert len(after) == len(before)
    assert len(set(after) - set(before)) == 1


@pytest.mark.parametrize("place", [0, 13, 31, 58])
def test_a_dialogue_more_changes_few_files(place, tmp_path):
    known = [d for d in range(60) if d != place]
    before = sums(write_table(TABLE, judgements(known), tmp_path / "a.parquet", {"rows": "708"}))
    after = sums(write_table(TABLE, judgements(range(60)), tmp_path / "a.parquet", {"rows": "720"}))
    assert len(before) > 8
    assert len(set(after) - set(before)) <= 4  # what is said of the rows, and those around it


def test_a_table_grows_to_a_folder_and_shrinks_to_a_file(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(TABLE, judgements(range(5)), path)
    assert path.is_file()
    write_table(TABLE, judgements(range(40)), path)
    assert path.is_dir()
    assert list(tmp_path.iterdir()) == [path]
    write_table(TABLE, judgements(range(5)), path)
    assert path.is_file()
    assert list(tmp_path.iterdir()) == [path]


def test_only_folders_of_killed_writers_are_swept(tmp_path):
    path = tmp_path / "a.parquet"
    left = tmp_path / ".a.parquet.xyz.tmp"
    left.mkdir()
    (left / "part-0000.parquet").write_bytes(b"half")
    with replacing_folder(path) as folder:
        for each in (left, folder):
            os.utime(each, (time.time(), time.time() - 5))
        sweep(path)
        assert folder.exists()
        assert not left.exists()
