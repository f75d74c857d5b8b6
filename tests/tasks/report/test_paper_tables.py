import json
import math
import re

import numpy as np
import polars as pl
import pytest

from models.metrics.scoring import score_target
from models.statistics.bootstrap import Resamples, compare_all
from tasks.evaluate.scores import spread
from tasks.labels.params import LabelsParams
from tasks.report.paper_columns import columns
from tasks.report.paper_tables import paper_tables, scales_of, ties
from tasks.report.table_text import (
    Cell,
    PaperTable,
    latex_text,
    render_tables,
    to_latex,
    to_markdown,
)
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table, write_table
from tasks.targets import EMI, VAD
from tests.places import here
from tests.tasks.report_factory import CLASSES, Scene, make_project

POOLED = "dimensions pooled into one vector"


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    raw = make_project(tmp_path, Scene(dialogues=12))
    return paper_tables(here(), {"toy": [*raw["methods"], "broken"]}, resamples=200, seed=0)


def table(tables, start):
    return next(t for t in tables if t.caption.startswith(start))


def test_category_table_has_f1_by_class_then_accuracy_and_weighted_f1(tables):
    assert table(tables, "toy, category: mean").headings == (*CLASSES, "Acc", "wF1")


def test_sentiment_table_names_both_conventions():
    names = [c.heading for c in columns("sentiment", "values", ["sentiment"])[""]]
    assert names == [
        "MAE", "Corr", "Acc-7", "Acc-5", "Acc-2 has0", "F1 has0", "Acc-2 non0", "F1 non0",
    ]  # fmt: skip


def test_precision_recall_and_f1_by_class_size_have_a_table(tables):
    found = table(tables, "toy, category, averages weighted by class size: mean")
    assert found.headings == ("Precision", "Recall", "F1")
    scores = json.loads(here().details("toy", "linear").read_text())["targets"]["category"]["test"]
    means = [
        scores["metrics"][name]["mean"]
        for name in ("weighted_precision", "weighted_recall", "weighted_f1")
    ]
    printed = [float(cell.text.split()[0]) for cell in dict(found.rows)["linear"]]
    assert printed == pytest.approx([100 * mean for mean in means], abs=0.006)
    assert "Shares are in percent." in found.caption


def test_dimensions_are_also_scored_as_one_vector(tables):
    found = table(tables, "toy, vad, dimensions pooled into one vector: mean")
    assert found.headings[-4:] == ("VAD MSE", "VAD MAE", "VAD RMSE", "VAD CCC")
    scores = json.loads(here().details("toy", "linear").read_text())["targets"]["vad"]["test"]
    means = [scores["metrics"][f"pooled_{name}"]["mean"] for name in ("mse", "mae", "rmse", "ccc")]
    printed = [float(cell.text.split()[0]) for cell in dict(found.rows)["linear"][-4:]]
    assert printed == pytest.approx(means, abs=0.0006)
    assert min(dict(found.rows), key=lambda m: printed_error(found, m)) == "corect"


def printed_error(found, method):
    row = dict(found.rows)[method]
    return math.inf if row[0].text == "failed" else float(row[-4].text.split()[0])


def test_valence_and_arousal_pooled_stand_apart_where_there_is_dominance():
    def pooled(names):
        return [c.metric for c in columns("vad", "values", names)[POOLED]]

    assert pooled(VAD)[:4] == [f"pooled_va_{m}" for m in ("mse", "mae", "rmse", "ccc")]
    assert pooled(VAD[:2]) == [f"pooled_{m}" for m in ("mse", "mae", "rmse", "ccc")]


def test_intensities_have_a_table_of_each_metric():
    found = columns("emi", "values", EMI)
    for about, metric in {
        "": "pearson",
        "mean squared error": "mse",
        "mean absolute error": "mae",
        "concordance": "ccc",
    }.items():
        assert [c.metric for c in found[about]] == [*(f"{metric}/{n}" for n in EMI), metric]
        assert {c.is_higher_better for c in found[about]} == {metric in ("pearson", "ccc")}


