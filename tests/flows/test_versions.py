"""A corpus of one's own has versions: only what is new in one is computed."""

import pytest

from benchmarks.versions import Versions, measure


@pytest.mark.slow
def test_a_new_version_computes_its_new_clips_and_an_old_one_none(tmp_path):
    steps = measure(tmp_path / "project", clips=20)
    assert [step.computed for step in steps] == [0, 20, 0, 0, 2, 0, 0, 0, 0]
    project = Versions(tmp_path / "project")
    assert "Running stage" not in project.repro()


@pytest.mark.slow
def test_a_corpus_that_is_a_link_computes_its_new_clips(tmp_path):
    project = Versions(tmp_path / "project")
    far = tmp_path / "other disk"
    far.mkdir()
    project.corpus.parent.mkdir(parents=True)
    project.corpus.symlink_to(far)
    project.record(0, 20, seed=0)
    project.repro()
    assert project.computed() == 20
    project.record(20, 21, seed=0)
    assert "ingest@mine" in project.repro()
    assert project.computed() == 21
    assert "Running stage" not in project.repro()
    assert project.corpus.is_symlink()
