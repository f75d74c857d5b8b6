import base64
import json
import re
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from models.errors import UserError
from models.metrics.scoring import CONVENTION
from tasks import failures
from tasks.report import tested as aligned
from tasks.report.compare import compare_refs
from tasks.report.error_curves import curves
from tasks.report.leaderboard import judge
from tasks.report.page.corpus import overview
from tasks.report.page.dialogues import Budget, dialogues
from tasks.report.page.filling import embed
from tasks.report.page.results import shapley, training
from tasks.report.plots import PLOTS
from tasks.report.stage import ForReport, ReportParams, draw_page, run
from tasks.tables.parquet import read_table
from tasks.tables.splits import SPLIT
from tests.places import here
from tests.tasks.report_factory import Scene, Silent, make_project, write_transfer

HOSTILE = '</script><script>alert(1)</script><!-- <b>&amp; \u2028 it\'s "quoted"'


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    return make_project(tmp_path, Scene(text=HOSTILE))


def make_report(raw):
    run(ForReport(ReportParams(**raw["report"]), raw), here(), Silent())
    return here().page().read_text(encoding="utf-8")


def test_drawing_the_page_again_changes_no_byte(project, monkeypatch):
    made = make_report(project)
    monkeypatch.setenv("AFFECTLOOM_CACHE", "another")  # nothing of this machine is in it
    times = Path("another/times.jsonl")
    times.parent.mkdir()
    times.write_text('{"stage": "train@toy-linear", "seconds": 12.5}\n')
    page, is_current = draw_page(here(), ReportParams(**project["report"]), project)
    assert is_current
    assert page.read_text(encoding="utf-8") == made


