"""The command as its user meets it."""

import sys

import pytest

from flows.cli import main as cli


@pytest.fixture
def command(clone, capsys, monkeypatch):
    """Runs the command here; returns its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["affectloom", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err.strip()

    return run
