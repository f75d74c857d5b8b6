"""Parts of a union that use a scale differently: fitted on training rows, scored on their own."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from models.errors import UserError
from models.training import predict
from tasks.batches.source import source_for
from tasks.evaluate.networks import load_runs, part_of, sources_of
from tasks.params.recipes import resolve
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table, write_table
from tasks.train.runs import parts
from tests.places import here
from tests.tasks.union_factory import PARTS, prepare, run, table, write_part

pytestmark = pytest.mark.usefixtures("counted_words")
INPUTS = {"text": "words"}
NUMBERS = ("valence", "arousal", "dominance")


@pytest.fixture
def raw(union_params):
    """Essays use the middle of their scale only."""
    shrunk = [(3 + 0.2 * (pl.col(name) - 3)).round(2).alias(name) for name in ("v", "a")]
    write_part("essays", table("essays").with_columns(shrunk))
    prepare(union_params, *PARTS, "joint")
    run(union_params, "features", corpus="joint", encoder="words")
    return union_params


def trained_on(options, targets=("vad",), corpus="joint"):
    """Training and validation rows of ``linear``, and their source."""
    recipe = resolve("linear", options)
    source = source_for(here(), recipe, corpus, INPUTS)
    return *parts(here(), source, recipe, corpus, 0, targets), source


def moments(train, source) -> dict[str, np.ndarray]:
    """Mean and deviation of each column of the labels that a part's rows are trained with."""
    truth = train.truth(train.targets[0]).double().numpy()
    return {
        part: np.array([own.mean(0), own.std(0, ddof=1)])
        for part, width in (("essays", 2), ("calls", 3))
        if (own := truth[source.parts[train.rows] == part, :width]).size
    }


def test_labels_in_training_have_one_mean_and_deviation(raw):
    plain, _, source = trained_on({})
    own = moments(plain, source)
    assert own["essays"][1, 0] < own["calls"][1, 0] / 2
    train, validation, source = trained_on({"part_align": "zscore"})
    found = moments(train, source)
    middle = (own["essays"] + own["calls"][:, :2]) / 2
    for part in found.values():
        np.testing.assert_allclose(part[:, :2], middle, atol=1e-6)
    # essays have no dominance, so that of calls stays as it is
    np.testing.assert_allclose(found["calls"][:, 2], own["calls"][:, 2], atol=1e-6)
    # what chooses the epoch is on the parts' own scales
    _, unmapped, _ = trained_on({})
    np.testing.assert_array_equal(
        validation.truth(validation.targets[0]), unmapped.truth(unmapped.targets[0])
    )


def test_batches_carry_the_same_labels_as_truth_and_the_part_of_each_row(raw):
    train, _, source = trained_on({"part_align": "quantile"})
    batch = train.batch(range(len(train)))
    assert batch.parts is not None
    torch.testing.assert_close(
        batch.targets["vad"][:, 0], train.truth(train.targets[0]), equal_nan=True
    )
    names = np.array(train.part_names)[batch.parts[:, 0].numpy()]
    assert names.tolist() == source.parts[train.rows].tolist()


def test_only_training_rows_decide(raw):
    train, _, _ = trained_on({"part_align": "quantile"})
    splits = pl.read_parquet(here().splits("joint")).filter(pl.col("fold") == 0)
    others = splits.filter(pl.col("split") != "train")["utterance_id"]
    moved = read_table(LABELS, here().labels("joint")).with_columns(
        pl.when(pl.col("utterance_id").is_in(others.implode()))
        .then(-pl.col(name) / 2)
        .otherwise(name)
        .alias(name)
        for name in NUMBERS
    )
    write_table(LABELS, moved, here().labels("joint"))
    assert trained_on({"part_align": "quantile"})[0].part_spec == train.part_spec


def test_items_that_come_again_count_once(raw):
    balanced, _, _ = trained_on({"part_align": "zscore", "part_balance": 1.0}, ["vad"])
    plain, _, _ = trained_on({"part_align": "zscore"}, ["vad"])
    assert balanced.part_spec == plain.part_spec


@pytest.mark.parametrize(
    "options",
    [{"part_align": "zscore"}, {"part_align": "quantile", "part_offset": True}],
)
def test_scores_are_on_the_parts_own_scales(raw, options):
    raw["methods"]["linear"] |= {**options, "targets": ["vad"], "epochs": 30, "lr": 0.02}
    for stage in ("train", "evaluate"):
        run(raw, stage, corpus="joint", method="linear")
    table_ = pl.read_parquet(here().predictions("joint", "linear"))
    labels = pl.read_parquet(here().labels("joint"))
    both = table_.join(labels.select("utterance_id", *NUMBERS), on="utterance_id")
    for name in NUMBERS:
        known = both.drop_nulls(f"target_{name}")
        np.testing.assert_allclose(known[f"target_{name}"], known[name], atol=1e-6)
    # 30 epochs on 8 numbers: what is said of essays stays where essays are
    of = pl.col("utterance_id").str.starts_with
    spread = {
        part: both.filter(of(part))["prediction_valence"].to_numpy().std()
        for part in ("essays", "calls")
    }
    assert spread["essays"] < spread["calls"] / 2