def content(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def board():
    return json.loads(here().leaderboard("json").read_text())


def change_predictions(corpus, method, change):
    file = here().predictions(corpus, method)
    change(pl.read_parquet(file)).write_parquet(file)


def test_the_page_is_one_file_that_loads_nothing(project):
    page = make_report(project)
    assert not re.search(r"<(script|img|iframe)[^>]+src=|<link[^>]+href=[\"']?http|@import", page)
    assert "default-src 'none'" in page
    assert "<!--DATA-->" not in page
    assert "<!--SCRIPT-->" not in page


def test_hostile_text_stays_text_and_survives(project):
    page = make_report(project)
    assert page.count("<script") == make_report_count(page)
    assert HOSTILE in content(page)["corpora"]["toy"]["dialogues"]["utterances"]["text"]
    assert "alert(1)</script>" not in page


def make_report_count(page):
    """Script elements of the template itself: data, vendor, own; libraries mention the word."""
    return 3 + sum(
        part.count("<script") for part in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    )


def test_embedded_json_holds_no_character_that_ends_a_script():
    text = embed({HOSTILE: [HOSTILE]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {HOSTILE: [HOSTILE]}


def test_same_inputs_give_the_same_page_and_leaderboard(project):
    first = make_report(project), here().leaderboard("json").read_bytes()
    assert (make_report(project), here().leaderboard("json").read_bytes()) == first
    page, is_current = draw_page(here(), ReportParams(**project["report"]), project)
    assert is_current
    assert page.read_text(encoding="utf-8") == first[0]


def test_leaderboard_keeps_its_contract(project):
    make_report(project)
    entries = board()["toy"]["category"]
    assert [entry["rank"] for entry in entries] == [1, 2, 3]
    for entry in entries:
        assert {"method", "metric", "rank", "seeds", "n_test", "significant_vs_next"} <= set(entry)
        assert {"name", "mean", "std", "ci_low", "ci_high"} <= set(entry["metric"])
    assert [len(entry["against"]) for entry in entries] == [2, 1, 0]


def test_a_pair_is_told_from_the_better_ranked_side(project):
    make_report(project)
    for target in ("category", "sentiment"):
        entries = {entry["method"]: entry for entry in board()["toy"][target]}
        for entry in entries.values():
            for other in entry["against"]:
                gap = entry["metric"]["mean"] - entries[other["method"]]["metric"]["mean"]
                assert other["difference"] == pytest.approx(gap)
                assert other["ci_low"] <= other["difference"] <= other["ci_high"]


def test_every_part_of_the_page_has_its_data(project):
    found = content(make_report(project))
    corpus = found["corpora"]["toy"]
    category, vad = corpus["targets"]["category"], corpus["targets"]["vad"]
    assert set(category["confusion"]) == {"constant", "linear", "corect"}
    assert any("which sees nothing" in sentence for sentence in category["story"])
    assert set(vad["coverage"]["curves"]["linear"]) == {
        "valence", "arousal", "dominance", "joint",
    }  # fmt: skip
    assert set(category["rates"]["linear"]) == {"0", "0.3", "0.7"}
    bins = category["reliability"]["linear"]["raw"]
    known = pl.read_parquet(here().predictions("toy", "linear")).drop_nulls("target_category")
    wrong = (known["target_category"] != known["prediction_category"]).mean()
    assert sum(bins["count"]) == known.height
    assert bins["risk"][-1] == pytest.approx(wrong, abs=1e-5)
    assert set(category["contribution"]["shares"]["linear"]) == {"audio", "video", "text"}
    assert corpus["clips"]["stages"][0]["stage"] == "ingest"
    assert corpus["clips"]["examples"][0]["reason"] == "file_missing"
    assert corpus["leaks"]["findings"]
    assert corpus["agreement"]["agreement"]["valence"]
    assert found["provenance"]["untrained_inputs"] == ["tiny"]


def test_what_the_features_show_stands_beside_the_leaks_between_splits(project):
    split_kinds = {f["kind"] for f in json.loads(here().leaks("toy").read_text())["findings"]}
    found = content(make_report(project))["corpora"]["toy"]["leaks"]["findings"]
    assert {f["kind"] for f in found} - split_kinds == {"constant_column"}
    told = next(f for f in found if f["kind"] == "constant_column")
    assert told["examples"] == ["tiny[0]", "tiny[1]"]


def test_the_analysis_is_on_disk_as_the_page_draws_it(project):
    drawn = content(make_report(project))["corpora"]["toy"]["overview"]
    assert json.loads(Path("data/reports/analysis/toy.json").read_text()) == drawn
    labels = pl.read_parquet(here().labels("toy"))
    splits = pl.read_parquet(here().splits("toy"))
    happy = labels.join(splits.filter(split="train"), on="utterance_id").filter(category="happy")
    box = next(b for b in drawn["boxes"]["arousal"] if b["category"] == "happy")
    assert (box["split"], box["n"]) == ("train", happy.height)
    assert box["median"] == pytest.approx(happy["arousal"].median(), abs=1e-4)
    assert sum(map(sum, drawn["density"]["counts"])) == labels.height
    assert drawn["density"]["counts"][19][0] == 0  # nobody is pleased and asleep there
    sets = drawn["sets"]
    calm, tense = sets["labels"].index("calm"), sets["labels"].index("tense")
    has = {name: labels["categories"].list.contains(name) for name in ("calm", "tense")}
    assert sets["together"][calm][tense] == (has["calm"] & has["tense"]).sum()
    assert sets["together"][calm][calm] == has["calm"].sum()
    assert sets["empty"] == (labels["categories"].list.len() == 0).sum()
    assert sum(sets["counts"][split][calm] for split in sets["counts"]) == has["calm"].sum()
    assert sum(drawn["histograms"]["sentiment"]["test"]) == drawn["splits"][2]["utterances"]
    tagged = labels.join(splits.filter(split="validation"), on="utterance_id")["categories"]
    assert sets["cardinality"]["validation"] == [
        (tagged.list.len() == n).sum() for n in range(len(sets["cardinality"]["train"]))
    ]


def relabel(**columns):
    """Overwrite columns of the labels table and look at the corpus again."""
    labels = pl.read_parquet(here().labels("toy"))
    columns = {
        name: pl.Series(values, dtype=labels.schema[name]) for name, values in columns.items()
    }
    labels.with_columns(**columns).write_parquet(here().labels("toy"))
    return overview(here(), "toy", pl.read_parquet(here().splits("toy")))


@pytest.mark.usefixtures("project")
def test_histograms_have_bins_of_a_fortieth_and_steps_of_a_scale_open_their_bin():
    size = pl.read_parquet(here().labels("toy")).height
    steps = [round(-1 + 0.1 * (i % 21), 1) for i in range(size)]  # e.g. 0.1, no binary fraction
    found = relabel(valence=steps)["histograms"]
    total = np.sum([found["valence"][split] for split in found["valence"]], axis=0)
    assert len(total) == 80
    assert len(found["sentiment"]["train"]) == 60
    assert set(np.flatnonzero(total)) == {*range(0, 80, 4), 79}
    assert total.sum() == size


@pytest.mark.usefixtures("project")
def test_whiskers_end_at_the_last_value_within_one_and_a_half_interquartile_ranges():
    size = pl.read_parquet(here().labels("toy")).height
    splits = pl.read_parquet(here().splits("toy")).sort("utterance_id")
    is_train = (splits["split"] == "train").to_numpy()
    values = np.full(size, 0.5)
    values[np.flatnonzero(is_train)[:6]] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.95]
    category = np.full(size, "sad", dtype=object)
    category[np.flatnonzero(is_train)[:6]] = "happy"
    (box, *_) = relabel(valence=values, category=category)["boxes"]["valence"]
    assert (box["category"], box["split"], box["n"]) == ("happy", "train", 6)
    assert (box["first"], box["median"], box["third"]) == (0.125, 0.25, 0.375)
    assert (box["low"], box["high"], box["outside"]) == (0.0, 0.4, 1)


def test_all_splits_stand_side_by_side(project):
    boxes = overview(here(), "toy", pl.read_parquet(here().splits("toy")))["boxes"]["dominance"]
    assert [(b["category"], b["split"]) for b in boxes[:3]] == [
        ("angry", "train"), ("angry", "validation"), ("angry", "test"),
    ]  # fmt: skip


def test_a_large_corpus_shows_five_thousand_points_with_every_category_s_share(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, Scene(methods=(), dialogues=100, turns=40, targets=()))
    size = pl.read_parquet(here().labels("toy")).height
    category = ["angry"] * (size - 1_200) + ["sad"] * 1_200
    points = relabel(category=category)["points"]
    assert points["of"] == size == 12_000
    assert len(points["category"]) == len(points["valence"]) == 5_000
    assert points["category"].count(1) == 500
    assert relabel(category=category)["points"] == points


def test_error_curves_reach_the_largest_error_where_all_rows_are_covered(project):
    make_report(project)
    table = pl.read_csv(here().reports / "plots" / "coverage.csv")
    rows = pl.read_parquet(here().predictions("toy", "constant"))
    errors = (rows["prediction_valence"] - rows["target_valence"]).abs()
    mine = table.filter(method="constant", target="vad", dimension="valence", tested_on="toy")
    assert mine["error"][1] == pytest.approx(0.01)
    assert mine["share"][-1] == 1 > mine["share"][-2]
    assert errors.max() <= mine["error"][-1] < errors.max() + 0.01
    assert mine["share"][30] == pytest.approx((errors <= 0.3).mean(), abs=1e-6)
    assert set(table["dimension"]) == {"valence", "arousal", "dominance", "joint", "sentiment"}


def test_the_page_draws_all_errors_up_to_the_width_of_the_scale(project):
    found = content(make_report(project))["corpora"]["toy"]["targets"]["vad"]["coverage"]
    largest = (
        pl.read_csv(here().reports / "plots" / "coverage.csv").filter(target="vad")["error"].max()
    )
    assert not found["is_cut"]
    assert largest <= found["limit"] + 1e-9 < largest + 0.11
    assert max(curve[-1] for curve in found["curves"]["constant"].values()) == 1
    change_predictions("toy", "linear", put("prediction_valence", 9.0))
    found = content(make_report(project))["corpora"]["toy"]["targets"]["vad"]["coverage"]
    assert (found["is_cut"], found["limit"]) == (True, 2.0)


def test_an_error_far_outside_the_scale_makes_steps_wider_not_files_larger():
    found = curves({"valence": np.array([0.1, 5_000.0])})["valence"]
    assert len(found["shares"]) <= 1_001
    assert found["shares"][-1] == 1
    assert found["step"] * (len(found["shares"]) - 1) >= 5_000


def test_errors_on_another_corpus_have_curves(project, tmp_path):
    raw = make_project(tmp_path, Scene(corpora=("toy", "more")))
    write_transfer(tmp_path, "linear", "toy", "more")
    file = here().transfer("toy", "linear", "more")
    found = json.loads(file.read_text())
    whole = {"step": 0.01, "shares": [0.0, *np.linspace(0.1, 1, 150)]}
    found["targets"]["vad"] = {
        **found["targets"]["category"], "headline": "ccc", "coverage": {"valence": whole},
    }  # fmt: skip
    file.write_text(json.dumps(found))
    drawn = content(make_report(raw))["curves_across"]
    assert [(one["trained_on"], one["tested_on"], one["target"]) for one in drawn] == [
        ("toy", "more", "sentiment"), ("toy", "more", "vad"),
    ]  # fmt: skip
    curve = drawn[1]["curves"]["valence"]
    assert curve["step"] == pytest.approx(0.05)
    assert curve["shares"][:2] == [0, round(whole["shares"][5], 4)]
    assert curve["shares"][-1] == 1
    table = pl.read_csv(here().reports / "plots" / "coverage.csv")
    across = table.filter(corpus="toy", tested_on="more", target="vad")
    assert across["share"].to_list() == pytest.approx(whole["shares"], abs=1e-6)


def test_the_report_reads_each_file_of_predictions_once(project, monkeypatch):
    seen, read = Counter(), pl.read_parquet

    def counted(source, *args, **kwargs):
        seen[Path(str(source)).name] += 1
        return read(source, *args, **kwargs)

    monkeypatch.setattr(pl, "read_parquet", counted)
    make_report(project)
    for method in ("constant", "linear", "corect"):
        assert seen[f"{method}.predictions.parquet"] == 1


def test_the_tables_of_labels_are_those_of_the_analysis(project):
    make_report(project)
    plots = here().reports / "plots"
    labels = pl.read_parquet(here().labels("toy")).join(
        pl.read_parquet(here().splits("toy")), on="utterance_id"
    )
    train = labels.filter(split="train")
    frequency = pl.read_csv(plots / "frequency.csv").filter(split="train")
    happy = frequency.filter(kind="category", label="happy").row(0, named=True)
    known = train["category"].drop_nulls()
    assert happy["n"] == (known == "happy").sum()
    assert happy["share"] == pytest.approx(happy["n"] / len(known), abs=1e-5)
    calm = frequency.filter(kind="categories", label="calm").row(0, named=True)
    assert calm["share"] == pytest.approx(
        train["categories"].list.contains("calm").mean(), abs=1e-5
    )
    scatter = pl.read_csv(plots / "scatter.csv")
    assert scatter.filter(category="none").height == labels["category"].null_count()
    assert scatter["valence"].sum() == pytest.approx(labels["valence"].sum(), abs=0.8)
    bins = pl.read_csv(plots / "histogram.csv").filter(column="arousal", split="train")
    place = bins.filter(pl.col("from") == 0.5).row(0, named=True)
    assert place["to"] == pytest.approx(0.525)
    assert place["n"] == train["arousal"].is_between(0.5, 0.525, closed="left").sum()
    assert bins["share"].sum() == pytest.approx(1, abs=1e-4)
    sizes = pl.read_csv(plots / "cardinality.csv").filter(split="train")
    assert sizes["n"].to_list() == [
        (train["categories"].list.len() == n).sum() for n in sizes["labels"]
    ]


def test_a_corpus_with_no_label_of_a_kind_leaves_that_kind_out(project):
    labels = pl.read_parquet(here().labels("toy"))
    nothing = [pl.lit(None, labels.schema[name]).alias(name) for name in ("category", "categories")]
    labels.with_columns(nothing).write_parquet(here().labels("toy"))
    found = overview(here(), "toy", pl.read_parquet(here().splits("toy")))
    assert (found["classes"], found["boxes"], found["sets"]["labels"]) == ([], {}, [])
    assert set(found["points"]["category"]) == {-1}
    assert found["sets"]["together"] == []


def test_confusion_counts_are_those_of_the_predictions(project):
    confusion = content(make_report(project))["corpora"]["toy"]["targets"]["category"]["confusion"]
    rows = pl.read_parquet(here().predictions("toy", "linear")).filter(
        (pl.col("seed") == 1) & pl.col("target_category").is_not_null()
    )
    both = rows.filter(
        (pl.col("target_category") == "happy") & (pl.col("prediction_category") == "sad")
    )
    assert confusion["linear"]["1"][1][3] == both.height
    assert np.sum(confusion["linear"]["1"]) == rows.height


def test_packed_numbers_are_the_predictions(project):
    found = content(make_report(project))["corpora"]["toy"]["dialogues"]
    ids = found["utterances"]["utterance_id"]
    text = found["predictions"]["linear"]["1"]["vad"]
    values = np.frombuffer(base64.b64decode(text), "<i2").reshape(-1, 3) / 1000
    rows = pl.read_parquet(here().predictions("toy", "linear")).filter(pl.col("seed") == 1)
    place = {name: i for i, name in enumerate(rows.get_column("utterance_id"))}
    wanted = rows.get_column("prediction_arousal").to_numpy()[[place[name] for name in ids]]
    assert np.abs(values[:, 1] - wanted).max() <= 0.0005 + 1e-9


def test_faces_of_people_stay_out_unless_allowed(project):
    project["corpora"]["toy"]["adapter"] = "meld"
    assert content(make_report(project))["corpora"]["toy"]["dialogues"]["faces"] == {}
    project["report"]["allow_faces"] = True
    assert content(make_report(project))["corpora"]["toy"]["dialogues"]["faces"]


def test_a_small_budget_leaves_out_whole_dialogues_and_seeds_and_says_so(project):
    test = read_table(SPLIT, here().splits("toy")).filter(pl.col("split") == "test")
    tested, _ = aligned.load_tested(here(), "toy", ["linear"])
    found = dialogues(here(), "toy", tested, test, True, Budget(1, 100, 3_000, 13))
    assert found["total"] == 48
    assert len(found["utterances"]["utterance_id"]) == 12
    assert found["seeds"] == [0]
    assert 0 < len(found["faces"]) < 11


def test_shapley_values_share_out_the_whole_gain_fairly():
    value = {
        frozenset(): 0.1,
        frozenset("a"): 0.4,
        frozenset("b"): 0.3,
        frozenset("c"): 0.1,
        frozenset("ab"): 0.5,
        frozenset("ac"): 0.4,
        frozenset("bc"): 0.3,
        frozenset("abc"): 0.8,
    }
    found = shapley("abc", value)
    naive = dict.fromkeys("abc", 0.0)
    for order in permutations("abc"):
        for i, player in enumerate(order):
            naive[player] += (value[frozenset(order[: i + 1])] - value[frozenset(order[:i])]) / 6
    assert found == pytest.approx(naive)
    assert sum(found.values()) == pytest.approx(0.7)


def test_a_failed_method_appears_with_its_reason(project):
    project["methods"] |= {"broken": {}, "waiting": {}}
    failures.note(here(), "train@toy-broken", "loss is not finite in epoch 3")
    page = make_report(project)
    entries = {entry["method"]: entry for entry in board()["toy"]["vad"]}
    assert entries["broken"]["failed"] == "train failed: loss is not finite in epoch 3"
    assert entries["waiting"]["failed"] == "not finished: run stage train@toy-waiting"
    assert entries["broken"]["rank"] is None
    shown = content(page)["corpora"]["toy"]
    assert shown["failed"]["broken"].startswith("train failed")
    assert "broken" in here().leaderboard("csv").read_text()


def draw(raw):
    page, is_current = draw_page(here(), ReportParams(**raw["report"]), raw)
    return content(page.read_text(encoding="utf-8")), is_current


def test_a_method_that_failed_after_the_report_is_drawn_as_failed(project):
    make_report(project)
    before = here().leaderboard("json").read_bytes()
    here().runs("toy", "corect").mkdir(parents=True)
    outs = [here().runs("toy", "corect")]
    failures.note(here(), "train@toy-corect", "no memory left either", outs)
    assert draw(project)[1]  # scores and runs are there: DVC brought them back
    here().runs("toy", "corect").rmdir()  # as DVC does before it runs the stage
    found, is_current = draw(project)
    assert not is_current
    entries = {e["method"]: e for e in found["corpora"]["toy"]["targets"]["vad"]["entries"]}
    assert entries["corect"]["failed"] == "train failed: no memory left either"
    assert sorted(entries[m]["rank"] for m in ("constant", "linear")) == [1, 2]
    assert here().leaderboard("json").read_bytes() == before


def test_without_a_leaderboard_what_was_evaluated_is_judged(project):
    here().details("toy", "linear").unlink()
    failures.note(here(), "evaluate@toy-linear", "a label is nonsense")
    found, is_current = draw(project)
    assert not is_current
    assert not here().leaderboard("json").exists()
    entries = {e["method"]: e for e in found["corpora"]["toy"]["targets"]["vad"]["entries"]}
    assert entries["linear"]["failed"] == "evaluate failed: a label is nonsense"
    assert entries["corect"]["metric"]["ci_low"] is not None


def test_a_failed_extraction_is_the_reason_of_what_waits_for_it(project):
    for file in here().features("toy", "tiny").iterdir():
        file.unlink()
    here().features("toy", "tiny").rmdir()
    here().faces("toy").unlink()
    here().details("toy", "linear").unlink()
    failures.note(here(), "features@toy-tiny", "the disk is full")
    project["encoders"]["eyes"] = {"family": "facenet"}
    project["inputs"]["video"] = "eyes"
    found, _ = draw(project)
    corpus = found["corpora"]["toy"]
    assert corpus["failed"]["linear"] == "not finished: features@toy-tiny failed: the disk is full"
    stages = {stage["stage"]: stage for stage in corpus["clips"]["stages"]}
    assert stages["features tiny"]["unfinished"] == "failed: the disk is full"
    assert stages["faces"]["unfinished"] == "not finished"


def test_a_corpus_without_tables_is_left_out_with_the_reason(project, tmp_path):
    both = make_project(tmp_path, Scene(corpora=("toy", "more")))
    here().labels("more").unlink()
    failures.note(here(), "labels@more", "rater x has no scale")
    found, _ = draw(both)
    assert list(found["corpora"]) == ["toy"]
    assert found["unready"] == {"more": "labels@more failed: rater x has no scale"}
    here().splits("toy").unlink()
    with pytest.raises(UserError, match=r"nothing to draw yet .*run stage splits@toy; more: "):
        draw(both)


def test_a_failure_is_forgotten_once_the_stage_works(project):
    failures.note(here(), "train@toy-x", "bad")
    failures.note(here(), "train@toy-x", None)
    assert failures.latest(here()) == {}


def test_plots_files_have_their_columns_and_rows(project):
    make_report(project)
    for name, columns in PLOTS.items():
        table = pl.read_csv(here().reports / "plots" / f"{name}.csv")
        assert tuple(table.columns) == columns
        assert table.height > 10


def drop_id(frame):
    return frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 5)
        .then(None)
        .otherwise("utterance_id")
        .alias("utterance_id")
    )


