"""Training and evaluation of methods that read frames, pictures, further inputs or other runs."""

import io
import json
import logging

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from models.errors import UserError
from models.method import find_method
from tasks.batches import face_images, sequences
from tasks.context import ForMethod
from tasks.evaluate import stage as evaluate
from tasks.evaluate.stage import EvaluateParams
from tasks.params.model import Params
from tasks.params.recipes import resolve
from tasks.plain_context import PlainContext
from tasks.train import stage as train
from tasks.train.stage import TrainParams
from tests.places import here
from tests.tasks.batches.test_sequences import DIM, make_sequences, write
from tests.tasks.corpus_factory import (
    CORPUS,
    DIMS,
    INPUTS,
    features_frame,
    make_corpus,
    write_found,
)
from tests.tasks.face_table import faces_of, write_faces
from tests.tasks.toy_methods import FrameToy, ImageToy, add_toys
from tests.tasks.train.test_train import Killed, contents, enter, kill_at, weights

CATEGORY = {"targets": ["category"]}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    enter(tmp_path / "project", monkeypatch)
    add_toys(monkeypatch)
    yield make_corpus(folds=1)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def pictured(corpus):
    corpus.write()
    write_faces(faces_of(corpus))
    return corpus


def run(method, entry=CATEGORY, inputs=INPUTS, seeds=(0,), **context):
    ctx = PlainContext("train", stream=io.StringIO(), **context)
    train.run(ForMethod(TrainParams(seeds=list(seeds)), entry, inputs), here(), ctx, CORPUS, method)
    return contents(here().runs(CORPUS, method))


def score(method, inputs=INPUTS):
    ctx = PlainContext(stream=io.StringIO())
    params = EvaluateParams(missing_rates=[0.0, 0.4])
    evaluate.run(ForMethod(params, {}, inputs), here(), ctx, CORPUS, method)
    return json.loads(here().details(CORPUS, method).read_text())["targets"]


def test_a_method_of_one_dimension_is_chosen_and_scored_by_it_alone(pictured):
    entry = {"width": 2, "image_px": 16, "crop_px": 12, "crops": 1, "ten_crop": False, "epochs": 2,
             "patience": 0, "lr": 0.05}  # fmt: skip
    run("huo_ge_vad", entry | {"dims": "a"})
    found = score("huo_ge_vad")
    assert found["vad"]["names"] == ["arousal"]
    scores = found["vad"]["test"]["metrics"]
    assert scores["ccc"] == scores["ccc/arousal"]
    assert scores["pooled_rmse"] == scores["rmse"] == scores["rmse/arousal"]
    assert not any("valence" in name or "dominance" in name for name in scores)
    table = pl.read_parquet(here().predictions(CORPUS, "huo_ge_vad"))
    assert "prediction_valence" not in table.columns
    (report,) = here().runs(CORPUS, "huo_ge_vad").rglob("report.json")
    known = json.loads(report.read_text())
    parts = [found[t]["validation"]["metrics"][found[t]["headline"]]["mean"] for t in found]
    assert known["validation_score"] == pytest.approx(sum(parts) / 2, abs=1e-6)


# frames ---------------------------------------------------------------------------------------


def test_training_on_mapped_frames_is_training_on_frames_in_memory(corpus, tmp_path, monkeypatch):
    corpus.write()
    found = make_sequences(corpus)
    write(corpus, found)
    mapped = run("frame_toy", CATEGORY | {"max_frames": 5})
    enter(tmp_path / "memory", monkeypatch)
    corpus.write()
    write(corpus, found)
    read, made = sequences.read_sequences, []

    def in_memory(*args):
        sequence = read(*args)
        if sequence is not None:
            assert isinstance(sequence.values, np.memmap)
            object.__setattr__(sequence, "values", np.array(sequence.values))
            made.append(sequence)
        return sequence

    monkeypatch.setattr(sequences, "read_sequences", in_memory)
    assert run("frame_toy", CATEGORY | {"max_frames": 5}) == mapped
    assert made


def test_widths_of_frames_reach_training_and_evaluation(corpus):
    corpus.write()
    write(corpus, make_sequences(corpus))
    found = run("frame_toy")
    config = json.loads(found["seed0/category/config.json"])
    assert config["frame_dims"] == {"audio": 4, "video": DIM, "text": 3}
    (one,) = evaluate.load_runs(here(), CORPUS, "frame_toy")
    assert list(one.method.spec.frame_dims.items()) == [("audio", 4), ("video", 6), ("text", 3)]
    details = score("frame_toy")["category"]
    assert len(details["subsets"]) == 7
    assert details["missing_rates"]["0"] == details["subsets"]["audio+video+text"]


