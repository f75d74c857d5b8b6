"""A params.yaml that was cut off is not taken for one that asks for less."""

import pytest

from flows.settings import _locked_sections, check_whole
from models.errors import UserError

LOCK = """\
schema: '2.0'
stages:
  labels@a:
    cmd: python -m flows.stage labels --corpus a
    deps:
    - path: models/errors.py
      hash: md5
      md5: 93dcfa70dcf58e9dac526b6c7a685a29
    params:
      params.yaml:
        corpora.a.labels:
          merge: mean
        labels:
          category: majority
    outs:
    - path: data/labels/a.parquet
      hash: md5
  train@a-linear:
    params:
      params.yaml:
        methods.linear:
          seeds: {}
        train.seeds:
        - 0
"""


def test_sections_are_read_from_the_lines_of_the_lock():
    assert _locked_sections(LOCK) == {"corpora", "labels", "methods", "train"}


def test_sections_of_the_projects_own_lock_are_those_of_yaml():
    import yaml

    from tests.places import ROOT

    text = (ROOT / "dvc.lock").read_text()
    stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    keys = {key for stage in stages.values() for key in (stage.get("params") or {})["params.yaml"]}
    assert _locked_sections(text) == {key.split(".")[0] for key in keys}


@pytest.mark.parametrize("missing", ["execution", "train", "corpora"])
def test_a_missing_section_is_named(tmp_path, missing):
    (tmp_path / "dvc.lock").write_text(LOCK)
    raw = dict.fromkeys(("corpora", "labels", "methods", "train", "execution"))
    check_whole(raw, tmp_path)  # left empty on purpose
    del raw[missing]
    with pytest.raises(UserError, match=f"params.yaml has no {missing}: it looks cut off"):
        check_whole(raw, tmp_path)


def test_a_project_that_never_ran_only_needs_the_last_section(tmp_path):
    check_whole({"execution": {}}, tmp_path)
    with pytest.raises(UserError, match=r"`execution: \{\}`"):
        check_whole({"corpora": {}}, tmp_path)


def test_a_damaged_lock_is_told_in_a_sentence(tmp_path):
    (tmp_path / "dvc.lock").write_bytes(b"schema: '2.0'\nstages:\n  \xa0port:\n")
    with pytest.raises(UserError, match=r"dvc\.lock: byte 25 is no UTF-8 text.*git checkout"):
        check_whole({}, tmp_path)
