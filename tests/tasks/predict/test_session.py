"""One call of the command: which model, which folders, which sentences."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import UserError
from tasks.params.model import Params
from tasks.predict.leaving.export import export
from tasks.predict.output.publishing import Wanted
from tasks.predict.output.writing import read_json
from tasks.predict.session import Request, choose_model, run
from tests.places import QUIET
from tests.tasks.predict.projects import CORPUS, NAME, RAW, write_talk

PLAIN = Wanted(overlay=False)
SRT = "1\n00:00:00,000 --> 00:00:02,000\nso it is\n\n"


@pytest.fixture
def call(project, tmp_path):
    """Runs a request here; returns results and the lines that were said."""

    def ask(*media, run_name=NAME, **options):
        def context(what, is_long):
            assert not is_long
            return QUIET

        lines = []
        asked = {"out": tmp_path / "out", "run": run_name, "wanted": PLAIN, **options}
        request = Request(tuple(map(str, media)), tmp_path, **asked)
        results = run(request, project.layout, project.params, context, lines.append)
        return results, lines

    return ask


def test_the_first_line_tells_the_model_and_why(project, call):
    _, lines = call(project.medium(4))
    assert lines[0] == f"model: {NAME} (4 networks), as asked"
    _, lines = call(project.medium(4), run_name=None)
    assert lines[0].startswith(f"model: {NAME} (4 networks), the best of the project for category")


def test_one_medium_lies_straight_in_the_folder_and_several_have_one_each(project, call, tmp_path):
    call(project.medium(4))
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["format"] == 1
    assert (tmp_path / "out" / "predictions.csv").exists()
    call(project.medium(4), project.medium(5), out=tmp_path / "both")
    found = sorted(file.parent.name for file in (tmp_path / "both").glob("*/predictions.json"))
    assert found == ["d4", "d5"]
    assert "d5/timeline.html" in (tmp_path / "both" / "index.html").read_text()


def test_the_same_medium_gives_the_same_bytes(project, call, tmp_path):
    call(project.medium(4))
    file = tmp_path / "out" / "predictions.json"
    first = file.read_bytes()
    call(project.medium(4))
    assert file.read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_folders_patterns_and_names_with_a_dash_are_found(project, call, tmp_path):
    talk = project.medium(4).read_bytes()
    for name in ("-dash.mp4", "media/one.mp4", "media/deep/one.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(talk)
    (tmp_path / "media" / "notes.txt").write_text("no medium")
    results, _ = call("-dash.mp4", "media", "*.mp4")
    assert [result.found.name for result in results] == ["-dash", "one.mp4", "one.mp4-2"]
    assert all(result.answer for result in results)


def test_what_cannot_be_used_is_said_and_the_rest_is_written(project, call, tmp_path):
    (tmp_path / "torn.mp4").write_text("no medium at all")
    results, lines = call("torn.mp4", project.medium(4))
    assert [result.answer is None for result in results] == [True, False]
    assert lines[1].startswith("torn.mp4: nothing predicted: the bytes are not those of any known")


def test_words_come_from_the_transcript(project, call, tmp_path):
    (tmp_path / "words.srt").write_text(SRT)
    results, _ = call(project.medium(4), transcript=tmp_path / "words.srt")
    (one,) = results[0].answer.utterances
    assert (one.text, one.words_from) == ("so it is", "transcript")
    assert (one.start_s, one.end_s, one.seen["text"].status) == (0.0, 2.0, "ok")


def test_what_was_asked_for_beside_is_there(project, call, tmp_path):
    wanted = Wanted(faces=True, eaf=True, textgrid=True, srt=True, overlay=True)
    results, _ = call(project.medium(4), wanted=wanted)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {f"predictions.{end}" for end in ("json", "csv", "eaf", "TextGrid", "srt")} <= names
    assert {"overlay.mp4", "timeline.html"} <= names
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(written["faces"]) == len(results[0].answer.faces) > 0


def test_what_cannot_be_drawn_is_said_and_the_answer_stays(project, call, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise UserError("no encoder for H.264")

    monkeypatch.setattr("tasks.predict.output.publishing.write_overlay", broken)
    results, lines = call(project.medium(4), wanted=Wanted())
    assert results[0].answer
    assert lines[-1].endswith("note: overlay.mp4 is not there: no encoder for H.264")
    assert (tmp_path / "out" / "predictions.json").exists()


def test_the_model_that_comes_with_the_project_answers_where_no_run_does(project, tmp_path):
    drawn = Params({**RAW, "corpora": {CORPUS: {"adapter": "sample"}}})
    request = Request(("x.mp4",), tmp_path, tmp_path / "out")
    layout = replace(project.layout, project=tmp_path)
    with pytest.raises(UserError, match=r"no model to choose.*trained are: tiny/constant, tiny/"):
        choose_model(request, layout, drawn, ("audio",))
    export(NAME, project.layout, project.params, tmp_path / "models" / "starter")
    chosen = choose_model(request, layout, drawn, ("audio",))
    assert chosen.told.startswith("model: folder starter (4 networks); no run of the project fits")
    assert chosen.modalities == ("audio", "video", "text")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"run_name": "tiny/nothing"}, "--run tiny/nothing: there is no such trained run"),
        ({"model": Path("models")}, "--run and --model exclude each other"),
        ({"run_name": None, "model": Path("away")}, "--model away: there is no such folder"),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(project, call, options, expected):
    with pytest.raises(UserError, match=expected):
        call(project.medium(4), **options)


def test_a_transcript_belongs_to_one_medium(project, call, tmp_path):
    (tmp_path / "words.srt").write_text(SRT)
    with pytest.raises(UserError, match=r"words.srt is of one medium, but there are 2"):
        call(project.medium(4), project.medium(5), transcript=tmp_path / "words.srt")


def test_media_that_are_not_there_are_one_sentence(call):
    with pytest.raises(UserError, match=r"away.mp4 does not exist"):
        call("away.mp4")


def test_a_folder_in_use_by_other_files_is_refused(project, call, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
        call(project.medium(4))
    with pytest.raises(UserError, match="is a file; name a folder"):
        call(project.medium(4), out=tmp_path / "out" / "thesis.tex")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_refused(project, call, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="read-only"):
        call(project.medium(4))


def test_what_is_written_stays_when_somebody_stops_the_rest(project, call, tmp_path, monkeypatch):
    write_talk(tmp_path / "late.mp4", 2.0, hz=410)
    from tasks.predict import engine

    whole = engine.answer_together

    def stopped(group, *others):
        if group[0].found.name == "late":
            raise KeyboardInterrupt
        return whole(group, *others)

    monkeypatch.setattr(engine, "answer_together", stopped)
    monkeypatch.setattr(engine, "FIRST_S", 1.0)
    with pytest.raises(KeyboardInterrupt):
        call(project.medium(4), "late.mp4")
    assert (tmp_path / "out" / "d4" / "predictions.json").exists()
    assert "d4/timeline.html" in (tmp_path / "out" / "index.html").read_text()


def test_what_was_answered_of_a_long_medium_stays_when_somebody_stops_the_rest(
    project, call, tmp_path, monkeypatch
):
    from tasks.predict import engine

    write_talk(tmp_path / "long.mp4", 4.0, hz=440)
    (tmp_path / "words.srt").write_text(
        SRT + SRT.replace("00,000", "02,000").replace("2,000\n", "3,500\n")
    )
    whole = engine.answer_together

    def stopped(group, *others):
        if group[0].plan.looked_s is None:
            raise KeyboardInterrupt
        return whole(group, *others)

    monkeypatch.setattr(engine, "FIRST_S", 1.0)
    monkeypatch.setattr(engine, "answer_together", stopped)
    with pytest.raises(KeyboardInterrupt):
        call("long.mp4", transcript=tmp_path / "words.srt")
    out = tmp_path / "out"
    found = read_json(out / "predictions.json")
    assert [(one.id, one.is_answered) for one in found.utterances] == [("1", True)]
    assert found.looked_s == 2.0
    assert (found.gaps[-1].end_s, found.gaps[-1].reason) == (
        pytest.approx(4.0, abs=0.1),
        "not looked at yet",
    )
    assert {"predictions.csv", "timeline.html"} <= {file.name for file in out.iterdir()}
    monkeypatch.setattr(engine, "answer_together", whole)
    _, lines = call("long.mp4", transcript=tmp_path / "words.srt")
    assert lines[1] == f"long.mp4: 1 utterance so far (2 of 4 s) in {out}"
    assert lines[2].startswith(f"long.mp4: 2 utterances in {out}")
    assert read_json(out / "predictions.json").looked_s is None
