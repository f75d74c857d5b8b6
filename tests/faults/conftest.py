"""One undisturbed run, which the trials of this folder are compared with and begin from."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests import tally
from tests.faults.project import SEED, contents, ended, make_project

#: Set for the undisturbed run; nothing of it may stand in what the run leaves.
SECRETS = {
    "HF_TOKEN": "hf_QmFyZWZvb3RhbmRmYW5jeWZyZWU",
    "AWS_ACCESS_KEY_ID": "AKIAQUIETHARBOUR2X7Z",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIaffectloomEXAMPLEKEY",
    "PREFECT_API_KEY": "pnu_Z3VhcmRlZGJ5dHdvYmxhY2tjYXRz",
    "PREFECT_API_AUTH_STRING": "somebody:lanternsinthefog",
    "PIP_INDEX_URL": "https://ann:umbrellaweather@packages.example/simple",
    "GITHUB_TOKEN": "ghp_dGhlc2V2ZW50aHNlY3JldGlzaGVyZQ",
}


@pytest.fixture(scope="session")
def calm(tmp_path_factory) -> Path:
    """The project after a run that nobody disturbed, or the one that the environment names."""
    if made := os.environ.get("AFFECTLOOM_FAULTS_CALM"):
        return Path(made)
    root = make_project(tmp_path_factory.mktemp("calm"))
    begun = time.monotonic()
    code, said = ended(root, "run", **SECRETS)
    assert code == 0, said
    (root / "said.txt").write_text(said)
    (root / "length_s.txt").write_text(str(time.monotonic() - begun))
    return root


@pytest.fixture(scope="session")
def length_s(calm) -> float:
    """How long the undisturbed run took: kills come before."""
    return float((calm / "length_s.txt").read_text())


@pytest.fixture(scope="session")
def wanted(calm) -> dict[str, bytes]:
    """What the undisturbed run wrote."""
    return contents(calm)


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


def pytest_sessionfinish() -> None:
    tally.write()
