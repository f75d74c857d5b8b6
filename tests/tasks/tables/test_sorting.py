"""Rows sorted without holding them all, and tables written range after range."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from tasks.tables import sorting
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import write_ranges, write_table
from tasks.tables.sorting import SortedRows, in_groups, items_near, with_items


@pytest.mark.parametrize("parts", [1, 2, 9])
@pytest.mark.parametrize("rows", [1, 50, 10_000])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_rows_leave_in_the_order_of_their_items(tmp_path, monkeypatch, parts, rows, is_sorted):
    monkeypatch.setattr(sorting, "_GROUP", 16)
    rng = np.random.default_rng(0)
    items = rng.integers(0, 300, 900).astype(np.uint32)
    if is_sorted:
        items.sort()
    frame = pl.DataFrame({"item": items, "at": np.arange(900)})
    held = SortedRows(tmp_path / "new", 301, rows)
    if parts > 2:
        held.add(frame.clear())
    for start in range(0, 900, 900 // parts):
        held.add(frame.slice(start, 900 // parts))
    if parts > 1:
        held.add(frame.clear())
    ranges = list(held.ranges())
    whole = pl.concat(ranges)
    if parts == 1:
        assert whole.equals(frame)
        return
    assert whole.sort("at").equals(frame)
    assert pl.concat(part["item"].sort() for part in ranges).is_sorted()
    assert pl.concat(r.select("item").unique() for r in ranges)["item"].is_unique().all()
    assert len(ranges) >= 900 // (rows + 20)
    assert list((tmp_path / "new").iterdir()) == []


def test_no_part_is_no_range_and_an_empty_one_is_one(tmp_path):
    held = SortedRows(tmp_path, 3, 10)
    assert list(held.ranges()) == []
    empty = pl.DataFrame(schema={"item": pl.UInt32})
    for _ in range(3):
        held.add(empty)
    assert sum(part.height for part in held.ranges()) == 0


def test_ids_are_looked_for_between_the_least_and_the_greatest():
    items = with_items(pl.Series(["d", "b", "a", "c"]))
    assert items.rows() == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert items_near(items, pl.Series(["bb", "d"])).rows() == [(2, "c"), (3, "d")]
    assert items_near(items, pl.Series([None], dtype=pl.String)).height == 0


@pytest.mark.parametrize("sizes", [[0], [5], [3, 0, 5], [8, 8], [1] * 17])
def test_groups_hold_a_multiple(sizes):
    parts, done = [], 0
    for size in sizes:
        parts.append(pa.table({"n": pa.array(range(done, done + size), pa.int64())}))
        done += size
    groups = list(in_groups(iter(parts), 8))
    assert [n for group in groups for n in group["n"].to_pylist()] == list(range(done))
    assert all(group.num_rows % 8 == 0 for group in groups[:-1])


def judgements(rows: int) -> pl.DataFrame:
    """Numbers and words of five raters, in no order."""
    rng = np.random.default_rng(1)
    number = rng.integers(0, 2, rows).astype(bool)
    frame = pl.DataFrame(
        {
            "utterance_id": [f"c/d/{n:06d}" for n in rng.integers(0, rows // 20, rows)],
            "rater": [f"r{n}" for n in range(rows)],
            "target": np.where(number, "valence", "category"),
            "value": pl.Series(np.where(number, rng.integers(1, 6, rows), np.nan)).fill_nan(None),
            "label": pl.Series(np.where(number, "", "joy")).replace("", None),
            "scale_min": pl.Series(np.where(number, 1.0, np.nan)).fill_nan(None),
            "scale_max": pl.Series(np.where(number, 5.0, np.nan)).fill_nan(None),
            "source": ["clips.csv"] * rows,
            "position": [None] * rows,
        },
        schema=ANNOTATIONS.schema,
    )
    return frame.sample(fraction=1, shuffle=True, seed=0)


@pytest.mark.parametrize("rows", [0, 200, 40_000])
@pytest.mark.parametrize("position", [None, 3])
def test_ranges_give_the_bytes_of_the_whole(tmp_path, rows, position):
    frame = judgements(max(rows, 20)).head(rows)
    frame = frame.with_columns(position=pl.lit(position, pl.Int32))
    whole = write_table(ANNOTATIONS, frame, tmp_path / "whole.parquet", {"b": "2", "a": "1"})
    ids = frame["utterance_id"].unique().sort()
    cut = [ids[at] for at in sorted({len(ids) // 3, len(ids) // 2}) if rows]
    place = pl.Series(cut, dtype=pl.String).search_sorted(frame["utterance_id"], "right")
    ranges = [frame.filter(place == n) for n in range(len(cut) + 1)]
    without = ["position"] if position is None or not rows else []
    parts = write_ranges(
        ANNOTATIONS, ranges, tmp_path / "parts.parquet", {"a": "1", "b": "2"}, without
    )
    assert parts.read_bytes() == whole.read_bytes()


def test_ranges_out_of_order_are_a_defect(tmp_path):
    frame = judgements(400).sort("utterance_id", descending=True)
    with pytest.raises(RuntimeError, match="not in the order of utterance_id"):
        write_ranges(ANNOTATIONS, [frame.head(200), frame.tail(200)], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []
