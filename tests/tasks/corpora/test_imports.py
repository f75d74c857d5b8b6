"""``affectloom import``: every form in, the same tables out, and features as they were."""

import json
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from flows.cli.imports import snippet
from models.errors import UserError
from tasks.corpora.imports import reading
from tasks.corpora.imports.reading import ImportOptions
from tasks.features import foreign
from tasks.features.stage import EncoderParams
from tasks.ingest import stage as ingest
from tasks.ingest.stage import IngestParams
from tasks.labels import stage as labels
from tasks.labels.stage import LabelsParams
from tasks.plain_context import PlainContext
from tasks.store.buckets import bucket_of
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES
from tests.places import QUIET, here

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"
RNG = np.random.default_rng(0)
SIZES = {"Ses01F_impro01": 3, "Ses02M_script01": 2, "Ses05F_impro02": 2}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))


def save(content, name: str = "x.pkl", protocol: int = 4) -> Path:
    path = Path(name)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def per_dialogue(make, sizes=SIZES) -> dict:
    return {dialogue: make(dialogue, size) for dialogue, size in sizes.items()}


def iemocap_parts() -> dict:
    return {
        "ids": per_dialogue(lambda d, n: [f"{d}_F{k:03d}" for k in range(n)]),
        "speakers": per_dialogue(lambda d, n: ["FM"[k % 2] for k in range(n)]),
        "labels": per_dialogue(lambda d, n: [5 - k for k in range(n)]),
        "text": per_dialogue(lambda d, n: RNG.normal(size=(n, 4)).astype("f4")),
        "audio": per_dialogue(lambda d, n: [RNG.normal(size=3) for _ in range(n)]),
        "video": per_dialogue(lambda d, n: RNG.normal(size=(n, 5))),
        "sentences": per_dialogue(lambda d, n: [f"line {k} of {d}" for k in range(n)]),
    }


def iemocap_tuple() -> tuple:
    train = {"Ses01F_impro01", "Ses02M_script01"}
    return (*iemocap_parts().values(), train, ["Ses05F_impro02"])


def run(source: Path, corpus: str = "toy", **options) -> reading.Summary:
    return reading.run(here(), source, corpus, ImportOptions(**options))


class Ready:
    """Tables after the import went through ingest and labels."""

    def __init__(self, corpus: str = "toy") -> None:
        params = IngestParams(adapter="imported", max_quarantine_fraction=0.9)
        ingest.run(params, here(), PlainContext(stage="ingest"), corpus)
        labels.run(LabelsParams(max_quarantine_fraction=1.0), here(), QUIET, corpus)
        self.utterances = read_table(UTTERANCES, here().utterances(corpus))
        self.annotations = read_table(ANNOTATIONS, here().annotations(corpus))
        self.quarantine = read_table(QUARANTINE, here().quarantine(corpus))
        self.labels = read_table(LABELS, here().labels(corpus))


def features(
    name: str, corpus: str = "toy", sequence: bool = False, of: str | None = None
) -> pl.DataFrame:
    checkpoint = f"data/raw/{of or corpus}/imported/{name}.parquet"
    params = EncoderParams(family="imported", checkpoint=checkpoint, sequence=sequence)
    folder = foreign.run(params, here(), corpus, name)
    return read_table(FEATURES, folder)


def value_of(frame: pl.DataFrame, utterance: str) -> dict:
    return frame.row(by_predicate=pl.col("utterance_id") == utterance, named=True)


# dialogue pickles ---------------------------------------------------------------------------------


def test_a_tuple_of_nine_becomes_dialogues_labels_and_splits():
    content = iemocap_tuple()
    summary = run(save(content))
    assert (summary.utterances, summary.dialogues) == (7, 3)
    assert summary.splits == {"test": 2, "train": 5}
    assert summary.judgements == {"category": 7}
    ready = Ready()
    row = value_of(ready.utterances, "toy/Ses01F_impro01/Ses01F_impro01_F001")
    assert row["text"] == "line 1 of Ses01F_impro01"
    assert (row["speaker"], row["session"], row["turn"]) == ("Ses01_M", "Ses01", 1)
    labelled = value_of(ready.labels, "toy/Ses01F_impro01/Ses01F_impro01_F001")
    assert labelled["category"] == "excited"  # 4 of hap, sad, neu, ang, exc, fru


def test_features_are_those_of_the_file_and_say_where_they_come_from():
    content = iemocap_tuple()
    source = save(content)
    run(source)
    Ready()
    for block, place in (("text", 3), ("audio", 4), ("video", 5)):
        table = features(f"toy_{block}")
        assert table.height == 7
        got = value_of(table, "toy/Ses01F_impro01/Ses01F_impro01_F002")
        np.testing.assert_array_equal(
            got["pooled"], np.asarray(content[place]["Ses01F_impro01"][2], "f4")
        )
    metadata = read_metadata(here().features("toy", "toy_text"))
    assert metadata["trained"] == "unknown"
    assert metadata["source_sha256"] == reading.hash_file(source)
    assert metadata["format"].startswith("dialogue tuple of 9")
    assert metadata["modality"] == "text"


def test_bucket_files_are_where_the_rest_of_the_project_looks():
    run(save(iemocap_tuple()))
    Ready()
    features("toy_text")
    folder = here().features("toy", "toy_text")
    for file in folder.glob("bucket-*.parquet"):
        number = int(file.stem.split("-")[1])
        names = pl.read_parquet(file)["utterance_id"]
        assert all(bucket_of(name, rows=4) == number for name in names)


