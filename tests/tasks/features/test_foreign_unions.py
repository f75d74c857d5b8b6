"""Imported features of a union: the files of its parts set together under one name."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from flows import graph
from models.errors import UserError
from tasks.corpora.imports import reading
from tasks.corpora.imports.reading import ImportOptions
from tasks.features import foreign
from tasks.features.params import EncoderParams
from tasks.ingest import union as ingest
from tasks.params.unions import UnionParams
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_metadata, read_table
from tests.places import QUIET, ROOT, here
from tests.tasks.union_factory import prepare

PLACE = "data/raw/{corpus}/imported/{corpus}_audio.parquet"


@pytest.fixture
def voices(union_params, counted_words):
    """Essays and calls with imported features of their own, both three wide, and their union."""
    prepare(union_params, "essays", "calls")
    for corpus, start in (("essays", 0.0), ("calls", 1000.0)):
        bring(corpus, start)
    ingest.run(UnionParams(adapter="union", of=("essays", "calls")), here(), QUIET, "joint")
    return union_params


def bring(corpus: str, start: float, width: int = 3, count: int = 48) -> None:
    """Import numbers for the utterances of a corpus, the last of each ``count`` left out."""
    number = np.arange(count)
    frame = pl.DataFrame(
        {
            "dialogue": [f"d{n // 4:02d}" for n in number],
            "utterance": [f"u{n:03d}" for n in number],
            **{f"f{k}": start + 10.0 * number + k for k in range(width)},
        }
    )
    frame.filter(pl.col("utterance") != "u047").write_csv("f.csv")
    options = ImportOptions(modality="audio", features_only=True, replace=True)
    reading.run(here(), Path("f.csv"), corpus, options)


def made(corpus: str, checkpoint: str = PLACE, corpora=None) -> pl.DataFrame:
    params = EncoderParams(family="imported", checkpoint=checkpoint, corpora=corpora)
    return read_table(FEATURES, foreign.run(params, here(), corpus, "voice"))


def test_the_parts_files_stand_together_under_one_name(voices):
    own = pl.concat([made("essays"), made("calls")]).sort("utterance_id")
    joint = made("joint").sort("utterance_id")
    assert joint.equals(own)
    assert joint.filter(pl.col("utterance_id") == "calls/d01/u005")["pooled"][0].to_list() == [
        1050.0, 1051.0, 1052.0,
    ]  # fmt: skip
    assert joint["reason"].value_counts().sort("count").rows() == [("not_imported", 2), (None, 94)]


def test_the_table_says_where_each_part_comes_from(voices):
    made("joint")
    told = read_metadata(here().features("joint", "voice"))
    assert told["corpus"] == "calls: calls; essays: essays"
    assert told["checkpoint"] == PLACE
    assert len(told["weights_sha256"]) == 64
    made("calls")
    alone = read_metadata(here().features("calls", "voice"))
    assert alone["weights_sha256"] == alone["source_sha256"] != told["weights_sha256"]


def test_a_part_without_such_features_has_none(voices):
    joint = made("joint", corpora=("joint", "calls"))
    essays = joint.filter(pl.col("utterance_id").str.starts_with("essays"))
    assert set(essays["reason"]) == {"not_imported"}
    assert essays["pooled"].count() == 0
    assert joint["pooled"].count() == 47


def test_parts_of_different_widths_are_refused(voices):
    bring("calls", 0.0, width=2)
    with pytest.raises(UserError, match=r"different widths \(2 in calls, 3 in essays\)"):
        made("joint")


def test_a_file_of_one_corpus_is_no_file_of_a_union(voices):
    with pytest.raises(UserError, match=r"but joint is a union; write \{corpus\} in place"):
        made("joint", "data/raw/calls/imported/calls_audio.parquet")


def test_a_part_whose_file_is_away_is_named(voices):
    (reading.folder(here(), "essays") / "essays_audio.parquet").unlink()
    with pytest.raises(UserError, match=r"essays_audio\.parquet does not exist; run `affectloom"):
        made("joint")
    with pytest.raises(UserError, match=r"corpora names no part of joint.*add calls or essays"):
        made("joint", corpora=("joint",))


def test_a_union_depends_on_the_files_of_its_parts():
    entry = {"adapter": "table", "options": {"file": "a.csv", "columns": {"utterance": "a"}}}
    raw = {
        "corpora": {
            "essays": entry,
            "calls": entry,
            "joint": {"adapter": "union", "of": ["essays", "calls"]},
        },
        "encoders": {"voice": {"family": "imported", "checkpoint": PLACE}},
        "inputs": {"audio": "voice"},
        "methods": {"linear": {}},
    }
    essays, calls = (f"data/raw/{c}/imported/{c}_audio.parquet" for c in ("essays", "calls"))
    assert read_by(raw) == {
        "essays-voice": {essays}, "calls-voice": {calls}, "joint-voice": {calls, essays},
    }  # fmt: skip
    raw["encoders"]["voice"]["corpora"] = ["joint", "calls"]
    assert read_by(raw) == {"calls-voice": {calls}, "joint-voice": {calls}}


def read_by(raw) -> dict[str, set[str]]:
    """Imported files that each instance of features reads."""
    stage = yaml.safe_load(graph.render(raw, ROOT))["stages"]["features"]
    shared = stage["do"]["deps"]
    return {
        name: {dep for dep in (*item["deps"], *shared) if dep.endswith("_audio.parquet")}
        for name, item in stage["foreach"].items()
    }
