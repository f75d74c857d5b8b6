"""Stage ``splits``: folds are complete and disjoint, and what is promised never crosses."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import UserError
from tasks.labels.params import LabelsParams
from tasks.splits.fingerprint import fingerprint
from tasks.splits.groups import assign, class_counts, link
from tasks.splits.stage import ForSplits, SplitsParams, make_splits, run
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tests.places import QUIET, here

CATEGORIES = ["happy", "sad", "neutral"]


def corpus(
    dialogues: int = 12,
    turns: int = 4,
    speakers_of=lambda d: (f"p{2 * d}", f"p{2 * d + 1}"),
    session_of=lambda d: f"s{d % 4}",
    split_of=lambda d: None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Utterances and labels of a corpus without media."""
    rows = [
        {
            "utterance_id": f"toy/d{d:02d}/u{t:02d}",
            "dialogue_id": f"toy/d{d:02d}",
            "turn": t,
            "speaker": speakers_of(d)[t % len(speakers_of(d))],
            "session": session_of(d),
            "text": f"line {t} of dialogue {d}",
            "published_split": split_of(d),
        }
        for d in range(dialogues)
        for t in range(turns)
    ]
    labels = [
        {
            "utterance_id": row["utterance_id"],
            "category": CATEGORIES[number % 3],
            "valence": (number % 11) / 5 - 1,
            "n_raters": 1,
        }
        for number, row in enumerate(rows)
    ]
    return UTTERANCES.frame(rows), LABELS.frame(labels)


def split(params: dict, tables, name: str = "toy") -> pl.DataFrame:
    return make_splits(here(), SplitsParams(**params), name, *tables)[0]


def crossing(splits: pl.DataFrame, utterances: pl.DataFrame, column: str) -> int:
    """Values of ``column`` in two splits of one fold."""
    rows = splits.join(utterances, on="utterance_id").filter(pl.col(column).is_not_null())
    found = rows.group_by("fold", column).agg(n=pl.col("split").n_unique())
    return found.filter(pl.col("n") > 1).height


PROTOCOLS = [
    {"protocol": "group_kfold", "group": "speaker", "folds": 4},
    {"protocol": "group_kfold", "group": "session", "folds": 3},
    {"protocol": "group_kfold", "group": "dialogue", "folds": 5},
    {"protocol": "group_kfold", "group": "speaker", "folds": 1},
    {"protocol": "leave_one_session_out"},
    {"protocol": "random_by_dialogue", "folds": 3},
    {"protocol": "random_by_dialogue", "folds": 1, "stratify": "valence"},
    {"protocol": "group_kfold", "folds": 4, "stratify": None},
]


