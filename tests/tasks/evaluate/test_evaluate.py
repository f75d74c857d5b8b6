import io
import itertools
import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

from models.batch import MODALITIES, Target
from models.errors import UserError
from models.method import Spec
from models.metrics import scoring as metrics
from models.metrics.calibration import fit_temperature, tempered
from models.training import predict
from tasks.batches.hiding import Hidden, draw_masks, only
from tasks.context import ForMethod
from tasks.evaluate import cells, networks, predictions
from tasks.evaluate import stage as evaluate
from tasks.evaluate.consistency import violation_rates
from tasks.evaluate.stage import EvaluateParams
from tasks.params.recipes import build, resolve
from tasks.plain_context import PlainContext
from tasks.report.leaderboard import judge, to_csv
from tasks.score_files import Details
from tasks.targets import VAD
from tasks.train import stage as train
from tests.places import here
from tests.tasks.conforming import misfits
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus

ENTRIES = {
    "linear": {"epochs": 12, "patience": 0, "lr": 0.02},
    "early_fusion": {"epochs": 3, "patience": 0, "hidden": 8},
}
RATES = [0.0, 0.4]
SEEDS = [0, 1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two methods, two seeds and two folds, trained and evaluated once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        patch.setenv("AFFECTLOOM_CACHE", "cache")
        corpus = make_corpus().write()
        seen = {method: fit_and_score(method, patch) for method in ENTRIES}
        torch.use_deterministic_algorithms(False)
        yield corpus, seen


def fit_and_score(method, patch, inputs=INPUTS, entry=None):
    """Train and evaluate; returns the masks drawn at each rate, in the order of drawing."""
    ctx, entry = PlainContext(stream=io.StringIO()), entry or ENTRIES[method]
    seen = []
    draw = cells.draw_masks

    def noted(*args):
        seen.append((*args, draw(*args)))
        return seen[-1][-1]

    with patch.context() as local:
        local.setattr(cells, "draw_masks", noted)
        train.run(
            ForMethod(train.TrainParams(seeds=SEEDS), entry, inputs), here(), ctx, CORPUS, method
        )
        params = EvaluateParams(missing_rates=RATES)
        evaluate.run(ForMethod(params, {}, inputs), here(), ctx, CORPUS, method)
    return seen


def read_details(method="linear"):
    return json.loads(here().details(CORPUS, method).read_text())["targets"]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("method", ENTRIES)
def test_details_are_what_their_type_says(method):
    assert misfits(json.loads(here().details(CORPUS, method).read_text()), Details) == []


def rows(method="linear", split="test", seed=0):
    table = pl.read_parquet(here().predictions(CORPUS, method))
    return table.filter((pl.col("split") == split) & (pl.col("seed") == seed))


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("seed", SEEDS)
def test_category_scores_are_those_of_the_predictions(project, split, seed):
    known = rows(split=split, seed=seed).drop_nulls("target_category")
    truth, guess = known["target_category"].to_list(), known["prediction_category"].to_list()
    scores = read_details()["category"][split]["by_seed"][str(seed)]
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert scores["weighted_f1"] == pytest.approx(f1_score(truth, guess, average="weighted"))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert scores["n"] == known.height == read_details()["category"][split]["n"]


def concordance(t, p):
    shift = (t.mean() - p.mean()) ** 2
    return 2 * np.mean((t - t.mean()) * (p - p.mean())) / (t.var() + p.var() + shift)


@pytest.mark.parametrize("name", VAD)
def test_value_scores_are_those_of_the_predictions(project, name):
    known = rows(seed=1).drop_nulls(f"target_{name}")
    t, p = (known[f"{side}_{name}"].to_numpy() for side in ("target", "prediction"))
    folds = known["fold"].to_numpy()
    by_fold = [concordance(t[folds == fold], p[folds == fold]) for fold in np.unique(folds)]
    scores = read_details()["vad"]["test"]["by_seed"]["1"]
    wanted = np.average(by_fold, weights=np.unique(folds, return_counts=True)[1])
    assert scores[f"ccc/{name}"] == pytest.approx(wanted)
    assert scores[f"ccc_all_rows/{name}"] == pytest.approx(concordance(t, p))
    assert scores[f"mae/{name}"] == pytest.approx(np.abs(t - p).mean())


def test_each_network_s_temperature_is_of_its_own_validation_rows(project):
    found = json.loads(here().calibration(CORPUS, "linear").read_text())
    assert found["fitted_on"] == "validation"
    category = found["targets"]["category"]
    assert {(one["seed"], one["fold"]) for one in category["networks"]} == {
        (seed, fold) for seed in SEEDS for fold in (0, 1)
    }
    one = category["networks"][0]
    known = rows(split="validation", seed=one["seed"]).drop_nulls("target_category")
    known = known.filter(pl.col("fold") == one["fold"])
    names = category["names"]
    truth = [names.index(name) for name in known["target_category"]]
    shares = np.array(known["probabilities"].to_list())
    assert one["temperature"] == pytest.approx(fit_temperature(truth, shares), rel=1e-3)
    scores = read_details()["category"]["test"]["by_seed"]["0"]
    heat = {c["fold"]: c["temperature"] for c in category["networks"] if c["seed"] == 0}
    test = rows(seed=0).drop_nulls("target_category")
    scaled = np.concatenate(
        [
            tempered([shares], heat[fold])
            for shares, fold in zip(test["probabilities"], test["fold"], strict=True)
        ]
    )
    truth = [names.index(name) for name in test["target_category"]]
    assert scores["log_loss_calibrated"] == pytest.approx(float(metrics.log_loss(truth, scaled)))
    assert "log_loss_calibrated" not in read_details()["category"]["validation"]["by_seed"]["0"]
    bins = read_details()["category"]["test"]["reliability"]
    assert sum(bins["raw"]["count"]) == sum(bins["calibrated"]["count"]) == len(SEEDS) * len(truth)


def test_residuals_of_values_are_those_of_validation(project):
    found = json.loads(here().calibration(CORPUS, "linear").read_text())["targets"]["vad"]
    known = pl.concat([rows(split="validation", seed=seed) for seed in SEEDS])
    known = known.drop_nulls("target_valence")
    residual = known["target_valence"] - known["prediction_valence"]
    valence = found["residuals"]["valence"]
    assert valence["n"] == known.height
    assert valence["quantiles"]["0.5"] == pytest.approx(residual.median())
    assert list(valence["quantiles"].values()) == sorted(valence["quantiles"].values())


@pytest.mark.parametrize("side", ["prediction", "target"])
def test_contradictions_of_class_and_vad_are_counted(project, side):
    known = rows(seed=1).drop_nulls(f"{side}_category")
    known = known.with_columns(pl.col(f"{side}_category").alias("name"))
    known = known.filter(pl.col("name").is_in(["angry", "happy", "neutral", "sad"]))
    assert known.height
    valence, dominance = known["prediction_valence"], known["prediction_dominance"]
    name = known["name"]
    # happy and neutral are not unpleasant, angry and sad not pleasant, neutral is exactly 0
    wrong = ((name == "happy") & (valence <= 0)) | (name.is_in(["angry", "sad"]) & (valence >= 0))
    wrong |= (name == "neutral") & (valence != 0)
    weak = (name.is_in(["angry", "happy"]) & (dominance <= 0)) | ((name == "sad") & (dominance > 0))
    weak |= (name == "neutral") & (dominance != 0)
    scores = read_details()["vad"]["test"]["by_seed"]["1"]
    rate = f"violation_{'pred' if side == 'prediction' else 'true'}_equations"
    assert scores[f"{rate}/valence"] == pytest.approx(wrong.mean())
    assert scores[f"{rate}/dominance"] == pytest.approx(weak.mean())
    assert scores[rate] >= scores[f"{rate}/valence"]
    assert read_details()["vad"]["test"]["metrics"][rate]["std"] is not None


@pytest.mark.parametrize("active", [VAD, VAD[:2], VAD[2:]])
def test_contradictions_count_by_every_table_over_the_dimensions_that_there_are(active):
    row = {"valence": -0.6, "arousal": 0.05, "dominance": -0.3}
    table = pl.DataFrame(
        {
            "split": ["test"] * 3,
            "seed": [0] * 3,
            "target_category": ["sad", "angry", "frustrated"],
            "prediction_category": ["surprise", "neutral", "sad"],
            **{f"prediction_{name}": [row[name]] * 3 for name in active},
        }
    )
    scores = violation_rates(table)["test", 0]
    ends = [f"{t}{tol}" for t in ("equations", "table1", "code") for tol in ("", "_tol0.1")]
    names = [f"_{side}_{end}" for side in ("pred", "true") for end in ends]
    assert set(scores) == {
        *(f"violation{name}" for name in names),
        *(f"mean_cost{name}" for name in names),
        *(f"violation{name}/{dimension}" for name in names for dimension in active),
    }
    expected = {
        "violation_pred_equations/arousal": 2 / 3,  # neutral is not 0, sad is above it
        "violation_pred_equations_tol0.1/arousal": 1 / 3,  # surprise is not above it
        "violation_true_table1_tol0.1/arousal": 1.0,  # sad is not below, angry not above
        "violation_pred_equations/dominance": 1 / 3,
        "violation_pred_code/dominance": 0.0,
    }
    for name, rate in expected.items():
        if name.rpartition("/")[2] in active:
            assert scores[name] == pytest.approx(rate), name
    if "dominance" in active and len(active) == 3:
        assert scores["mean_cost_pred_equations"] == pytest.approx((0 + 3 + 1) / 3)
        assert scores["mean_cost_pred_equations_tol0.1"] == pytest.approx((1 + 2 + 0) / 3)
    elif len(active) == 2:
        assert scores["mean_cost_pred_equations"] == pytest.approx((0 + 2 + 1) / 3)
    assert scores["violation_true_equations"].n == 2
    assert "1 rows of classes without a cost" in scores["violation_true_equations"].reason


def test_the_label_that_is_listed_first_is_looked_for_among_the_best(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", "cache")
    corpus = make_corpus(folds=1)
    names = ["calm", "doubt", "eager", "tired", "upset"]
    random = np.random.default_rng(0)
    for row in corpus.labels:
        listed = random.permutation(names)[: random.integers(0, 4)].tolist()
        row |= {"categories": sorted(listed), "first_category": listed[0] if listed else None}
    corpus.write()
    entry = ENTRIES["linear"] | {"targets": ["categories"]}
    fit_and_score("linear", monkeypatch, entry=entry)
    table = rows(seed=0)
    hits = [
        corpus.label(name)["first_category"] in np.array(names)[np.argsort(scores)[-3:]]
        for name, scores in table.select("utterance_id", "scores_categories").iter_rows()
        if corpus.label(name)["categories"]
    ]
    found = read_details()["categories"]["test"]
    assert found["by_seed"]["0"]["first_label_top3"] == pytest.approx(np.mean(hits))
    assert 0.3 < np.mean(hits) < 1
    short = json.loads(here().metrics(CORPUS, "linear").read_text())["categories"]
    assert short["first_label_top3"] == found["metrics"]["first_label_top3"]["mean"]


def test_test_rows_without_any_label_leave_a_target_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", "cache")
    make_corpus().write()
    labels = pl.read_parquet(here().labels(CORPUS))
    splits = pl.read_parquet(here().splits(CORPUS))
    hidden = splits.filter((pl.col("split") == "test") & (pl.col("fold") == 0))
    splits = splits.filter(pl.col("fold") == 0)
    splits.write_parquet(here().splits(CORPUS))
    is_hidden = pl.col("utterance_id").is_in(hidden["utterance_id"].implode())
    labels.with_columns(
        pl.when(is_hidden).then(None).otherwise(pl.col(n)).alias(n) for n in ("category", *VAD)
    ).write_parquet(here().labels(CORPUS))
    fit_and_score("linear", monkeypatch)
    found = read_details()
    assert found
    for target in found.values():
        assert "validation" in target
        assert "test" not in target
        assert target["test_oracle"] is None


def test_summaries_are_mean_and_sample_deviation_over_seeds(project):
    found = read_details()["category"]["test"]
    scores = [found["by_seed"][str(seed)]["accuracy"] for seed in SEEDS]
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(scores))
    assert found["metrics"]["accuracy"]["std"] == pytest.approx(np.std(scores, ddof=1))
    short = json.loads(here().metrics(CORPUS, "linear").read_text())["category"]
    assert short["accuracy"] == found["metrics"]["accuracy"]["mean"]
    assert short["weighted_f1_sd"] == found["metrics"]["weighted_f1"]["std"]
    assert all(isinstance(value, float) for value in short.values())


def test_each_utterance_is_predicted_once_for_seed_fold_and_split(project):
    corpus, _ = project
    for method in ENTRIES:
        table = pl.read_parquet(here().predictions(CORPUS, method))
        assert not table.select("utterance_id", "seed", "fold", "split").is_duplicated().any()
        for fold in (0, 1):
            for split in ("validation", "test"):
                mine = table.filter(
                    (pl.col("fold") == fold) & (pl.col("split") == split) & (pl.col("seed") == 0)
                )
                assert mine["utterance_id"].to_list() == sorted(corpus.ids(split, fold))


def test_truth_in_the_predictions_is_that_of_the_labels(project):
    corpus, _ = project
    for row in rows().iter_rows(named=True):
        label = corpus.label(row["utterance_id"])
        assert row["target_category"] == label["category"]
        assert row["target_valence"] == pytest.approx(label["valence"], abs=1e-6)
        assert sum(row["probabilities"]) == pytest.approx(1)


def test_every_method_meets_the_same_masks(project):
    _, seen = project
    one, other = seen["linear"], seen["early_fusion"]
    assert RATES == [0.0, 0.4]
    assert len(one) == len(other) == (1 + 3) * 2 * 2 * 2  # masks; seeds, folds, targets
    for mine, theirs in zip(one, other, strict=True):
        assert mine[:-1] == theirs[:-1]
        np.testing.assert_array_equal(mine[-1], theirs[-1])
    for drawn in one:
        same = [mask for *which, mask in one if which == list(drawn[:-1])]
        assert all(np.array_equal(same[0], mask) for mask in same)
    assert len({drawn[-1].tobytes() for drawn in one}) == 1 + 3


def test_a_method_of_one_modality_meets_the_masks_of_the_corpus(project, monkeypatch):
    _, seen = project
    mine = fit_and_score("late_fusion", monkeypatch, entry={"epochs": 1, "modalities": ["text"]})
    for one, other in zip(mine, seen["linear"], strict=True):
        np.testing.assert_array_equal(one[-1], other[-1])


def count_passes(patch, method, inputs):
    """Evaluate again; returns the device of every pass over rows."""
    devices = []

    def counted(*args, device):
        devices.append(device)
        return predict(*args, device=device)

    with patch.context() as local:
        for module in (evaluate, cells):
            local.setattr(module, "predict", counted)
        params = EvaluateParams(missing_rates=RATES)
        evaluate.run(
            ForMethod(params, {}, inputs),
            here(),
            PlainContext(stream=io.StringIO()),
            CORPUS,
            method,
        )
    return devices


def test_what_hides_nothing_is_predicted_once_and_scores_the_same(project, monkeypatch):
    entry, inputs = {"epochs": 2, "modalities": ["text"]}, {"text": "words"}
    fit_and_score("late_fusion", monkeypatch, inputs, entry)
    runs = len(networks.load_runs(here(), CORPUS, "late_fusion"))
    few = len(count_passes(monkeypatch, "late_fusion", inputs))
    assert few == runs * (2 + 2)  # validation and test, and test after each of two epochs
    category = read_details("late_fusion")["category"]
    for cell in (category["subsets"]["text"], *category["missing_rates"].values()):
        assert cell["metrics"]["accuracy"] == category["test"]["metrics"]["accuracy"]


@pytest.mark.parametrize("method", ["linear", "dialogue_gcn"])
def test_looks_that_are_predicted_together_are_those_of_each_mask_alone(
    project, monkeypatch, method
):
    if method not in ENTRIES:
        fit_and_score(method, monkeypatch, entry={"epochs": 1, "targets": ["category"]})
    (run, *_) = networks.load_runs(here(), CORPUS, method)
    (source,) = networks.sources_of(here(), [run], CORPUS, INPUTS)
    data = networks.part_of(source, run, "test")
    plain = predict(run.method, data)
    taken = {}
    grids = SimpleNamespace(add=lambda *args: taken.update(args[2]))
    masks = cells.Masks([0.0, 0.4])
    cells.fill(grids, masks, run, source, list(MODALITIES), data, plain)
    assert taken["audio+video+text"] is taken["0, mask 0"] is plain
    looks = {"audio": only(data, ["audio"], len(data.rows))}
    for number, cell in enumerate(masks.cells(0.4)):
        observed = draw_masks(len(source.ids), 0.4, number)[data.rows]
        looks[cell] = Hidden(data, dict(zip(MODALITIES, observed.T, strict=True)))
    for cell, seen in looks.items():
        alone = predict(run.method, seen)
        assert not torch.equal(taken[cell]["category"], plain["category"])
        for name, values in alone.items():
            torch.testing.assert_close(taken[cell][name], values)


def test_an_utterance_by_itself_is_predicted_once_for_each_subset(project, monkeypatch):
    run = next(r for r in networks.load_runs(here(), CORPUS, "linear"))
    (source,) = networks.sources_of(here(), [run], CORPUS, INPUTS)
    data = networks.part_of(source, run, "test")
    looked = []

    def noted(method, seen, device):
        looked.append(len(seen))
        return predict(method, seen, device=device)

    monkeypatch.setattr(cells, "predict", noted)
    grids = SimpleNamespace(add=lambda *_: None)
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    masks, plain = cells.Masks(rates), predict(run.method, data)
    cells.fill(grids, masks, run, source, list(MODALITIES), data, plain)
    assert looked[0] <= 7 * len(data)


def test_networks_predict_where_training_computes(project, monkeypatch):
    for module in (evaluate, cells):
        monkeypatch.setattr(module, "best_device", lambda: "cpu:0")
    devices = count_passes(monkeypatch, "linear", INPUTS)
    assert set(devices) == {"cpu:0"}
    runs = networks.load_runs(here(), CORPUS, "linear")
    kept = [load_file(run.folder / "snapshots.safetensors") for run in runs]
    epochs = sum(len({name.split("/")[0] for name in found}) for found in kept)
    assert epochs >= len(runs)
    assert len(devices) == len(runs) * (2 + 1) + epochs  # all masks together


def write_run(method, entry, target, seed=0):
    """The folder of a run that learnt nothing; returns its network."""
    network = build(resolve(method, entry), Spec({}, (target,)))
    folder = here().runs(CORPUS, method) / f"seed{seed}"
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "weights.safetensors")
    config = {"targets": [asdict(target)], "entry": entry, "dims": {}, "speakers": 1}
    (folder / "config.json").write_text(json.dumps(config | {"seed": seed, "fold": 0}))
    (folder / "report.json").write_text("{}")
    return network


