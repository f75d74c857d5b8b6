"""Predictions as files."""

import csv
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tasks.predict.answer import Answer, Classes, Face, Gap, Medium, Seen, Utterance, Value
from tasks.predict.output.writing import read_json, write_csv, write_json
from tests.tasks.predict.answers import answer, utterance

_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.builds(Value, _NUMBERS, st.none() | _NUMBERS, st.none() | _NUMBERS, _NUMBERS)
_SEEN = st.builds(
    Seen, st.sampled_from(["ok", "degraded", "missing"]), st.none() | st.text(), st.text()
)
_CLASSES = st.builds(Classes, st.text(), st.dictionaries(st.text(), _NUMBERS), _NUMBERS)
_UTTERANCES = st.builds(
    Utterance, st.text(), _NUMBERS, _NUMBERS, st.none() | st.text(), st.none() | st.text(),
    classes=st.dictionaries(st.text(), _CLASSES, max_size=2),
    values=st.dictionaries(st.text(), st.dictionaries(st.text(), _VALUES), max_size=2),
    seen=st.dictionaries(st.text(), _SEEN, max_size=3),
    far=st.text(),
)  # fmt: skip
_BOXES = st.tuples(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS)
_ANSWERS = st.builds(
    Answer,
    st.builds(
        Medium, st.text(), st.sampled_from(["video", "audio", "image"]), _NUMBERS,
        st.none() | st.tuples(st.integers(), st.integers()),
    ),
    st.lists(_UTTERANCES, max_size=3).map(tuple),
    faces=st.lists(
        st.builds(Face, st.text(), _NUMBERS, st.integers(), _BOXES, _NUMBERS), max_size=2
    ).map(tuple),
    gaps=st.lists(st.builds(Gap, _NUMBERS, _NUMBERS, st.text()), max_size=2).map(tuple),
    notes=st.lists(st.text(), max_size=2).map(tuple),
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_ANSWERS)
def test_json_gives_back_the_same_answer(tmp_path, found):
    write_json(found, tmp_path / "p.json", faces=True)
    assert read_json(tmp_path / "p.json") == found


def test_faces_go_in_only_where_asked(tmp_path):
    write_json(answer(), tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["faces"] == []
    write_json(answer(), tmp_path / "p.json", faces=True)
    assert len(json.loads((tmp_path / "p.json").read_text())["faces"]) == 10


def test_the_same_answer_gives_the_same_bytes(tmp_path):
    turned = utterance(1, 0, 1)
    turned = replace(turned, seen=dict(reversed(turned.seen.items())))
    for write, name in ((write_json, "p.json"), (write_csv, "p.csv")):
        write(answer(0, last=utterance(1, 0, 1)), tmp_path / name)
        first = (tmp_path / name).read_bytes()
        write(answer(0, last=turned), tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
        assert str(tmp_path).encode() not in first


def test_csv_has_a_row_for_each_utterance_and_blanks_for_what_is_unknown(tmp_path):
    write_csv(answer(4), tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["category"] == "joy"
    assert float(rows[0]["category_confidence"]) == float(rows[0]["category_p_joy"]) == 0.6
    assert float(rows[0]["vad_valence_low"]) < float(rows[0]["vad_valence"])
    assert rows[2]["category"] == rows[2]["vad_valence"] == rows[2]["text"] == ""
    assert rows[2]["seen_video_reason"] == "no_face"
    assert rows[2]["reason"] == "nobody is heard or seen"


def test_csv_keeps_commas_quotes_and_lines(tmp_path):
    text = 'she said: "no, never",\nand left'
    write_csv(answer(0, last=utterance(1, 0, 1, text=text)), tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["text"] == text


def test_an_answer_without_utterances_is_a_header(tmp_path):
    write_csv(answer(0), tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().startswith("id,start_s,end_s,")
    write_json(answer(0), tmp_path / "p.json")
    assert read_json(tmp_path / "p.json").utterances == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=99), "no predictions of format 1"),
        (lambda d: d["medium"].update(duration_s="long"), "medium.duration_s"),
        (lambda d: d["medium"].update(duration_s=float("nan")), "NaN is no number"),
        (lambda d: d["utterances"][0].pop("start_s"), "utterances.0.start_s"),
    ],
)
def test_a_file_that_is_no_answer_is_named(tmp_path, change, message):
    write_json(answer(), tmp_path / "p.json")
    content = json.loads((tmp_path / "p.json").read_text())
    change(content)
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "p.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\udcff"])
def test_a_file_that_is_no_json_is_named(tmp_path, text):
    (tmp_path / "p.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"p\.json"):
        read_json(tmp_path / "p.json")
