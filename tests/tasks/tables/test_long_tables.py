"""Tables as folders of files, as long ones are, say what one file says to every stage."""

import io
import json

import numpy as np
import polars as pl
import pytest
import torch

from tasks.context import ForMethod
from tasks.evaluate import stage as evaluate
from tasks.ingest import stage as ingest
from tasks.labels import stage as labels
from tasks.plain_context import PlainContext
from tasks.splits import stage as splits
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.labels import LABELS
from tasks.tables.parquet import files_of, read_metadata, read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.train import stage as train
from tests.places import here
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus

TABLES = (UTTERANCES, ANNOTATIONS, LABELS, SPLIT, QUARANTINE)


def parts_of(rows):
    for table in TABLES:
        object.__setattr__(table, "part_rows", rows)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", "cache")
    rows = [table.part_rows for table in TABLES]
    yield
    for table, number in zip(TABLES, rows, strict=True):
        object.__setattr__(table, "part_rows", number)
    torch.use_deterministic_algorithms(False)


def quiet():
    return PlainContext(stream=io.StringIO())


def write_csv():
    rng = np.random.default_rng(0)
    number = np.arange(240)
    table = {
        "id": [f"u{n:03d}" for n in number],
        "talk": [f"d{n // 6:02d}" for n in number],
        "words": [f"word {n}" if n % 40 else "" for n in number],
        "ann": rng.integers(1, 6, len(number)),
        "bob": [f"{n}" if n < 6 else "much" for n in rng.integers(1, 7, len(number))],
    }
    here().raw("toy").mkdir(parents=True)
    pl.DataFrame(table).write_csv(here().raw("toy") / "clips.csv")


def made_from_csv():
    """What the first three stages say of a file."""
    options = {
        "file": "clips.csv",
        "columns": {"utterance": "id", "dialogue": "talk", "text": "words"},
        "labels": {"targets": {"valence": {"columns": {"a": "ann", "b": "bob"}, "scale": [1, 5]}}},
    }
    asked = ingest.IngestParams(adapter="table", options=options, max_quarantine_fraction=0.5)
    ingest.run(asked, here(), quiet(), "toy")
    merging = labels.LabelsParams(merge="ewe")
    splits.run(
        splits.ForSplits(splits.SplitsParams(folds=3, group="dialogue"), merging),
        here(),
        quiet(),
        "toy",
    )
    labels.run(merging, here(), quiet(), "toy")
    layout = here()
    paths = {
        UTTERANCES.name: layout.utterances("toy"), ANNOTATIONS.name: layout.annotations("toy"),
        LABELS.name: layout.labels("toy"), SPLIT.name: layout.splits("toy"),
        QUARANTINE.name: layout.quarantine("toy"),
    }  # fmt: skip
    found = {table.name: read_table(table, paths[table.name]) for table in TABLES}
    said = {name: read_metadata(path) for name, path in paths.items()}
    reports = [json.loads(f("toy").read_text()) for f in (here().agreement, here().leaks)]
    return found, said, reports, {name: len(files_of(path)) for name, path in paths.items()}


def test_the_stages_up_to_labels():
    write_csv()
    parts_of(0)
    one, *of_files, counts = made_from_csv()
    assert set(counts.values()) == {1}
    parts_of(20)
    other, *of_folders, counts = made_from_csv()
    assert min(counts.values()) > 2
    assert all(one[name].equals(other[name]) for name in one)
    assert of_files == of_folders


def test_training_and_scores():
    entry = {"epochs": 3, "patience": 0, "lr": 0.02}
    found = []
    for rows in (0, 20):
        parts_of(rows)
        make_corpus().write()
        asked = ForMethod(train.TrainParams(seeds=[0]), entry, INPUTS)
        train.run(asked, here(), quiet(), CORPUS, "linear")
        asked = ForMethod(evaluate.EvaluateParams(missing_rates=[0.0]), {}, INPUTS)
        evaluate.run(asked, here(), quiet(), CORPUS, "linear")
        found.append(
            [f(CORPUS, "linear").read_bytes() for f in (here().predictions, here().metrics)]
        )
    assert here().labels(CORPUS).is_dir()
    assert found[0] == found[1]
