"""A new medium gets the features of training and the answers of ``evaluate``."""

import importlib
import io
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from models.errors import UserError
from tasks.batches.pooled import read_pooled
from tasks.media.decoding import media_sha256
from tasks.plain_context import PlainContext
from tasks.predict.corpus import (
    CORPUS as NEW,
)
from tasks.predict.corpus import (
    Prepared,
    compute_features,
    utterance_id,
    write_corpus,
)
from tasks.predict.engine import Asked, predict
from tasks.predict.media import find_media
from tasks.predict.model import best_run, model_of_run
from tasks.predict.outputs import outputs_of
from tasks.predict.plan import plan_of_turns
from tests.places import QUIET
from tests.tasks.media_factory import tone, write
from tests.tasks.predict.projects import CORPUS, METHOD, NAME, SPANS, write_talk

MODALITIES = ("audio", "video", "text")


@dataclass
class Watched(PlainContext):
    """Notes what is computed."""

    stream: io.StringIO = field(default_factory=io.StringIO)
    computed: list[str] = field(default_factory=list)

    def map(self, function, shards, what):
        self.computed.append(what)
        return super().map(function, shards, what)


def answer(project, model, *paths, turns=None, faces=False, ctx=QUIET):
    found = find_media([str(path) for path in paths], project.root)
    asked = Asked(turns, "words.srt", (), faces)
    return list(predict(found, model, project.layout, lambda what, is_long: ctx, asked))


def only(results):
    (one,) = results
    return one


# the same as training and evaluate ----------------------------------------------------------------


@pytest.fixture(scope="module")
def computed(project, model, tmp_path_factory):
    """Both test dialogues as new media, and where their tables lie."""
    layout = replace(project.layout, root=tmp_path_factory.mktemp("new"))
    media = []
    for dialogue in (4, 5):
        (found,) = find_media([str(project.medium(dialogue))], project.root)
        plan = plan_of_turns(found, project.turns(dialogue), "transcript", "words.srt")
        media.append(Prepared(found, media_sha256(found.path), plan))
    write_corpus(media, layout)
    compute_features(model.parts[0], layout, lambda what: QUIET)
    return layout


def test_features_are_those_of_training_to_the_bit(project, model, computed):
    for encoder in model.parts[0].encoders:
        before, there = read_pooled(
            pl.Series("utterance_id", [f"{CORPUS}/d{d}/u{t}" for d in (4, 5) for t in range(3)]),
            project.layout.features(CORPUS, encoder),
        )
        now, here = read_pooled(
            pl.Series("utterance_id", [utterance_id(d, t) for d in (0, 1) for t in range(3)]),
            computed.features(NEW, encoder),
        )
        assert there.all()
        assert here.all()
        assert now.tobytes() == before.tobytes()


def test_every_network_says_what_it_said_in_evaluate(project, model, computed):
    said = outputs_of(model.parts[0], computed, set())
    known = pl.read_parquet(project.layout.predictions(CORPUS, METHOD))
    test = known.filter(pl.col("split") == "test").sort("seed", "utterance_id")
    for seed, outputs in enumerate(said.outputs["category"]):
        expected = np.stack(test.filter(pl.col("seed") == seed)["probabilities"].to_list())
        np.testing.assert_allclose(outputs.double().softmax(-1).numpy(), expected, atol=1e-6)
    for seed, outputs in enumerate(said.outputs["vad"]):
        columns = ["prediction_valence", "prediction_arousal"]
        expected = test.filter(pl.col("seed") == seed).select(columns).to_numpy()
        np.testing.assert_allclose(outputs.double().numpy(), expected, atol=1e-6)


