"""What the README says can be typed and pasted."""

import re
import shutil

import polars as pl
import pytest
import typer.main
import yaml

from flows import graph
from flows.cli.main import app
from tasks.ingest import stage as ingest
from tasks.labels import stage as labels
from tasks.params.model import Params
from tasks.plain_context import PlainContext
from tasks.splits import stage as splits
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tests.places import QUIET, ROOT, here

TEXT = (ROOT / "README.md").read_text()


def test_every_command_in_the_readme_exists():
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"affectloom ([a-z]+)", TEXT))
    named -= {"takes", "is"}
    assert len(named) > 6
    assert named <= known


def test_every_file_that_the_readme_and_the_docs_name_exists():
    text = TEXT + "".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
    code = set(re.findall(r"`((?:tasks|models|flows|tests|benchmarks)/[\w./]+\.(?:py|md))`", text))
    pages = set(re.findall(r"\]\((docs/[\w./]+)\)", TEXT))
    assert len(code) > 10
    assert len(pages) > 8
    assert [path for path in sorted(code | pages) if not (ROOT / path).exists()] == []


def test_every_test_that_the_docs_name_exists():
    text = "".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(?:\w+::)?(\w+)`", text))
    assert len(named) > 50
    assert [
        (file, name)
        for file, name in sorted(named)
        if f"def {name}(" not in (ROOT / file).read_text()
    ] == []


def test_make_targets_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", TEXT, re.MULTILINE)) <= targets


@pytest.fixture
def example():
    block = re.search(r"```yaml\n(corpora:.*?)```", TEXT, re.DOTALL)
    assert block
    return yaml.safe_load(block[1])


def test_the_example_of_ones_own_data_works(example, tmp_path, monkeypatch):
    raw = graph.read_raw_params(ROOT) | example
    monkeypatch.chdir(tmp_path)
    folder = here().raw("interviews")
    folder.mkdir(parents=True)
    rows = [
        {
            "id": f"u{turn}", "talk": f"t{talk}", "who": f"p{talk}{turn % 2}", "file": "",
            "words": f"sentence {turn} of {talk}", "val_anna": turn % 9 + 1,
            "val_ben": (turn + 1) % 9 + 1, "emotion": ("glad", "sad")[turn % 2],
        }
        for talk in range(8)
        for turn in range(6)
    ]  # fmt: skip
    pl.DataFrame(rows).write_csv(folder / "utterances.csv")
    params = Params(raw)
    ingest.run(params.ingest("interviews"), here(), PlainContext(), "interviews")
    splits.run(params.for_splits("interviews"), here(), QUIET, "interviews")
    labels.run(params.section("labels", "interviews"), here(), QUIET, "interviews")
    assert read_table(UTTERANCES, here().utterances("interviews")).height == len(rows)
    merged = read_table(LABELS, here().labels("interviews"))
    assert merged.get_column("valence").count() == len(rows)
    assert merged.get_column("n_raters").max() >= 2
    assert read_table(SPLIT, here().splits("interviews")).get_column("fold").n_unique() == 5


def test_the_example_becomes_stages(example, tmp_path):
    raw = graph.read_raw_params(ROOT) | example
    for package in ("flows", "tasks", "models"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    assert "interviews-linear" in graph.render(raw, tmp_path)
