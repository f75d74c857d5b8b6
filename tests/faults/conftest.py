"""One undisturbed run, which the trials of this folder are compared with and begin from."""

import random
import shutil
from pathlib import Path

import pytest

from tests.faults.project import SEED, contents_of, make_project, run_project


@pytest.fixture(scope="session")
def calm() -> Path:
    """The project after a run that nobody disturbed, and its exported model."""
    return run_project()


@pytest.fixture(scope="session")
def length_s(calm) -> float:
    """How long the undisturbed run took: kills come before."""
    return float((calm / "length_s.txt").read_text())


@pytest.fixture(scope="session")
def wanted(calm) -> dict[str, bytes]:
    """What the undisturbed run wrote."""
    return contents_of(calm, "data")


@pytest.fixture
def chance(request) -> random.Random:
    """Chance that the seed repeats, which is shown with a failure."""
    print(f"AFFECTLOOM_FAULTS_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def new(tmp_path) -> Path:
    """A project that was never run."""
    return make_project(tmp_path / "project")


@pytest.fixture
def old(calm, tmp_path) -> Path:
    """A copy of the project that was run."""
    shutil.copytree(calm, tmp_path / "project", symlinks=True)
    return tmp_path / "project"
