import math

import numpy as np
import polars as pl
import pytest
import torch

from models.batch import Target
from models.errors import UserError
from tasks.batches.dataset import first_of
from tasks.batches.labels import labels_by_fold
from tasks.batches.source import Wanted
from tasks.tables.contract import TableError
from tasks.tables.features import FEATURES
from tasks.tables.parquet import write_table
from tests.places import here
from tests.tasks.corpus_factory import CLASSES, CORPUS, DIMS, INPUTS, features_frame, make_corpus

NO_VIDEO, NO_JUDGEMENT, NO_ROW = (f"{CORPUS}/{name}" for name in ("d00/u2", "d00/u1", "d01/u0"))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_corpus()


def load(inputs=INPUTS):
    return Wanted(inputs).source(here(), CORPUS)


def at(source, name):
    return int(np.flatnonzero(source.ids == name)[0])


def whole(source, fold=0, split="train", level="dialogue", *, labelled=False):
    data = source.part(fold, split, level, source.targets, labelled=labelled)
    return data, data.batch(range(len(data)))


def assert_same(one, other):
    assert one.ids.to_list() == other.ids.to_list()
    assert one.speakers.tolist() == other.speakers.tolist()
    assert one.targets == other.targets
    for mine, theirs in (
        (one.features, other.features),
        (one.present, other.present),
        (one.judged[0].values, other.judged[0].values),
    ):
        assert list(mine) == list(theirs)
        for name, values in mine.items():
            np.testing.assert_array_equal(values, theirs[name])


def test_the_order_of_rows_and_files_does_not_matter(corpus):
    corpus.write()
    straight = load()
    corpus.write(order=3)
    assert len(list(here().features(CORPUS, "ears").glob("*.parquet"))) == 2
    assert_same(straight, load())


def test_features_and_labels_belong_to_their_utterance(corpus):
    corpus.write(order=1)
    source = load()
    category = next(t for t in source.targets if t.name == "category")
    for i, name in enumerate(source.ids):
        for modality, encoder in INPUTS.items():
            expected = corpus.features[encoder][name] or [0.0] * DIMS[encoder]
            np.testing.assert_allclose(source.features[modality][i], expected, rtol=1e-6)
        if name not in (NO_JUDGEMENT, NO_ROW):
            row = corpus.label(name)
            assert category.names[source.judged[0].values["category"][i]] == row["category"]
            assert source.judged[0].values["vad"][i, 1] == pytest.approx(row["arousal"], rel=1e-6)


def test_rows_of_one_turn_have_one_order_and_their_own_speakers(corpus):
    for row in corpus.utterances:
        row["turn"] = 0
    corpus.write()
    straight = load()
    corpus.write(order=2)
    assert_same(straight, load())
    assert straight.ids.to_list() == sorted(straight.ids)
    assert straight.speakers[:5].tolist() == [0, 1, 0, 1, 0]


def test_a_speaker_has_one_index_in_the_whole_corpus(corpus):
    for row in corpus.utterances:
        row["speaker"] = {"p0a": "zoe", "p1b": "zoe", "p2a": None}.get(row["speaker"], "ada")
    corpus.write()
    data, batch = whole(load())
    who = {row["utterance_id"]: row["speaker"] for row in corpus.utterances}
    names = {0: "ada", 1: "zoe", -1: None}
    ids = load().ids[data.rows]
    assert [names[int(i)] for i in batch.people[batch.mask]] == [who[name] for name in ids]
    assert (batch.people[~batch.mask] == -1).all()
    assert set(batch.people[batch.mask].tolist()) == {-1, 0, 1}


def test_only_people_of_the_training_rows_are_known(corpus):
    trained = {*corpus.ids("train")}
    for row in corpus.utterances:
        if row["utterance_id"] not in trained:
            row["speaker"] = "ada" if row["turn"] else f"a{row['utterance_id']}"
        elif row["turn"] < 2:
            row["speaker"] = ["zoe", "ada"][row["turn"]]
    corpus.write()
    source = load()
    data, batch = whole(source)
    spec = source.spec(data)
    names = {row["speaker"] for row in corpus.utterances if row["utterance_id"] in trained}
    assert spec.people == len(names) < len({row["speaker"] for row in corpus.utterances})
    assert set(batch.people[batch.mask].tolist()) == set(range(spec.people))
    assert batch.people[0, 1] == 0  # ada, whoever else has a name before hers
    _, unseen = whole(source, split="test")
    assert (unseen.people == torch.where(torch.arange(5) > 0, 0, -1)).all()


