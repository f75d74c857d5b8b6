"""A project with a small corpus, for tests of stages."""

import pytest
import torch

from tests.tasks.corpus_factory import make_corpus


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """One fold, written into the current folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    yield make_corpus(folds=1).write()
    torch.use_deterministic_algorithms(False)
