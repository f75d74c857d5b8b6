"""The table of docs/predict.md says of each tampered folder what `predict --model` says."""

import pytest

from tasks.predict.leaving.export import export
from tests.places import ROOT
from tests.tasks.predict.leaving.tampering import TAMPERINGS, said
from tests.tasks.predict.projects import NAME

DOCS = (ROOT / "docs/predict.md").read_text().splitlines()


@pytest.fixture(scope="module")
def exported(project, tmp_path_factory):
    return export(NAME, project.layout, project.params, tmp_path_factory.mktemp("away") / "model")


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_tampered_folder_gets_the_sentence_of_the_docs(exported, tmp_path, what):
    sentence = said(exported, what, tmp_path)
    assert "\n" not in sentence
    assert f"| {what} | {sentence} |" in DOCS


def test_the_docs_list_nothing_else():
    start = DOCS.index("| done to it | what it says |") + 2
    listed = [line.split(" | ")[0].removeprefix("| ") for line in DOCS[start:]]
    assert listed[: len(TAMPERINGS)] == list(TAMPERINGS)
    assert not DOCS[start + len(TAMPERINGS)].startswith("|")
