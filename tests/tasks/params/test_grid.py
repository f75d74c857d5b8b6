"""The grid that params/grid.yaml proposes: every combination is an entry that resolves."""

import itertools
import re

import pytest
import yaml

from tasks.params.recipes import resolve
from tests.places import ROOT

FILE = ROOT / "params/grid.yaml"
TEXT = FILE.read_text()
ENTRIES = yaml.safe_load(TEXT)["methods"]


def sweep(values: str) -> list:
    """``a,[b,c]`` as Hydra cuts it: commas inside a list do not count."""
    return [yaml.safe_load(part) for part in re.split(r",(?![^\[]*\])", values)]


def grids() -> list[dict[str, list]]:
    lines = [line for line in TEXT.splitlines() if "--queue" in line]
    return [
        {key: sweep(values) for key, values in re.findall(r'-S "methods\.([\w.]+)=([^"]+)"', line)}
        for line in lines
    ]


@pytest.mark.parametrize("grid", grids(), ids=lambda grid: "+".join(grid))
def test_every_combination_of_a_grid_resolves_and_its_keys_are_listed(grid):
    assert grid
    for key in grid:
        name, option = key.split(".")
        assert option in ENTRIES[name], f"dvc cannot set {key}: it is not in the file"
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        name = next(iter(grid)).split(".")[0]
        entry = ENTRIES[name] | {key.split(".")[1]: value for key, value in changes.items()}
        recipe = resolve(name, entry)
        assert recipe.modalities == tuple(entry["modalities"])


def test_every_entry_is_varied_by_a_grid():
    assert {key.split(".")[0] for grid in grids() for key in grid} == set(ENTRIES)