def poison(frame):
    return frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 5)
        .then(float("nan"))
        .otherwise("prediction_arousal")
        .alias("prediction_arousal")
    )


def put(column, value):
    """Write one value into a column, for the first row."""
    changed = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value)).otherwise(column)
    return lambda frame: frame.with_columns(changed.alias(column))


def rename_class(frame):
    return frame.with_columns(
        pl.col("prediction_category").replace("happy", "joyful").alias("prediction_category")
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (drop_id, r"linear\.predictions\.parquet: 1 rows of seed \d have no id"),
        (lambda f: f.vstack(f[:1]), r"seed 0 predicts toy/d002/u00 twice"),
        (poison, r"prediction_arousal of toy/d\d+/u\d+, seed \d, is not finite \(1 such rows\)"),
        (lambda f: f[1:], r"seed 0 lacks 1 test rows, e\.g\. toy/d002/u00"),
        (lambda f: f.filter(pl.col("seed") != 1), r"there is no prediction of seed 1"),
        (rename_class, r"prediction_category holds 'joyful', which is none of angry, happy"),
        (
            put("prediction_arousal", None),
            r"u00, seed 0, has a vad but no prediction_arousal \(1 s",
        ),
        (put("prediction_category", None), r"seed 0, has a category but no prediction_category \("),
        (put("probabilities", [0.5, 0.5]), r"no probabilities with 4 numbers \(1 such rows\)"),
        (put("scores_categories", [0.5]), r"a categories but no scores_categories with 3 numbers"),
        (lambda f: f.drop("prediction_valence"), r"there is no column prediction_valence; rerun"),
        (
            lambda f: f.with_columns(pl.col("prediction_valence").cast(pl.String)),
            r"prediction_valence holds String where Float64 belongs",
        ),
    ],
)
def test_bad_predictions_are_an_error_that_names_them(project, change, sentence):
    change_predictions("toy", "linear", change)
    with pytest.raises(UserError, match=sentence):
        judge(here(), "toy", list(project["methods"]), resamples=100, seed=0)