def test_an_answer_is_the_mean_of_what_networks_said_in_evaluate(project, model):
    result = only(answer(project, model, project.medium(4), turns=project.turns(4)))
    known = pl.read_parquet(project.layout.predictions(CORPUS, METHOD))
    mean = (
        known.filter(pl.col("utterance_id").str.starts_with(f"{CORPUS}/d4/"))
        .group_by("utterance_id")
        .agg(pl.col("prediction_valence").mean(), spread=pl.col("prediction_valence").std(ddof=0))
        .sort("utterance_id")
    )
    values = [one.values["vad"]["valence"] for one in result.answer.utterances]
    expected = mean["prediction_valence"].clip(-1, 1).to_list()
    assert [value.value for value in values] == pytest.approx(expected, abs=1e-6)
    assert [value.spread for value in values] == pytest.approx(mean["spread"].to_list(), abs=1e-6)
    assert all(value.low <= value.high for value in values)
    assert [(one.start_s, one.end_s) for one in result.answer.utterances] == list(SPANS)
    assert {s.status for one in result.answer.utterances for s in one.seen.values()} == {"ok"}
    for one in result.answer.utterances:
        assert sum(one.classes["category"].probabilities.values()) == pytest.approx(1)


def test_predicting_again_computes_nothing(project, model):
    first, second = Watched(), Watched()
    path = write_talk(project.root / "again.mp4", hz=333)
    one = only(answer(project, model, path, ctx=first))
    two = only(answer(project, model, path, ctx=second))
    assert {"faces", "features"} <= set(first.computed)
    assert set(second.computed) <= {"hash media"}  # of a file as new as this
    assert one.answer == two.answer
    assert not list((project.layout.cache / "predict").glob("work-*"))


def test_networks_that_learnt_from_a_medium_are_not_asked_about_it(project, model):
    part = model.parts[0]
    sha256 = media_sha256(project.medium(4))
    assert media_sha256(project.medium(0)) in part.learnt[0]
    assert sha256 not in part.learnt[0]
    first, second = part.runs[0], next(run for run in part.runs if run.seed == 1)
    both = replace(part, runs=(first, replace(second, fold=1)), learnt={1: frozenset([sha256])})
    alone = replace(both, runs=(first,))
    mixed, lone = (
        only(answer(project, replace(model, parts=(one,)), project.medium(4))).answer
        for one in (both, alone)
    )
    assert mixed.utterances[0].classes == lone.utterances[0].classes
    (note,) = mixed.notes
    assert note == "1 of the 2 networks of tiny/linear learnt from this medium and were not asked"
    everyone = replace(both, learnt={0: frozenset([sha256]), 1: frozenset([sha256])})
    whole = only(answer(project, replace(model, parts=(everyone,)), project.medium(4))).answer
    assert whole.utterances[0].classes["category"].spread > 0
    assert "learnt from this medium, so" in whole.notes[0]


# what a medium lacks ------------------------------------------------------------------------------


def test_what_is_missing_is_told_and_the_rest_answers(project, model):
    path = write_talk(project.root / "hills.mp4", face_until_s=0)
    (one,) = only(answer(project, model, path)).answer.utterances
    assert one.is_answered
    assert one.seen["audio"].status == "ok"
    assert (one.seen["video"].status, one.seen["video"].reason) == ("missing", "no_face")
    assert one.seen["text"].detail == "its words are not known"


def test_a_silent_video_is_cut_and_parts_without_a_face_are_gaps(project, model):
    path = write_talk(project.root / "seen.mp4", 12.0, face_until_s=4.9, has_sound=False)
    found = only(answer(project, model, path, faces=True)).answer
    assert [(one.start_s, one.end_s) for one in found.utterances] == [(0.0, 5.0)]
    assert found.utterances[0].seen["audio"].status == "missing"
    (gap,) = found.gaps
    assert (gap.start_s, gap.end_s) == (5.0, pytest.approx(12, abs=0.2))
    assert "no face is to be seen" in gap.reason
    assert {face.utterance for face in found.faces} == {"1"}
    assert [face.time_s for face in found.faces] == sorted(face.time_s for face in found.faces)


