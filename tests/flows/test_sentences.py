import errno
import sqlite3
import sys

import pytest

from flows import stage
from flows.cli import main as cli
from flows.sentences import sentence, told
from models.errors import UserError


@pytest.mark.parametrize("words", ["disk I/O error", "database or disk is full"])
def test_dvcs_data_base_that_cannot_grow_is_one_sentence(monkeypatch, capsys, words):
    def fail():
        raise sqlite3.OperationalError(words)

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["affectloom", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert len(said) == 1
    assert said[0].startswith("error: DVC's data base")
    assert words in said[0]


def test_a_limit_of_file_sizes_has_its_remedy():
    error = OSError(errno.EFBIG, "File too large", "data/x.parquet")
    assert sentence(error) == (
        "data/x.parquet: File too large; raise the limit of file sizes (ulimit -f)"
    )


def test_what_is_told_of_an_error():
    full = RuntimeError("I/O error: No space left on device (os error 28)")
    assert told(full) == "No space left on device; free some space and run the same command again"
    assert told(UserError("no column 'x'")) == "no column 'x'"
    assert told(KeyError("x")) is None


def test_a_stage_on_a_full_disk_ends_with_one_sentence(monkeypatch, capsys):
    def fail(name, ids):
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(stage, "execute", fail)
    monkeypatch.setattr(stage, "find_root", lambda: ".")
    assert stage.main(["report"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: No space left on device; free some space and run the same command again"
    ]
