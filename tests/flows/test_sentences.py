import errno
import sqlite3
import sys

import pytest

from flows.cli import main as cli
from flows.sentences import sentence


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