@pytest.mark.parametrize("length_s", [2.0, 12.0])
def test_nothing_to_see_or_hear_is_one_sentence(project, model, length_s):
    path = project.root / f"empty{length_s}.mp4"
    write_talk(path, length_s, face_until_s=0, has_sound=False)
    result = only(answer(project, model, path))
    assert result.answer is None
    assert "no face is to be seen" in result.reason


def test_where_a_model_lacks_all_that_it_reads_others_are_named(project):
    words = model_of_run(f"{CORPUS}/words", project.layout, project.params)
    assert words.modalities == ("text",)
    result = only(answer(project, words, project.medium(4)))
    assert result.answer is None
    assert result.reason == (
        f"the model reads words: its words are not known; trained runs that could: {NAME}"
    )
    spoken = only(answer(project, words, project.medium(4), turns=project.turns(4)))
    assert spoken.answer.modalities == ("text",)
    assert all(one.is_answered for one in spoken.answer.utterances)


def test_a_short_sound_is_one_utterance(project, model):
    path = write(project.root / "short.wav", sound=tone(0.3, 16000), format="wav")
    (one,) = only(answer(project, model, path)).answer.utterances
    assert (one.start_s, one.end_s) == (0.0, pytest.approx(0.3, abs=0.01))
    assert one.seen["video"].status == "missing"


