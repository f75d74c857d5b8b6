"""Ranges: where judgements are cut changes nothing, and no utterance is cut."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from tasks.labels.card import Card
from tasks.labels.combine import combine
from tasks.labels.gather import in_ranges
from tasks.labels.params import LabelsParams
from tasks.labels.report import describe
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.contract import TableError
from tasks.tables.parquet import read_ranges, write_table

_IDS = pl.Series([f"c/d{n // 4:02d}/u{n:03d}" for n in range(40)])


def _annotations() -> pl.DataFrame:
    """Numbers, votes and sets, some out of range, twice, undecided or of nobody; shuffled."""
    rng = np.random.default_rng(0)
    rows = []
    for name in [*_IDS[2:], "c/zz/none"]:
        for rater in rng.permutation(["ann", "bob", "cleo", "dan"])[: rng.integers(1, 5)]:
            of = {"utterance_id": name, "rater": rater, "source": "s"}
            value = float(rng.integers(1, 7))  # 6 leaves the scale
            rows.append({**of, "target": "valence", "value": value, "scale_min": 1, "scale_max": 5})
            rows.append({**of, "target": "category", "label": rng.choice(["sad", "calm", "joy"])})
            labels = rng.choice(["x", "y", "z"], 2, replace=False)
            rows += [
                {**of, "target": "categories", "label": label, "position": place}
                for place, label in enumerate(labels)
            ]
    rows += rows[::17]
    return ANNOTATIONS.frame(rows).sample(fraction=1.0, shuffle=True, seed=1)


@pytest.mark.parametrize(
    "rules",
    [
        {"merge": "mean", "several_votes": "split"},
        {"merge": "median", "ties": "quarantine", "min_raters": 2},
        {"merge": "ewe"},
        {"merge": "ewe", "weights_from": "all", "leave_one_out": True, "several_votes": "each"},
    ],
)
def test_labels_do_not_depend_on_where_ranges_are_cut(rules: dict) -> None:
    annotations, params = _annotations(), LabelsParams(**rules)
    splits = pl.DataFrame({"utterance_id": _IDS}).with_columns(
        fold=pl.lit(0, pl.Int32),
        split=pl.when(pl.int_range(pl.len()) % 3 == 0)
        .then(pl.lit("test"))
        .otherwise(pl.lit("train")),
    )
    told = []
    for rows in (annotations.height, 50, 1):
        done = combine(params, _IDS, in_ranges(annotations, rows), Card({}, {}), splits)
        report = describe(done.gathered, done.labels)
        aside = done.gathered.quarantine().sort(pl.all())
        told.append((done.labels, aside, report, done.flags, done.weights, done.gathered.tied))
    whole = told[0]
    assert whole[0]["valence"].count() > 20
    assert whole[1].height > 10
    for labels, aside, *rest in told[1:]:
        assert labels.equals(whole[0])
        assert aside.equals(whole[1])
        assert rest == list(whole[2:])


def test_a_range_holds_all_rows_of_its_utterances() -> None:
    parts = list(in_ranges(_annotations(), 30))
    ids = [set(part["utterance_id"]) for part in parts]
    assert len(parts) > 5
    assert not any(a & b for a, b in itertools.pairwise(ids))
    assert sum(part.height for part in parts) == _annotations().height


def test_a_file_is_read_in_whole_utterances(tmp_path: Path) -> None:
    path = write_table(ANNOTATIONS, _annotations(), tmp_path / "a.parquet")
    parts = list(read_ranges(ANNOTATIONS, path, 7))
    ids = [set(part["utterance_id"]) for part in parts]
    assert len(parts) > 20
    assert not any(a & b for a, b in itertools.pairwise(ids))
    whole = pl.concat(parts)
    key = [*ANNOTATIONS.key, "value", "position"]
    assert whole.sort(key, nulls_last=True).equals(_annotations().sort(key, nulls_last=True))


def test_a_table_without_rows_is_one_part(tmp_path: Path) -> None:
    path = write_table(ANNOTATIONS, ANNOTATIONS.empty(), tmp_path / "a.parquet")
    (part,) = read_ranges(ANNOTATIONS, path, 7)
    assert part.height == 0
    assert part.columns == list(ANNOTATIONS.columns)


def test_a_file_that_is_not_sorted_is_refused(tmp_path: Path) -> None:
    path = write_table(ANNOTATIONS, _annotations(), tmp_path / "a.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), path)
    with pytest.raises(TableError, match="not sorted by utterance_id; rerun stage ingest"):
        list(read_ranges(ANNOTATIONS, path, 7))