def test_a_file_in_another_order_than_the_table_gives_the_same_rows(monkeypatch):
    monkeypatch.setattr("tasks.corpora.imports.writing.ROW_GROUP", 1)
    monkeypatch.setattr("tasks.features.foreign._GROUPS", 2)
    run(save(iemocap_tuple()))
    Ready()
    folder = here().features("toy", "toy_text")

    def rows():
        features("toy_text")
        return pl.concat(map(pl.read_parquet, sorted(folder.iterdir()))).sort("utterance_id")

    by_utterance, files = rows(), len(list(folder.iterdir()))
    monkeypatch.setattr("tasks.store.buckets.BY_DIALOGUE", 1)
    assert rows().equals(by_utterance)
    assert len(list(folder.iterdir())) < files


def test_the_same_file_gives_the_same_bytes():
    source = save(iemocap_tuple())
    run(source)
    first = {f.name: f.read_bytes() for f in reading.folder(here(), "toy").iterdir()}
    run(source, replace=True)
    assert {f.name: f.read_bytes() for f in reading.folder(here(), "toy").iterdir()} == first
    assert set(first) == {
        "manifest.json",
        "utterances.parquet",
        "annotations.parquet",
        "quarantine.parquet",
        "toy_text.parquet",
        "toy_audio.parquet",
        "toy_video.parquet",
    }


def test_python_2_tuples_are_read():
    summary = run(save(iemocap_tuple(), protocol=2))
    assert summary.utterances == 7


def meld_sizes() -> dict:
    return {0: 2, 1: 1, 1039: 2}


def meld_parts() -> dict:
    sizes = meld_sizes()
    return {
        "ids": per_dialogue(lambda d, n: list(range(n)), sizes),
        "speakers": per_dialogue(lambda d, n: [np.eye(9)[k].tolist() for k in range(n)], sizes),
        "labels": per_dialogue(lambda d, n: [6 - k for k in range(n)], sizes),
        "text": per_dialogue(lambda d, n: RNG.normal(size=(n, 6)), sizes),
        "audio": per_dialogue(lambda d, n: RNG.normal(size=(n, 3)), sizes),
        "video": per_dialogue(lambda d, n: RNG.normal(size=(n, 4)), sizes),
        "sentences": per_dialogue(lambda d, n: [f"hi {k}" for k in range(n)], sizes),
    }


def test_melds_tuples_of_nine_and_ten_are_told_apart():
    parts = meld_parts()
    sentiment = per_dialogue(lambda d, n: [1] * n, meld_sizes())
    ten = (*parts.values(), [0, 1], [1039], sentiment)
    assert run(save(ten)).format == "dialogue tuple of 10 (MELD)"
    assert set(Ready().labels["category"]) == {"anger", "disgust"}
    del parts["video"]
    nine = (*parts.values(), [0, 1], [1039], sentiment)
    summary = run(save(nine), "nine")
    assert summary.format == "dialogue tuple of 9 (MELD)"
    assert list(summary.features) == ["nine_text", "nine_audio"]
    assert set(Ready("nine").labels["category"]) == {"anger", "disgust"}


def test_a_speaker_of_one_dialogue_is_not_taken_for_one_of_another():
    run(save((*meld_parts().values(), [0, 1], [1039], {})))
    speakers = Ready().utterances.group_by("speaker").agg(pl.col("dialogue_id").n_unique())
    assert speakers["dialogue_id"].max() == 1


def test_swapped_emotions_and_sentiments_of_meld_are_told_apart():
    parts = meld_parts()
    del parts["video"]
    emotions, parts["labels"] = parts["labels"], per_dialogue(lambda d, n: [1] * n, meld_sizes())
    run(save((*parts.values(), [0, 1], [1039], emotions)))
    assert set(Ready().labels["category"]) == {"anger", "disgust"}


def test_cosmic_tuples_have_four_text_features():
    parts = iemocap_parts()
    layers = [per_dialogue(lambda d, n: RNG.normal(size=(n, 32))) for _ in range(4)]
    splits = (["Ses01F_impro01"], ["Ses05F_impro02"], ["Ses02M_script01"])
    ten = (parts["speakers"], parts["labels"], *layers, parts["sentences"], *splits)
    summary = run(save(ten), labels=None)
    assert summary.format == "COSMIC tuple of 10"
    assert summary.splits == {"test": 2, "train": 3, "validation": 2}
    assert list(summary.features) == [f"toy_roberta{n}" for n in (1, 2, 3, 4)]
    sentiment = per_dialogue(lambda d, n: [0] * n)
    eleven = (parts["speakers"], parts["labels"], sentiment, *layers, parts["sentences"], *splits)
    assert run(save(eleven), "eleven").format == "COSMIC tuple of 11"
    comet = tuple(per_dialogue(lambda d, n: RNG.normal(size=(n, 4))) for _ in range(9))
    with pytest.raises(UserError, match="features_roberta"):
        run(save(comet), "comet")


def test_tuples_of_twelve_have_four_texts_beside_voice_and_picture():
    parts = iemocap_parts()
    texts = [parts["text"]] * 4
    rest = [parts[name] for name in ("audio", "video", "sentences")]
    three = [parts[name] for name in ("ids", "speakers", "labels")]
    train = ["Ses01F_impro01", "Ses02M_script01"]
    summary = run(save((*three, *texts, *rest, train, ["Ses05F_impro02"])))
    assert summary.format == "dialogue tuple of 12 (IEMOCAP)"
    assert list(summary.features) == [
        "toy_roberta1",
        "toy_roberta2",
        "toy_roberta3",
        "toy_roberta4",
        "toy_audio",
        "toy_video",
    ]
    last = save((*three, *texts, *rest, train, ["Ses05F_impro02"], {}))
    assert run(last, "meld").format == "dialogue tuple of 13 (MELD)"