def test_predictions_in_single_precision_are_judged(project):
    def narrow(frame):
        lists = pl.col("probabilities", "scores_categories").cast(pl.List(pl.Float32))
        return frame.with_columns(lists, pl.col("prediction_valence").cast(pl.Float32))

    change_predictions("toy", "linear", narrow)
    judged = judge(here(), "toy", list(project["methods"]), resamples=100, seed=0)
    assert judged["vad"].entries[0]["metric"]["mean"] is not None
    spoilt = pl.lit([float("nan")] * 4, pl.List(pl.Float32))
    change_predictions("toy", "linear", lambda f: f.with_columns(spoilt.alias("probabilities")))
    with pytest.raises(UserError, match=r"probabilities of .* is not finite"):
        judge(here(), "toy", list(project["methods"]), resamples=100, seed=0)


def test_two_label_spaces_are_an_error(project):
    file = here().details("toy", "linear")
    details = json.loads(file.read_text())
    details["targets"]["category"]["names"][0] = "furious"
    file.write_text(json.dumps(details))
    with pytest.raises(UserError, match="target category has the labels furious, happy"):
        judge(here(), "toy", list(project["methods"]), resamples=100, seed=0)


def test_scores_under_two_definitions_of_the_metrics_are_an_error(project):
    file = here().details("toy", "linear")
    details = json.loads(file.read_text())
    assert details["convention"] == CONVENTION
    file.write_text(json.dumps(details | {"convention": "older"}))
    with pytest.raises(
        UserError, match=f"linear was scored under older, but .* under {CONVENTION}"
    ):
        judge(here(), "toy", list(project["methods"]), resamples=100, seed=0)
    Path("params.yaml").write_text(yaml.safe_dump(project))
    with pytest.raises(UserError, match=r"was scored under .*; rerun stage evaluate for both"):
        compare_refs(here(), "constant", "linear", resamples=100)


