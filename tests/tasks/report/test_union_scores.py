"""Joint against alone: the same rows, the metric on them, and what others' figures may stand by."""

import numpy as np
import polars as pl
import pytest

from models.metrics.scoring import score_target
from tasks.report.stage import ForReport, ReportParams, run
from tasks.report.tested import load_tested
from tasks.report.union_scores import counterpart, union_scores
from tasks.tables.parquet import read_table, write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tests.places import here
from tests.tasks.report_factory import Scene, Silent, make_project

PARTS = ("toy", "doll")
LINEAR = "linear"


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Two parts and their union, whose predictions are the parts' with smaller errors."""
    monkeypatch.chdir(tmp_path)
    scene = Scene(targets=("vad", "category"), methods=(LINEAR,), dialogues=12, corpora=PARTS)
    raw = make_project(tmp_path, scene)
    make_project(tmp_path, Scene(**{**scene.__dict__, "corpora": ("joint",)}))
    for table, place in ((UTTERANCES, here().utterances), (SPLIT, here().splits)):
        write_table(table, pl.concat(read_table(table, place(p)) for p in PARTS), place("joint"))
    tables = [pl.read_parquet(here().predictions(part, LINEAR)) for part in PARTS]
    joint = pl.concat(tables)
    better = [
        (0.5 * pl.col(f"prediction_{d}") + 0.5 * pl.col(f"target_{d}")).alias(f"prediction_{d}")
        for d in ("valence", "arousal", "dominance")
    ]
    joint.with_columns(better).write_parquet(here().predictions("joint", LINEAR))
    raw["corpora"]["joint"] = {"adapter": "union", "of": list(PARTS)}
    return raw


def scores(raw):
    loaded = {c: load_tested(here(), c, [LINEAR]) for c in raw["corpora"]}
    found = union_scores(here(), raw, "joint", loaded, _ACROSS, resamples=200, seed=0)
    assert found is not None
    return found


_ACROSS = [
    {"method": LINEAR, "trained_on": "doll", "tested_on": "toy", "target": "vad", "mean": 0.2},
    {"method": LINEAR, "trained_on": "doll", "tested_on": "toy", "target": "category",
     "reason": "none shared"},
    {"method": LINEAR, "trained_on": "other", "tested_on": "toy", "target": "vad", "mean": 0.9},
]  # fmt: skip


def test_both_are_scored_on_the_parts_own_rows(raw):
    found = {(row["part"], row["target"]): row for row in scores(raw)["rows"]}
    assert set(found) == {(part, name) for part in PARTS for name in ("vad", "category")}
    row = found["doll", "vad"]
    for who, corpus in (("alone", "doll"), ("joint", "joint")):
        table = pl.read_parquet(here().predictions(corpus, LINEAR))
        own = table.filter(pl.col("utterance_id").str.starts_with("doll/"))
        truth = [f"target_{d}" for d in row["columns"]]
        guess = [f"prediction_{d}" for d in row["columns"]]
        expected = np.mean(
            [
                score_target(
                    "values", row["columns"], one[truth].to_numpy(), one[guess].to_numpy()
                )["ccc"]
                for one in own.partition_by("seed")
            ]
        )
        assert row[who]["mean"] == pytest.approx(expected, abs=1e-9)
        assert row[who]["ci_low"] < expected < row[who]["ci_high"]
    assert row["n"] == 12 * 6
    assert row["difference"] == pytest.approx(row["joint"]["mean"] - row["alone"]["mean"])
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert row["difference"] > 0


def test_the_same_predictions_differ_by_nothing(raw):
    row = next(row for row in scores(raw)["rows"] if row["target"] == "category")
    assert row["difference"] == 0
    assert row["p_holm"] == 1


def test_networks_of_another_part_stand_beside_and_strangers_do_not(raw):
    found = {(row["part"], row["target"]): row["transfer"] for row in scores(raw)["rows"]}
    assert found["toy", "vad"] == [
        {"trained_on": "doll", "mean": 0.2, "ci_low": None, "ci_high": None}
    ]
    assert found["toy", "category"] == found["doll", "vad"] == []


def test_a_dimension_that_a_part_lacks_is_not_compared_there(raw):
    for corpus in ("toy", "joint"):
        file = here().predictions(corpus, LINEAR)
        is_toy = pl.col("utterance_id").str.starts_with("toy/")
        table = pl.read_parquet(file)
        table.with_columns(
            target_dominance=pl.when(~is_toy).then("target_dominance")
        ).write_parquet(file)
    _narrow("toy")
    found = {(row["part"], row["target"]): row for row in scores(raw)["rows"]}
    assert found["toy", "vad"]["columns"] == ["valence", "arousal"]
    assert found["doll", "vad"]["columns"] == ["valence", "arousal", "dominance"]