def with_labels(given, **options) -> reading.Summary:
    content = list(iemocap_tuple())
    content[2] = per_dialogue(lambda d, n: given[:n])
    return run(save(tuple(content)), **options)


@pytest.mark.parametrize("label", [None, float("nan"), [], {}])
def test_a_label_that_is_none_is_set_aside_by_name(label):
    summary = with_labels([0, 1, label], labels="iemocap6")
    assert summary.quarantined == {"missing_value": 1}
    assert summary.judgements == {"category": 6}


def test_labels_may_be_words_or_vectors_with_one_1():
    with_labels(["sad", "happy", "sad"])
    assert set(Ready().labels["category"]) == {"sad", "happy"}
    with_labels([np.eye(6)[n] for n in (5, 3, 0)], replace=True)
    assert set(Ready().labels["category"]) == {"frustrated", "angry", "happy"}
    with pytest.raises(UserError, match="neither the number of a class nor a vector with one 1"):
        with_labels([np.array([0.2, 0.8])] * 3, labels="iemocap6", replace=True)


def test_a_file_without_any_usable_utterance_is_an_error():
    with pytest.raises(UserError, match="no utterance in it can be used"):
        run(save(({}, {}, {}, {}, {}, {}, {}, [], [])), labels="iemocap6")
    content = list(iemocap_tuple())
    content[3] = per_dialogue(lambda d, n: np.zeros((n + 1, 4)))
    with pytest.raises(UserError, match="3 parts were set aside, the first: dialogue Ses01F"):
        run(save(tuple(content)))


def test_features_of_one_number_or_none_at_all_are_no_trouble():
    content = list(iemocap_tuple())
    content[3] = per_dialogue(lambda d, n: [0.5] * n)
    content[4] = per_dialogue(lambda d, n: [None] * n)
    summary = run(save(tuple(content)))
    assert summary.features["toy_text"].dim == 1
    assert summary.left_out == {"audio": "holds no features"}


def test_mosei_tuples_carry_sentiment():
    parts = iemocap_parts()
    parts["labels"] = per_dialogue(lambda d, n: [np.array([1.5 - k]) for k in range(n)])
    parts["sentences"] = per_dialogue(lambda d, n: [["two", "words"]] * n)
    names = list(SIZES)
    summary = run(save((*parts.values(), [names[0]], [names[1]], [names[2]])))
    assert summary.splits == {"test": 2, "train": 3, "validation": 2}
    ready = Ready()
    assert ready.labels["sentiment"].sort().to_list()[-1] == 1.5
    assert set(ready.utterances["text"]) == {"two words"}


@pytest.mark.parametrize("kind", ["COGMEN", "CORECT"])
def test_samples_of_cogmen_and_corect_are_read(kind, monkeypatch):
    parts = iemocap_parts()
    samples = []
    module = types.ModuleType("cogmen.Sample")
    module.Sample = type("Sample", (), {"__module__": "cogmen.Sample"})
    monkeypatch.setitem(sys.modules, "cogmen", types.ModuleType("cogmen"))
    monkeypatch.setitem(sys.modules, "cogmen.Sample", module)
    for vid, size in SIZES.items():
        plural = "" if kind == "COGMEN" else "s"
        fields = {
            "vid": vid,
            f"speaker{plural}": parts["speakers"][vid],
            f"label{plural}": parts["labels"][vid],
            "text": parts["text"][vid],
            "audio": parts["audio"][vid],
            "visual": parts["video"][vid],
            "sentence": parts["sentences"][vid],
        }
        if kind == "COGMEN":
            fields["sbert_sentence_embeddings"] = RNG.normal(size=(size, 8)).astype("f4")
            sample = module.Sample()
            vars(sample).update(fields)
            samples.append(sample)
        else:
            samples.append(fields)
    content = {"train": samples[:1], "dev": samples[1:2], "test": samples[2:]}
    summary = run(save(content))
    assert summary.format == f"{kind} samples"
    assert summary.splits == {"test": 2, "train": 3, "validation": 2}
    expected = ["toy_text", "toy_audio", "toy_video"] + ["toy_sbert"] * (kind == "COGMEN")
    assert list(summary.features) == expected
    assert Ready().utterances.height == 7


def test_a_dialogue_that_stands_twice_among_samples_is_an_error():
    sample = {"vid": "Ses01F", "speaker": ["F"], "label": [5], "text": [np.ones(2)]}
    with pytest.raises(UserError, match="part train has two samples of dialogue Ses01F"):
        run(save({"train": [sample, sample]}))


def test_what_does_not_fit_together_is_set_aside_with_a_reason():
    parts = iemocap_parts()
    parts["text"]["Ses01F_impro01"] = parts["text"]["Ses01F_impro01"][:2]
    content = (*parts.values(), ["Ses02M_script01", "Ses09"], ["Ses02M_script01"])
    summary = run(save(content))
    assert summary.quarantined == {
        "length_mismatch": 1,
        "missing_dialogue": 1,
        "split_conflict": 1,
    }
    assert summary.utterances == 2
    assert summary.splits == {"none": 2}
    reasons = Ready().quarantine["reason"].sort().to_list()
    assert reasons == ["length_mismatch", "missing_dialogue", "split_conflict"]


