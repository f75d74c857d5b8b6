import math

import numpy as np
import polars as pl
import pytest

from models.batch import Target
from tasks.batches import by_id
from tasks.batches.by_id import ById
from tasks.batches.labels import labels_by_fold, labels_in_parts
from tasks.tables.labels import LABELS
from tasks.tables.parquet import write_table

IDS = pl.Series("utterance_id", ["d", "b", "c", "a", "f", "e"])
VAD_TARGET = Target("vad", "values", ("valence",))
CATEGORY = Target("category", "category", ("angry", "happy"))
MANY = Target("categories", "labels", ("calm", "sad"))


def row(name, fold=None, **columns):
    return {"utterance_id": name, "fold": fold, "n_raters": 1, **columns}


SHARED = [
    row("a", category="happy", valence=0.1, valence_kind="prior", categories=["sad"]),
    row("c", category="angry", valence=0.3, category_shares=[{"label": "angry", "share": 1.0}]),
    row("d", category="odd", valence=0.4, valence_std=0.5, first_category="calm"),
    row("e", valence=0.5),
]
BY_FOLD = [*SHARED, row("d", 0, valence=0.9), row("e", 1, valence=0.8)]


def write(tmp_path, rows):
    return write_table(LABELS, LABELS.frame(rows), tmp_path / "labels.parquet")


@pytest.mark.parametrize("rows", [SHARED, BY_FOLD])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_labels_are_the_same_wherever_parts_are_cut(tmp_path, monkeypatch, rows, at_once):
    monkeypatch.setattr(by_id, "_ROWS", at_once)
    parts = ById(IDS).parts(LABELS, write(tmp_path, rows))
    targets, folds = [CATEGORY, VAD_TARGET, MANY], [0, 1]
    found = labels_in_parts(len(IDS), parts, targets, folds)
    expected = labels_by_fold(IDS, LABELS.frame(rows), targets, folds)
    assert (found[0] is found[1]) == (expected[0] is expected[1]) == (rows is SHARED)
    for fold, labels in expected.items():
        for name in ("values", "scored", "own", "soft"):
            mine, theirs = getattr(found[fold], name), getattr(labels, name)
            assert list(mine) == list(theirs)
            for target, values in theirs.items():
                np.testing.assert_array_equal(mine[target], values, strict=True)
        np.testing.assert_array_equal(found[fold].first, labels.first, strict=True)


def test_labels_of_any_order_are_read(tmp_path):
    path = tmp_path / "labels.parquet"
    LABELS.frame(BY_FOLD[::-1]).write_parquet(path)
    found = labels_in_parts(len(IDS), ById(IDS).parts(LABELS, path), [VAD_TARGET], [0, 1])
    valence = [found[fold].values["vad"][:, 0].tolist() for fold in (0, 1)]
    nan = math.nan
    assert valence[0] == pytest.approx([0.9, nan, 0.3, 0.1, nan, 0.5], nan_ok=True)
    assert valence[1] == pytest.approx([0.4, nan, 0.3, 0.1, nan, 0.8], nan_ok=True)


def test_no_more_rows_than_a_part_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(by_id, "_ROWS", 2)
    parts = list(ById(IDS).parts(LABELS, write(tmp_path, SHARED)))
    assert max(part.table.height for part in parts) <= 3
    assert sorted(name for part in parts for name in part.ids) == sorted(IDS)
    for part in parts:
        assert IDS[part.rows].to_list() == part.ids.to_list()
