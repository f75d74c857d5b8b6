"""One trained project for all tests of new media: making it takes seconds."""

import pytest
import torch

from tasks.predict.model import model_of_run
from tests.tasks.predict.projects import NAME, make_project


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def model(project):
    return model_of_run(NAME, project.layout, project.params)


@pytest.fixture(autouse=True)
def _unsteady():
    yield
    torch.use_deterministic_algorithms(False)