def test_numbers_without_a_meaning_ask_for_one():
    source = iemocap_parts().values()
    parts = {n: {"a": list(part["Ses02M_script01"])} for n, part in enumerate(source)}
    content = (*parts.values(), ["a"], [])
    with pytest.raises(UserError, match="--labels"):
        run(save(content))
    run(save(content), labels="a,b,c,d,e,f")
    assert set(Ready().labels["category"]) == {"e", "f"}


def test_an_unknown_pickle_is_described():
    with pytest.raises(UserError, match=r"a dict with fish, which is none of the known forms"):
        run(save({"fish": 1}))
    with pytest.raises(UserError, match=r"a tuple of 2 \(int, list\)"):
        run(save((1, [2])))


# MMSA ---------------------------------------------------------------------------------------------


def mmsa(aligned: bool = False) -> dict:
    content = {}
    for split, count in {"train": 4, "valid": 2, "test": 3}.items():
        audio = RNG.normal(size=(count, 6, 3)).astype("f4")
        audio[:, 4:] = 0  # padding
        part = {
            "id": [f"{split}video$_${n}" for n in range(count)],
            "raw_text": [f"words {n}" for n in range(count)],
            "text": RNG.normal(size=(count, 5, 4)).astype("f4"),
            "text_bert": np.ones((count, 3, 5)),
            "audio": audio,
            "vision": RNG.normal(size=(count, 6, 2)),
            "regression_labels": np.linspace(-3, 3, count).astype("f4"),
            "classification_labels": np.zeros(count),
            "annotations": ["Neutral"] * count,
        }
        if not aligned:
            part["audio_lengths"] = [2] * count
            part["vision_lengths"] = [6] * count
        content[split] = part
    return content


def test_mmsa_splits_become_clips_with_sentiment():
    content = mmsa()
    summary = run(save(content))
    assert summary.splits == {"test": 3, "train": 4, "validation": 2}
    assert "text_bert" in summary.left_out
    ready = Ready()
    row = value_of(ready.utterances, "toy/testvideo/2")
    assert (row["dialogue_id"], row["turn"], row["text"]) == ("toy/testvideo", 2, "words 2")
    assert value_of(ready.labels, "toy/testvideo/2")["sentiment"] == 3.0
    assert list(summary.features) == ["toy_text", "toy_audio", "toy_video"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("raw_text", ["one"], "1 raw_text"),
        ("audio_lengths", [1], "1 audio_lengths"),
        ("regression_labels", ["a", "b"], "are no numbers"),
        ("vision", [np.ones((1, 2)), np.ones((2, 2))], "is no array of numbers"),
        ("vision", np.array([np.ones((1, 2)), None], object), "is no array of numbers"),
    ],
)
def test_parts_of_another_length_or_kind_are_one_sentence(key, value, says):
    content = mmsa()
    content["valid"][key] = value
    with pytest.raises(UserError, match=says):
        run(save(content))


def test_a_clip_without_sentiment_is_set_aside_alone():
    content = mmsa()
    content["train"]["regression_labels"][0] = np.nan
    summary = run(save(content))
    assert summary.quarantined == {"missing_value": 1}
    assert summary.judgements == {"sentiment": summary.utterances - 1}


def test_padding_is_no_part_of_the_features():
    content = mmsa()
    run(save(content))
    Ready()
    got = value_of(features("toy_audio", sequence=True), "toy/trainvideo/1")
    frames = np.frombuffer(got["sequence"], "<f2").reshape(got["frames"], got["dim"])
    assert got["frames"] == 2
    np.testing.assert_allclose(frames, content["train"]["audio"][1, :2], atol=2e-3)
    np.testing.assert_allclose(got["pooled"], frames.mean(0), atol=2e-3)
    run(save(mmsa(aligned=True)), "aligned")
    Ready("aligned")
    assert set(features("aligned_audio", "aligned", True)["frames"]) == {4}
    assert set(features("aligned_audio", "aligned")["frames"]) == {0}


def test_features_that_are_no_numbers_are_set_aside():
    content = mmsa()
    content["train"]["audio"][0, 0, 0] = -np.inf
    content["train"]["audio"][1, 0, 0] = 1e6
    content["train"]["audio_lengths"][2] = 99
    content["valid"]["id"][1] = content["valid"]["id"][0]
    summary = run(save(content))
    assert summary.features["toy_audio"].rows == {
        "ok": 4,
        "degraded: sequence_beyond_fp16": 1,
        "quarantined: duplicate_id": 1,
        "quarantined: no_features": 1,
        "quarantined: not_finite": 1,
    }
    assert summary.quarantined == {"bad_length": 1}
    ready = Ready()
    table = features("toy_audio")
    assert value_of(table, "toy/trainvideo/0")["reason"] == "not_finite"
    assert value_of(table, "toy/trainvideo/0")["pooled"] is None
    assert "duplicate_id" in ready.quarantine["reason"].to_list()


def test_sims_has_its_own_scale():
    content = mmsa()
    for part in content.values():
        part["regression_labels_T"] = part["regression_labels"]
        part["regression_labels"] = part["regression_labels"] / 3
    run(save(content))
    row = value_of(Ready().labels, "toy/testvideo/2")
    assert row["sentiment"] == 3.0  # the end of the scale, on the project's scale


def test_files_of_mult_are_read():
    content = mmsa(aligned=True)
    for part in content.values():
        count = len(part["id"])
        part["id"] = np.array([[f"v{n}", "0.5", "1.5"] for n in range(count)])
        part["labels"] = part.pop("regression_labels").reshape(count, 1, 1)
    content["train"]["id"][:, 0] = [f"t{n}" for n in range(4)]
    content["valid"]["id"][:, 0] = [f"w{n}" for n in range(2)]
    assert run(save(content)).utterances == 9
    assert "toy/t1/0.5-1.5" in Ready().utterances["utterance_id"]


