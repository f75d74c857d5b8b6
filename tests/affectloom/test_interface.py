"""Models and tables from Python."""

import json
import wave

import numpy as np
import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal

import affectloom
from affectloom import Sound, Text, UserError
from tests.face_factory import draw_face, room
from tests.tasks.media_factory import tone
from tests.tasks.predict.projects import CORPUS, METHOD, NAME

ENCODERS = ("prosody", "vit", "bert", "bert_l1")


@pytest.fixture
def model(clone):
    return affectloom.load(NAME, project=clone)


@pytest.fixture
def tables(clone):
    project = affectloom.Project(clone)
    return {name: project.features(CORPUS, name, frames=True) for name in ENCODERS}


def test_labels_stand_with_dialogue_speaker_words_and_split(clone):
    table = affectloom.Project(clone).labels(CORPUS)
    assert table.height == 18
    assert {"dialogue_id", "speaker", "text", "category", "valence", "split"} <= {*table.columns}
    assert table.filter(split="test").get_column("dialogue_id").unique().len() == 2


def test_features_stand_with_dialogue_and_reason(clone):
    table = affectloom.Project(clone / "data").features(CORPUS, "prosody")
    assert table.columns[:4] == ["utterance_id", "dialogue_id", "turn", "speaker"]
    assert isinstance(table.schema["pooled"], pl.Array)
    assert "sequence" not in table.columns
    assert set(table.get_column("status")) <= {"ok", "degraded", "quarantined"}


def test_predictions_and_leaderboard_are_tables(clone):
    project = affectloom.Project(clone)
    said = project.predictions(CORPUS, METHOD)
    assert {"utterance_id", "seed", "prediction_category", "target_category"} <= {*said.columns}
    assert project.leaderboard().get_column("method").to_list() == ["linear"]
    assert NAME in project.models


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda p: p.labels("tinny"), "there is no corpus 'tinny'.*tiny"),
        (lambda p: p.features("tiny", "vitt"), "no features of encoder 'vitt'.*vit"),
        (lambda p: p.predictions("tiny", "gru"), "predicted nothing yet"),
        (lambda p: affectloom.load("tiny/gru", p.root), "no such trained run"),
        (lambda p: affectloom.load("no_folder"), "there is no such folder"),
        (lambda p: affectloom.Project("/"), "not inside an affectloom project"),
    ],
)
def test_a_mistake_is_one_sentence(clone, ask, expected):
    with pytest.raises(UserError, match=expected) as caught:
        ask(affectloom.Project(clone))
    assert "\n" not in str(caught.value)


def test_features_of_the_project_get_the_answers_of_evaluate(clone, model, tables):
    tested = pl.col("dialogue_id").is_in([f"{CORPUS}/d4", f"{CORPUS}/d5"])
    said = model.predict({name: table.filter(tested) for name, table in tables.items()})
    rows = affectloom.Project(clone).predictions(CORPUS, METHOD).filter(split="test")
    valence = rows.group_by("utterance_id").agg(pl.col("prediction_valence").mean().clip(-1, 1))
    both = said.join(valence, left_on="id", right_on="utterance_id")
    assert both.height == 6
    assert both.get_column("vad_valence").equals(both.get_column("prediction_valence"))


def test_hand_made_features_need_no_more_than_ids_and_vectors(model, tables):
    bare = {name: table.select("utterance_id", "pooled")[:4] for name, table in tables.items()}
    bare["prosody"] = bare["prosody"][:2]
    said = model.predict(bare)
    assert said.height == 4
    assert said.get_column("seen_audio").to_list() == ["ok", "ok", "missing", "missing"]
    assert said.get_column("category").null_count() == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: {k: t[k] for k in ("vit", "bert")}, "the model reads bert, bert_l1, prosody"),
        (lambda t: t | {"bert": t["bert"].drop("pooled")}, "bert has no column pooled"),
        (lambda t: t | {"bert": pl.concat([t["bert"]] * 2)}, "bert has an utterance_id twice"),
        (lambda t: t | {"vit": t["prosody"]}, "are 1?[0-9]+ wide, but tiny/linear learnt from"),
    ],
)
def test_tables_that_do_not_fit_are_one_sentence(model, tables, change, expected):
    with pytest.raises(UserError, match=expected):
        model.predict(change(tables))


def test_files_get_the_answers_of_the_command(made, model):
    from tests.tasks.predict.leaving.test_folder import answer_of

    file = made.medium(4)
    (made.root / "words.json").write_text(
        json.dumps([{"start": t.start_s, "end": t.end_s, "speaker": t.speaker, "text": t.text}
                    for t in made.turns(4)])
    )  # fmt: skip
    said = model.predict(file, transcript=made.root / "words.json")
    known = answer_of(made, model.trained)
    assert said.get_column("medium").to_list() == [str(file)] * 3
    labels = [one.classes["category"].label for one in known.utterances]
    assert said.get_column("category").to_list() == labels
    valence = [one.values["vad"]["valence"].value for one in known.utterances]
    assert said.get_column("vad_valence").to_list() == valence


def test_arrays_are_seen_as_files_with_the_same_content(model, tmp_path):
    picture = draw_face(room(), 160, 120, 150)
    Image.fromarray(picture).save(tmp_path / "face.png")
    samples = tone(1.5, 16000, hz=220)[0].astype(np.float32)
    said = model.predict([picture, Sound(samples, 16000), Text("what a day"), "face.png"])
    assert said.get_column("medium").to_list()[:3] == ["picture 0", "sound 1", "text 2"]
    same = said.drop("medium").to_dicts()
    assert same[0] == same[3]
    assert said.get_column("seen_text").to_list()[2] == "ok"
    assert said.get_column("text").to_list()[2] == "what a day"
    assert [row["vad_valence"] is not None for row in same] == [True] * 4


def test_a_medium_that_cannot_be_used_is_a_row_with_its_reason(model, made, tmp_path):
    (tmp_path / "torn.wav").write_text("no sound at all")
    said = model.predict([tmp_path / "torn.wav", made.medium(5)])
    first = said.row(0, named=True)
    assert first["medium"].endswith("torn.wav")
    assert first["reason"].startswith("the bytes are not")
    assert first["category"] is None
    assert said.height > 1


@pytest.mark.parametrize(
    ("medium", "expected"),
    [
        (np.zeros((4, 4)), "picture 0 is float64 of shape"),
        (Sound(np.zeros((2, 8), np.float32), 8000), "sound 0 is float32 of shape"),
        (Sound(np.full(8, np.nan), 8000), "sound 0 is"),
        (3, "medium 0 is a int"),
        ([], "there is nothing to predict"),
        ("away.mp4", "away.mp4 does not exist"),
    ],
)
def test_arrays_that_are_no_media_are_one_sentence(model, medium, expected):
    with pytest.raises(UserError, match=expected):
        model.predict(medium)


def test_a_wave_file_is_heard_as_the_array_in_it(model, tmp_path):
    samples = (tone(1.5, 16000, hz=300)[0] * 20000).astype(np.int16)
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    said = model.predict([tmp_path / "tone.wav", Sound(samples / np.float32(32768), 16000)])
    told = said.drop("medium")
    # some processors round otherwise where an array lies elsewhere in memory
    assert_frame_equal(told[:1], told[1:], rel_tol=1e-3, abs_tol=1e-6)
