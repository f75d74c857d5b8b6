"""The table of targets: a new one is one row, and everything else reads it there."""

import shutil
import subprocess
import sys

from models.metrics.scoring import HEADLINE
from tasks.targets import FAMILIES, NUMBERS, TARGETS, WORDS
from tests.places import ROOT

ROW = '    TargetRow("arousal_now", "values", ("arousal_now",), "ccc", low=0.0, high=10.0),\n'
#: A judgement of 4 on 1 to 5 becomes 7.5 on 0 to 10, in a table that is written and read again.
USE = """
import json, sys
from pathlib import Path
import polars as pl
from tasks.batches.targets import find_targets
from tasks.labels.stage import Card, LabelsParams, merge
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table, write_table

rows = ANNOTATIONS.frame([{
    "utterance_id": "toy/d/a", "rater": "ann", "target": "arousal_now", "value": 4.0,
    "scale_min": 1.0, "scale_max": 5.0, "source": "s",
}])
known = pl.Series(["toy/d/a"])
labels = merge(LabelsParams(), known, rows, Card({}, {})).labels
path = write_table(LABELS, labels, Path(sys.argv[1]))
(target,) = find_targets([read_table(LABELS, path)])
print(json.dumps([labels["arousal_now"].to_list(), target.name, target.lower, target.upper]))
"""


def test_a_new_target_is_one_row(tmp_path):
    for package in ("tasks", "models"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    file = tmp_path / "tasks" / "targets.py"
    text = file.read_text()
    file.write_text(text.replace("_ROWS = (\n", "_ROWS = (\n" + ROW))
    assert file.read_text() != text
    found = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "labels.parquet")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == '[[7.5], "arousal_now", 0.0, 10.0]\n', found.stderr


def test_every_column_belongs_to_one_family():
    columns = [column for row in TARGETS.values() for column in row.columns]
    assert len(columns) == len(set(columns)) == len(FAMILIES)
    assert {*NUMBERS, *WORDS} == set(columns)


def test_the_metrics_know_every_target_as_the_table_has_it():
    assert {row.name: (row.metric, row.sign) for row in TARGETS.values()} == HEADLINE