def test_runs_that_predict_other_columns_are_not_scored_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, dims in enumerate("va"):
        entry = {"dims": dims, "width": 2}
        name = {"v": "valence", "a": "arousal"}[dims]
        write_run("huo_ge_vad", entry, Target("vad", "values", (name,)), seed)
    with pytest.raises(UserError, match="some runs predict valence and some arousal of vad"):
        networks.load_runs(here(), CORPUS, "huo_ge_vad")


def test_networks_that_were_compiled_for_training_are_not_for_scoring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = {"backbone": "small", "pretrained": "", "image_px": 16, "compile": True}
    trained = write_run("cage", entry, Target("category", "category", ("happy", "sad")))
    (run,) = networks.load_runs(here(), CORPUS, "cage")
    assert trained.network._compiled_call_impl is not None
    assert run.method.network._compiled_call_impl is None


def test_a_corpus_of_two_modalities_always_keeps_one(project, monkeypatch):
    inputs = {"audio": "ears", "text": "words"}
    drawn = fit_and_score("late_fusion", monkeypatch, inputs, {"epochs": 1})
    assert all(mask.shape[1] == 2 and mask.any(1).all() for *_, mask in drawn)


def test_grids_have_all_subsets_and_rates_and_agree_where_nothing_is_hidden(project):
    for target in read_details().values():
        assert list(target["subsets"]) == sorted(target["subsets"])
        assert len(target["subsets"]) == 7
        assert set(target["missing_rates"]) == {"0", "0.4"}
        everything = target["subsets"]["audio+video+text"]
        assert target["missing_rates"]["0"] == everything
        # two folds: pooled before they are scored, like the score that ranks
        for name, plain in target["test"]["metrics"].items():
            cell = everything["metrics"].get(name, {})
            assert cell == {part: pytest.approx(plain[part]) for part in cell}, name
        plain = target["test"]["metrics"][target["headline"]]
        shown = {part: value for part, value in everything.items() if part != "metrics"}
        assert shown == {part: pytest.approx(value) for part, value in plain.items()}
        assert everything["metrics"][target["headline"]]["mean"] == shown["mean"]
        assert everything != target["subsets"]["audio"]