def test_the_leaderboard_and_the_page_name_the_definitions_of_the_metrics(project):
    found = content(make_report(project))
    assert found["provenance"]["convention"] == CONVENTION
    assert board()["provenance"]["convention"] == CONVENTION


def test_a_method_with_fewer_seeds_is_an_error(project):
    file = here().details("toy", "linear")
    details = json.loads(file.read_text())
    details["runs"] = [one for one in details["runs"] if one["seed"] == 0]
    file.write_text(json.dumps(details))
    change_predictions("toy", "linear", lambda f: f.filter(pl.col("seed") == 0))
    with pytest.raises(UserError, match="linear lacks seed 1, which constant has"):
        judge(here(), "toy", list(project["methods"]), resamples=100, seed=0)


def test_a_test_row_unknown_to_the_splits_is_an_error(project):
    rename = pl.col("utterance_id").replace("toy/d002/u00", "toy/d000/u00")
    splits = read_table(SPLIT, here().splits("toy"))
    splits = splits.filter(pl.col("utterance_id") != "toy/d002/u00")
    splits.write_parquet(here().splits("toy"))
    change_predictions("toy", "linear", lambda f: f.with_columns(rename))
    with pytest.raises(UserError, match="toy/d000/u00 is predicted as a test row, but"):
        judge(here(), "toy", ["linear"], resamples=100, seed=0)