# tables, arrays, sequences ------------------------------------------------------------------------


def test_a_table_of_features_becomes_a_corpus():
    Path("f.csv").write_text(
        "utterance_id,speaker,split,label,valence,f1,f2,note\n"
        "d1/u1,ann,train,happy,0.5,1.0,2,x\n"
        "d1/u2,bob,dev,sad,,3.0,4,y\n"
    )
    with pytest.raises(UserError, match="--modality"):
        run(Path("f.csv"))
    summary = run(Path("f.csv"), modality="audio")
    assert summary.left_out == {"note": "no column of numbers"}
    assert summary.splits == {"train": 1, "validation": 1}
    assert summary.judgements == {"category": 2, "valence": 1}
    ready = Ready()
    assert value_of(ready.utterances, "toy/d1/u2")["turn"] == 1
    assert value_of(ready.labels, "toy/d1/u2")["category"] == "sad"
    assert value_of(features("toy_audio"), "toy/d1/u2")["pooled"] == [3.0, 4.0]


def test_names_of_digits_keep_their_zeros():
    Path("f.csv").write_text("Filename,f1\n00001,1\n00002,2\n")
    run(Path("f.csv"), modality="audio")
    assert Ready().utterances["utterance_id"].to_list() == ["toy/00001/0", "toy/00002/0"]


@pytest.mark.parametrize("absent", ["", "nan", "NA", "None"])
def test_a_cell_without_a_number_costs_its_row_and_not_its_column(absent):
    Path("f.csv").write_text(f"name,f1,f2\na,1,{absent}\nb,2,3\n")
    summary = run(Path("f.csv"), modality="audio")
    assert summary.features["toy_audio"].rows == {"ok": 1, "quarantined: not_finite": 1}
    assert summary.left_out == {}


def test_a_column_with_a_word_says_where_it_stands():
    Path("f.csv").write_text("name,f1,f2\na,1,7\nb,2,x7\n")
    told = run(Path("f.csv"), modality="audio").left_out["f2"]
    assert told == "no column of numbers alone: row 2 says 'x7'"


def test_a_judgement_that_is_no_number_is_an_error_with_its_row():
    Path("f.csv").write_text("name,valence,f1\na,0.5,1\nb,high,2\n")
    with pytest.raises(UserError, match="row 2: column valence: 'high' is no number"):
        run(Path("f.csv"), modality="audio")


def test_a_turn_that_is_no_number_is_set_aside_by_ingest():
    Path("f.csv").write_text("name,turn,f1\na,x,1\nb,1,2\nc,2.0,3\n")
    run(Path("f.csv"), modality="audio")
    ready = Ready()
    assert ready.quarantine["reason"].to_list() == ["bad_turn"]
    assert ready.utterances["turn"].to_list() == [1, 2]


def test_lists_of_numbers_are_features():
    frame = pl.DataFrame(
        {"id": ["a", "b"], "order": [0, 1], "text": [[1.0], [2.0]], "audio": [[1, 2], [3, 4]]}
    )
    frame.write_parquet("f.parquet")
    summary = run(Path("f.parquet"), modality="audio")
    assert summary.left_out == {
        "order": "a number beside the list of features",
        "text": "a list beside the list of features",
    }
    Ready()
    assert value_of(features("toy_audio"), "toy/b/0")["pooled"] == [3.0, 4.0]
    with pytest.raises(UserError, match="text, audio are lists"):
        run(Path("f.parquet"), "other", modality="video")


def test_two_recordings_of_one_name_are_not_taken_for_frames():
    Path("f.csv").write_text("name;frameTime;f1\n'unknown';0.0;1\n'unknown';0.0;2\n")
    with pytest.raises(UserError, match="unknown/0 stands there more than once at frameTime"):
        run(Path("f.csv"), modality="audio")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name,f1\n", "no row below its header"),
        ("", "not a readable table"),
        (b"name,f1\n\xfc,1\n", "as UTF-8"),
    ],
)
def test_tables_without_content_are_one_sentence(content, says):
    Path("f.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=says):
        run(Path("f.csv"), modality="audio")


def test_parquet_says_the_same_as_csv():
    frame = pl.DataFrame({"file": ["a.wav", "b.wav"], "f1": [1.0, 2.0], "f2": [3, 4]})
    frame.write_parquet("f.parquet")
    run(Path("f.parquet"), modality="audio")
    Ready()
    assert value_of(features("toy_audio"), "toy/b/0")["pooled"] == [2.0, 4.0]


def test_opensmiles_frames_are_in_order_of_time():
    Path("lld.csv").write_text(
        "name;frameTime;loudness;F0\n'a.wav';0.01;3;4\n'a.wav';0.0;1;2\n'b.wav';0.0;5;6\n"
    )
    summary = run(Path("lld.csv"), modality="audio")
    assert summary.format == "openSMILE CSV"
    Ready()
    got = value_of(features("toy_audio", sequence=True), "toy/a/0")
    assert np.frombuffer(got["sequence"], "<f2").tolist() == [1, 2, 3, 4]
    assert got["pooled"] == [2.0, 3.0]
    assert got["hop_s"] == pytest.approx(0.01)


def test_opensmiles_arff_is_read():
    Path("f.arff").write_text(
        "@relation smile\n\n@attribute name string\n@attribute F0_mean numeric\n"
        "@attribute 'jitter' numeric\n@attribute class numeric\n\n@data\n\n"
        "'a b.wav',1.5,0.25,?\n'c.wav',?,0.5,?\n"
    )
    summary = run(Path("f.arff"), modality="audio")
    assert summary.left_out == {"class": "empty"}
    assert summary.features["toy_audio"].rows == {"ok": 1, "quarantined: not_finite": 1}
    Ready()
    assert value_of(features("toy_audio"), "toy/a b/0")["pooled"] == [1.5, 0.25]


def test_sparse_arff_is_refused():
    Path("f.arff").write_text("@relation x\n@attribute name string\n@data\n{0 'a'}\n")
    with pytest.raises(UserError, match="sparse"):
        run(Path("f.arff"), modality="audio")


def test_the_same_name_twice_without_a_time_is_an_error():
    Path("f.csv").write_text("name,f1\na,1\na,2\n")
    with pytest.raises(UserError, match="more than once"):
        run(Path("f.csv"), modality="audio")


def arrays() -> Path:
    root = Path("arrays")
    for folder in ("audio", "visual"):
        for name, frames in (("d1/u1", 3), ("d1/u2", 2), ("d2/u1", 4)):
            path = root / folder / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.full((frames, 2), frames, "f4"))
    return root