def test_dialogues_are_padded_with_nothing(corpus):
    gone = f"{CORPUS}/d00/u4"
    for rows in (corpus.utterances, corpus.labels, corpus.splits):
        rows[:] = [row for row in rows if row["utterance_id"] != gone]
    corpus.write()
    _, batch = whole(load())
    assert batch.mask.shape == (6, 5)
    assert batch.mask.sum(1).tolist() == [4, 5, 5, 5, 5, 5]
    assert batch.index[0].tolist() == [0, 1, 2, 3, -1]
    padding = ~batch.mask
    assert (batch.speakers[padding] == 0).all()
    assert (batch.targets["category"][padding] == -1).all()
    assert batch.targets["vad"][padding].isnan().all()
    for modality in INPUTS:
        assert not batch.present[modality][padding].any()
        assert (batch.features[modality][padding] == 0).all()


def test_an_absent_modality_is_zero_and_not_present(corpus):
    corpus.write()
    _, batch = whole(load())
    assert not batch.present["video"][0, 2]
    assert (batch.features["video"][0, 2] == 0).all()
    assert batch.present["audio"][0, 2]
    assert batch.present["video"].sum() == batch.mask.sum() - 1


def test_rows_without_a_judgement_stay_in_dialogues_but_train_no_utterance(corpus):
    corpus.write()
    source = load()
    bare = [at(source, NO_JUDGEMENT), at(source, NO_ROW)]
    assert (source.judged[0].values["category"][bare] == -1).all()
    assert np.isnan(source.judged[0].values["vad"][bare]).all()
    dialogues, batch = whole(source, labelled=True)
    assert set(bare) <= set(dialogues.rows)
    assert batch.targets["category"][0, 1] == -1
    utterances, _ = whole(source, level="utterance", labelled=True)
    assert len(utterances) == 28
    assert not set(bare) & set(utterances.rows)
    assert len(whole(source, level="utterance")[0]) == 30


def test_a_dialogue_without_any_judgement_trains_nothing(corpus):
    corpus.labels = [r for r in corpus.labels if not r["utterance_id"].startswith("tiny/d03/")]
    corpus.write()
    dialogues, _ = whole(load(), labelled=True)
    assert len(dialogues) == 5


def test_truth_stands_in_the_order_of_predicted_rows(corpus):
    corpus.write()
    source = load()
    data, batch = whole(source, split="test")
    target = source.targets[0]
    by_row = batch.targets["category"][batch.mask][torch.argsort(batch.index[batch.mask])]
    assert torch.equal(data.truth(target), by_row)
    assert source.ids[data.rows].to_list() == corpus.ids("test")


def test_targets_are_those_with_judgements(corpus):
    for row in corpus.labels:
        row["dominance"] = None
    corpus.labels[0]["categories"] = ["calm"]
    corpus.labels[2]["categories"] = []
    corpus.write()
    source = load()
    assert source.targets == (
        Target("category", "category", CLASSES),
        Target("vad", "values", ("valence", "arousal"), -1.0, 1.0),
        Target("categories", "labels", ("calm",)),
    )
    assert source.judged[0].values["categories"][0].tolist() == [1.0]
    assert source.judged[0].values["categories"][2].tolist() == [0.0]
    assert np.isnan(source.judged[0].values["categories"][3]).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_name_the_utterance(corpus, value):
    corpus.features["ears"]["tiny/d04/u3"][1] = value
    corpus.write()
    with pytest.raises(UserError, match=r"ears: features of tiny/d04/u3 hold NaN or infinity"):
        load()


def test_rows_of_a_dialogue_and_of_a_part_share_their_names(corpus):
    corpus.write()
    source = load()
    assert source.dialogues.tolist() == [name.rpartition("/")[0] for name in source.ids]
    assert len({id(name) for name in source.dialogues}) == len({*source.dialogues})
    assert len({id(name) for name in source.parts}) == 1


