"""A trained project in a folder of its own, as a clone is one."""

import pytest
import yaml

from tests.tasks.predict.projects import RAW, make_project


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    found = make_project(tmp_path_factory.mktemp("clone"))
    (found.root / ".dvc").mkdir()
    (found.root / "params.yaml").write_text(yaml.safe_dump(RAW))
    found.layout.leaderboard("csv").write_text("corpus,method,score\ntiny,linear,0.5\n")
    return found


@pytest.fixture
def clone(made, monkeypatch, tmp_path):
    """Its folder; the current one is another."""
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(made.layout.cache))
    monkeypatch.chdir(tmp_path)
    return made.root
