"""A small copy of the project for tests of the commands; nothing in it was ever run."""

import os
import re
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from flows import graph
from tests.places import ROOT


@pytest.fixture(scope="session")
def copied(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for package in ("flows", "tasks", "models"):
        skipped = shutil.ignore_patterns("__pycache__", "*.tmp", "page_assets", "starter")
        shutil.copytree(ROOT / package, root / package, ignore=skipped)
    shutil.copy(ROOT / ".dvcignore", root / ".dvcignore")
    (root / "params.yaml").write_text(few_methods())
    graph.sync(graph.read_raw_params(root), root)
    Repo.init(str(root), no_scm=True).close()
    return root


def few_methods() -> str:
    """params.yaml with three methods, whatever the project's own has."""
    text = (ROOT / "params.yaml").read_text()
    kept = "methods:\n" + "".join(f"  {n}: {{}}\n" for n in ("constant", "linear", "early_fusion"))
    return re.sub(r"(?m)^methods:.*\n(?:(?:  .*)?\n)+", kept + "\n", text)


@pytest.fixture
def clone(copied, monkeypatch) -> Path:
    """The current folder is the root of a project; params.yaml and data/ are as new each time."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "AFFECTLOOM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AFFECTLOOM_PREFECT", "off")
    monkeypatch.setattr("logging.basicConfig", lambda **options: None)
    (copied / "params.yaml").write_text(few_methods())
    for folder in ("data", ".cache"):
        shutil.rmtree(copied / folder, ignore_errors=True)
    monkeypatch.chdir(copied)
    return copied


@pytest.fixture
def edit(clone):
    """Replaces a piece of params.yaml."""

    def replace(old: str, new: str) -> None:
        text = (clone / "params.yaml").read_text()
        assert text.count(old) >= 1, f"{old!r} is not in params.yaml"
        (clone / "params.yaml").write_text(text.replace(old, new, 1))

    return replace


@pytest.fixture(scope="module")
def small_project(tmp_path_factory) -> Path:
    """This project with a corpus of few dialogues."""
    root = tmp_path_factory.mktemp("small")
    for package in ("flows", "tasks", "models"):
        skipped = shutil.ignore_patterns("__pycache__", "*.tmp")
        shutil.copytree(ROOT / package, root / package, ignore=skipped)
    for name in (".dvcignore", "prefect.toml"):
        shutil.copy(ROOT / name, root / name)
    text = few_methods()
    for name, value in (("dialogues", 12), ("mean_turns", 5), ("fps", 4)):
        text = re.sub(rf"(?m)^  {name}: \d+", f"  {name}: {value}", text)
    text = text.replace("  linear: {}", "  linear: {modalities: [audio], epochs: 2}")
    (root / "params.yaml").write_text(text)
    graph.sync(graph.read_raw_params(root), root)
    Repo.init(str(root), no_scm=True).close()
    return root
