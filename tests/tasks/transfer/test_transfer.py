"""Runs of one corpus on the test rows of another."""

import io
import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import accuracy_score

from models.batch import Target
from models.errors import UserError
from models.metrics.scoring import CONVENTION
from models.training import predict
from tasks import failures
from tasks.context import ForMethod
from tasks.evaluate import stage as evaluate
from tasks.evaluate.networks import load_runs, part_of, sources_of
from tasks.plain_context import PlainContext
from tasks.report.cross_corpus import cross_corpus
from tasks.score_files import Transfer
from tasks.selection import transfers_of
from tasks.targets import VAD
from tasks.train import stage as train
from tasks.transfer import stage as transfer
from tests.places import here
from tests.tasks import corpus_factory
from tests.tasks.conforming import misfits
from tests.tasks.corpus_factory import CLASSES, CORPUS, INPUTS, make_corpus

ENTRY = {"epochs": 12, "patience": 0, "lr": 0.02}
SEEDS = [0, 1]


def make(name, change=None, **options):
    """Write a corpus of that name; ``change`` edits each label row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_factory, "CORPUS", name)
        corpus = make_corpus(**options)
        for row in corpus.labels:
            if change:
                change(row)
        return corpus.write()


def sad(row):
    if row["category"] == "neutral":
        row["category"] = "sad"


def without_vad(row):
    row |= dict.fromkeys(VAD)


def another_word(row):
    row["category"] = row["category"] and f"very {row['category']}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One method on ``tiny`` with one fold, and copies of the corpus with other labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        patch.setenv("AFFECTLOOM_CACHE", "cache")
        ctx = PlainContext(stream=io.StringIO())
        make_corpus(folds=1).write()
        train.run(
            ForMethod(train.TrainParams(seeds=SEEDS), ENTRY, INPUTS), here(), ctx, CORPUS, "linear"
        )
        evaluate.run(
            ForMethod(evaluate.EvaluateParams(), {}, INPUTS), here(), ctx, CORPUS, "linear"
        )
        make("copy", folds=1)
        make("folded", folds=2)
        make("sad", sad, folds=1)
        make("plain", without_vad, folds=1)
        make("words", another_word, folds=1)
        yield
        torch.use_deterministic_algorithms(False)


def score(onto, **options):
    params = transfer.TransferParams(resamples=200, **options)
    ctx = PlainContext(stream=io.StringIO())
    transfer.run(ForMethod(params, {}, INPUTS), here(), ctx, CORPUS, "linear", onto)
    return json.loads(here().transfer(CORPUS, "linear", onto).read_text())


def test_a_copy_of_the_corpus_scores_as_the_corpus_itself(trained):
    home = json.loads(here().details(CORPUS, "linear").read_text())["targets"]
    found = score("copy")["targets"]
    assert set(found) == set(home) == {"category", "vad"}
    for name, one in found.items():
        assert one["n"] == home[name]["test"]["n"]
        assert one["networks"] == len(SEEDS)
        for metric, value in home[name]["test"]["metrics"].items():
            if metric.startswith(("violation_", "mean_cost_")):
                continue  # of class and VAD together, which is judged at home only
            if metric.endswith("_calibrated"):
                continue  # temperatures are of the corpus that was trained on
            assert one["metrics"][metric]["mean"] == pytest.approx(value["mean"]), metric
        head = one["metrics"][one["headline"]]["mean"]
        assert one["ci_low"] < head < one["ci_high"]


def test_a_copy_of_the_corpus_has_the_error_curves_of_the_corpus_itself(trained):
    found = score("copy")["targets"]
    assert "coverage" not in found["category"]
    curve = found["vad"]["coverage"]["arousal"]
    rows = pl.read_parquet(here().predictions(CORPUS, "linear")).filter(split="test")
    errors = (rows["prediction_arousal"] - rows["target_arousal"]).drop_nulls().abs()
    assert curve["step"] == 0.01
    assert curve["shares"][20] == pytest.approx((errors <= 0.2).mean(), abs=1e-5)
    assert curve["shares"][-1] == 1
    assert len(curve["shares"]) == math.ceil(errors.max() / 0.01) + 1
    assert {"valence", "arousal", "dominance", "joint"} == set(found["vad"]["coverage"])


def test_every_test_row_of_every_fold_counts_once(trained):
    rows = pl.read_parquet(here().splits("folded")).filter(pl.col("split") == "test")
    labels = pl.read_parquet(here().labels("folded")).drop_nulls("category")
    known = rows.join(labels, on="utterance_id").get_column("utterance_id").n_unique()
    assert score("folded")["targets"]["category"]["n"] == known > 15


def test_networks_know_nobody_of_another_corpus(trained):
    runs = load_runs(here(), CORPUS, "linear")
    (home, *_), (there, *_) = (sources_of(here(), runs, c, INPUTS) for c in (CORPUS, "copy"))
    assert home.people.tolist() != there.people.tolist() == [-1] * len(there.ids)
    part = part_of(there, runs[0], "test")
    assert (part.batch(range(len(part))).people == -1).all()
    assert there.speakers.tolist() == home.speakers.tolist()  # within a dialogue they are known


def test_test_rows_that_folds_share_are_predicted_once_where_training_computes(
    trained, monkeypatch
):
    make("again", folds=1)
    splits = pl.read_parquet(here().splits("again"), use_pyarrow=True)
    again = splits.with_columns(fold=pl.lit(1, splits.schema["fold"]))
    pl.concat([splits, again]).write_parquet(here().splits("again"))
    expected, devices = score("copy"), []

    def noted(*args, device):
        devices.append(device)
        return predict(*args, device=device)

    monkeypatch.setattr(transfer, "predict", noted)
    monkeypatch.setattr(transfer, "best_device", lambda: "cpu:0")
    assert score("again")["targets"] == expected["targets"]
    assert devices == ["cpu:0"] * len(SEEDS) * 2  # targets


def test_only_classes_of_both_corpora_count_and_the_rest_is_told(trained):
    found = score("sad")["targets"]["category"]
    shared = [name for name in CLASSES if name != "neutral"]
    assert found["names"] == shared
    assert found["only_trained"] == ["neutral"]
    assert found["only_tested"] == ["sad"]
    table = pl.read_parquet(here().predictions(CORPUS, "linear")).filter(pl.col("split") == "test")
    lost = table.filter((pl.col("seed") == 0) & (pl.col("target_category") == "neutral"))
    assert found["rows_left_out"] == lost.height > 0
    kept = table.filter(pl.col("target_category").is_in(shared))
    places = [CLASSES.index(name) for name in shared]
    accuracies = []
    for seed in SEEDS:
        rows = kept.filter(pl.col("seed") == seed)
        among = np.array(rows["probabilities"].to_list())[:, places].argmax(1)
        truth = [shared.index(name) for name in rows["target_category"]]
        accuracies.append(accuracy_score(truth, among))
        assert found["n"] == rows.height
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))


def test_first_labels_are_told_by_the_shared_names():
    here = Target("categories", "labels", ("calm", "eager", "tired"))
    there = Target("categories", "labels", ("bored", "calm", "tired"))
    shared = transfer.Shared(here, there, ("calm", "tired"))
    assert shared.of_codes(np.array([0, 1, 2, -1])).tolist() == [-1, 0, 1, -1]


def test_targets_that_only_one_corpus_has_are_named(trained):
    found = score("plain")
    assert set(found["targets"]) == {"category"}
    assert found["unshared"] == {"vad": "plain has no labels for it"}


def test_categories_without_a_common_name_are_not_compared(trained):
    found = score("words")
    assert set(found["targets"]) == {"vad"}
    assert "very angry" in found["unshared"]["category"]


def test_results_name_the_definitions_behind_them(trained):
    assert score("copy")["convention"] == CONVENTION


def test_scores_are_what_their_type_says(trained):
    assert misfits(score("copy"), Transfer) == []


def test_clips_that_both_corpora_hold_are_counted(trained):
    assert score("copy")["shared_media"] == 0
    for name in (CORPUS, "copy"):
        table = pl.read_parquet(here().utterances(name), use_pyarrow=True)
        media = table.with_columns(pl.lit("a" * 64).alias("media_sha256"))
        media = media.with_columns(pl.int_range(pl.len()).cast(pl.Float64).alias("start_s"))
        media.write_parquet(here().utterances(name))
    assert score("copy")["shared_media"] == score("copy")["targets"]["vad"]["n"]


def test_the_same_inputs_give_the_same_bytes(trained):
    score("sad")
    first = here().transfer(CORPUS, "linear", "sad").read_bytes()
    score("sad")
    assert here().transfer(CORPUS, "linear", "sad").read_bytes() == first


def test_features_of_another_width_are_refused(trained, monkeypatch):
    monkeypatch.setitem(corpus_factory.DIMS, "eyes", 7)
    make("wide", folds=1)
    with pytest.raises(UserError, match=r"features of width .* but wide has .*same encoders"):
        score("wide")


# which pairs there are ----------------------------------------------------------------------------


def raw(**corpora):
    return {
        "corpora": corpora,
        "inputs": {"audio": "ears", "text": "words"},
        "methods": {"linear": {}, "only_text": {"modalities": ["text"]}},
    }


def pairs(params):
    return {(f["corpus"], f["method"], f["onto"]) for f in transfers_of(params)}


def test_one_corpus_has_no_transfer():
    assert pairs(raw(a=None)) == set()


def test_two_corpora_are_tested_both_ways_unless_switched_off():
    both = raw(a={}, b=None)
    expected = {(x, m, y) for x, y in ("ab", "ba") for m in ("linear", "only_text")}
    assert pairs(both) == expected
    assert pairs(both | {"transfer": {"enabled": False}}) == set()


def test_corpora_that_read_other_encoders_are_tested_only_where_the_method_does_not_care():
    params = raw(a={}, b={"inputs": {"audio": "other", "text": "words"}})
    assert pairs(params) == {("a", "only_text", "b"), ("b", "only_text", "a")}


def test_methods_on_pictures_are_tested_whatever_the_corpora_read():
    params = raw(a={"inputs": {}}, b=None)
    params["methods"] = {
        "cage": {}, "faces_only": {"method": "huo_ge_vad", "modalities": ["video"]},
    }  # fmt: skip
    assert pairs(params) == {(x, m, y) for x, y in ("ab", "ba") for m in params["methods"]}


def test_methods_are_not_tested_where_they_have_nothing_to_read():
    params = raw(a={"inputs": {}}, b={"inputs": {}}, c={"inputs": {"audio": "ears"}})
    params["methods"] |= {"constant": {}}
    assert pairs(params) == {("a", "constant", "b"), ("b", "constant", "a")}


def test_a_teacher_of_one_corpus_keeps_no_pair_apart():
    inputs = {"audio": "ears", "text": "words"}
    params = raw(a={"inputs": inputs}, b={"inputs": inputs | {"vad_teacher": "other"}})
    params["methods"] = {"emi": {}}
    assert pairs(params) == {("a", "emi", "b"), ("b", "emi", "a")}


# what report and page get -------------------------------------------------------------------------


def test_cells_hold_scores_or_reasons(trained):
    score("plain")
    params = raw(**{CORPUS: {}, "plain": {}}) | {"methods": {"linear": {}}}
    failures.note(here(), f"transfer@plain-linear-{CORPUS}", "no room left")
    cells = {
        (c["trained_on"], c["tested_on"], c["target"]): c for c in cross_corpus(here(), params)
    }
    there = cells[CORPUS, "plain", "category"]
    assert there["metric"] == "weighted_f1"
    assert there["ci_low"] <= there["mean"] <= there["ci_high"]
    assert cells[CORPUS, "plain", "vad"]["reason"] == "plain has no labels for it"
    assert cells["plain", CORPUS, None]["reason"] == "failed: no room left"


def test_a_single_corpus_adds_nothing_to_the_provenance(trained):
    assert cross_corpus(here(), raw(**{CORPUS: {}})) == []