def test_folds_whose_searches_found_other_lengths_are_scored_on_those(corpus):
    corpus.splits += [{**row, "fold": 1} for row in corpus.splits]
    corpus.write()
    write(corpus, make_sequences(corpus))

    def predictions(lengths):
        ctx = PlainContext("train", stream=io.StringIO())
        found = {fold: {"max_frames": length} for fold, length in enumerate(lengths)}
        params = TrainParams(seeds=[0])
        write_found("frame_toy", found)
        asked = ForMethod(params, {**CATEGORY, "search": {}}, INPUTS)
        train.run(asked, here(), ctx, CORPUS, "frame_toy")
        score("frame_toy")
        return pl.read_parquet(here().predictions(CORPUS, "frame_toy")).partition_by("fold")

    short, long = predictions([1, 3])
    assert short.equals(predictions([1, 1])[0])
    assert long.equals(predictions([3, 3])[1])
    assert not short.drop("fold").equals(long.drop("fold"))


def test_pooled_methods_keep_their_config(corpus):
    corpus.write()
    config = json.loads(run("linear", CATEGORY | {"epochs": 1})["seed0/category/config.json"])
    assert "frame_dims" not in config


def test_a_negative_limit_of_frames_is_an_error(corpus):
    with pytest.raises(UserError, match=r"frame_toy\.max_frames is -1, expected 0 \(all\) or more"):
        resolve("frame_toy", {"max_frames": -1})


@pytest.mark.parametrize("method", ["emi", "gru", "haemsa"])
def test_networks_on_frames_train_on_mapped_sequences_of_unequal_length(
    corpus, monkeypatch, caplog, method
):
    """Voice and face have sequences; the batches that the network is shown carry all of them."""
    corpus.write()
    lengths = {}
    for encoder in ("ears", "eyes"):
        found = make_sequences(corpus, seed=len(encoder), encoder=encoder)
        write(corpus, found, encoder=encoder)
        lengths[encoder] = {len(frames) for frames in found.values()}
        assert max(lengths[encoder]) > 5
    kind, shown = find_method(method), []
    losses = kind.losses

    def noted(self, batch):
        shown.append(batch.frames)
        return losses(self, batch)

    monkeypatch.setattr(kind, "losses", noted)
    entry = {"targets": ["vad"], "epochs": 2, "batch_size": 10}
    with caplog.at_level(logging.INFO, "affectloom"):
        files = run(method, entry)
    for modality, encoder in (("audio", "ears"), ("video", "eyes")):
        seen = {count for frames in shown for count in frames[modality].mask.sum(-1).unique()}
        assert {int(count) for count in seen} - {0} <= lengths[encoder]
        assert max(seen) > 5
        assert max(frames[modality].mask.shape[-1] for frames in shown) > 5
    assert {frames["text"].mask.shape[-1] for frames in shown} == {1}
    report = json.loads(files["seed0/vad/report.json"])
    assert report["frame_dims"] == {"audio": DIM, "video": DIM, "text": 3}
    assert report["history"][-1]["loss_vad"] < report["history"][0]["loss_vad"]
    told = [line for line in caplog.messages if "reads frames" in line]
    assert all("of text it gets one vector" in line for line in told)
    assert len(told) == (method != "emi")
    details = score(method)["vad"]
    assert details["missing_rates"]["0"] == details["subsets"]["audio+video+text"]


def test_a_method_on_frames_says_once_where_there_are_none(corpus, caplog):
    corpus.write()
    write(corpus, make_sequences(corpus))
    with caplog.at_level(logging.INFO, "affectloom"):
        run("frame_toy", CATEGORY | {"epochs": 1}, seeds=(0, 1))
        run("linear", CATEGORY | {"epochs": 1})
    lines = [line for line in caplog.messages if "frames" in line]
    assert lines == [
        f"train: methods.frame_toy reads frames, but encoder {encoder} keeps none: of {modality} "
        f"it gets one vector an utterance; set encoders.{encoder}.sequence to true in params.yaml"
        for modality, encoder in (("audio", "ears"), ("text", "words"))
    ]
    assert (
        resolve("emi", {}).notes({"audio": "ears", "text": "words"}, {"text": "words"})[:-1] == []
    )


# further inputs -------------------------------------------------------------------------------


