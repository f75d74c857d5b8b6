"""A new stage is a folder and a row."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml

_STAGE = '''\
"""Counts letters."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.context import Context
from tasks.layout import Layout
from tasks.letters.counting import count


class LettersParams(BaseModel):
    """Section ``letters``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    letter: str = "e"


def run(params: LettersParams, layout: Layout, ctx: Context) -> Path:
    """Write how often the letter occurs in params.yaml."""
    out = layout.root / "letters.txt"
    out.parent.mkdir(exist_ok=True)
    out.write_text(str(count(Path("params.yaml").read_text(), params.letter)))
    return out
'''
_ROW = """\
    Stage(
        "letters", (), "tasks.letters.stage:LettersParams",
        writes=lambda d: [d.root / "letters.txt"],
    ),
)  # fmt: skip
"""


@pytest.fixture
def with_stage(clone):
    """The project with one more stage: its folder and its row."""
    table, written = clone / "tasks/stages.py", clone / "dvc.yaml"
    text, before = table.read_text(), written.read_text()
    assert text.count("\n)  # fmt: skip\n") == 1
    folder = clone / "tasks/letters"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "stage.py").write_text(_STAGE)
    (folder / "counting.py").write_text("def count(text, letter):\n    return text.count(letter)\n")
    table.write_text(text.replace(")  # fmt: skip\n", _ROW))
    with (clone / "params.yaml").open("a") as stream:
        stream.write("\nletters: {letter: x}\n")
    yield clone
    table.write_text(text)
    written.write_text(before)
    shutil.rmtree(folder)


def _run(root, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(root), "AFFECTLOOM_PREFECT": "off"}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_folder_and_a_row_are_a_stage(with_stage):
    done = _run(with_stage, "flows.cli.main", "sync")
    assert done.returncode == 0, done.stderr
    stage = yaml.safe_load((with_stage / "dvc.yaml").read_text())["stages"]["letters"]
    assert stage["params"] == ["letters"]
    own = [path for path in stage["deps"] if path.startswith("tasks/letters/")]
    assert own == ["tasks/letters/counting.py", "tasks/letters/stage.py"]
    done = _run(with_stage, "flows.cli.main", "run", "letters")
    assert done.returncode == 0, done.stderr
    expected = (with_stage / "params.yaml").read_text().count("x")
    assert (with_stage / "data/letters.txt").read_text() == str(expected)


@pytest.mark.slow
def test_the_parameters_of_a_new_stage_are_checked(with_stage):
    params = with_stage / "params.yaml"
    params.write_text(params.read_text().replace("letter: x", "lettre: x"))
    done = _run(with_stage, "flows.stage", "letters")
    assert done.returncode != 0
    assert "letters" in done.stderr
    assert "did you mean 'letter'?" in done.stderr