def test_folders_of_arrays_are_read_by_modality():
    summary = run(arrays())
    assert list(summary.features) == ["toy_audio", "toy_video"]
    ready = Ready()
    assert ready.utterances["turn"].to_list() == [0, 1, 0]
    got = value_of(features("toy_video", sequence=True), "toy/d2/u1")
    assert (got["frames"], got["pooled"]) == (4, [4.0, 4.0])


def test_arrays_of_objects_are_refused():
    Path("a").mkdir()
    np.save("a/x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="without objects"):
        run(Path("a"), modality="audio")


def test_features_alone_join_the_utterances_that_are_there():
    run(save(iemocap_tuple()))
    Ready()
    root = Path("npy")
    root.mkdir()
    for name in ("Ses01F_impro01_F000", "Ses01F_impro01_F001", "stranger"):
        np.save(root / f"{name}.npy", np.ones(2))
    with pytest.raises(UserError, match="--features-only"):
        run(root, modality="audio")
    names = ["audio=smile"]
    summary = run(root, modality="audio", features_only=True, names=names)
    assert summary.unmatched == 1
    table = features("smile")
    assert value_of(table, "toy/Ses01F_impro01/Ses01F_impro01_F000")["status"] == "ok"
    counts = dict(table.group_by("status", "reason").len().select("reason", "len").iter_rows())
    assert counts == {None: 2, "not_imported": 5}
    manifest = json.loads((reading.folder(here(), "toy") / "manifest.json").read_text())
    assert set(manifest["features"]) == {"smile", "toy_text", "toy_audio", "toy_video"}
    assert manifest["card"]["name"] == "toy"


def test_an_import_of_an_earlier_version_keeps_its_place():
    run(save(iemocap_tuple()))
    file = reading.folder(here(), "toy") / "manifest.json"
    manifest = json.loads(file.read_text())
    assert "metric" not in manifest["card"]
    manifest["card"]["metric"] = "weighted_f1"
    file.write_text(json.dumps(manifest))
    assert Ready().utterances.height


def test_features_that_match_nothing_are_an_error():
    run(save(iemocap_tuple()))
    Path("npy").mkdir()
    np.save("npy/stranger.npy", np.ones(2))
    with pytest.raises(UserError, match="none of the 1 utterances"):
        run(Path("npy"), modality="audio", features_only=True)


def write_csd(h5py, path: Path, name: str, parts: dict) -> None:
    with h5py.File(path, "w") as file:
        for key, (values, spans) in parts.items():
            group = file.create_group(f"{name}/data/{key}")
            group["features"], group["intervals"] = values, spans


def test_computational_sequences_are_cut_by_the_segments_of_the_labels():
    h5py = pytest.importorskip("h5py")
    root = Path("csd")
    root.mkdir()
    steps = np.arange(10) * 0.1
    frames = np.stack([steps, steps + 0.1], axis=1)
    audio = np.arange(20.0).reshape(10, 2)
    write_csd(h5py, root / "CMU_MOSI_COVAREP.csd", "COVAREP", {"v1": (audio, frames)})
    words = np.array([[b"hello"], [b"sp"], [b"you"]])
    spans = np.array([[0.0, 0.2], [0.2, 0.3], [0.5, 0.9]])
    write_csd(h5py, root / "CMU_MOSI_TimestampedWords.csd", "words", {"v1": (words, spans)})
    labels_ = np.array([[1.5], [-2.0]])
    cuts = np.array([[0.0, 0.35], [0.45, 1.0]])
    write_csd(h5py, root / "CMU_MOSI_Opinion_Labels.csd", "Opinion Segment Labels",
              {"v1": (labels_, cuts)})  # fmt: skip
    summary = run(root)
    assert summary.utterances == 2
    ready = Ready()
    assert ready.utterances["text"].to_list() == ["hello", "you"]
    assert ready.labels["sentiment"].to_list() == [1.5, -2.0]
    got = value_of(features("toy_audio", sequence=True), "toy/v1/0")
    assert got["frames"] == 3
    assert got["hop_s"] == pytest.approx(0.1)
    np.testing.assert_allclose(got["pooled"], audio[:3].mean(0))


def test_labels_of_mosei_carry_sentiment_and_the_set_of_emotions():
    h5py = pytest.importorskip("h5py")
    given = np.array([[1.0, 2.0, 0, 0.5, 0, 0, 0], [0.0] * 7, [np.nan] * 7, [2.0] * 6 + [4.0]])
    spans = np.array([[0, 1], [1, 2], [2, 3], [3, 4.0]])
    write_csd(h5py, Path("CMU_MOSEI_Labels.csd"), "All Labels", {"v1": (given, spans)})
    words = np.array([[b"caf\xe9"]])
    write_csd(h5py, Path("CMU_MOSEI_TimestampedWords.csd"), "words", {"v1": (words, spans[:1])})
    folder = Path("mosei")
    folder.mkdir()
    for file in Path().glob("*.csd"):
        file.rename(folder / file.name)
    assert run(folder).quarantined == {"missing_value": 1, "out_of_range": 1}
    ready = Ready()
    assert ready.labels["categories"].to_list() == [["angry", "happy"], [], None, None]
    assert ready.labels["sentiment"].to_list() == [1.0, 0.0, None, 2.0]


def test_a_sequence_without_its_intervals_is_one_sentence():
    h5py = pytest.importorskip("h5py")
    parts = {"v": (np.ones((3, 2)), np.zeros((2, 2)))}
    write_csd(h5py, Path("CMU_COVAREP.csd"), "COVAREP", parts)
    with pytest.raises(UserError, match="v does not have features and as many intervals"):
        run(Path("CMU_COVAREP.csd"))
    with h5py.File("CMU_COVAREP.csd", "w") as file:
        file["COVAREP/data/v/features"] = np.ones((3, 2))
    with pytest.raises(UserError, match="v does not have features and as many intervals"):
        run(Path("CMU_COVAREP.csd"))


def test_one_sequence_of_segments_is_read_alone():
    h5py = pytest.importorskip("h5py")
    parts = {f"v[{n}]": (np.full((2, 3), float(n)), np.array([[0, 1.0], [1, 2]])) for n in (0, 1)}
    write_csd(h5py, Path("x.csd"), "thing", parts)
    with pytest.raises(UserError, match="--modality"):
        run(Path("x.csd"))
    run(Path("x.csd"), modality="video")
    Ready()
    assert value_of(features("toy_video"), "toy/v/1")["pooled"] == [1.0] * 3


def test_a_damaged_sequence_is_one_sentence_wherever_the_damage_is():
    h5py = pytest.importorskip("h5py")
    file = Path("COVAREP.csd")
    spans = np.stack([np.arange(12.0), np.arange(12.0) + 1], axis=1)
    write_csd(h5py, file, "COVAREP", {f"v{n}": (np.ones((12, 5)), spans) for n in range(2)})
    whole = file.read_bytes()
    refused = []
    for start in range(8, len(whole), len(whole) // 100):
        file.write_bytes(whole[:start] + b"\xff" * 3 + whole[start + 3 :])
        try:
            run(file, replace=True)
        except UserError as error:
            refused.append(str(error))
    assert refused
    assert all(message.startswith("COVAREP.csd: ") for message in refused)


@pytest.mark.parametrize("name", ["COVAREP/data", "COVAREP/data/v"])
def test_numbers_where_a_sequence_has_a_folder_are_one_sentence(name):
    h5py = pytest.importorskip("h5py")
    with h5py.File("COVAREP.csd", "w") as file:
        file[name] = np.ones(3)
    with pytest.raises(UserError, match=r"COVAREP\.csd: (holds 0 sequences|v does not have)"):
        run(Path("COVAREP.csd"))


def test_an_array_with_a_damaged_header_is_one_sentence():
    Path("npy").mkdir()
    np.save("npy/d_0.npy", np.ones((7, 4)))
    whole = Path("npy/d_0.npy").read_bytes()
    Path("npy/d_0.npy").write_bytes(whole.replace(b"(7, 4)", b"((7, 4"))
    with pytest.raises(UserError, match=r"d_0\.npy: not a readable array"):
        run(Path("npy"), modality="audio")


def _outside(h5py, segment) -> None:
    Path("secret").write_bytes(bytes(800))
    space, kind = h5py.h5s.create_simple((12, 5)), h5py.h5t.IEEE_F64LE
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_external(b"secret", 0, 800)
    h5py.h5d.create(segment.id, b"features", kind, space, plist)


def _linked(h5py, segment) -> None:
    with h5py.File("other.h5", "w") as other:
        other["values"] = np.ones((12, 5))
    segment["features"] = h5py.ExternalLink("other.h5", "/values")


def _virtual(h5py, segment) -> None:
    with h5py.File("other.h5", "w") as other:
        other["values"] = np.ones((12, 5))
    layout = h5py.VirtualLayout((12, 5), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "values", (12, 5))
    segment.create_virtual_dataset("features", layout)


def _claimed(h5py, segment) -> None:
    segment.create_dataset("features", (2_097_152, 300), "f4", chunks=True)


@pytest.mark.parametrize(
    ("give", "sentence"),
    [
        (_outside, r"/v/features is a data set stored outside"),
        (_linked, r"/v/features is a link to somewhere else"),
        (_virtual, r"/v/features is a virtual data set"),
        (_claimed, r"/v/features claims 2,516,582,400 bytes of values but holds 0"),
    ],
)
def test_hdf5_shows_only_what_lies_in_it(give, sentence):
    h5py = pytest.importorskip("h5py")
    with h5py.File("COVAREP.csd", "w") as file:
        segment = file.create_group("COVAREP/data/v")
        segment["intervals"] = np.zeros((12, 2))
        give(h5py, segment)
    with pytest.raises(UserError, match=rf"COVAREP\.csd: /COVAREP/data{sentence}"):
        run(Path("COVAREP.csd"))


def test_hdf5_groups_that_hold_each_other_are_walked_once():
    h5py = pytest.importorskip("h5py")
    spans = np.array([[0.0, 1.0]] * 12)
    write_csd(h5py, Path("COVAREP.csd"), "COVAREP", {"v": (np.ones((12, 5)), spans)})
    with h5py.File("COVAREP.csd", "a") as file:
        file["COVAREP/round"] = file["COVAREP"]
    run(Path("COVAREP.csd"))


def test_without_h5py_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    Path("x.csd").write_bytes(b"x")
    with pytest.raises(UserError, match="pip install h5py"):
        run(Path("x.csd"))


# the command --------------------------------------------------------------------------------------


def test_names_of_encoders_can_be_chosen():
    summary = run(save(iemocap_tuple()), names=["a", "b", "c"])
    assert list(summary.features) == ["a", "b", "c"]
    for names, told in (
        (["a"], "3 blocks"),
        (["text=audio_x", "audio=audio_x"], "the same name"),
        (["fish=a"], "has the blocks"),
        (["text=A b"], "lower case"),
    ):
        with pytest.raises(UserError, match=told):
            run(save(iemocap_tuple()), names=names, replace=True)
    with pytest.raises(UserError, match="lower case"):
        run(save(iemocap_tuple()), corpus="../x")


def test_an_import_is_not_overwritten_by_accident():
    run(save(iemocap_tuple()))
    with pytest.raises(UserError, match="--replace"):
        run(save(mmsa()))
    run(save(mmsa()), replace=True, names=["text=t"])
    assert not (reading.folder(here(), "toy") / "toy_text.parquet").exists()


def test_the_command_prints_lines_for_params(monkeypatch, capsys):
    from typer import Typer
    from typer.testing import CliRunner

    from flows.cli.imports import import_files

    app = Typer()
    app.command()(import_files)
    save(iemocap_tuple())
    monkeypatch.setenv("PWD", str(Path.cwd()))
    result = CliRunner().invoke(app, ["x.pkl", "--corpus", "toy"])
    assert result.exit_code == 0, result.output
    assert "7 utterances, 3 dialogues: 2 test, 5 train" in result.output
    told = yaml.safe_load(result.output.split("In params.yaml:\n")[1])
    assert told["corpora"]["toy"] == {
        "adapter": "imported",
        "inputs": {"audio": "toy_audio", "text": "toy_text", "video": "toy_video"},
        "splits": {"protocol": "published"},
    }
    assert all(entry["corpora"] == ["toy"] for entry in told["encoders"].values())
    assert told["encoders"]["toy_text"]["family"] == "imported"
    for entry in told["encoders"].values():
        assert Path(entry["checkpoint"]).is_file()
    assert not any("sequence" in entry for entry in told["encoders"].values())
    assert snippet("toy", run(save(iemocap_tuple()), replace=True), True)[0] == "encoders:"


def test_the_advice_keeps_the_frames_that_came():
    for keep in (True, False):
        summary = run(save(mmsa()), replace=True, keep_sequences=keep)
        advised = yaml.safe_load("\n".join(snippet("toy", summary, True)))["encoders"]
        kept = {name: entry.get("sequence", False) for name, entry in advised.items()}
        assert kept == dict.fromkeys(summary.features, keep)


def test_a_refused_pickle_writes_nothing():
    class Bad:
        def __reduce__(self):
            return print, ("ran",)

    with pytest.raises(UserError, match=r"builtins\.print"):
        run(save({"train": Bad()}))
    assert not reading.folder(here(), "toy").exists()


def test_imported_features_belong_to_their_corpus():
    run(save(iemocap_tuple()))
    run(save(iemocap_tuple()), "other")
    Ready("other")
    with pytest.raises(UserError, match="features of toy, not of other"):
        features("toy_text", of="toy", corpus="other")
    with pytest.raises(UserError, match="does not exist"):
        features("nowhere", corpus="other")


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_real_iemocap_comes_through_a_tuple_of_dialoguernn():
    rows = pl.read_parquet(SHARED / "iemocap_text.parquet")
    numbers = {name: n for n, name in enumerate(("happy", "sad", "neutral", "angry", "excited"))}
    numbers["frustrated"] = 5
    dialogues = rows.partition_by("dialogue_id", as_dict=True, maintain_order=True)
    found = {str(key[0]): part.sort("turn") for key, part in dialogues.items()}
    column = {
        "ids": lambda part: part["utterance_id"].to_list(),
        "speakers": lambda part: part["speaker"].to_list(),
        "labels": lambda part: [numbers[name] for name in part["label"]],
        "text": lambda part: np.ones((part.height, 2), "f4"),
        "audio": lambda part: part["turn"].to_numpy()[:, None] * np.ones(8),
        "video": lambda part: np.zeros((part.height, 3)),
        "sentences": lambda part: part["text"].to_list(),
    }
    parts = [{name: make(part) for name, part in found.items()} for make in column.values()]
    of = {
        split: sorted(name for name, part in found.items() if part["split"][0] in split)
        for split in (("train", "val"), ("test",))
    }
    summary = run(save((*parts, *of.values()), protocol=2), "iemocap")
    assert (summary.utterances, summary.dialogues) == (7433, 151)
    assert summary.splits == {"test": 1623, "train": 5810}
    ready = Ready("iemocap")
    counts = dict(ready.labels.group_by("category").len().iter_rows())
    assert counts == {
        "frustrated": 1849,
        "neutral": 1708,
        "angry": 1103,
        "sad": 1084,
        "excited": 1041,
        "happy": 648,
    }
    assert features("iemocap_audio", "iemocap")["status"].unique().to_list() == ["ok"]
