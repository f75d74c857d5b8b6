"""``affectloom predict`` and ``export``: options, exit codes, sentences."""

import json
import shutil
from pathlib import Path

import pytest

from tasks.media.decoding import Media
from tasks.predict import session
from tasks.predict.answer import Answer, Medium, Utterance
from tasks.predict.engine import Result
from tasks.predict.media import Found


@pytest.fixture
def below(clone):
    """A folder in the project, from which commands are called."""
    folder = clone / "below"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.fixture
def affectloom(below, command, monkeypatch):
    """Runs a command that was called from a folder below; returns code, stdout and stderr."""
    monkeypatch.setenv("PWD", "/")  # as a program leaves it that starts this one in the folder

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(below)
        return command(*arguments)

    return run


@pytest.fixture
def asked(monkeypatch):
    """Requests that reached the session, which answers the first medium only."""
    requests = []

    def answer(request, layout, params, contexts, say):
        requests.append(request)
        say("model: none")
        utterance = Utterance("1", 0.0, 1.0, text="so it is")
        results = []
        for name in request.media:
            found = Found(name, Path(name), Media("audio", duration_s=1.0, has_audio=True))
            whole = Answer(Medium(name, "audio", 1.0), (utterance,))
            results.append(Result(found, None if results or name == "bad" else whole, "why"))
        return results

    monkeypatch.setattr(session, "run", answer)
    return requests


def test_names_are_meant_from_where_the_command_was_called(affectloom, asked, below):
    code, out, _ = affectloom("predict", "a.wav", "--out", "said", "--transcript", "a.srt", "--eaf")
    assert (code, out) == (0, "model: none\n")
    (request,) = asked
    assert (request.base, request.out) == (below, below / "said")
    assert request.transcript == below / "a.srt"
    assert (request.wanted.eaf, request.wanted.srt, request.wanted.overlay) == (True, False, True)


def test_names_with_a_dash_follow_two_dashes(affectloom, asked):
    assert affectloom("predict", "--no-overlay", "--", "-a-.mp4", "--b")[0] == 0
    assert asked[0].media == ("-a-.mp4", "--b")
    assert not asked[0].wanted.overlay


def test_exit_status_is_1_only_when_nothing_could_be_predicted(affectloom, asked):
    assert affectloom("predict", "good", "other")[0] == 0
    assert affectloom("predict", "bad")[0] == 1


def test_json_stands_alone_on_stdout(affectloom, asked):
    code, out, err = affectloom("predict", "good", "other", "--json")
    assert code == 0
    first, second = json.loads(out)
    assert first["answer"]["utterances"][0]["text"] == "so it is"
    assert (second["answer"], second["reason"]) == (None, "why")
    assert err == "model: none"


def test_a_project_without_a_fitting_model_says_what_to_do(affectloom, below):
    (below / "a.png").write_bytes(b"no picture")
    code, out, err = affectloom("predict", "a.png", "--out", "said")
    assert (code, out) == (1, "")
    assert err.startswith("error: there is no model to choose")
    assert "affectloom run train" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("predict", "away.mp4"), "error: away.mp4 does not exist"),
        (("predict", "away.mp4", "--out", "file"), "is a file; name a folder"),
        (("predict",), "error: name a file, a folder or a pattern"),
        (("predict", "--watch", "away"), "away: there is no such folder"),
        (("export", "tiny/none", "--out", "x"), "error: tiny/none: there is no such trained run"),
    ],
)
def test_mistakes_are_one_sentence(affectloom, below, arguments, expected):
    (below / "file").write_text("")
    code, out, err = affectloom(*arguments)
    assert (code, out) == (1, "")
    assert expected in err
    assert len(err.splitlines()) == 1


def test_a_model_that_was_given_away_answers_where_no_project_is(
    command, asked, tmp_path, monkeypatch
):
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("predict", "a.wav", "--model", "mine")
    assert (code, out) == (0, "model: none\n")
    assert (asked[0].base, asked[0].model) == (tmp_path, tmp_path / "mine")
    code, _, err = command("predict", "a.wav")
    assert code == 1
    assert "is not inside an affectloom project" in err
    code, _, err = command("export", "a/b", "--out", "c")
    assert code == 1
    assert "is not inside an affectloom project" in err


def test_an_export_is_pushed_where_that_is_asked_for(affectloom, monkeypatch, tmp_path):
    from tasks.predict.leaving import export as exporting

    monkeypatch.setattr(exporting, "export", lambda name, *_, onnx: tmp_path / f"{name}-{onnx}")
    monkeypatch.setattr(exporting, "publish", lambda name, layout, folder, to: f"hub:{to}@1")
    code, out, _ = affectloom("export", "run", "--out", "x", "--onnx", "--push", "me/felt")
    assert (code, out.split()) == (0, [str(tmp_path / "run-True"), "hub:me/felt@1"])