def test_rows_tested_in_two_folds_are_two_rows_in_one_order():
    keys = [(u, fold, seed) for u in "ab" for fold in (0, 1) for seed in (0, 1)]
    table = pl.DataFrame(
        {
            "utterance_id": [f"toy/d/{u}" for u, _, _ in keys],
            "fold": [fold for _, fold, _ in keys],
            "seed": [seed for _, _, seed in keys],
            "target_sentiment": [1.0 + (u == "b") for u, _, _ in keys],
            "prediction_sentiment": [
                10.0 * fold + seed + 100 * (u == "b") for u, fold, seed in keys
            ],
        }
    )
    target = {"kind": "values", "names": ["sentiment"], "test": {}}
    details = {"targets": {"sentiment": target}}
    ids = ["toy/d/a", "toy/d/b"]
    places = pl.DataFrame({"utterance_id": ids, "dialogue_id": "toy/d", "speaker": ["x", None]})
    shuffled = {
        "m": aligned.Tested(details, table.sample(fraction=1, shuffle=True, seed=3), "file")
    }
    rows = aligned.align("sentiment", shuffled, places)
    assert rows.truth[:, 0].tolist() == [1, 1, 2, 2]
    assert rows.predictions["m"][1, :, 0].tolist() == [1, 11, 101, 111]