def test_loaded_networks_have_their_modalities_in_the_projects_order(project):
    runs = networks.load_runs(here(), CORPUS, "linear")
    assert [list(run.method.spec.dims) for run in runs] == [["audio", "video", "text"]] * 8


def test_the_same_runs_are_scored_to_the_same_bytes(project, monkeypatch):
    files = [
        path(CORPUS, "linear") for path in (here().metrics, here().details, here().predictions)
    ]
    before = [file.read_bytes() for file in files]
    ctx = PlainContext(stream=io.StringIO())
    params = EvaluateParams(missing_rates=RATES)
    evaluate.run(ForMethod(params, {}, INPUTS), here(), ctx, CORPUS, "linear")
    assert [file.read_bytes() for file in files] == before


def board():
    return judge(here(), CORPUS, list(ENTRIES), resamples=100, seed=0)


def test_results_name_the_definitions_and_the_libraries_behind_them(project):
    details = json.loads(here().details(CORPUS, "linear").read_text())
    assert details["convention"] == metrics.CONVENTION
    assert details["libraries"] == {"numpy": np.__version__, "torch": str(torch.__version__)}


def test_ranks_follow_the_mean_test_score(project):
    for target, judged in board().items():
        means = [entry["metric"]["mean"] for entry in judged.entries]
        assert [entry["rank"] for entry in judged.entries] == [1, 2]
        assert means == sorted(means, reverse=judged.higher_is_better)
        for entry in judged.entries:
            scored = read_details(entry["method"])[target]["test"]["metrics"][judged.metric]
            assert entry["metric"]["mean"] == pytest.approx(scored["mean"])
            assert entry["metric"]["std"] == pytest.approx(scored["std"])
            assert (
                entry["metric"]["ci_low"] <= entry["metric"]["mean"] <= entry["metric"]["ci_high"]
            )


