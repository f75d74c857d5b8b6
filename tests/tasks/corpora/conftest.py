"""Every test of an adapter runs in a folder of its own."""

import pytest


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty working folder; raw corpora go below ``data/raw``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path