def trained(epochs, chosen, *, early=False, targets=("vad",)):
    history = [{"epoch": float(e), "score": e / 1000, "lr": 0.1} for e in range(1, epochs + 1)]
    return {
        "seed": 0, "fold": 1, "targets": list(targets), "chosen_epoch": chosen,
        "stopped_early": early, "history": history,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "early", "late"),
    [(40, False, True), (37, False, True), (36, False, False), (40, True, False)],
)
def test_a_run_that_was_best_at_the_end_of_its_epochs_is_told(chosen, early, late):
    (found,) = training("vad", [trained(40, chosen, early=early)])
    assert found["late"] is late
    assert found["epochs"] == list(range(1, 41))


def test_long_trainings_are_thinned_but_keep_the_chosen_epoch():
    runs = [trained(1000, 777), trained(1, 1), trained(9, 3, targets=["category"])]
    (found,) = training("vad", runs)  # one epoch draws no line, another target is not shown
    assert len(found["epochs"]) <= 201
    assert found["scores"][found["epochs"].index(777)] == 0.777


def test_plots_hold_confidence_raw_and_calibrated(project):
    make_report(project)
    plots = here().reports / "plots"
    bins = pl.read_csv(plots / "reliability.csv")
    assert bins["confidence"].is_between(0, 1).all()
    assert (bins["n"] > 0).all()
    risk = pl.read_csv(plots / "risk.csv")
    assert set(risk["which"]) == set(bins["which"])
    for _, curve in risk.group_by("method", "which"):
        assert curve.sort("coverage")["coverage"][-1] == 1.0