def test_entries_have_the_promised_keys(project):
    promised = {"method", "metric", "rank", "seeds", "n_test", "significant_vs_next"}
    for target, judged in board().items():
        for entry in judged.entries:
            assert promised <= set(entry)
            assert {"mean", "std", "ci_low", "ci_high"} <= set(entry["metric"])
            assert entry["seeds"] == 2
            scores = read_details(entry["method"])[target]["test"]
            assert entry["n_test"] == scores["n"]
            over_all = scores["metrics"].get("ccc_all_rows", {"mean": None})["mean"]
            assert entry["all_rows"] == over_all
            assert ("mean over 2 folds" in entry["remark"]) == (target == "vad")
    lines = to_csv({CORPUS: board()}).splitlines()
    assert lines[0].startswith("corpus,target,rank,method,metric,mean,std,ci_low,ci_high,seeds")
    assert len(lines) == 1 + 2 * 2


def test_the_oracle_ranks_nothing(project):
    before = board()
    loser = before["category"].entries[-1]["method"]
    file = here().details(CORPUS, loser)
    text = file.read_text()
    content = json.loads(text)
    oracle = content["targets"]["category"]["test_oracle"]
    assert oracle["epochs_tried"] > 1
    oracle["mean"] = 0.9999
    file.write_text(json.dumps(content))
    try:
        after = board()["category"].entries
    finally:
        file.write_text(text)
    assert [e["method"] for e in after] == [e["method"] for e in before["category"].entries]
    assert [e["metric"] for e in after] == [e["metric"] for e in before["category"].entries]
    assert after[-1]["test_oracle"]["mean"] == 0.9999


