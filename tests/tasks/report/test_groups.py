"""Scores by group of people: the metric on those rows, and nothing said of groups too small."""

import numpy as np
import polars as pl
import pytest

from models.metrics.scoring import score_target
from tasks.report.groups import by_group
from tasks.report.stage import ForReport, ReportParams, run
from tasks.report.tested import load_tested
from tasks.tables.parquet import read_table, write_table
from tasks.tables.people import age_band
from tasks.tables.utterances import UTTERANCES
from tests.places import here
from tests.tasks.report_factory import Scene, Silent, make_project

TARGETS = ("vad", "sentiment", "category")


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path, Scene(dialogues=24, targets=TARGETS, methods=("linear",)))


def change(**columns: pl.Expr) -> pl.DataFrame:
    """Write the utterances of ``toy`` anew with other columns."""
    rows = read_table(UTTERANCES, here().utterances("toy")).with_columns(**columns)
    write_table(UTTERANCES, rows, here().utterances("toy"))
    return rows


def number() -> pl.Expr:
    """Of the dialogue."""
    return pl.col("dialogue_id").str.extract(r"d(\d+)$").cast(pl.Int64)


def groupings() -> dict:
    loaded = load_tested(here(), "toy", ["linear"])
    found = by_group(here(), "toy", loaded, resamples=200, seed=0)
    return {(target, one["by"]): one for target, kinds in found.items() for one in kinds}


def by_sex(**more: pl.Expr) -> pl.DataFrame:
    odd = number() % 2 == 1
    return change(sex=pl.when(odd).then(pl.lit("female")).otherwise(pl.lit("male")), **more)


def test_a_group_has_the_metric_of_its_own_rows(raw):
    rows = by_sex()
    found = groupings()["sentiment", "sex"]
    table = pl.read_parquet(here().predictions("toy", "linear")).join(
        rows.select("utterance_id", "sex"), on="utterance_id"
    )
    assert [group["name"] for group in found["groups"]] == ["female", "male"]
    for group in found["groups"]:
        expected = [
            score_target(
                "values",
                ["sentiment"],
                own["target_sentiment"].to_numpy()[:, None],
                own["prediction_sentiment"].to_numpy()[:, None],
            )["mae"]
            for own in table.filter(pl.col("sex") == group["name"]).partition_by("seed")
        ]
        score = group["scores"]["linear"]
        assert score["mean"] == pytest.approx(np.mean(expected), abs=1e-12)
        assert score["ci_low"] < score["mean"] < score["ci_high"]
    scores = {group["name"]: group["scores"]["linear"]["mean"] for group in found["groups"]}
    gap = found["gaps"]["linear"]
    assert gap["size"] == pytest.approx(abs(scores["female"] - scores["male"]))
    # a mean absolute error: the lower is the better
    assert gap["best"] == min(scores, key=lambda name: scores[name])


def test_a_small_group_is_named_and_not_scored(raw):
    few = number() < 9  # test dialogues 2, 5 and 8: 18 rows
    change(language=pl.when(few).then(pl.lit("fr")).otherwise(pl.lit("en")))
    found = groupings()["vad", "language"]
    assert found["too_small"] == ["fr"]
    assert [group["name"] for group in found["groups"]] == ["en"]
    assert found["gaps"] == {}


def test_a_column_that_a_part_lacks_is_left_out_of_its_score(raw):
    by_sex(dataset=pl.when(number() % 2 == 1).then(pl.lit("a")).otherwise(pl.lit("b")))
    file = here().predictions("toy", "linear")
    table = pl.read_parquet(file)
    is_a = pl.col("utterance_id").str.extract(r"d(\d+)/").cast(pl.Int64) % 2 == 1
    table.with_columns(target_dominance=pl.when(~is_a).then("target_dominance")).write_parquet(file)
    found = groupings()["vad", "part"]
    columns = {group["name"]: group["columns"] for group in found["groups"]}
    assert columns == {
        "a": ["valence", "arousal"],
        "b": ["valence", "arousal", "dominance"],
    }
    assert all(isinstance(g["scores"]["linear"]["mean"], float) for g in found["groups"])
    assert found["gaps"] == {}  # over other columns nothing compares


def test_what_all_share_is_no_grouping(raw):
    change(sex=pl.lit("female"))
    found = groupings()
    assert ("vad", "sex") not in found
    assert ("vad", "part") not in found
    assert ("vad", "speaker") in found


def test_ages_fall_into_bands_and_the_unknown_into_none(raw):
    ages = pl.DataFrame({"age": [0.0, 17.9, 18.0, 29.9, 30.0, 59.0, 60.0, 101.0, None]})
    assert ages.select(age_band(pl.col("age"))).to_series().to_list() == [
        *["under 18"] * 2,
        *["18 to 29"] * 2,
        "30 to 44",
        "45 to 59",
        *["60 and over"] * 2,
        None,
    ]
    change(age=pl.when(number() % 2 == 1).then(20.0).when(number() % 4 == 0).then(65.0))
    found = groupings()["category", "age band"]
    assert [group["name"] for group in found["groups"]] == ["18 to 29", "60 and over"]
    assert found["unknown"] > 0


def test_the_page_and_a_file_show_the_groups(raw):
    by_sex()
    run(ForReport(ReportParams(**raw["report"]), raw), here(), Silent())
    page = here().page().read_text()
    assert "By group of people" in page
    assert '"too_small"' in page
    assert (here().analysis / "groups/toy.json").exists()