@settings(max_examples=25)
@given(
    st.sampled_from(PROTOCOLS),
    st.integers(0, 5),
    st.lists(st.integers(1, 6), min_size=12, max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_folds_are_disjoint_complete_and_keep_groups_together(params, seed, lengths, order):
    utterances, labels = corpus(len(lengths), 6)
    kept = [f"toy/d{d:02d}/u{t:02d}" for d, n in enumerate(lengths) for t in range(n)]
    utterances = utterances.filter(pl.col("utterance_id").is_in(kept))
    splits = split({**params, "seed": seed}, (utterances, labels))
    folds = splits["fold"].n_unique()
    assert splits.height == folds * utterances.height
    for fold in range(folds):
        rows = splits.filter(pl.col("fold") == fold)
        assert set(rows["utterance_id"]) == set(kept)
        assert set(rows["split"]) == {"train", "validation", "test"}
    if params.get("folds") != 1:
        tested = splits.filter(pl.col("split") == "test")["utterance_id"]
        assert sorted(tested) == sorted(kept)  # every utterance is tested exactly once
    assert crossing(splits, utterances, "dialogue_id") == 0
    if params.get("group") == "speaker":
        assert crossing(splits, utterances, "speaker") == 0
    if params.get("group") == "session" or params["protocol"] == "leave_one_session_out":
        assert crossing(splits, utterances, "session") == 0
    mixed = utterances.sample(fraction=1.0, shuffle=True, seed=order)
    again = split({**params, "seed": seed}, (mixed, labels.reverse()))
    assert again.equals(splits)


def test_another_seed_gives_another_split():
    tables = corpus()
    params = {"protocol": "random_by_dialogue", "folds": 3}
    assert not split({**params, "seed": 1}, tables).equals(split({**params, "seed": 2}, tables))


def test_speakers_are_linked_through_the_dialogues_they_share():
    # dialogues 0-1 share p1, 1-2 share p2: the three are one group
    tables = corpus(8, speakers_of=lambda d: (f"p{d}", f"p{d + 1}") if d < 3 else (f"q{d}",))
    splits = split({"group": "speaker", "folds": 3}, tables)
    rows = splits.join(tables[0], on="utterance_id").filter(
        pl.col("dialogue_id").is_in(["toy/d00", "toy/d01", "toy/d02"])
    )
    assert rows.group_by("fold").agg(pl.col("split").n_unique())["split"].to_list() == [1, 1, 1]


def test_sizes_and_classes_are_balanced():
    utterances, labels = corpus(40, 6)
    rows = split({"group": "dialogue", "folds": 5}, (utterances, labels)).join(
        labels, on="utterance_id"
    )
    tests = rows.filter(pl.col("split") == "test").group_by("fold").len()["len"]
    assert tests.min() >= 42
    assert tests.max() <= 54
    shares = rows.filter(pl.col("split") == "test").group_by("fold", "category").len()
    assert shares["len"].min() >= 12
    assert shares["len"].max() <= 20
    validation = rows.filter(pl.col("split") == "validation").group_by("fold").len()["len"]
    assert validation.to_numpy() / 192 == pytest.approx(np.full(5, 0.15), abs=0.04)


def test_leave_one_session_out_tests_each_session_once():
    tables = corpus()
    rows = split({"protocol": "leave_one_session_out"}, tables).join(tables[0], on="utterance_id")
    tests = rows.filter(pl.col("split") == "test").group_by("fold").agg(pl.col("session").unique())
    assert sorted(tests["session"].explode()) == ["s0", "s1", "s2", "s3"]


PUBLISHED = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2


def test_published_splits_are_kept():
    tables = corpus(split_of=lambda d: PUBLISHED[d])
    splits, metadata = make_splits(here(), SplitsParams(protocol="published"), "toy", *tables)
    rows = splits.join(tables[0], on="utterance_id")
    assert rows["split"].equals(rows["published_split"].alias("split"))
    assert json.loads(metadata["validation_by"]) == ["published"]


def test_a_missing_published_validation_part_is_cut_from_training_alone():
    tables = corpus(split_of=lambda d: "test" if d > 8 else "train")
    splits = split({"protocol": "published"}, tables)
    rows = splits.join(tables[0], on="utterance_id")
    assert set(rows.filter(pl.col("published_split") == "test")["split"]) == {"test"}
    validation = rows.filter(pl.col("split") == "validation")
    assert validation.height > 0
    assert crossing(splits, tables[0], "dialogue_id") == 0
    assert crossing(splits, tables[0], "speaker") == 0


def test_the_published_validation_part_may_be_the_test_part():
    tables = corpus(split_of=lambda d: PUBLISHED[d])
    params = SplitsParams(protocol="published", test_part="validation")
    splits, metadata = make_splits(here(), params, "toy", *tables)
    rows = splits.join(tables[0], on="utterance_id")
    assert set(rows.filter(pl.col("split") == "test")["published_split"]) == {"validation"}
    assert set(rows.filter(pl.col("split") != "test")["published_split"]) == {"train"}
    assert rows.filter(pl.col("split") == "validation").height > 0
    assert rows.height == tables[0].height - 8  # two dialogues of the hidden test part
    assert "8 utterances of the published one are left out" in metadata["notes"]
    assert crossing(splits, tables[0], "dialogue_id") == 0
    no_test = corpus(split_of=lambda d: PUBLISHED[d] if d < 10 else "validation")
    assert set(split(params.model_dump(), no_test)["split"]) == {"train", "validation", "test"}
    with pytest.raises(ValidationError, match="needs protocol: published"):
        SplitsParams(test_part="validation")


def test_utterances_outside_the_published_split_are_left_out_and_noted():
    tables = corpus(split_of=lambda d: None if d == 0 else PUBLISHED[d])
    splits, metadata = make_splits(here(), SplitsParams(protocol="published"), "toy", *tables)
    assert splits.height == tables[0].height - 4
    assert "4 utterances have no place in the published split" in metadata["notes"]


def test_validation_falls_back_to_dialogues_and_says_so():
    # everybody speaks with everybody: one speaker group in training
    tables = corpus(
        split_of=lambda d: "test" if d > 8 else "train", speakers_of=lambda d: ("p", "q")
    )
    splits, metadata = make_splits(here(), SplitsParams(protocol="published"), "toy", *tables)
    assert json.loads(metadata["validation_by"]) == ["dialogue"]
    assert "the training rows are linked into one speaker group" in metadata["notes"]
    assert crossing(splits, tables[0], "dialogue_id") == 0


def test_a_stratum_that_nobody_has_is_noted():
    _, metadata = make_splits(here(), SplitsParams(stratify="sentiment"), "toy", *corpus())
    assert "no utterance has a sentiment" in metadata["notes"]
    _, metadata = make_splits(here(), SplitsParams(stratify=None), "toy", *corpus())
    assert json.loads(metadata["notes"]) == []


def test_some_unknown_speakers_are_noted():
    tables = corpus(speakers_of=lambda d: (None, f"p{d}") if d == 3 else (f"p{d}",))
    _, metadata = make_splits(here(), SplitsParams(folds=3), "toy", *tables)
    assert "2 utterances have no speaker" in metadata["notes"]


@pytest.mark.parametrize(
    ("params", "tables", "message"),
    [
        ({"protocol": "published"}, {}, "has no published split.*group_kfold"),
        ({"protocol": "published"}, {"split_of": lambda d: "train"}, "has only train"),
        ({"folds": 5}, {"speakers_of": lambda d: ("p",)}, "link its dialogues into 1 group,"),
        ({"folds": 5}, {"speakers_of": lambda d: (None,)}, "knows no speaker"),
        ({"folds": 13, "group": "dialogue"}, {}, "12 groups, but 13 are needed"),
        ({"folds": 2, "group": "dialogue"}, {"dialogues": 2}, "2 groups, but 3 are needed"),
        (
            {"protocol": "leave_one_session_out"},
            {"session_of": lambda d: None},
            "48 utterances without a session",
        ),
        ({"protocol": "leave_one_session_out"}, {"session_of": lambda d: "s"}, "only one session"),
        ({"stratify": "mood"}, {}, "no column 'mood'"),
        ({"stratify": "categories"}, {}, "holds lists"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_with_a_remedy(params, tables, message):
    with pytest.raises(UserError, match=message):
        split(params, corpus(**tables))


def test_the_hash_ignores_row_order_and_sees_every_change():
    splits = split({"folds": 3}, corpus())
    assert fingerprint(splits) == fingerprint(splits.reverse())
    other = splits.with_columns(
        split=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("train")).otherwise("split")
    )
    changed = not other.equals(splits)
    assert (fingerprint(other) != fingerprint(splits)) == changed
    flipped = splits.with_columns(fold=2 - pl.col("fold")).cast({"fold": pl.Int32})
    assert fingerprint(flipped) != fingerprint(splits)


def test_the_stage_writes_splits_with_their_hash_and_the_leaks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    utterances, labels = corpus()
    put_tables(utterances, labels)
    asked = ForSplits(SplitsParams(folds=3, seed=7), LabelsParams())
    run(asked, here(), QUIET, "toy")
    splits = read_table(SPLIT, here().splits("toy"))
    metadata = read_metadata(here().splits("toy"))
    assert metadata["sha256"] == fingerprint(splits)
    assert (metadata["protocol"], metadata["seed"]) == ("group_kfold", "7")
    report = json.loads(here().leaks("toy").read_text())
    assert report["sha256"] == metadata["sha256"]
    assert {finding["kind"] for finding in report["findings"]} >= {"same_session"}
    before = here().splits("toy").read_bytes(), here().leaks("toy").read_bytes()
    run(asked, here(), QUIET, "toy")
    assert before == (here().splits("toy").read_bytes(), here().leaks("toy").read_bytes())


def put_tables(utterances: pl.DataFrame, labels: pl.DataFrame) -> None:
    """Utterances, and one judgement of the category of each, in an order of their own."""
    said = labels.select("utterance_id", label="category").with_columns(
        rater=pl.lit("ann"), target=pl.lit("category"), source=pl.lit("s")
    )
    write_table(UTTERANCES, utterances, here().utterances("toy"))
    write_table(ANNOTATIONS, ANNOTATIONS.frame(said.to_dicts()), here().annotations("toy"))


def test_splits_need_no_labels_and_do_not_follow_how_raters_are_weighed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    utterances, labels = corpus()
    put_tables(utterances, labels)
    chosen = SplitsParams(folds=3)
    found = []
    for merging in (LabelsParams(), LabelsParams(merge="ewe"), LabelsParams(merge="median")):
        run(ForSplits(chosen, merging), here(), QUIET, "toy")
        found.append(here().splits("toy").read_bytes())
    assert found[0] == found[1] == found[2]
    table = read_table(SPLIT, here().splits("toy"))
    assert table.equals(make_splits(here(), chosen, "toy", utterances, labels)[0])
    alike = LabelsParams(aliases={"happy": "any", "sad": "any", "neutral": "any"})
    run(ForSplits(chosen, alike), here(), QUIET, "toy")
    assert here().splits("toy").read_bytes() != found[0]  # one stratum is another balance


# groups -------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.none() | st.sampled_from("uvwxyz")),
        min_size=1,
        max_size=14,
    )
)
def test_link_finds_the_groups_that_merging_step_by_step_finds(rows):
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String}, orient="row")
    groups = [{i} for i in range(len(rows))]
    for i, left in enumerate(rows):
        for j, right in enumerate(rows[:i]):
            if left[0] == right[0] or (left[1] is not None and left[1] == right[1]):
                one = next(g for g in groups if i in g)
                two = next(g for g in groups if j in g)
                if one is not two:
                    groups.remove(two)
                    one |= two
    found = link(frame, ("a", "b"))
    assert {frozenset(np.flatnonzero(found == g)) for g in set(found)} == {
        frozenset(g) for g in groups
    }
    assert found[0] == 0


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), min_size=4, max_size=12))
def test_no_part_stays_empty(counts):
    shares = np.array([0.05, 0.05, 0.1, 0.8])
    part = assign(np.array(counts, float), shares, np.random.default_rng(0))
    assert set(part) == {0, 1, 2, 3}


def test_class_counts_counts():
    group, stratum = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 0])
    assert class_counts(group, stratum).tolist() == [[1, 0, 1], [1, 2, 0]]