def test_items_come_again_as_often_as_they_are_named(corpus):
    corpus.write()
    source = load()
    data = source.part(0, "train", "dialogue", source.targets, labelled=False)
    rows = [data.rows[data.places(item)].tolist() for item in range(len(data))]
    again = data.again([2, 0, 2])
    assert len(again) == 3
    assert again.rows.tolist() == rows[2] + rows[0] + rows[2]
    batch = again.batch([0, 1])
    assert batch.mask.sum(1).tolist() == [len(rows[2]), len(rows[0])]
    assert batch.index[batch.mask].tolist() == [*range(len(rows[2]) + len(rows[0]))]
    assert len(data.again([])) == 0 == len(data.again([]).rows)


def test_features_that_lack_an_utterance_name_it(corpus):
    del corpus.features["words"]["tiny/d05/u1"]
    corpus.write()
    with pytest.raises(UserError, match=r"words: 1 utterances have no row, e.g. tiny/d05/u1"):
        load()


def test_an_utterance_in_two_feature_files_is_an_error(corpus):
    corpus.write()
    again = {"tiny/d00/u0": corpus.features["ears"]["tiny/d00/u0"]}
    folder = here().features(CORPUS, "ears")
    write_table(FEATURES, features_frame(again, 4), folder / "9.parquet")
    with pytest.raises(TableError, match=r"share a key; the first is tiny/d00/u0"):
        load()


def test_feature_files_of_two_widths_are_an_error(corpus):
    corpus.write()
    other = features_frame({"tiny/d00/zz": [0.0] * 7}, 7)
    write_table(FEATURES, other, here().features(CORPUS, "ears") / "9.parquet")
    with pytest.raises(TableError, match=r"9\.parquet: its columns have other types or widths"):
        load()


@pytest.mark.parametrize("table", ["labels", "splits"])
def test_rows_of_unknown_utterances_are_an_error(corpus, table):
    rows = getattr(corpus, table)
    rows.append({**rows[0], "utterance_id": "tiny/d99/u0"})
    corpus.write()
    with pytest.raises(
        UserError, match=rf"{table}/tiny\.parquet: 1 rows belong to no utterance.*d99"
    ):
        load()


def test_inputs_without_an_encoder_are_an_error(corpus):
    corpus.write()
    with pytest.raises(UserError, match="inputs names no encoder"):
        load({})


def test_a_stage_that_has_not_run_is_named(corpus):
    corpus.write()
    with pytest.raises(UserError, match=r"data/features/tiny/nose.*run stage features first"):
        load({"audio": "nose"})


def test_first_labels_count_only_where_every_row_with_a_label_has_one():
    target = Target("categories", "labels", ("calm", "eager"))
    labels = np.array([[1.0, 1], [0, 0], [0, 1]])
    known = np.array([1, -1, 1])
    assert first_of(target, labels, known) is known
    assert first_of(target, labels, np.array([1, -1, -1])) is None
    assert first_of(target, labels, None) is None
    assert first_of(Target("category", "category", ("a", "b")), np.array([0]), known) is None


VAD_TARGET = Target("vad", "values", ("valence", "arousal"))
IDS = pl.Series("utterance_id", ["a", "b", "c"])


def votes(**shares):
    return [{"label": label, "share": share} for label, share in shares.items()]


def table_of(**columns):
    return pl.DataFrame({"utterance_id": ["a", "b", "c"], "arousal": [0.1, 0.2, 0.3], **columns})


def test_a_label_of_a_fold_wins_there_and_holds_nowhere_else():
    table = pl.DataFrame(
        {
            "utterance_id": ["a", "b", "a", "c"],
            "fold": [None, None, 1, 0],
            "valence": [0.1, 0.2, 0.9, 0.3],
            "arousal": [0.0, 0.0, 0.5, 0.0],
        },
        schema_overrides={"fold": pl.Int32},
    )
    found = labels_by_fold(IDS, table, [VAD_TARGET], [0, 1, 2])
    valence = {fold: one.values["vad"][:, 0].tolist() for fold, one in found.items()}
    nan = pytest.approx(math.nan, nan_ok=True)
    assert valence[0] == pytest.approx([0.1, 0.2, 0.3])
    assert valence[1] == [pytest.approx(0.9), pytest.approx(0.2), nan]
    assert valence[2] == [pytest.approx(0.1), pytest.approx(0.2), nan]


