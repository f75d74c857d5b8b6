"""Answers of an exported model, disturbed: the next call answers as if nothing had been."""

import pytest

from tests.faults.project import check_sentence, ended, flip
from tests.tally import trial

pytestmark = pytest.mark.faults

FLIPPED = "flipped bits in an exported model"
ASKED = ("predict", "data/raw/toy/1.wav", "--model", "model", "--no-overlay", "--out", "answers")


@pytest.fixture(scope="module")
def wanted_answers(calm):
    """What the exported model answers."""
    code, said = ended(calm, *ASKED)
    assert code == 0, said
    return answers(calm)


def answers(root) -> dict[str, bytes]:
    found = {file.name: file.read_bytes() for file in (root / "answers").rglob("*.csv")}
    assert found
    return found


def test_a_flipped_bit_in_a_model_is_told(wanted_answers, old, chance):
    files = sorted(file for file in (old / "model").rglob("*") if file.suffix != ".md")
    for file in chance.sample([file for file in files if file.is_file()], 3):
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
    assert answers(old) == wanted_answers
