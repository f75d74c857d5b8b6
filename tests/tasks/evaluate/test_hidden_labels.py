"""Corpora that keep the labels of their test part to themselves, as challenges do."""

import csv
import io
import json

import numpy as np
import polars as pl
import pytest
import yaml

from models.errors import UserError
from tasks.context import ForMethod
from tasks.evaluate import stage as evaluate
from tasks.plain_context import PlainContext
from tasks.report.compare import compare_refs
from tasks.report.ensembles import mean_predictions
from tasks.report.leaderboard import judge, to_csv
from tasks.report.page.results import results
from tasks.report.paper_tables import paper_tables
from tasks.report.stage import ForReport, ReportParams, run
from tasks.report.tested import load_tested
from tasks.train import stage as train
from tests.places import here
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus
from tests.tasks.report_factory import CLASSES, Scene, Silent, make_project

METHODS = ("constant", "linear")
SEEDS = (0, 1)
TARGETS = ("category", "emi", "sentiment")


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    scene = Scene(methods=METHODS, seeds=SEEDS, targets=TARGETS, hidden=("category", "emi"))
    found = make_project(tmp_path, scene)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(found))
    return found


@pytest.fixture
def board(raw):
    return judge(here(), "toy", METHODS, resamples=100, seed=0)


@pytest.mark.usefixtures("raw")
def test_the_predictions_of_test_have_no_truth_of_a_hidden_target():
    table = pl.read_parquet(here().predictions("toy", "linear")).filter(pl.col("split") == "test")
    assert table.height == len(SEEDS) * 48
    assert table["target_joy"].null_count() == table["target_category"].null_count() == table.height
    assert table["target_sentiment"].null_count() == 0


def test_a_hidden_target_is_ranked_on_validation_and_says_so(board):
    for target, split, n_test in (("emi", "validation", 0), ("sentiment", "test", 48)):
        for entry in board[target].entries:
            assert (entry["split"], entry["n"], entry["n_test"]) == (split, 48, n_test)
    table = pl.read_parquet(here().predictions("toy", "linear"))
    joy = [
        np.corrcoef(*table.filter(split="validation", seed=s)["target_joy", "prediction_joy"])[0, 1]
        for s in SEEDS
    ]
    entry = next(e for e in board["emi"].entries if e["method"] == "linear")
    assert entry["metrics"]["pearson/joy"]["mean"] == pytest.approx(np.mean(joy))
    assert entry["metric"]["mean"] == pytest.approx(entry["metrics"]["pearson"]["mean"])


def test_what_chose_the_epochs_has_neither_interval_nor_test(board):
    for entry in board["emi"].entries:
        assert entry["selected"]
        assert "selected on these rows" in entry["remark"]
        assert entry["metric"]["ci_low"] is entry["metric"]["ci_high"] is None
        assert (entry["verdict"], entry["against"], entry["significant_vs_next"]) == ("", [], False)
    best = board["sentiment"].entries[0]
    assert not best["selected"]
    assert best["verdict"]
    assert isinstance(best["metric"]["ci_low"], float)
    lines = list(csv.DictReader(io.StringIO(to_csv({"toy": board}))))
    assert {line["target"] for line in lines if "selected on these" in line["remark"]} == {
        "category", "emi",
    }  # fmt: skip
    assert {line["target"] for line in lines if line["ci_low"]} == {"sentiment"}


def test_tables_of_papers_mark_validation(raw):
    tables = paper_tables(here(), {"toy": METHODS}, resamples=100, seed=0)
    captions = {t.caption.split(":")[0]: t.caption for t in tables if "share of" not in t.caption}
    assert "48 VALIDATION utterances (selected on these rows, no test" in captions["toy, emi"]
    emi = next(t for t in tables if t.caption == captions["toy, emi"])
    assert not any(cell.is_bold for _, row in emi.rows for cell in row)
    assert "48 VALIDATION utterances" in captions["toy, emi, concordance"]
    assert "48 test utterances" in captions["toy, sentiment"]
    by_rate = [t.caption.split(":")[0] for t in tables if "by share of missing" in t.caption]
    assert by_rate == ["toy, sentiment"]  # cells are masked on test alone