def test_a_table_without_folds_is_read_once():
    found = labels_by_fold(IDS, table_of(valence=[0.1, None, 0.2]), [VAD_TARGET], [0, 1])
    assert found[0] is found[1]


def test_derived_values_are_learnt_but_not_scored():
    table = table_of(valence=[0.1, 0.2, None], valence_kind=["rated", "prior", None])
    found = labels_by_fold(IDS, table, [VAD_TARGET], [0])[0]
    assert found.scored["vad"].tolist() == [[True, True], [False, True], [False, True]]
    assert found.values["vad"][1, 0] == pytest.approx(0.2)


def test_what_speakers_say_of_themselves_is_scored_and_told_apart():
    table = table_of(valence=[0.1, 0.2, 0.3], valence_kind=["self_report", "rated", "proxy"])
    found = labels_by_fold(IDS, table, [VAD_TARGET], [0])[0]
    assert found.own["vad"][:, 0].tolist() == [True, False, False]
    assert found.scored["vad"][:, 0].tolist() == [True, True, False]


def test_shares_of_votes_are_those_among_the_classes():
    target = Target("category", "category", ("angry", "happy"))
    table = table_of(
        category=["happy", "angry", None],
        category_shares=[votes(angry=0.2, happy=0.6, odd=0.2), votes(angry=1.0), None],
    )
    found = labels_by_fold(IDS, table, [target], [0])[0].soft["category"]
    np.testing.assert_allclose(found, [[0.25, 0.75], [1, 0], [np.nan, np.nan]])


def test_epochs_are_chosen_on_rated_values_where_there_are_any(corpus):
    corpus.write()
    source = load()
    (vad,) = [t for t in source.targets if t.name == "vad"]
    data = source.part(0, "validation", "utterance", [vad], labelled=True)
    assert np.array_equal(data.truth_to_select_by(vad), data.truth(vad).numpy(), equal_nan=True)
    scored = data._labels.scored["vad"]
    scored[data.rows[0]] = False
    assert np.isnan(data.truth_to_select_by(vad)[0]).all()
    scored[:] = False
    assert np.array_equal(data.truth_to_select_by(vad), data.truth(vad).numpy(), equal_nan=True)


def test_vectors_of_several_encoders_stand_side_by_side(corpus):
    corpus.write()
    both, ears, words = (load({"audio": named}) for named in (["ears", "words"], "ears", ["words"]))
    np.testing.assert_array_equal(
        both.features["audio"], np.hstack([ears.features["audio"], words.features["audio"]])
    )
    assert both.dims == {"audio": DIMS["ears"] + DIMS["words"]}
    assert both.present["audio"].all()
    assert not both.partial
    assert not both.notes()


def test_a_row_that_lacks_one_of_the_encoders_lacks_the_modality(corpus):
    corpus.write()
    source = load({"video": ["ears", "eyes"]})
    row = at(source, NO_VIDEO)
    assert not source.present["video"][row]
    assert not source.features["video"][row].any()
    without = int((~load({"video": "eyes"}).present["video"]).sum())
    assert source.partial == {"video": without}
    (note,) = source.notes()
    assert note.startswith(f"{without} utterances have features of some encoders of video")
    _, batch = whole(source)
    assert not (batch.features["video"] * ~batch.present["video"].unsqueeze(-1)).any()


def test_items_that_are_named_again_are_rows_of_their_own(corpus):
    corpus.write()
    data, _ = whole(load())
    twice = data.again([1, 0, 1])
    assert twice.rows.tolist() == [*data.rows[data.places(1)], *data.rows[data.places(0)],
                                   *data.rows[data.places(1)]]  # fmt: skip
    assert torch.equal(twice.batch([2]).features["text"], data.batch([1]).features["text"])
    assert twice.batch([2]).index[0, 0] == len(data.places(1)) + len(data.places(0))
    assert len(data) != len(twice)