def _narrow(corpus: str) -> None:
    """The method alone predicts no dominance there."""
    import json

    file = here().details(corpus, LINEAR)
    details = json.loads(file.read_text())
    details["targets"]["vad"]["names"] = ["valence", "arousal"]
    file.write_text(json.dumps(details))


def test_labels_that_changed_since_are_named(raw):
    file = here().predictions("toy", LINEAR)
    table = pl.read_parquet(file)
    table.with_columns(target_valence=-pl.col("target_valence")).write_parquet(file)
    assert (
        "linear, vad, toy: the labels of toy changed since; rerun stages train and evaluate"
        in (scores(raw)["unscored"])
    )


def test_a_method_that_did_not_run_on_a_part_is_named(raw):
    loaded = {c: load_tested(here(), c, [LINEAR]) for c in raw["corpora"]}
    loaded["toy"] = ({}, {LINEAR: "failed"})
    found = union_scores(here(), raw, "joint", loaded, [], resamples=200, seed=0)
    assert found is not None
    assert {row["part"] for row in found["rows"]} == {"doll"}
    assert "linear, vad, toy: the method was not evaluated on the part alone" in found["unscored"]


def test_an_entry_that_only_levels_parts_is_held_against_the_plain_one(raw):
    raw["methods"]["levelled"] = {
        **(raw["methods"][LINEAR] or {}),
        "method": LINEAR,
        "part_align": "zscore",
        "corpora": ["joint"],
    }
    loaded = {c: load_tested(here(), c, [LINEAR]) for c in raw["corpora"]}
    loaded["joint"] = ({"levelled": loaded["joint"][0][LINEAR]}, {})
    found = union_scores(here(), raw, "joint", loaded, _ACROSS, resamples=200, seed=0)
    assert found is not None
    assert {(row["method"], row["against"]) for row in found["rows"]} == {("levelled", LINEAR)}
    plain = {(row["part"], row["target"]): row for row in scores(raw)["rows"]}
    for row in found["rows"]:
        assert row["alone"] == plain[row["part"], row["target"]]["alone"]
        assert row["transfer"] == plain[row["part"], row["target"]]["transfer"]


def test_another_option_makes_another_method():
    entries = {
        "linear": {"lr": 0.1},
        "faster": {"method": "linear", "lr": 0.2, "part_offset": True},
        "even": {"method": "linear", "lr": 0.1, "part_balance": 1.0, "derived_weight": 0.3},
    }
    assert counterpart(entries, "faster", ["linear"]) == "faster"
    assert counterpart(entries, "even", ["linear"]) == "linear"
    assert counterpart(entries, "even", ["linear", "even"]) == "even"
    assert counterpart(entries, "linear", []) == "linear"


def test_the_card_says_what_compares_with_published_figures(raw):
    card = scores(raw)["card"]
    assert card[0].startswith("toy: 72 of its 72 test rows, of the split group_kfold")
    for part in PARTS:
        file = here().leaks(part)
        file.write_text(file.read_text().replace("group_kfold", "published"))
    splits = read_table(SPLIT, here().splits("joint"))
    first = splits.filter(pl.col("split") == "test")["utterance_id"].sort()[-1]
    write_table(SPLIT, splits.filter(pl.col("utterance_id") != first), here().splits("joint"))
    card = scores_card(raw)
    assert "doll: both columns are of all 72 rows of its published test part" in card[1]
    assert card[0] == (
        "toy: 71 of its 72 test rows are tested here, so neither column may stand beside "
        "published figures"
    )


def scores_card(raw):
    """The card alone: predictions no longer fit the splits."""
    found = union_scores(
        here(),
        raw,
        "joint",
        {"joint": ({}, {})},
        [],
        resamples=200,
        seed=0,
    )
    assert found is not None
    return found["card"]


def test_a_plain_corpus_has_none(raw):
    assert union_scores(here(), raw, "toy", {}, [], resamples=200, seed=0) is None


def test_the_page_shows_them(raw):
    run(ForReport(ReportParams(**raw["report"]), raw), here(), Silent())
    assert "Together or alone" in here().page().read_text()
    assert (here().analysis / "unions/joint.json").exists()
