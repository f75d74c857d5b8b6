"""The model that comes with the project: whole, small, licensed, right about plain sentences."""

from dataclasses import replace

import pytest
import yaml
from safetensors.torch import load_file

from benchmarks import starter
from benchmarks.project import SHARED
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.predict.engine import Asked, predict
from tasks.predict.leaving.folder import CARD, CONFIG, ENCODERS, WEIGHTS, read_model
from tasks.predict.media import find_media
from tasks.predict.session import STARTER, Request, choose_model
from tasks.predict.transcripts import Turn
from tests.places import QUIET, ROOT
from tests.tasks.media_factory import tone, write

FOLDER = ROOT / STARTER
FILES = sorted(file for file in FOLDER.rglob("*") if file.is_file())
HAPPY = "What a wonderful day, I am so happy to see you all!"
SAD = "My mother died last night and I cannot stop crying."


@pytest.fixture(scope="module")
def model():
    return read_model(FOLDER)


def part(model, name):
    return next(part for part in model.parts if part.name == name)


def test_its_parts_read_words_and_faces(model):
    assert model.modalities == ("video", "text")
    assert {one.name: one.modalities for one in model.parts} == {
        "faces": ("video",),
        "words": ("text",),
    }
    (words,), (faces,) = part(model, "words").runs, part(model, "faces").runs
    assert [target.names for target in words.targets] == [("valence", "arousal", "dominance")]
    assert [len(target.names) for target in faces.targets] == [7]


def test_it_tells_how_sure_it_is_and_what_is_unlike_its_training_data(model):
    words, faces = part(model, "words"), part(model, "faces")
    assert set(words.calibration["vad"]["residuals"]) == {"valence", "arousal", "dominance"}
    assert faces.calibration["category"]["temperature"] > 0
    assert (set(words.ranges), set(faces.ranges)) == ({"text"}, {"video"})


def test_it_is_made_by_the_parameters_beside_it(model):
    params = Params(yaml.safe_load((ROOT / "params/starter.yaml").read_text()))
    for one in model.parts:
        for name, entry in one.encoders.items():
            assert entry == params.encoder(name)
    asked = params.section("faces", "fer2013").model_copy(update={"detect": "faces"})
    assert part(model, "faces").faces == asked


def test_it_is_small_and_says_whose_it_is():
    assert sum(file.stat().st_size for file in FILES) < 500_000
    card = (FOLDER / CARD).read_text()
    assert "It does not hear" in card
    assert "CC BY-SA 4.0" in card
    licence = (FOLDER / "parts/words/LICENCE").read_text()
    assert licence.count("ShareAlike 4.0 International") > 1
    text = "".join(file.read_text() for file in FILES if file.suffix in {".md", ".json"})
    assert not any(place in text for place in ("/work", "/tmp", "/root", "://"))


def test_a_project_that_trained_nothing_answers_with_it(tmp_path):
    layout = Layout(tmp_path / "data", cache=tmp_path / "cache", project=ROOT)
    params = Params(yaml.safe_load((ROOT / "params.yaml").read_text()))
    request = Request(("a.png",), tmp_path, tmp_path / "out")
    found = choose_model(request, layout, params, ["video"])
    assert found.told.startswith("model: folder starter (2 networks in 2 parts)")


def test_a_happy_sentence_is_more_pleasant_than_a_sad_one(model, tmp_path):
    """With the real text encoder, which a package carries."""
    path = write(tmp_path / "a.wav", sound=tone(4.0, 16000), audio_codec="pcm_s16le", format="wav")
    turns = [Turn(0.0, 2.0, "a", HAPPY), Turn(2.0, 4.0, "a", SAD)]
    only = replace(model, parts=(part(model, "words"),))
    layout = Layout(tmp_path / "data", cache=tmp_path / "cache", project=tmp_path)
    media = find_media([str(path)], tmp_path)
    (result,) = predict(media, only, layout, lambda what, is_long: QUIET, Asked(turns, "words.srt"))
    happy, sad = (one.values["vad"]["valence"] for one in result.answer.utterances)
    assert happy.value - sad.value > 0.2
    assert happy.low < happy.value < happy.high
    assert result.answer.utterances[0].seen["text"].status == "ok"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason=f"no real data at {SHARED}")
def test_the_command_makes_it_again(tmp_path):
    """Numbers may differ in the last places: another machine rounds otherwise."""
    again = tmp_path / "model"
    starter.make(tmp_path / "project", again)
    made = sorted(file.relative_to(again) for file in again.rglob("*") if file.is_file())
    assert made == [file.relative_to(FOLDER) for file in FILES]
    for name in made:
        if name.name == WEIGHTS:
            ours, theirs = load_file(FOLDER / name), load_file(again / name)
            assert set(ours) == set(theirs)
            assert all((ours[key] - theirs[key]).abs().max() < 1e-4 for key in ours)
        if name.name in {CONFIG, ENCODERS}:
            assert (again / name).read_bytes() == (FOLDER / name).read_bytes()
