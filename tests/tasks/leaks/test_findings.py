"""The leak linter: each kind is found where it was planted, and nothing where it was not."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.errors import UserError
from tasks.leaks import near_duplicates
from tasks.leaks.findings import feature_leaks, find_leaks
from tasks.leaks.near_duplicates import SHINGLE, near_pairs
from tasks.leaks.texts import normalised
from tasks.splits.stage import SplitsParams, make_splits
from tasks.tables.labels import LABELS
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tests.places import here

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")) / "data"

# different words in every text, so that nothing repeats by chance
WORDS = ["".join(c) for c in np.random.default_rng(0).choice(list("abcdefghijklmno"), (4000, 7))]


def tables(changes: dict[int, dict] | None = None, dialogues: int = 10, turns: int = 4):
    """A clean corpus of one fold (test: last two dialogues), with changes to single rows."""
    rows, labels, splits = [], [], []
    for n in range(dialogues * turns):
        d, t = divmod(n, turns)
        row = {
            "utterance_id": f"toy/d{d}/u{t}",
            "dialogue_id": f"toy/d{d}",
            "turn": t,
            "speaker": f"p{d}",
            "session": f"s{d}",
            "start_s": float(t),
            "end_s": t + 0.9,
            "media": f"toy/d{d}.wav",
            "media_sha256": f"hash{d}",
            "text": " ".join(WORDS[n * 8 : n * 8 + 8]),
        }
        part = "test" if d >= dialogues - 2 else "validation" if d == dialogues - 3 else "train"
        change = dict((changes or {}).get(n, {}))
        splits.append(
            {"utterance_id": row["utterance_id"], "fold": 0, "split": change.pop("split", part)}
        )
        label = {"category": "happy" if n % 2 else "sad", "n_raters": 1}
        label |= {"category": change.pop("category")} if "category" in change else {}
        labels.append({"utterance_id": row["utterance_id"], **label})
        rows.append(row | change)
    return UTTERANCES.frame(rows), LABELS.frame(labels), SPLIT.frame(splits)


def leaks(changes: dict[int, dict] | None = None, **more) -> dict[str, dict]:
    return {finding["kind"]: finding for finding in find_leaks(*tables(changes, **more))}


TEXT_0 = " ".join(WORDS[:8])  # of utterance 0, in training
LAST = 39  # an utterance of the test part


def test_a_clean_corpus_has_no_findings():
    assert leaks() == {}


@pytest.mark.parametrize(
    ("change", "kind", "severity", "mentions"),
    [
        ({"speaker": "p0"}, "same_speaker", "warning", "p0 in train and test"),
        ({"session": "s0"}, "same_session", "warning", "s0 in train and test"),
        ({"split": "train"}, "same_dialogue", "error", "toy/d9 in train and test"),
        ({"media_sha256": "hash0"}, "same_media_content", "error", "toy/d0/u0 = toy/d9/u3"),
        ({"text": TEXT_0}, "identical_text", "warning", "toy/d9/u3 ~ toy/d0/u0"),
        ({"text": TEXT_0.upper() + "!?"}, "identical_text", "warning", "toy/d9/u3 ~ toy/d0/u0"),
        ({"text": TEXT_0 + " yes"}, "near_identical_text", "warning", "toy/d9/u3 ~ toy/d0/u0"),
    ],
)
def test_each_leak_is_found(change, kind, severity, mentions):
    found = leaks({LAST: change})
    assert kind in found
    assert found[kind]["severity"] == severity
    assert found[kind]["count"] == 1
    assert found[kind]["folds"] == [0]
    assert mentions in found[kind]["examples"][0]
    assert mentions in found[kind]["sentence"]
    extra = (
        {"overlapping_spans", "same_speaker", "same_session"} if kind == "same_dialogue" else set()
    )
    assert set(found) - extra == {kind}


def test_one_recording_of_one_dialogue_is_told_once_as_the_dialogue():
    assert "same_media_content" not in leaks({LAST: {"split": "train"}})


def test_short_repeated_texts_are_information_only():
    found = leaks({0: {"text": "Yeah."}, LAST: {"text": "yeah"}})
    assert found["short_repeated_text"]["severity"] == "info"
    assert set(found) == {"short_repeated_text"}


def test_repeats_within_the_training_part_are_no_leak():
    assert leaks({1: {"text": TEXT_0}, 5: {"text": TEXT_0 + " yes"}}) == {}


def test_validation_counts_as_evaluation():
    assert leaks({28: {"text": TEXT_0}})["identical_text"]["count"] == 1


def test_empty_and_missing_texts_do_not_match_each_other():
    assert (
        leaks({0: {"text": None}, 1: {"text": "..."}, LAST: {"text": None}, 38: {"text": "!"}})
        == {}
    )


def test_a_dialogue_played_again_is_a_repeated_script():
    again = {36 + t: {"text": " ".join(WORDS[8 * t : 8 * t + 8]) + " well"} for t in range(3)}
    found = leaks(again)
    assert found["repeated_script"]["count"] == 1
    assert found["repeated_script"]["examples"] == [
        "toy/d9 repeats 3 of its 4 longer texts, mostly from toy/d0"
    ]
    assert "75%" in found["repeated_script"]["sentence"]


def test_overlapping_spans_of_one_file_are_found_across_splits_only():
    same_file = {LAST: {"media": "toy/d0.wav", "start_s": 0.5, "end_s": 0.8}}
    assert leaks(same_file)["overlapping_spans"]["count"] == 1
    long = {0: {"end_s": 50.0}, LAST: {"media": "toy/d0.wav", "start_s": 40.0, "end_s": 41.0}}
    assert leaks(long)["overlapping_spans"]["examples"] == ["toy/d9/u3 (40 to 41 s of toy/d0.wav)"]
    apart = {LAST: {"media": "toy/d0.wav", "start_s": 40.0, "end_s": 41.0}}
    assert leaks(apart) == {}
    touching = {LAST: {"media": "toy/d0.wav", "start_s": 3.9, "end_s": 5.0}}
    assert leaks(touching) == {}
    within_training = {1: {"start_s": 0.0, "end_s": 9.0}}
    assert leaks(within_training) == {}


def test_class_shares_that_differ_are_told_with_the_class():
    changes = {n: {"category": "angry"} for n in range(160, 200)}
    found = leaks(changes, dialogues=50)
    assert leaks(dialogues=50) == {}
    assert "class_priors_differ" not in found  # 8 test rows say nothing
    changes = {n: {"category": "angry"} for n in range(48 * 20, 50 * 20)}
    found = leaks(changes, dialogues=50, turns=20)
    assert "angry is 0.0% of train and 100.0% of test" in found["class_priors_differ"]["sentence"]


def test_a_thing_that_crosses_in_several_folds_counts_once():
    utterances, labels, splits = tables({LAST: {"speaker": "p0"}})
    second = splits.with_columns(fold=pl.lit(1, pl.Int32))
    found = find_leaks(utterances, labels, pl.concat([splits, second]))
    assert [(f["kind"], f["count"], f["folds"]) for f in found] == [("same_speaker", 1, [0, 1])]


def test_row_order_changes_nothing_and_findings_are_json():
    utterances, labels, splits = tables({LAST: {"speaker": "p0", "text": TEXT_0 + " no"}})
    one = json.dumps(find_leaks(utterances, labels, splits))
    two = json.dumps(find_leaks(utterances.reverse(), labels.reverse(), splits.reverse()))
    assert one == two


def test_normalising_keeps_letters_and_digits_of_any_script():
    frame = pl.DataFrame({"t": ["  Hé!  ﬁne—42 ", "Привет, МИР", "…", ""]})
    assert frame.select(normalised(pl.col("t"))).to_series().to_list() == [
        "hé fine 42",
        "привет мир",
        None,
        None,
    ]


@pytest.mark.parametrize(("block", "fresh"), [(1, 1), (7, 30), (2_000, 1_000_000)])
def test_near_pairs_are_those_of_the_exact_comparison(monkeypatch, block, fresh):
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    monkeypatch.setattr(near_duplicates, "_FRESH", fresh)
    rng = np.random.default_rng(1)
    texts = {" ".join(rng.choice(WORDS[:60], rng.integers(1, 12))) for _ in range(120)}
    for text in sorted(texts)[:60]:
        words = text.split()
        words[rng.integers(len(words))] = WORDS[rng.integers(60)]
        texts.add(" ".join(words))
    texts = sorted(texts)

    def shingles(text: str) -> set[str]:
        padded = f" {text}  "
        return {padded[i : i + SHINGLE] for i in range(len(padded) - SHINGLE + 1)}

    sets = [shingles(text) for text in texts]
    exact = {
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.7
    }
    found = {(int(a), int(b)) for a, b in near_pairs(texts)}
    assert exact
    assert found == exact


@pytest.mark.parametrize("texts", [[], ["one"], ["a", "b"], ["", "b"]])
def test_few_or_tiny_texts_have_no_pairs(texts):
    assert near_pairs(texts).shape == (0, 2)


# feature columns ----------------------------------------------------------------------------


def features(n: int = 300):
    rng = np.random.default_rng(2)
    labels = rng.choice(["happy", "sad", "neutral"], n)
    splits = np.where(np.arange(n) % 3 == 0, "test", "train")
    matrix = rng.normal(size=(n, 6))
    return matrix, [f"f{i}" for i in range(6)], labels.tolist(), splits.tolist()


def test_clean_columns_have_no_findings():
    assert feature_leaks(*features()) == []


def test_a_column_that_holds_the_label_is_found():
    matrix, names, labels, splits = features()
    code = {"happy": 7.0, "sad": -1.0, "neutral": 3.0}
    matrix[:, 4] = [code[label] for label in labels] + np.random.default_rng(0).normal(0, 0.1, 300)
    (found,) = feature_leaks(matrix, names, labels, splits)
    assert (found["kind"], found["severity"]) == ("label_bearing_column", "error")
    assert found["examples"][0].startswith("f4 (")


def test_a_column_that_helps_is_not_taken_for_the_label():
    matrix, names, labels, splits = features()
    code = {"happy": 1.0, "sad": -1.0, "neutral": 0.0}
    matrix[:, 4] += [code[label] for label in labels]
    assert feature_leaks(matrix, names, labels, splits) == []


def test_a_column_that_holds_a_number_is_found():
    matrix, names, _, splits = features()
    valence = np.random.default_rng(3).uniform(-1, 1, 300)
    matrix[:, 1] = -3 * valence**3
    found = feature_leaks(matrix, names, valence.tolist(), splits)
    assert [f["kind"] for f in found] == ["label_bearing_column"]
    assert found[0]["examples"][0].startswith("f1 (")


def test_a_row_number_does_not_predict_a_shuffled_label():
    matrix, names, labels, splits = features()
    matrix[:, 0] = np.arange(300)
    assert feature_leaks(matrix, names, labels, splits) == []


def test_constant_and_non_finite_columns_are_found():
    matrix, names, labels, splits = features()
    matrix[:, 0] = 2.5
    matrix[7, 1] = np.nan
    matrix[8:10, 2] = np.inf
    matrix[:, 3] = np.nan
    found = {f["kind"]: f for f in feature_leaks(matrix, names, labels, splits)}
    assert found["constant_column"]["examples"] == ["f0", "f3"]
    assert found["not_finite_column"]["examples"] == ["f1 (1 rows)", "f2 (2 rows)", "f3 (300 rows)"]
    assert set(found) == {"constant_column", "not_finite_column"}
    json.dumps(list(found.values()))


def test_a_matrix_of_another_length_is_refused():
    matrix, names, labels, splits = features()
    with pytest.raises(UserError, match="300 rows and 6 columns, but 299 labels"):
        feature_leaks(matrix, names, labels[1:], splits)


# real data ----------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.skipif(not SHARED.exists(), reason=f"no real data at {SHARED}")
def test_iemocap_reports_scripted_repeats_across_sessions():
    table = pl.read_parquet(SHARED / "iemocap_text.parquet")
    empty = {n: pl.lit(None, t) for n, t in UTTERANCES.schema.items()}
    ids = pl.format("iemocap/{}/{}", "dialogue_id", "utterance_id")
    utterances = table.select(
        **empty
        | {
            "utterance_id": ids,
            "dialogue_id": pl.format("iemocap/{}", "dialogue_id"),
            "turn": pl.col("turn").cast(pl.Int32),
            "speaker": pl.col("speaker_id"),
            "text": pl.col("text"),
            "session": pl.col("session").cast(pl.String),
        }
    )
    labels = table.select(utterance_id=ids, category="label")
    splits, _ = make_splits(
        here(), SplitsParams(protocol="leave_one_session_out"), "iemocap", utterances, labels
    )
    last = splits.filter((pl.col("fold") == 4) & (pl.col("split") != "validation"))
    found = {f["kind"]: f for f in find_leaks(utterances, labels, last)}
    scripts = found["repeated_script"]
    assert scripts["count"] >= 10
    assert all("script0" in example for example in scripts["examples"])
    assert found["identical_text"]["count"] + found["near_identical_text"]["count"] > 200
    assert not {"same_dialogue", "same_speaker", "same_session"} & set(found)


def test_a_category_that_training_never_shows_is_named():
    found = leaks({LAST: {"category": "disgusted"}})["unlearnt_category"]
    assert (found["count"], found["severity"], found["folds"]) == (1, "warning", [0])
    assert found["examples"] == ["disgusted: 1 utterance in test of fold 0, none in train"]
    assert "unlearnt_category" not in leaks({LAST: {"category": "x"}, 0: {"category": "x"}})


def test_a_group_of_people_that_training_never_shows_is_a_warning():
    sexes = {n: {"sex": "male" if n >= LAST - 3 else "female"} for n in range(LAST + 1)}
    found = leaks(sexes)["absent_group"]
    assert (found["severity"], found["count"]) == ("warning", 1)
    assert found["examples"] == ["sex male: 4 utterances in test of fold 0, none in train"]


def test_a_new_speaker_or_an_untold_sex_is_no_absent_group():
    assert "absent_group" not in leaks()
    assert "absent_group" not in leaks({LAST: {"sex": "male"}})  # of nobody in training it is known
    both = {n: {"sex": "female" if n % 2 else "male", "age": 40.0} for n in range(LAST + 1)}
    assert "absent_group" not in leaks(both)
