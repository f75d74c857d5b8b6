"""What the leaderboard adds to the scores of single runs."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, f1_score

from tasks.report.leaderboard import judge
from tasks.report.stage import ForReport, ReportParams, run
from tasks.score_files import Board, Entry, Provenance
from tests.places import here
from tests.tasks.conforming import misfits
from tests.tasks.report_factory import CLASSES, NAMES, Scene, Silent, make_project, write_transfer

SEEDS = (0, 1, 2)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    make_project(tmp_path, Scene(methods=("linear",), seeds=SEEDS))


@pytest.fixture
def narrow(tmp_path, monkeypatch):
    """``corect`` predicts valence alone, ``constant`` arousal, ``linear`` all three dimensions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    raw = make_project(tmp_path, Scene(methods=("linear", "corect", "constant"), seeds=SEEDS))
    for method, name in (("corect", "valence"), ("constant", "arousal")):
        file = here().details("toy", method)
        details = json.loads(file.read_text())
        details["targets"]["vad"]["names"] = [name]
        file.write_text(json.dumps(details))
        table = pl.read_parquet(here().predictions("toy", method))
        others = {"valence", "arousal", "dominance"} - {name}
        table.drop(f"prediction_{n}" for n in others).write_parquet(
            here().predictions("toy", method)
        )
    return raw


def test_a_method_of_fewer_columns_is_told_but_not_ranked(narrow):
    board = judge(here(), "toy", [*narrow["methods"]], resamples=100, seed=0)
    entries = {entry["method"]: entry for entry in board["vad"].entries}
    assert [m for m, e in entries.items() if e["rank"]] == ["linear"]
    assert entries["corect"]["failed"] == (
        "not ranked: predicts valence alone, others valence, arousal, dominance"
    )
    assert "predicts arousal alone" in entries["constant"]["failed"]
    assert sorted(e["rank"] for e in board["category"].entries) == [1, 2, 3]


def test_methods_are_ranked_on_the_columns_they_share(narrow):
    board = judge(here(), "toy", [*narrow["methods"]], resamples=100, seed=0)
    assert [name for name in board if ":" in name] == ["vad: valence", "vad: arousal"]
    entries = {e["method"]: e for e in board["vad: valence"].entries}
    assert sorted(e["rank"] for e in entries.values()) == [1, 2]
    linear = json.loads(here().details("toy", "linear").read_text())["targets"]["vad"]["test"]
    assert entries["linear"]["metric"]["mean"] == pytest.approx(
        linear["metrics"]["ccc/valence"]["mean"]
    )
    assert entries["linear"]["metrics"]["ccc"] == entries["linear"]["metrics"]["ccc/valence"]
    assert not any("dominance" in name for name in entries["linear"]["metrics"])
    first, second = board["vad: valence"].entries
    assert [one["method"] for one in first["against"]] == [second["method"]]


def test_what_is_shared_is_in_the_file_and_on_the_page(narrow):
    run(ForReport(ReportParams(resamples=100), narrow), here(), Silent())
    board = json.loads(here().leaderboard("json").read_text())["toy"]
    assert misfits(board["vad: arousal"][0], Entry) == []
    lines = here().leaderboard("csv").read_text().splitlines()
    assert sum("vad: arousal" in line for line in lines) == 2
    content = here().page().read_text(encoding="utf-8")
    assert '"vad: arousal"' in content


def test_the_file_is_what_its_type_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    raw = make_project(tmp_path, Scene(corpora=("toy", "two"), hidden=("sentiment",)))
    raw["transfer"] = {"enabled": True}
    write_transfer(tmp_path, "linear", "toy", "two")
    here().details("toy", "corect").unlink()
    run(ForReport(ReportParams(resamples=100), raw), here(), Silent())
    board = Board.of_json(json.loads(here().leaderboard("json").read_text()))
    assert misfits(board.corpora, dict[str, dict[str, list[Entry]]]) == []
    assert misfits(board.provenance, Provenance) == []
    assert {"failed" in entry for entry in board.corpora["toy"]["vad"]} == {True, False}


@pytest.mark.usefixtures("project")
def test_a_score_says_whose_labels_are_scored_and_counts_the_others():
    file = here().details("toy", "linear")
    details = json.loads(file.read_text())
    details["targets"]["vad"]["test"] |= {"derived": 7, "kinds": {"rated": 5, "self_report": 2}}
    file.write_text(json.dumps(details))
    judged = judge(here(), "toy", ["linear"], resamples=100, seed=0)
    said = (
        "2 of 7 scored labels are the speakers' own, not raters'; "
        "7 labels that were derived, not given, are not scored"
    )
    assert {name: said in one.entries[0]["remark"] for name, one in judged.items()} == {
        name: name == "vad" for name in judged
    }


def together(target):
    return judge(here(), "toy", ["linear"], resamples=100, seed=0)[target].entries[0]["ensemble"]


def mean_over_seeds(column):
    """(n, K) means of a list column, and the rows of the first seed."""
    table = pl.read_parquet(here().predictions("toy", "linear"))
    parts = [table.filter(pl.col("seed") == seed) for seed in SEEDS]
    return np.mean([part[column].to_list() for part in parts], axis=0), parts[0]


@pytest.mark.usefixtures("project")
def test_the_mean_of_the_probabilities_is_scored():
    shares, rows = mean_over_seeds("probabilities")
    known = rows["target_category"].is_not_null().to_numpy()
    guess = np.array(CLASSES)[shares.argmax(1)][known]
    truth = rows["target_category"].drop_nulls().to_list()
    assert together("category") == pytest.approx(f1_score(truth, guess, average="weighted"))


@pytest.mark.usefixtures("project")
def test_the_mean_of_the_values_is_scored():
    values, rows = mean_over_seeds("prediction_sentiment")
    assert together("sentiment") == pytest.approx(np.abs(values - rows["target_sentiment"]).mean())


@pytest.mark.usefixtures("project")
def test_the_mean_of_the_label_scores_is_scored():
    scores, rows = mean_over_seeds("scores_categories")
    truth = np.array(
        [[n in tags for n in NAMES["categories"]] for tags in rows["target_categories"]]
    )
    wanted = np.mean([average_precision_score(truth[:, k], scores[:, k]) for k in range(3)])
    assert together("categories") == pytest.approx(wanted)


@pytest.mark.usefixtures("project")
def test_rows_in_another_order_give_the_same_score():
    before = together("category")
    file = here().predictions("toy", "linear")
    pl.read_parquet(file).sample(fraction=1.0, shuffle=True, seed=3).write_parquet(file)
    assert together("category") == pytest.approx(before)


def test_one_seed_has_nothing_to_be_averaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, Scene(methods=("linear",), seeds=(0,)))
    assert together("vad") is None
    assert json.loads(here().details("toy", "linear").read_text())["runs"]


@pytest.mark.usefixtures("project")
def test_each_verdict_names_the_better_ranked_method_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = ("corect", "constant", "linear", "early_fusion")
    make_project(tmp_path, Scene(methods=methods, seeds=SEEDS))
    for judged in judge(here(), "toy", methods, resamples=100, seed=0).values():
        for entry, following in zip(judged.entries, judged.entries[1:], strict=False):
            names = [entry["verdict"].find(one["method"]) for one in (entry, following)]
            assert names[0] < names[1]
            gap = entry["against"][0]["difference"]
            assert (gap >= 0) == judged.higher_is_better or gap == 0
