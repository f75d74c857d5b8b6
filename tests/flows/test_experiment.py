"""Changed parameters, before DVC is asked."""

import pytest

from flows.experiment import run_experiment
from models.errors import UserError


@pytest.mark.parametrize("word", ["train.seeds", "--queue=1", ""])
def test_what_changes_no_parameter_is_refused(tmp_path, word):
    with pytest.raises(UserError, match="changes no parameter; write key=value"):
        run_experiment(tmp_path, [], [word])