def test_the_page_has_the_split_of_each_target(raw, board):
    tested, failed = load_tested(here(), "toy", METHODS)
    found = {name: results(name, tested, failed, judged.entries) for name, judged in board.items()}
    assert {name: one["split"] for name, one in found.items()} == {
        "category": "validation", "emi": "validation", "sentiment": "test",
    }  # fmt: skip
    confusion = found["category"]["confusion"]["linear"]["0"]
    rows = pl.read_parquet(here().predictions("toy", "linear")).filter(split="validation", seed=0)
    known = rows.filter(pl.col("target_category").is_not_null())
    assert np.sum(confusion) == known.height
    assert np.trace(confusion) == (known["target_category"] == known["prediction_category"]).sum()


def test_the_report_writes_the_mean_prediction_of_every_test_row(raw):
    run(ForReport(ReportParams(resamples=100), raw), here(), Silent())
    found = pl.read_csv(here().ensemble("toy", "linear"))
    test = pl.read_parquet(here().predictions("toy", "linear")).filter(split="test")
    assert found["utterance_id"].to_list() == sorted(set(test["utterance_id"]))
    name = found["utterance_id"][7]
    mine = test.filter(utterance_id=name)
    row = found.row(7, named=True)
    assert row["prediction_joy"] == pytest.approx(mine["prediction_joy"].mean())
    shares = np.mean(mine["probabilities"].to_list(), axis=0)
    assert [row[f"probability_{c}"] for c in CLASSES] == pytest.approx(shares)
    assert row["prediction_category"] == CLASSES[shares.argmax()]
    lines = list(csv.DictReader(here().leaderboard("csv").open()))
    assert {(line["target"], line["split"], line["n_test"]) for line in lines} == {
        ("category", "validation", "0"), ("emi", "validation", "0"), ("sentiment", "test", "48"),
    }  # fmt: skip


def test_methods_are_not_compared_across_splits(raw):
    file = here().details("toy", "linear")
    details = json.loads(file.read_text())
    details["targets"]["emi"]["test"] = details["targets"]["emi"]["validation"]
    file.write_text(json.dumps(details))
    with pytest.raises(UserError, match="target emi was scored on test, but constant on valid"):
        judge(here(), "toy", METHODS, resamples=100, seed=0)
    with pytest.raises(UserError, match="the first is scored on validation and the second on test"):
        compare_refs(here(), "constant", "linear", resamples=100)


def test_a_comparison_on_validation_tests_nothing_and_says_why(raw):
    (pair,) = compare_refs(here(), "constant", "linear", resamples=100)
    found = {one.target: one for one in pair.targets}
    assert "selected on these rows" in found["emi"].sentence
    assert found["emi"].comparison is found["emi"].p_models is None
    assert found["emi"].deltas
    assert found["sentiment"].comparison is not None
    assert "selected" not in found["sentiment"].sentence


def test_validation_rows_are_held_to_the_splits(raw):
    file = here().predictions("toy", "linear")
    table = pl.read_parquet(file)
    table.filter(
        (pl.col("split") == "test") | (pl.col("utterance_id") != "toy/d001/u00")
    ).write_parquet(file)
    with pytest.raises(UserError, match=r"seed 0 lacks 2 validation rows, e\.g\. toy/d001/u00"):
        judge(here(), "toy", METHODS, resamples=100, seed=0)


def test_what_evaluation_leaves_of_hidden_labels_can_be_judged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", "cache")
    corpus = make_corpus(folds=1)
    hidden = corpus.ids("test")
    for name in set(hidden) & {row["utterance_id"] for row in corpus.labels}:
        corpus.label(name)["category"] = None
    corpus.write()
    ctx, entry = PlainContext(stream=io.StringIO()), {"epochs": 2, "patience": 0}
    train.run(
        ForMethod(train.TrainParams(seeds=[0, 1]), entry, INPUTS), here(), ctx, CORPUS, "linear"
    )
    evaluate.run(
        ForMethod(evaluate.EvaluateParams(missing_rates=[0.0]), {}, INPUTS),
        here(),
        ctx,
        CORPUS,
        "linear",
    )
    judged = judge(here(), CORPUS, ["linear"], resamples=100, seed=0)
    splits = {name: one.entries[0]["split"] for name, one in judged.items()}
    assert splits == {"category": "validation", "vad": "test"}
    tested, _ = load_tested(here(), CORPUS, ["linear"])
    found = mean_predictions(tested["linear"])
    assert found["utterance_id"].to_list() == sorted(hidden)
    assert found["prediction_category"].null_count() == 0
    assert paper_tables(here(), {CORPUS: ["linear"]}, resamples=100, seed=0)