def test_vad_table_has_rmse_and_ccc_by_dimension(tables):
    assert table(tables, "toy, vad: mean").headings == (
        "V RMSE", "A RMSE", "D RMSE", "V CCC", "A CCC", "D CCC", "mean CCC",
    )  # fmt: skip


def test_the_best_is_bold_and_a_clearly_worse_method_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    scene = Scene(dialogues=12, seeds=(0, 1, 2, 3), targets=("vad",))
    raw = make_project(tmp_path, scene)
    tables = paper_tables(here(), {"toy": list(raw["methods"])}, resamples=200, seed=0)
    rows = dict(table(tables, "toy, vad: mean").rows)
    mean_ccc = {method: row[-1] for method, row in rows.items()}
    best = max(mean_ccc, key=lambda m: float(mean_ccc[m].text.split()[0]))
    assert mean_ccc[best].is_bold
    assert not mean_ccc["constant"].is_bold
    rmse = {method: float(row[0].text.split()[0]) for method, row in rows.items() if row[0].is_bold}
    assert min(rmse, key=lambda m: rmse[m]) == best


def drawn_of(means, sd, seed, draws=200):
    """Methods with these scores in one seed each, whose draws are independent."""
    rng, groups = np.random.default_rng(seed), 200
    drawn = {m: mean + sd * rng.standard_normal((draws, 1)) for m, mean in means.items()}
    left_out = {
        m: mean + sd / groups * rng.standard_normal((groups, 1)) for m, mean in means.items()
    }
    return Resamples(
        metric="ccc",
        estimates={m: np.array([mean]) for m, mean in means.items()},
        bootstrap=drawn,
        jackknife=left_out,
        n_rows=2000,
        n_clusters=groups,
        n_effective=float(groups),
    )


def test_a_method_stays_bold_that_differs_from_the_best_only_among_pairs_with_the_best():
    means = {"best": 0.5} | {f"m{i}": 0.5 - 2.9 * 0.01 * 2**0.5 for i in range(9)}
    drawn = drawn_of(means, 0.01, seed=0, draws=4000)
    alone = compare_all(drawn, [("best", other) for other in means if other != "best"])
    assert any(test.is_significant() for test in alone)
    assert ties(drawn, is_higher_better=True) == set(means)
    lower = drawn_of(means | {"m0": 0.3}, 0.01, seed=0)
    assert ties(lower, is_higher_better=True) == {*means} - {"m0"}


@pytest.mark.slow
def test_equal_methods_rarely_lose_their_bold():
    """In 4.7 % of tables of 10 equal methods; three standard errors of 200 tables are 4.5 %."""
    rng = np.random.default_rng(0)
    lost = 0
    for table in range(200):
        means = {f"m{i}": 0.5 + 0.01 * rng.standard_normal() for i in range(10)}
        lost += len(ties(drawn_of(means, 0.01, seed=table), is_higher_better=True)) < len(means)
    assert lost / 200 <= 0.047 + 0.045


def test_missing_rate_table_ends_with_the_plain_mean(tables):
    found = table(tables, "toy, vad: ccc by share")
    assert found.headings == ("0", "0.3", "0.7", "Average")
    values = [float(cell.text) for cell in dict(found.rows)["linear"]]
    assert values[-1] == pytest.approx(sum(values[:3]) / 3, abs=0.001)
    assert sum(row[-1].is_bold for _, row in found.rows) == 1


def test_averages_over_rates_are_those_of_the_printed_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    raw = make_project(tmp_path, Scene(dialogues=12))
    printed = {  # GCNet and Mi-CGA on IEMOCAP, four ways, and Mi-CGA on CMU-MOSEI
        "constant": (75.20, [78.36, 77.48, 77.34, 76.22, 75.14, 73.80, 71.88, 71.38]),
        "linear": (81.57, [83.42, 82.83, 82.27, 81.50, 83.17, 80.08, 79.96, 79.35]),
        "corect": (84.74, [87.61, 86.21, 85.80, 84.81, 84.26, 84.82, 82.85, 81.56]),
    }
    for method, (_, values) in printed.items():
        file = here().details("toy", method)
        content = json.loads(file.read_text())
        content["targets"]["category"]["missing_rates"] = {
            f"{index / 10:g}": {"mean": value / 100, "std": 0.0}
            for index, value in enumerate(values)
        }
        file.write_text(json.dumps(content))
    found = paper_tables(here(), {"toy": list(raw["methods"])}, resamples=200, seed=0)
    for method, row in table(found, "toy, category: weighted_f1 by share").rows:
        assert row[-1].text == f"{printed[method][0]:.2f}"