def test_a_further_input_is_read_from_its_encoder(corpus, monkeypatch):
    corpus.write()
    teacher = {name: None if "d03" in name else [0.25, -1.0] for name in corpus.features["ears"]}
    folder = here().features(CORPUS, "guide")
    folder.mkdir(parents=True)
    features_frame(teacher, 2).write_parquet(folder / "0.parquet")
    seen = []
    losses = FrameToy.losses

    def noted(self, batch):
        seen.append(batch.extra["teacher"])
        return losses(self, batch)

    monkeypatch.setattr(FrameToy, "losses", noted)
    found = run("frame_toy", CATEGORY | {"epochs": 1}, INPUTS | {"teacher": "guide"})
    values = torch.cat(seen).squeeze(1)
    assert values.isnan().all(1).sum() == 5
    assert (values[~values.isnan().any(1)] == torch.tensor([0.25, -1.0])).all()
    report = json.loads(found["seed0/category/report.json"])
    assert str(folder / "0.parquet") in report["data"]
    assert report["dims"] == {"audio": 4, "video": 5, "text": 3}
    score("frame_toy", INPUTS | {"teacher": "guide"})


def test_methods_that_do_not_ask_for_a_further_input_never_read_it(corpus):
    corpus.write()  # there is no folder for the encoder "guide"
    found = run("linear", CATEGORY | {"epochs": 1}, INPUTS | {"teacher": "guide"})
    report = json.loads(found["seed0/category/report.json"])
    assert not [name for name in report["data"] if "guide" in name]


# pictures -------------------------------------------------------------------------------------


def test_pictures_are_learnt_without_any_encoder(pictured):
    found = run("image_toy", inputs={})
    report = json.loads(found["seed0/category/report.json"])
    assert report["validation_score"] > 0.9
    assert report["rows"]["train"] == 27  # one has no label row, one no judgement, one no face
    assert report["train_items_without_picture"] == 1
    assert str(here().faces(CORPUS)) in report["data"]
    assert report["dims"] == {}
    details = score("image_toy", inputs={})["category"]
    assert details["test"]["metrics"]["accuracy"]["mean"] > 0.9
    assert list(details["subsets"]) == ["video"]
    assert details["missing_rates"]["0.4"] == details["subsets"]["video"]  # one is always kept
    predictions = pl.read_parquet(here().predictions(CORPUS, "image_toy"))
    assert predictions.height == len(pictured.ids("validation")) + len(pictured.ids("test"))


def test_a_corpus_of_pictures_has_the_constant_baseline_too(pictured):
    report = json.loads(run("constant", inputs={})["seed0/category/report.json"])
    assert report["dims"] == {}
    details = score("constant", inputs={})["category"]
    assert details["subsets"] == {}
    assert details["missing_rates"]["0.4"] == details["missing_rates"]["0"]
    with pytest.raises(UserError, match=r"inputs names no encoder; add one, or keep .*\.corpora"):
        run("linear", inputs={})


def test_pictures_are_hidden_where_masks_of_the_corpus_say_so(pictured):
    run("image_toy")
    details = score("image_toy")["category"]
    assert list(details["subsets"]) == ["video"]
    assert details["missing_rates"]["0.4"]["mean"] < details["missing_rates"]["0"]["mean"]


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_no_weight(pictured, monkeypatch, tmp_path, threads):
    usual = run("image_toy", CATEGORY | {"epochs": 3}, {})
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(face_images, "reading_threads", lambda: threads)
    monkeypatch.setattr(face_images, "_ITEMS", threads)
    assert run("image_toy", CATEGORY | {"epochs": 3}, {}) == usual


def test_a_killed_run_on_pictures_goes_on_to_the_same_bytes(pictured, monkeypatch, tmp_path):
    undisturbed = run("image_toy", CATEGORY | {"epochs": 6}, {})
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "other"))
    with monkeypatch.context() as patch:
        kill_at("_save_state", patch, 3)
        with pytest.raises(Killed):
            run("image_toy", CATEGORY | {"epochs": 6}, {})
    (state,) = (tmp_path / "other/runs").glob("*/state.pt")
    assert state.exists()
    assert run("image_toy", CATEGORY | {"epochs": 6}, {}) == undisturbed


def test_other_faces_are_other_data(pictured):
    entry = CATEGORY | {"epochs": 2}
    before = weights(run("image_toy", entry, {}))
    rows = faces_of(pictured)
    for row in rows:
        row["chosen"] = not row["chosen"] and row["frame"] >= 0
    write_faces(rows)
    assert weights(run("image_toy", entry, {})) != before


def test_pictures_are_video(pictured):
    with pytest.raises(UserError, match=r"methods\.image_toy looks at pictures, but its modalit"):
        resolve("image_toy", {"modalities": ["audio"]})


