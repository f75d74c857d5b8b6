"""A model that was given away answers in an environment that has nothing but the lock file's."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.predict.leaving.export import export
from tasks.predict.output.publishing import Wanted
from tasks.predict.session import Request, run
from tests.places import QUIET, ROOT
from tests.tasks.predict.projects import NAME

pytestmark = pytest.mark.slow
_UNREACHABLE = re.compile(
    r"failed to fetch|error sending request|could not connect|dns error", re.I
)
_SOURCE = ("affectloom", "flows", "models", "tasks", "pyproject.toml", "README.md", "LICENSE")


def uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        pytest.skip("uv is not there; `make setup` brings it")
    return found


def call(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        words, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An environment of the lock file, with the project installed as a wheel would be."""
    root = tmp_path_factory.mktemp("empty")
    source = root / "source"
    source.mkdir()
    for name in _SOURCE:
        at = ROOT / name
        (shutil.copytree if at.is_dir() else shutil.copy)(at, source / name)
    python = str(root / "venv/bin/python")
    lock = ("--require-hashes", "-r", str(ROOT / "requirements.lock"))
    for words in (
        ("venv", "-q", "--python", sys.executable, str(root / "venv")),
        ("pip", "install", "-q", "--python", python, *lock),
        ("pip", "install", "-q", "--python", python, "--no-deps", str(source)),
    ):
        done = call(uv(), *words, cwd=root)
        if done.returncode and _UNREACHABLE.search(done.stderr):
            pytest.skip(f"no package index can be reached: {done.stderr.splitlines()[0]}")
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return root / "venv"


def test_an_export_answers_there_as_its_run_does_here(project, environment, tmp_path):
    medium, words = project.medium(4), tmp_path / "words.json"
    turns = [
        {"start": t.start_s, "end": t.end_s, "speaker": t.speaker, "text": t.text}
        for t in project.turns(4)
    ]
    words.write_text(json.dumps({"segments": turns}))
    request = Request(
        (str(medium),), tmp_path, tmp_path / "here", NAME,
        transcript=words, wanted=Wanted(overlay=False),
    )  # fmt: skip
    run(request, project.layout, project.params, lambda *_: QUIET, print)

    model = export(NAME, project.layout, project.params, tmp_path / "model")
    away = tmp_path / "away"
    away.mkdir()
    told = call(
        str(environment / "bin/affectloom"), "predict", str(medium), "--transcript", str(words),
        "--model", str(model), "--out", "answers", "--no-overlay",
        cwd=away, HOME=str(away), AFFECTLOOM_CACHE=str(away / "cache"), PWD=str(away),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    there = (away / "answers/predictions.csv").read_bytes()
    assert there == (tmp_path / "here/predictions.csv").read_bytes()
    assert there.count(b"\n") == 1 + len(turns)
