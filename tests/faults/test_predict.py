"""Answers of an exported model, disturbed: the next call answers as if nothing had been."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.faults.project import KILLS, check_sentence, ended, flip, left_behind, start
from tests.tally import trial

pytestmark = pytest.mark.faults

KILLED, FLIPPED = "kill -9 of predict", "flipped bits in an exported model"
ASKED = ("predict", "data/raw/toy/1.wav", "--model", "model", "--no-overlay", "--out", "answers")


@pytest.fixture(scope="module")
def away(calm, tmp_path_factory):
    """A folder with an exported model, its answer and how long that took."""
    shutil.rmtree(calm / "model", ignore_errors=True)
    code, said = ended(calm, "export", "toy/early_fusion", "--out", str(calm / "model"))
    assert code == 0, said
    begun = time.monotonic()
    code, said = ended(calm, *ASKED)
    assert code == 0, said
    return answers(calm), time.monotonic() - begun


def answers(root) -> dict[str, bytes]:
    found = {file.name: file.read_bytes() for file in (root / "answers").rglob("*.csv")}
    assert found
    return found


def test_kills_of_predict_change_no_answer(away, old, chance):
    wanted, length_s = away
    for _ in range(KILLS):
        process = start(old, *ASKED)
        try:
            process.wait(timeout=chance.uniform(0, length_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with trial(KILLED) as one:
            one.may_lose()
            assert left_behind(old) == []
    code, said = ended(old, *ASKED)
    assert code == 0, said
    assert answers(old) == wanted


def test_a_flipped_bit_in_a_model_is_told(away, old, chance):
    wanted, _ = away
    files = sorted(file for file in (old / "model").rglob("*") if file.suffix != ".md")
    for file in chance.sample([file for file in files if file.is_file()], KILLS):
        whole = file.read_bytes()
        flip(file, chance)
        with trial(FLIPPED) as one:
            code, said = ended(old, *ASKED)
            assert code == 1, f"{file}: {said}"
            check_sentence(said)
            one.refused()
        file.write_bytes(whole)
    code, said = ended(old, *ASKED)
    assert code == 0, said
    assert answers(old) == wanted