def test_the_maps_stand_in_the_runs_options_and_come_back(raw):
    raw["methods"]["linear"] |= {"part_align": "zscore", "part_offset": True, "targets": ["vad"]}
    run(raw, "train", corpus="joint", method="linear")
    (one,) = load_runs(here(), "joint", "linear")
    config = json.loads((one.folder / "config.json").read_text())
    train, _, _ = trained_on({"part_align": "zscore", "part_offset": True})
    assert one.method.spec.parts == train.part_spec
    assert list(config["parts"]["columns"]) == sorted(PARTS)
    assert config["parts"]["columns"]["reviews"] == {}
    assert one.method.get_parameter("part_scales.offset_vad").abs().sum().item() > 0


def test_a_rate_that_follows_the_validation_loss_follows_it_on_the_scale_in_the_middle(raw):
    raw["methods"]["linear"] |= {
        "part_align": "zscore",
        "targets": ["vad"],
        "epochs": 1,
        "scheduler": "plateau",
        "plateau_on": "loss",
    }
    run(raw, "train", corpus="joint", method="linear")
    (one,) = load_runs(here(), "joint", "linear")
    _, validation, _ = trained_on(raw["methods"]["linear"])
    scales = one.method.part_scales
    assert scales is not None
    losses, rows = [], []
    for start in range(0, len(validation), 16):  # means over batches of that size
        batch = validation.batch(range(start, min(start + 16, len(validation))))
        said = one.method.eval().outputs(one.method.normalise(batch))["vad"]
        truth = scales.aligned(batch)["vad"]
        errors = ((said - truth) ** 2)[~truth.isnan()]
        losses.append(errors.mean().item())
        rows.append(int(batch.mask.sum()))
    expected = np.average(losses, weights=rows)
    assert one.report["history"][-1]["validation_loss"] == pytest.approx(expected, rel=1e-5)


def test_another_corpus_is_answered_on_the_scale_in_the_middle(raw):
    raw["methods"]["linear"] |= {"part_align": "zscore", "targets": ["vad"]}
    run(raw, "train", corpus="joint", method="linear")
    run(raw, "features", corpus="calls", encoder="words")
    runs = load_runs(here(), "joint", "linear")
    said = {}
    for corpus in ("joint", "calls"):
        (source,) = sources_of(here(), runs, corpus, INPUTS)
        data = part_of(source, runs[0], "test")
        ids = source.ids[data.rows].to_list()
        said[corpus] = dict(zip(ids, predict(runs[0].method, data)["vad"].tolist(), strict=True))
    spec = runs[0].method.spec.parts
    assert spec is not None
    knots = spec.columns["calls"]["valence"]
    for name, values in said["calls"].items():
        back = np.interp(values[0], knots.common, knots.own)
        inside = knots.common[0] < values[0] < knots.common[1]
        assert not inside or said["joint"][name][0] == pytest.approx(back, abs=1e-5)
    assert any(said["calls"][name] != said["joint"][name] for name in said["calls"])


@pytest.mark.parametrize("option", [{"part_align": "zscore"}, {"part_offset": True}])
def test_a_corpus_that_is_no_union_has_no_parts_to_tell_apart(raw, option):
    run(raw, "features", corpus="calls", encoder="words")
    raw["methods"]["linear"] |= option
    (name,) = option
    with pytest.raises(UserError, match=rf"{name} has no effect on calls: .* of one part"):
        run(raw, "train", corpus="calls", method="linear")


def test_a_part_whose_values_are_all_alike_is_named(raw):
    labels = read_table(LABELS, here().labels("joint")).with_columns(
        valence=pl.when(pl.col("utterance_id").str.starts_with("essays"))
        .then(0.25)
        .otherwise("valence")
    )
    write_table(LABELS, labels, here().labels("joint"))
    with pytest.raises(UserError, match=r"part essays of joint have one value of valence \(0\.25"):
        trained_on({"part_align": "quantile"})


def test_a_network_of_classes_has_nothing_to_align(raw):
    labels = read_table(LABELS, here().labels("joint")).with_columns(
        category=pl.when(pl.col("utterance_id").hash() % 2 == 0)
        .then(pl.lit("glad"))
        .otherwise(pl.lit("sad"))
    )
    write_table(LABELS, labels, here().labels("joint"))
    assert trained_on({"part_offset": True}, ["category"])[0].part_spec is None
    assert trained_on({"part_offset": True}, ["category", "vad"])[0].part_spec is not None


def test_a_method_with_a_loss_of_its_own_learns_no_offsets():
    with pytest.raises(UserError, match=r"methods\.ridge\.part_offset has no effect: .*part_align"):
        resolve("ridge", {"part_offset": True})
    resolve("dialogue_gcn", {"part_offset": True})