# several targets in one network ---------------------------------------------------------------


def test_a_joint_method_is_scored_on_each_of_its_targets(pictured):
    found = run("image_toy", {}, {})
    assert {name.split("/")[1] for name in found} == {"category+vad"}
    details = score("image_toy", {})
    assert set(details) == {"category", "vad"}
    for target in details.values():
        assert target["test"]["n"] == 15
        assert target["missing_rates"]["0"] == target["subsets"]["video"]
        assert target["test_oracle"]["epochs_tried"] > 1
    assert details["category"]["test"]["metrics"]["accuracy"]["mean"] > 0.9
    table = pl.read_parquet(here().predictions(CORPUS, "image_toy"))
    assert not table.select("utterance_id", "seed", "fold", "split").is_duplicated().any()
    for column in ("prediction_category", "prediction_valence", "prediction_dominance"):
        assert table[column].null_count() == 0
    assert set(json.loads(here().metrics(CORPUS, "image_toy").read_text())) == {"category", "vad"}


# weights of another run -----------------------------------------------------------------------

WARM = CATEGORY | {"init_from": "image_toy", "epochs": 1, "lr": 0.0}


def test_training_begins_from_the_run_of_the_same_seed_and_fold(corpus):
    make_corpus(folds=2).write()
    write_faces(faces_of(corpus))
    run("image_toy", CATEGORY | {"epochs": 2}, {}, seeds=(0, 3))
    found = run("warm_toy", WARM, {}, seeds=(0, 3))
    for place in [f"seed{seed}/fold{fold}/category" for seed in (0, 3) for fold in (0, 1)]:
        start, end = (
            load_file(here().runs(CORPUS, method) / place / "weights.safetensors")
            for method in ("image_toy", "warm_toy")
        )
        assert all(torch.equal(start[name], value) for name, value in end.items())
        report = json.loads(found[f"{place}/report.json"])
        assert report["init_from"] == str(here().runs(CORPUS, "image_toy") / place)


def keys_of(monkeypatch, method="warm_toy", entry=WARM, **more):
    keys = []

    def untrained(job):
        job.cached.mkdir(parents=True)
        keys.append(job.key)
        return job.key

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_one", untrained)
        run(method, entry, {}, **more)
    return keys


def elsewhere(folds):
    """Trains ``image_toy`` on another corpus and leaves this one with its tables alone."""
    make_corpus(folds=folds).write()
    write_faces(faces_of(make_corpus(folds=folds)))
    run("image_toy", CATEGORY | {"epochs": 2}, {}, seeds=(0, 3))
    here().runs("other", "image_toy").parent.mkdir(parents=True)
    return here().runs(CORPUS, "image_toy").rename(here().runs("other", "image_toy"))


@pytest.mark.parametrize("folds", [1, 2])
def test_training_begins_from_a_run_on_another_corpus(corpus, folds):
    start = elsewhere(folds)
    make_corpus(folds=2).write()
    found = run("warm_toy", WARM | {"init_from": "other/image_toy"}, {}, seeds=(0, 3))
    for seed in (0, 3):
        for fold in (0, 1):
            there = f"seed{seed}/fold{fold}/category" if folds == 2 else f"seed{seed}/category"
            run_here = f"seed{seed}/fold{fold}/category"
            begin = load_file(start / there / "weights.safetensors")
            end = load_file(here().runs(CORPUS, "warm_toy") / run_here / "weights.safetensors")
            assert all(torch.equal(begin[name], value) for name, value in end.items())
            assert json.loads(found[f"{run_here}/report.json"])["init_from"] == str(start / there)


def test_folds_of_another_corpus_that_this_one_lacks_are_an_error(corpus):
    elsewhere(2)
    make_corpus(folds=1).write()
    with pytest.raises(UserError, match=r"runs of 2 folds, but this corpus has only one split; gi"):
        run("warm_toy", WARM | {"init_from": "other/image_toy"}, {})


def test_a_start_on_another_corpus_that_is_not_there_names_the_corpus(pictured):
    with pytest.raises(
        UserError, match=r"no run in data/runs/other/image_toy/seed0; run stage tra"
    ):
        run("warm_toy", WARM | {"init_from": "other/image_toy"}, {})