def test_scores_that_print_alike_are_bold_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    make_project(tmp_path, Scene(dialogues=12))
    for method, mean in (("linear", 0.3001), ("constant", 0.2999), ("corect", 0.1)):
        file = here().details("toy", method)
        content = json.loads(file.read_text())
        content["targets"]["vad"]["missing_rates"] = {"0": {"mean": mean, "std": 0.0}}
        file.write_text(json.dumps(content))
    found = paper_tables(here(), {"toy": ["linear", "constant", "corect"]}, resamples=200, seed=0)
    rows = dict(table(found, "toy, vad: ccc by share").rows)
    assert [rows[m][0].is_bold for m in ("linear", "constant", "corect")] == [True, True, False]


def test_signs_of_sentiment_have_tables_by_missing_rate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, Scene())
    scores = {"linear": (0.9, 0.7), "constant": (0.6, 0.5)}
    for method, values in scores.items():
        file = here().details("toy", method)
        content = json.loads(file.read_text())
        content["targets"]["sentiment"]["missing_rates"] = {
            rate: spread([1.0]) | {"over_masks": 0.25, "metrics": {"f1_non0": spread([value])}}
            for rate, value in zip(("0", "0.5"), values, strict=True)
        }
        file.write_text(json.dumps(content))
    found = paper_tables(here(), {"toy": list(scores)}, resamples=200, seed=0)
    signs = table(found, "toy, sentiment: f1_non0 by share")
    rows = {method: [cell.text for cell in row] for method, row in signs.rows}
    assert rows == {
        "linear": ["90.00", "70.00", "80.00"], "constant": ["60.00", "50.00", "55.00"],
    }  # fmt: skip
    assert [cell.is_bold for cell in dict(signs.rows)["linear"]] == [True] * 3
    assert "masks: at most" not in signs.caption  # which is of the headline
    assert "masks: at most 0.250" in table(found, "toy, sentiment: mae by share").caption
    assert not any("f1_has0 by share" in one.caption for one in found)


def test_captions_say_which_numbers_are_percent(tables):
    assert "Shares are in percent." in table(tables, "toy, category: mean").caption
    assert "percent" not in table(tables, "toy, vad: mean").caption


def test_errors_stand_on_the_scale_of_the_ratings_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, Scene())
    write_table(
        ANNOTATIONS,
        ANNOTATIONS.frame([]),
        here().annotations("toy"),
        {"card": json.dumps({"scales": {"valence": "emotic", "arousal": "unit"}})},
    )
    scales = scales_of(here(), "toy", LabelsParams())
    found = paper_tables(here(), {"toy": ["linear"]}, resamples=100, seed=0, scales={"toy": scales})
    rated = table(found, "toy, vad, errors on the scales of the ratings: mean")
    assert rated.headings == ("V RMSE, 1 to 10",)
    details = json.loads(here().details("toy", "linear").read_text())["targets"]["vad"]["test"]
    printed = float(dict(rated.rows)["linear"][0].text.split()[0])
    assert printed == pytest.approx(4.5 * details["metrics"]["rmse/valence"]["mean"], abs=6e-4)
    assert "percent" not in rated.caption