def test_the_oracle_is_at_least_the_chosen_epoch(project):
    for method, target in [("linear", "category"), ("early_fusion", "category")]:
        found = read_details(method)[target]
        chosen = found["test"]["metrics"][found["headline"]]["mean"]
        assert found["test_oracle"]["mean"] >= chosen - 1e-12


def test_without_runs_the_stage_to_run_is_named(project):
    ctx = PlainContext(stream=io.StringIO())
    with pytest.raises(UserError, match="no runs; run stage train for tiny-constant first"):
        evaluate.run(ForMethod(EvaluateParams(), {}, INPUTS), here(), ctx, CORPUS, "constant")


@pytest.mark.parametrize("values", [
    {"missing_rates": [1.2]}, {"missing_rates": [-0.1]}, {"mask_seed": -1}, {"rates": []},
], ids=str)  # fmt: skip
def test_settings_without_sense_are_refused(values):
    with pytest.raises(ValidationError):
        EvaluateParams(**values)


@pytest.mark.usefixtures("project")
def test_predictions_are_written_some_utterances_at_a_time(monkeypatch):
    files = [here().predictions(CORPUS, "linear"), here().details(CORPUS, "linear")]
    whole = [file.read_bytes() for file in files]
    monkeypatch.setattr(predictions, "_ROWS", 7)
    params = ForMethod(EvaluateParams(missing_rates=RATES), {}, INPUTS)
    evaluate.run(params, here(), PlainContext(stream=io.StringIO()), CORPUS, "linear")
    assert [file.read_bytes() for file in files] == whole


