"""Mutations of a user's table: a sentence, a quarantine row, or correct handling."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tests.tally import trial
from tests.tasks.corpora.trees_conversation import ingested, write_wav

pytestmark = pytest.mark.hostile

EXAMPLES = int(os.environ.get("AFFECTLOOM_EXAMPLES", "40"))

HEAD = "id,talk,turn,who,clip,from,to,words,emotion,v\n"
ROWS = ["a,t1,0,ann,a.wav,0,1,hello,joy,4\n", "b,t1,1,bob,b.wav,0,1,no,anger,1\n"] * 1
OPTIONS = {
    "file": "t.csv",
    "columns": {
        "utterance": "id", "dialogue": "talk", "turn": "turn", "speaker": "who", "media": "clip",
        "start_s": "from", "end_s": "to", "text": "words",
    },
    "labels": {
        "targets": {
            "category": {"column": "emotion"},
            "valence": {"column": "v", "scale": [1, 5]},
        }
    },
}  # fmt: skip
CELLS = [
    "", " ", "nan", "inf", "-1", "1e300", "9" * 400, "1e-400", "0x10", "1,5", "½", "\0", "'", '"',
    "=1+1", "../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://x/y.wav", ".", "..",
    "a/", "b" * 5000, "\u202e", "é", "e\u0301", "a.wav ", " a.wav", "A.WAV", "{}", "${x}", "%s",
    "\\", "a\\b.wav", "-", "None", "null", "true", "2020-01-01", "1_000",
]  # fmt: skip
COLUMNS = HEAD.strip().split(",")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data" / "raw" / "mine"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        write_wav(folder / f"{name}.wav", 1)
    return folder


def check_sentence(error: UserError) -> None:
    assert str(error).strip()
    assert "\n" not in str(error)


def judge(root, text: bytes) -> None:
    (root / "t.csv").write_bytes(text)
    with trial("tables of the user's own") as one:
        try:
            found = ingested("mine", OPTIONS, 1.0, adapter="table")
        except UserError as error:
            check_sentence(error)
            one.refused()
            return
        aside = found["quarantine"]["utterance_id"].n_unique()
        assert found["utterances"].height + aside > 0
        if aside:
            one.refused()


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@pytest.mark.parametrize("column", COLUMNS)
def test_whatever_stands_in_a_cell(root, column):
    for cell in CELLS:
        cells = ROWS[0].strip().split(",")
        cells[COLUMNS.index(column)] = quoted(cell)
        judge(root, (HEAD + ",".join(cells) + "\n" + ROWS[1]).encode())


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", b"id\n", HEAD.encode(), HEAD.encode() * 2, b"\xef\xbb\xbf" + HEAD.encode(),
        HEAD.encode("utf-16"), HEAD.replace(",", ";").encode(), HEAD.encode() + b"a,t1\n",
        HEAD.encode() + b'"a,t1,0', HEAD.encode() + b"," * 9 + b"\n", b"\x00" * 100, b"\xff" * 100,
        (HEAD + ROWS[0] * 3).encode(), HEAD.encode() + b"," * 50 + b"\n",
        HEAD.replace("who", "id").encode() + ROWS[0].encode(),
    ],
    ids=range(16),
)  # fmt: skip
def test_whatever_the_file_is(root, text):
    judge(root, text)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_any_bytes_of_a_table(root, data):
    text = bytearray((HEAD + "".join(ROWS)).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    judge(root, bytes(text))
