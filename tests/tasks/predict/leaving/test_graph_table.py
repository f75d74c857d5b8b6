"""The table of docs/predict.md says which methods can be graphs as the code does."""

import importlib.util
import re

import pytest

from benchmarks.graphs import verdict
from models.method import find_method, method_names
from tasks.predict.leaving.graphs import TOLERANCE
from tests.places import ROOT


def listed() -> dict[str, tuple[str, str]]:
    """Method to what it works on and what the docs say of its graph."""
    lines = (ROOT / "docs/predict.md").read_text().splitlines()
    start = lines.index("| method | works on | graph |") + 2
    found: dict[str, tuple[str, str]] = {}
    for line in lines[start : lines.index("", start)]:
        names, level, graph = (part.strip() for part in line.strip("|").split("|"))
        for name in names.split(", "):
            assert name not in found, f"{name} is there twice"
            found[name] = (level, graph)
    return found


DOCS = listed()


def test_every_method_is_listed_with_what_it_works_on():
    levels = {name: find_method(name).level for name in method_names()}
    assert {name: level for name, (level, _) in DOCS.items()} == levels


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("onnxruntime", "onnxscript")),
    reason="the extra onnx is not installed: requirements-onnx.lock",
)
@pytest.mark.parametrize("name", sorted(DOCS))
def test_a_method_is_a_graph_or_none_as_the_docs_say(name):
    said, (_, docs) = verdict(name), DOCS[name]
    assert said.split(" ")[0].rstrip(":,") == docs.split(" ")[0].rstrip(":,")
    if said.startswith("yes"):
        assert float(said.split()[1]) < TOLERANCE
    # where the code names a file or an operator, so do the docs
    for named in re.findall(r"models/[\w/]+\.py|aten\.\w+", said):
        assert named in docs
