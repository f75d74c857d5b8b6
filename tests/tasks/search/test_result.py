"""What a search left behind, as training reads it."""

import pytest

from models.errors import UserError
from tasks.search.result import searched
from tests.places import here
from tests.tasks.corpus_factory import CORPUS, write_found


@pytest.mark.parametrize("found", [{None: {"hidden": 16}}, {0: {"hidden": 4}, 1: {"hidden": 8}}])
def test_training_gets_what_was_found_for_every_fold(tmp_path, monkeypatch, found):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"run stage search for {CORPUS}-linear first"):
        searched(here(), CORPUS, "linear")
    write_found("linear", found)
    assert searched(here(), CORPUS, "linear") == found