def test_one_bad_file_costs_only_itself_and_order_stays(project, model):
    (project.root / "torn.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 50)
    names = ["torn.mp4", project.medium(4), "gone.mp4", project.medium(5)]
    (project.root / "gone.mp4").write_bytes(b"")
    results = answer(project, model, *names)
    assert [result.answer is not None for result in results] == [False, True, False, True]
    assert results[2].reason == "the file has zero bytes"


def test_a_transcript_alone_is_answered_from_its_words(project, model):
    path = project.root / "alone.srt"
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\n[Anna]: so it is\n\n")
    found = only(answer(project, model, path)).answer
    (one,) = found.utterances
    assert (found.medium.kind, found.medium.duration_s) == ("text", 2.0)
    assert (one.speaker, one.text, one.words_from) == ("Anna", "so it is", "transcript")
    assert one.is_answered
    assert {name: (s.status, s.reason) for name, s in one.seen.items()} == {
        "audio": ("missing", "no_audio"), "video": ("missing", "no_video"), "text": ("ok", None),
    }  # fmt: skip
    words = model_of_run(f"{CORPUS}/words", project.layout, project.params)
    assert only(answer(project, words, path)).answer.utterances[0].is_answered


def test_lines_without_times_are_turns_with_a_note(project, model):
    path = project.root / "lines.txt"
    path.write_text("so it is\n\nBen: what a day\n")
    found = only(answer(project, model, path)).answer
    assert [(one.speaker, one.text) for one in found.utterances] == [
        (None, "so it is"), ("Ben", "what a day"),
    ]  # fmt: skip
    assert found.notes == ("lines.txt has no times; its lines are shown as if each took a second",)


def test_a_transcript_in_a_folder_of_media_is_none_of_them(project):
    folder = project.root / "both"
    folder.mkdir()
    write_talk(folder / "a.mp4", 1.0)
    for name in ("a.srt", "notes.txt"):
        (folder / name).write_text("1\n00:00:01,000 --> 00:00:02,000\nso it is\n\n")
    assert [found.kind for found in find_media([str(folder)], project.root)] == ["video"]
    (torn,) = find_media([str(write_text(folder / "torn.srt", "1\n00:00:09,000 --> 00:0"))], folder)
    assert torn.fault.startswith("torn.srt has no turn with words")
    (other,) = find_media([str(write_text(folder / "torn.mp4", "no medium"))], folder)
    assert other.fault.startswith("the bytes are not those of any known")


def write_text(path, text):
    path.write_text(text)
    return path


def test_what_could_not_be_listened_to_is_noted(project, model):
    long = write(project.root / "tones.wav", sound=tone(12.0, 16000), format="wav")
    notes = only(answer(project, model, long)).answer.notes
    assert [note.partition(":")[0] for note in notes] == [
        "speech was not looked for, so it is cut into equal parts",
        "speakers were not told apart",
    ]
    assert all(
        "its weights are not there (`dvc repro checkpoints` brings them)" in n for n in notes
    )


def test_a_transcript_of_another_file_is_refused(project, model):
    turns = [
        replace(turn, start_s=turn.start_s + 90, end_s=turn.end_s + 90) for turn in project.turns(4)
    ]
    result = only(answer(project, model, project.medium(4), turns=turns))
    assert result.answer is None
    assert "may belong to another file" in result.reason


def test_a_long_medium_is_answered_as_it_is_looked_at_and_computed_once(
    project, model, monkeypatch
):
    path, turns = write_talk(project.root / "long.mp4", hz=290), project.turns(4)
    monkeypatch.setattr("tasks.predict.engine.FIRST_S", 1.3)
    monkeypatch.setattr("tasks.predict.growing.TIMES", 1.2)
    computed = []
    monkeypatch.setattr("tasks.features.stage.extract", noted(computed, "tasks.features.stage"))
    first, whole = answer(project, model, path, turns=turns)
    assert first.is_partial
    assert (len(first.answer.utterances), first.answer.looked_s) == (1, 1.2)
    assert first.answer.notes[0].startswith("so far the first 1 s of 4 s were looked at")
    assert len(computed) == len(set(computed))
    assert sum(family == "prosody" for family, _, _ in computed) == 3
    monkeypatch.undo()
    assert [whole] == answer(project, model, path, turns=turns)


def noted(computed, where):
    """What computes features, and notes of which clips."""
    compute = importlib.import_module(where).extract

    def extract(job):
        computed.extend((job.family, str(job.settings), item.key) for item in job.items)
        return compute(job)

    return extract


def test_the_face_of_an_utterance_is_a_small_picture(project, model, monkeypatch):
    path = write_talk(project.root / "seen.mp4", hz=260, face_until_s=2.2)
    (result,) = answer(project, model, path, turns=project.turns(4))
    assert sorted(result.portraits) == ["1", "2"]  # in the third nobody is to be seen
    for data in result.portraits.values():
        picture = Image.open(io.BytesIO(data))
        assert (picture.format, picture.size) == ("JPEG", (64, 64))
        assert np.asarray(picture).std() > 10
    monkeypatch.setattr("tasks.predict.output.portraits.MOST", 2)
    (fewer,) = answer(project, model, path, turns=project.turns(4))
    assert sorted(fewer.portraits) == ["1"]


# which model --------------------------------------------------------------------------------------


def test_the_best_run_of_the_project_is_the_one_that_looks_at_the_media(project):
    name, why = best_run(project.layout, project.params, ("audio",))
    assert name == NAME
    assert why.startswith("the best of the project for category: validation")
    assert best_run(project.layout, project.params, ()) is None


def test_runs_on_drawn_people_count_only_when_they_are_named(project):
    raw = {**project.params.raw, "corpora": {CORPUS: {"adapter": "sample"}}}
    drawn = type(project.params)(raw)
    assert best_run(project.layout, drawn, MODALITIES) is None
    assert model_of_run(NAME, project.layout, drawn).parts


def test_an_unknown_run_is_told_with_the_nearest_one(project):
    with pytest.raises(UserError, match=r"--run tiny/liner: there is no such trained run.*linear"):
        model_of_run("tiny/liner", project.layout, project.params)


def test_an_encoder_that_changed_since_training_is_refused(project, model):
    part = model.parts[0]
    other = replace(part.expected["prosody"], weights_sha256="0" * 64)
    changed = replace(part, expected={**part.expected, "prosody": other})
    with pytest.raises(UserError, match="encoder prosody is not the one"):
        answer(project, replace(model, parts=(changed,)), project.medium(4))