def naive_looks(starts, there, cells_left):
    """What ``cells._Looks`` finds, item by item."""
    places = [np.arange(a, b) for a, b in itertools.pairwise(starts)]
    known = {(item, there[at].tobytes()): at for item, at in enumerate(places)}
    items, count, rows = [], len(there), []
    for seen in cells_left:
        rows.append(np.empty(len(there), int))
        for item, at in enumerate(places):
            look = item, seen[at].tobytes()
            if look not in known:
                items.append(item)
                known[look] = count + np.arange(len(at))
                count += len(at)
            rows[-1][at] = known[look]
    return items, rows


@pytest.mark.parametrize("sizes", [[1] * 40, [3, 1, 4, 1, 5, 9, 2, 6]])
def test_an_item_that_looks_the_same_in_several_cells_is_predicted_once(sizes):
    random = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    there = random.random((starts[-1], 3)) < 0.8
    left = [there & (random.random(there.shape) < share) for share in (1, 0.9, 0.5, 0.5, 0)]
    looks = cells._Looks(starts, there)
    rows = [looks.rows(seen) for seen in left]
    items, expected = naive_looks(starts, there, left)
    assert looks.items.tolist() == items
    np.testing.assert_array_equal(rows, expected)
    every = np.concatenate([there, looks.shown])
    np.testing.assert_array_equal([every[at] for at in rows], left)


@pytest.mark.usefixtures("project")
def test_no_features_are_held_while_predictions_are_written(monkeypatch):
    held = []

    def noted(layout, corpus, method, targets, predicted, source, kept):
        held.extend([source.features, *(one.data._source.features for one in predicted)])
        return predictions.write_predictions(
            layout, corpus, method, targets, predicted, source, kept
        )

    monkeypatch.setattr(evaluate, "write_predictions", noted)
    params = ForMethod(EvaluateParams(missing_rates=RATES), {}, INPUTS)
    evaluate.run(params, here(), PlainContext(stream=io.StringIO()), CORPUS, "linear")
    assert len(held) > 1
    assert not any(held)