def test_the_bytes_of_local_weights_are_a_part_of_the_run(pictured, monkeypatch, tmp_path):
    file = tmp_path / "body.safetensors"
    entry = CATEGORY | {"backbone": "small", "image_px": 16, "pretrained": str(file)}
    with pytest.raises(
        UserError, match=r"methods\.cage\.pretrained: there is no file .*; put it th"
    ):
        keys_of(monkeypatch, "cage", entry)
    file.write_bytes(b"one")
    before = keys_of(monkeypatch, "cage", entry)
    assert keys_of(monkeypatch, "cage", entry) == before
    file.write_bytes(b"two")
    assert keys_of(monkeypatch, "cage", entry) != before


def test_other_weights_to_begin_from_are_another_run(pictured, monkeypatch):
    run("image_toy", CATEGORY | {"epochs": 2}, {})
    before = keys_of(monkeypatch)
    assert keys_of(monkeypatch) == before
    run("image_toy", CATEGORY | {"epochs": 3}, {})
    assert keys_of(monkeypatch) != before


def test_a_start_that_is_not_there_names_the_stage(pictured):
    with pytest.raises(UserError, match=r"warm_toy\.init_from: there is no run in data/runs/tiny/"):
        run("warm_toy", WARM, {})


def test_a_start_with_several_targets_is_an_error(pictured):
    entry = CATEGORY | {"epochs": 1}
    run("linear", {"epochs": 1})
    with pytest.raises(UserError, match=r"has runs of several targets \(category, vad\); name one"):
        run("warm_toy", entry | {"init_from": "linear"}, {})


def test_weights_that_do_not_fit_are_an_error(pictured):
    run("linear", CATEGORY | {"epochs": 1})
    with pytest.raises(
        UserError, match=r"linear/seed0/category/weights.safetensors: these weights"
    ):
        run("warm_toy", WARM | {"init_from": "linear"}, {})


@pytest.mark.parametrize(("method", "value", "sentence"), [
    ("image_toy", "linear", "ImageToy cannot begin from the weights of another run"),
    ("warm_toy", 3, "init_from is 3, expected a key of methods"),
], ids=["method", "value"])  # fmt: skip
def test_a_start_without_sense_is_an_error_before_training(corpus, method, value, sentence):
    assert not hasattr(ImageToy, "warm_start")
    with pytest.raises(UserError, match=sentence):
        resolve(method, {"init_from": value})


def raw(**methods):
    encoders = {name: {"family": "prosody"} for name in DIMS}
    corpora = {"one": None, "two": None}
    return {"methods": methods, "encoders": encoders, "corpora": corpora, "inputs": {}}


@pytest.mark.parametrize(("methods", "sentence"), [
    ({"a": {"init_from": "bb"}, "b": None}, "but 'bb' is no key of methods; did you mean 'b'"),
    ({"a": {"init_from": "on/b"}, "b": None}, "'on/b', but 'on' is no key of corpora; did"),
    ({"a": {"init_from": "one/"}}, "a.init_from is 'one/', but '' is no key of methods; known: a"),
    ({"a": {"init_from": "one/a"}}, "a.init_from goes round in a circle: a from a"),
    ({"a": {"corpora": ["two"], "init_from": "one/b"}, "b": {"corpora": ["two"]}},
     "a.init_from is one/b, but b does not run on corpus one; add it to methods.b.corpora"),
    ({"a": {"init_from": "a"}}, "a.init_from goes round in a circle: a from a"),
    ({"a": {"init_from": "b"}, "b": {"init_from": "a"}}, "in a circle: a from b from a"),
    ({"a": {"init_from": "b"}, "b": {"corpora": ["one"]}}, "does not run on corpus two; add it to"),
], ids=["unknown", "unknown corpus", "nothing", "itself elsewhere", "corpus elsewhere", "itself",
        "circle", "corpus"])  # fmt: skip
def test_starts_in_params_are_checked(methods, sentence):
    with pytest.raises(UserError) as caught:
        Params(raw(**methods))
    assert sentence in str(caught.value)


def test_a_start_on_another_corpus_need_not_run_on_this_one():
    Params(raw(a={"corpora": ["two"], "init_from": "one/b"}, b={"corpora": ["one"]}))


def test_params_know_the_further_inputs_of_methods():
    params = raw()
    params["inputs"] = {"audio": "ears", "vad_teacher": "eyes"}
    assert Params(params).inputs("one") == params["inputs"]
    params["inputs"] = {"vad_teachr": "eyes"}
    with pytest.raises(UserError, match="inputs names 'vad_teachr'; did you mean 'vad_teacher'"):
        Params(params)
    params["inputs"] = {"audio": "ears"}
    params["corpora"]["two"] = {"inputs": {}}
    assert Params(params).inputs("two") == {}
