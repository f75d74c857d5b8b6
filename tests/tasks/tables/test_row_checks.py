"""Rows held to checks: the first that a row fails is its reason."""

import polars as pl

from tasks.tables.row_checks import RowCheck, is_blank, judge

CHECKS = [
    RowCheck("blank", is_blank("name"), pl.lit("no name")),
    RowCheck("small", pl.col("n") < 0, pl.format("{} has {}", "name", "n")),
    RowCheck("blank", pl.col("n").is_null(), pl.lit("no number")),
]


def test_the_first_check_that_fails_names_the_row():
    rows = pl.DataFrame({"name": ["a", " ", "b", "c", None], "n": [1, -1, -2, None, 3]})
    found = judge(rows, CHECKS)
    assert found.good.rows() == [("a", 1)]
    assert found.bad.select("name", "reason", "detail").rows() == [
        (" ", "blank", "no name"),
        ("b", "small", "b has -2"),
        ("c", "blank", "no number"),
        (None, "blank", "no name"),
    ]


def test_no_rows_and_no_checks_are_fine():
    rows = pl.DataFrame({"name": ["a"], "n": [1]})
    assert judge(rows.clear(), CHECKS).bad.is_empty()
    assert judge(rows, []).good.equals(rows)
