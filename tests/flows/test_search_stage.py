"""The stage ``search`` in DVC's graph: what it depends on and what follows from it."""

import copy

import pytest
import yaml

from flows import graph
from flows.closure import closure
from tasks.params.model import Params
from tasks.stages import STAGES
from tests.places import ROOT

GOOD = yaml.safe_load((ROOT / "params.yaml").read_text())
BEST = "data/search/sample/early_fusion/best.json"


@pytest.fixture(scope="module")
def raw():
    found = copy.deepcopy(GOOD)
    search = {"sampler": "random", "trials": 2, "space": {"hidden": [8, 16]}}
    found["methods"] = {"early_fusion": {"search": search}, "linear": {}}
    Params(found).check_everything()
    return found


@pytest.fixture(scope="module")
def stages(raw):
    return yaml.safe_load(graph.render(raw, ROOT))["stages"]


def deps(stages, stage, key):
    item = stages[stage]["foreach"][key]
    listed = [d for d in stages[stage]["do"]["deps"] if "item.deps" not in d]
    return {*item.get("deps", []), *listed}


def params(stages, stage, key):
    listed = [p for p in stages[stage]["do"]["params"] if "item.params" not in p]
    return {*stages[stage]["foreach"][key].get("params", []), *listed}


def test_only_a_method_with_a_search_gets_the_stage(raw, stages):
    assert STAGES["search"].instances_of(raw) == [{"corpus": "sample", "method": "early_fusion"}]
    assert list(stages["search"]["foreach"]) == ["sample-early_fusion"]
    without = raw | {"methods": {"linear": {}}}
    assert "search" not in yaml.safe_load(graph.render(without, ROOT))["stages"]


def test_what_a_search_found_is_read_by_its_own_method_alone(stages):
    assert BEST in deps(stages, "train", "sample-early_fusion")
    assert not any("data/search" in dep for dep in deps(stages, "train", "sample-linear"))
    assert "tasks/search/result.py" in deps(stages, "train", "sample-early_fusion")
    for key in ("sample-early_fusion", "sample-linear"):
        assert "tasks/search/stage.py" not in deps(stages, "train", key)
    assert "tasks/search/result.py" not in deps(stages, "train", "sample-linear")


def test_what_a_search_found_reaches_scores_through_the_runs_alone(stages):
    found = deps(stages, "evaluate", "sample-early_fusion")
    assert not any("search" in dep for dep in found)
    assert "data/runs/${item.corpus}/${item.method}" in found


def test_a_search_depends_on_its_entry_and_its_code_and_never_on_runs(raw, stages):
    key = "sample-early_fusion"
    assert params(stages, "search", key) == {"inputs", "methods.early_fusion"}
    found = deps(stages, "search", key)
    arguments = {"corpus": "sample", "method": "early_fusion"}
    code = closure(graph.stage_code(STAGES["search"], arguments, raw), ROOT)
    assert {d for d in found if d.endswith(".py")} == {str(file) for file in code}
    assert "models/methods/early_fusion.py" in found
    assert not any(d.startswith(("data/runs", "data/reports")) for d in found)


def test_targets_of_all_methods_are_targets_of_a_search(raw):
    limited = copy.deepcopy(raw)
    limited["train"]["targets"] = ["category"]
    stages = yaml.safe_load(graph.render(limited, ROOT))["stages"]
    assert "train.targets" in params(stages, "search", "sample-early_fusion")
