"""A project with a small corpus, for tests of stages."""

import shutil
import sys

import pytest
import torch

from models import encoders
from tasks.features import families as encoder_families
from tests.places import ROOT
from tests.tasks import union_factory
from tests.tasks.corpus_factory import make_corpus


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """One fold, written into the current folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    yield make_corpus(folds=1).write()
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def union_params(tmp_path, monkeypatch):
    """Parameters of a project in the current folder whose parts lie in data/raw."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    for part in union_factory.PARTS:
        union_factory.write_part(part)
    return union_factory.params()


@pytest.fixture
def counted_words(tmp_path, monkeypatch):
    """The encoder family that counts, where the real ones are; gives what it computed so far."""
    folder = tmp_path / "families"
    folder.mkdir()
    shutil.copy(ROOT / "tests/tasks/fake_text_family.py", folder)
    encoders.__path__.append(str(folder))
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))
    encoder_families.family_constants.cache_clear()

    def count() -> int:
        file = tmp_path / "count"
        lines = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return sum(map(int, lines))

    yield count
    encoders.__path__.remove(str(folder))
    sys.modules.pop("models.encoders.fake_text_family", None)
    encoder_families.family_constants.cache_clear()
    encoder_families._loaded.clear()