def test_label_sets_have_the_top_three_as_evaluation_scored_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, Scene(dialogues=12))
    widen_labels("toy", "linear")
    found = table(
        paper_tables(here(), {"toy": ["linear"]}, resamples=100, seed=0), "toy, categories: mean"
    )
    assert found.headings == ("mAP", "Top-3 first listed", "Top-3 all true", "Top-3 recall")
    scores = json.loads(here().details("toy", "linear").read_text())["targets"]["categories"]
    means = [
        scores["test"]["metrics"][name]["mean"]
        for name in ("map", "first_label_top3", "belong_top3", "recall_top3")
    ]
    printed = [float(cell.text.split()[0]) for cell in dict(found.rows)["linear"]]
    assert printed == pytest.approx([100 * mean for mean in means], abs=0.006)
    assert 0 < means[1] < 1


def widen_labels(corpus, method):
    """Six labels of which the last of a row's set was listed first, scored as evaluation does."""
    names = [*"abcdef"]
    random = np.random.default_rng(3)
    file = here().predictions(corpus, method)
    rows = pl.read_parquet(file)
    ids = rows.get_column("utterance_id").unique().sort()
    hot = random.random((len(ids), 6)) < 0.4
    hot[0] = False
    sets = [[n for n, on in zip(names, row, strict=True) if on] for row in hot]
    labels = read_table(LABELS, here().labels(corpus))
    first = pl.DataFrame(
        {"utterance_id": ids, "first_category": [row[-1] if row else None for row in sets]}
    )
    labels = labels.drop("first_category").join(first, on="utterance_id", how="left")
    write_table(LABELS, LABELS.frame(labels.to_dicts()), here().labels(corpus))
    place = {name: i for i, name in enumerate(ids)}
    at = [place[name] for name in rows.get_column("utterance_id")]
    scores = random.random((rows.height, 6))
    rows.with_columns(
        pl.Series("target_categories", [sets[i] for i in at]),
        pl.Series("scores_categories", scores.tolist()),
    ).write_parquet(file)
    details = json.loads(here().details(corpus, method).read_text())
    content, by_seed = details["targets"]["categories"], []
    for seed in (0, 1):
        mine = ((pl.col("seed") == seed) & (pl.col("split") == "test")).alias("mine")
        keep = rows.select(mine).to_series().to_numpy()
        listed = [names.index(sets[i][-1]) if sets[i] else 0 for i in np.array(at)[keep]]
        truth = hot[np.array(at)[keep]].astype(float)
        by_seed.append(
            score_target("labels", names, truth, scores[keep], first_labels=np.array(listed))
        )
    content["names"] = names
    content["test"]["metrics"] = {
        name: spread([float(one[name]) for one in by_seed]) for name in by_seed[0]
    }
    here().details(corpus, method).write_text(json.dumps(details))


def test_a_failed_method_has_a_row_that_says_so(tables):
    row = dict(table(tables, "toy, category: mean").rows)["broken"]
    assert {cell.text for cell in row} == {"failed"}
    assert not here().details("toy", "broken").exists()


def test_latex_rows_have_as_many_cells_as_columns(tables):
    for found in tables:
        text = to_latex(found)
        width = len(re.search(r"\\begin\{tabular\}\{(l r*|lr*)\}", text)[1])
        body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert {line.count(" & ") + 1 for line in body} == {width}
        assert all(line.endswith(r"\\") for line in body)


def test_names_cannot_break_latex_or_markdown():
    found = PaperTable("50 % & more", ("a_b|c",), (("x_y&z", (Cell("1.0 ± 0.1", True),)),))
    assert r"x\_y\&z & \textbf{1.0 $\pm$ 0.1} \\" in to_latex(found)
    assert r"\caption{50 \% \& more}" in to_latex(found)
    assert "| x\\_y&z | **1.0 ± 0.1** |" in to_markdown(found)
    low = PaperTable("", ("r",), (("m", (Cell("-0.10 ± 0.02"),)),))
    assert r"m & $-$0.10 $\pm$ 0.02 \\" in to_latex(low)
    assert latex_text("\\{}") == r"\textbackslash{}\{\}"


def test_tables_are_the_same_each_time(tables):
    again = paper_tables(
        here(), {"toy": ["constant", "linear", "corect", "broken"]}, resamples=200, seed=0
    )
    for style in ("latex", "markdown"):
        assert render_tables(again, style) == render_tables(tables, style)
