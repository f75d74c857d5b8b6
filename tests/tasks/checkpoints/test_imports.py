"""What reading parameters costs: every run imports the stages whose sections it checks."""

import subprocess
import sys


def test_the_stage_is_imported_without_the_models_that_it_can_make():
    code = (
        "import sys, tasks.checkpoints.stage; print('transformers.modeling_utils' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
