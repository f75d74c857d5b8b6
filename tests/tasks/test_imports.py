"""What a stage's process loads: torch costs half a second and 400 MB where nothing needs it."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "sklearn", "matplotlib", "pandas", "prefect", "dvc"}


@pytest.mark.parametrize("stage", ["ingest", "splits", "labels", "features", "report"])
def test_a_stage_without_networks_imports_no_torch(stage):
    asked = f"import sys, flows.stage, tasks.{stage}.stage; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    assert HEAVY & set(found.stdout.split()) == set()


def test_checking_parameters_loads_no_library_of_a_stage():
    asked = """if True:
        import sys
        from tasks.params.model import Params
        raw = {"corpora": {"c": {"adapter": "sample"}}, "methods": {"linear": {}}}
        Params(raw).check_everything()
        print(*sys.modules)
    """
    found = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    loaded = set(found.stdout.split())
    assert "models.methods.linear" in loaded
    assert {"transformers", "scipy.signal", "tasks.faces.stage"} & loaded == set()
