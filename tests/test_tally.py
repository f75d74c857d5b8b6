import json

import pytest

from benchmarks.safety import HEAD, rows, with_rows
from tests import tally


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(tally, "FOUND", {})


def lose():
    with tally.trial("runs") as one:
        one.may_lose()
        raise AssertionError("gone")


def test_trials_are_counted_at_once_by_what_became_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv(tally.VARIABLE, str(tmp_path / "x"))
    with tally.trial("tables"):
        pass
    with tally.trial("tables") as one:
        one.refused()
    with pytest.raises(KeyError), tally.trial("tables"):
        raise KeyError
    with pytest.raises(AssertionError, match="gone"):
        lose()
    tally.note("runs", "survived", 3)
    assert json.loads((tmp_path / "x").read_text()) == {
        "tables": {"survived": 1, "refused": 1, "wrong": 1},
        "runs": {"lost": 1, "survived": 3},
    }


def test_rows_are_replaced_added_and_kept():
    made = rows({"b": {"refused": 1000, "survived": 2}, "c": {"lost": 1}})
    assert made == {"b": "| b | 1,002 | 1,000 | 2 | 0 | 0 |", "c": "| c | 1 | 0 | 0 | 1 | 0 |"}
    page = f"# x\n\n{HEAD}\n|---|\n| a | 1 |\n| b | 1 |\n\nafter\n"
    table = f"{HEAD}\n|---|\n| a | 1 |\n{made['b']}\n{made['c']}\n"
    assert with_rows(page, made) == f"# x\n\n{table}\nafter\n"
    with pytest.raises(ValueError, match="no table"):
        with_rows("# x\n", made)
