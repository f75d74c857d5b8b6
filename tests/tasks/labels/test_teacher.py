"""A teacher that listens: an encoder of the family ``audio_vad`` says what nobody judged."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from tasks.batches.source import source_for
from tasks.params.recipes import resolve
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table
from tasks.targets import VAD
from tasks.train.runs import parts
from tests.models.encoders.test_audio_vad import Published, save
from tests.places import here
from tests.tasks.union_factory import prepare, run, table, write_part


@pytest.fixture
def raw(union_params, counted_words):
    """Reviews that can be heard and have no VAD, calls that people judged, and a small teacher."""
    frame = table("reviews", turns=1).with_columns(sound=pl.format("{}.wav", "id"))
    write_part("reviews", frame)
    rng = np.random.default_rng(0)
    for name in frame["sound"]:
        soundfile.write(here().raw("reviews") / name, 0.1 * rng.standard_normal(8_000), 16_000)
    torch.manual_seed(1)
    model = Published().eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0.0, 0.05)
        model.classifier["out_proj"].bias.fill_(0.5)  # in the middle of 0 to 1
    save(Path("teacher"), model)
    reviews = union_params["corpora"]["reviews"]
    reviews["options"]["columns"]["media"] = "sound"
    reviews["labels"] = {"teacher": {"encoder": "voice"}}
    union_params["corpora"]["joint"]["of"] = ["essays", "reviews"]
    union_params["encoders"]["voice"] = {
        "family": "audio_vad", "checkpoint": "teacher", "dtype": "float32", "corpora": ["reviews"],
    }  # fmt: skip
    return union_params


def test_what_it_says_is_learnt_and_never_scored(raw):
    for stage, ids in (("ingest", {}), ("splits", {}), ("features", {"encoder": "voice"})):
        run(raw, stage, corpus="reviews", **ids)
    prepare(raw, "essays")
    run(raw, "labels", corpus="reviews")
    found = read_table(LABELS, here().labels("reviews"))
    told = read_table(FEATURES, here().features("reviews", "voice"))
    told = found.select("utterance_id").join(told, on="utterance_id", maintain_order="left")
    assert set(told["status"]) == {"ok"}, told["reason"]
    said = told["pooled"].to_numpy()
    assert np.ptp(said, 0).min() > 0  # it tells the sounds apart
    np.testing.assert_allclose(found.select(VAD).to_numpy(), said, atol=1e-6)
    assert set(found["valence_kind"]) == {"model"}
    prepare(raw, "joint")
    run(raw, "features", corpus="joint", encoder="words")
    recipe = resolve("linear", {})
    source = source_for(here(), recipe, "joint", {"text": "words"})
    train, _ = parts(here(), source, recipe, "joint", 0, ["vad"])
    assert source.ids[train.rows].str.starts_with("reviews").sum() == 7
    for stage in ("train", "evaluate"):
        run(raw, stage, corpus="joint", method="linear")
    scored = pl.read_parquet(here().predictions("joint", "linear"))
    known = scored.drop_nulls("target_valence")["utterance_id"].str.split("/").list.first()
    assert set(known) == {"essays"}
    assert "reviews" in scored["utterance_id"].str.split("/").list.first()
