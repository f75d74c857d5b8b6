"""An imported corpus goes through the same stages as any other, without media."""

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from flows import graph
from tasks.selection import methods_of
from tests.places import ROOT

LABELS_OF_IEMOCAP = 6
_REST = {
    "labels": {"merge": "mean"},
    "splits": {"protocol": "leave_one_session_out", "group": "session"},
    "faces": {"rate_hz": 5.0},
    "train": {"seeds": [0]},
    "methods": {"early_fusion": {}},
    "evaluate": {"missing_rates": [0.0, 0.5]},
    "report": {"resamples": 100},
    "execution": {"runner": "threads", "workers": 1},
}


def entries(corpus: str) -> dict:
    """What `affectloom import` advises for a corpus with text and audio."""
    place = f"data/raw/{corpus}/imported/{corpus}"
    return {
        "corpora": {
            corpus: {
                "adapter": "imported",
                "inputs": {"audio": f"{corpus}_audio", "text": f"{corpus}_text"},
                "splits": {"protocol": "published"},
            }
        },
        "encoders": {
            f"{corpus}_{name}": {
                "family": "imported",
                "checkpoint": f"{place}_{name}.parquet",
                "corpora": [corpus],
            }
            for name in ("audio", "text")
        },
    }


def test_an_imported_corpus_adds_only_its_own_stages():
    raw = graph.read_raw_params(ROOT)
    before = yaml.safe_load(graph.render(raw, ROOT))["stages"]
    own = entries("talks")
    raw["corpora"] |= own["corpora"]
    raw["encoders"] |= own["encoders"]
    stages = yaml.safe_load(graph.render(raw, ROOT))["stages"]
    added = {
        f"{stage}@{key}"
        for stage in stages
        for key in set(stages[stage].get("foreach", ())) - set(before[stage].get("foreach", ()))
    }
    per_corpus = {f"{stage}@talks" for stage in ("ingest", "labels", "splits")}
    features = {f"features@talks-{name}" for name in ("talks_audio", "talks_text")}
    methods = {f"{s}@talks-{m}" for s in ("train", "evaluate") for m in methods_of(raw, "talks")}
    assert added == per_corpus | features | methods


def test_imported_features_depend_on_their_file_and_no_face():
    raw = graph.read_raw_params(ROOT)
    own = entries("talks")
    raw["corpora"] |= own["corpora"]
    raw["encoders"] |= own["encoders"]
    stages = yaml.safe_load(graph.render(raw, ROOT))["stages"]
    extraction = stages["features"]["foreach"]["talks-talks_audio"]["deps"]
    assert "${encoders.talks_audio.checkpoint}" in extraction
    assert "tasks/features/foreign.py" in extraction
    assert "data/faces/talks.parquet" not in extraction
    method = next(iter(raw["methods"]))
    training = stages["train"]["foreach"][f"talks-{method}"]
    read = {dep for dep in training["deps"] if dep.startswith("data/features")}
    assert read == {f"data/features/talks/${{corpora.talks.inputs.{m}}}" for m in ("audio", "text")}
    assert "corpora.talks.inputs" in training["params"]
    assert "tasks/corpora/adapters/imported.py" in stages["ingest"]["foreach"]["talks"]["deps"]


# the whole way ------------------------------------------------------------------------------------


def dialogues() -> tuple:
    """DialogueRNN's tuple of nine; the text says the category, the rest is noise."""
    rng = np.random.default_rng(0)
    names = [f"Ses0{s}{who}_impro0{n}" for s in range(1, 6) for who in "FM" for n in (1, 2)]
    codes = {name: rng.integers(0, LABELS_OF_IEMOCAP, 6) for name in names}
    held_out = [name for name in names if name.startswith("Ses05")]
    return (
        {name: [f"{name}_{'FM'[k % 2]}{k:03d}" for k in range(6)] for name in names},
        {name: ["FM"[k % 2] for k in range(6)] for name in names},
        {name: codes[name].tolist() for name in names},
        {name: 4 * np.eye(8)[codes[name]] + rng.normal(size=(6, 8)) for name in names},
        {name: rng.normal(size=(6, 5)).astype("f4") for name in names},
        {name: rng.normal(size=(6, 4)) for name in names},
        {name: [f"line {k} of {name}" for k in range(6)] for name in names},
        set(names) - set(held_out),
        held_out,
    )


def mmsa() -> dict:
    """Unaligned splits of MMSA; the voice says the sentiment, frame by frame."""
    rng = np.random.default_rng(0)
    content = {}
    for split, count in {"train": 48, "valid": 12, "test": 16}.items():
        sentiment = rng.uniform(-3, 3, count)
        audio = rng.normal(size=(count, 10, 5)) + sentiment[:, None, None]
        content[split] = {
            "id": [f"{split}{n // 4}$_${n % 4}" for n in range(count)],
            "raw_text": [f"words {n} of {split}" for n in range(count)],
            "text": rng.normal(size=(count, 6, 7)).astype("f4"),
            "audio": audio.astype("f4"),
            "vision": rng.normal(size=(count, 10, 3)).astype("f4"),
            "regression_labels": sentiment,
            "audio_lengths": [5 + n % 5 for n in range(count)],
            "vision_lengths": [10] * count,
        }
    return content


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the code with DVC's folder and nothing else."""
    for package in ("flows", "tasks", "models"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / ".dvcignore", tmp_path / ".dvcignore")
    (tmp_path / "params.yaml").write_text("corpora: {}\n")
    command(tmp_path, "dvc", "init", "--no-scm", "-q")
    return tmp_path


def command(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module in the project."""
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "AFFECTLOOM_CACHE": str(root / ".cache"),
        "DVC_NO_ANALYTICS": "1",
    }
    environment.pop("PREFECT_API_URL", None)
    result = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def bring_in(root: Path, content: object, corpus: str) -> None:
    """Import ``content`` and paste what the command advises into ``params.yaml``."""
    (root / "made.pkl").write_bytes(pickle.dumps(content))
    told = command(root, "flows.cli.main", "import", "made.pkl", "--corpus", corpus)
    advised = yaml.safe_load(told.stdout.split("In params.yaml:\n")[1])
    (root / "params.yaml").write_text(yaml.safe_dump(advised | _REST))


def run_stages(root: Path, corpus: str, encoders: list[str]) -> None:
    for stage in ("ingest", "labels", "splits"):
        command(root, "flows.stage", stage, "--corpus", corpus)
    for encoder in encoders:
        command(root, "flows.stage", "features", "--corpus", corpus, "--encoder", encoder)
    for stage in ("train", "evaluate"):
        command(root, "flows.stage", stage, "--corpus", corpus, "--method", "early_fusion")


@pytest.mark.slow
def test_a_dialogue_pickle_goes_from_import_to_report_under_dvc(project):
    bring_in(project, dialogues(), "talks")
    command(project, "flows.cli.main", "run", "report")
    assert not (project / "data/faces").exists()
    with (project / "data/reports/leaderboard.csv").open() as stream:
        row = next(csv.DictReader(stream))
    assert (row["corpus"], row["target"], row["n_test"]) == ("talks", "category", "24")
    # six categories: chance is a sixth, and the text gives them away
    assert float(row["mean"]) > 0.5
    assert (project / "data/reports/index.html").stat().st_size > 100_000
    again = command(project, "flows.cli.main", "run", "report")
    assert "0 of 9 stages to look at" in again.stderr


@pytest.mark.slow
def test_an_mmsa_pickle_is_trained_frame_by_frame(project):
    bring_in(project, mmsa(), "clips")
    run_stages(project, "clips", ["clips_audio", "clips_text", "clips_video"])
    folder = project / "data/features/clips/clips_audio"
    audio = pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])
    assert sorted(set(audio["frames"])) == [5, 6, 7, 8, 9]
    assert all(
        len(row["sequence"]) == 2 * row["frames"] * row["dim"]
        for row in audio.iter_rows(named=True)
    )
    scores = json.loads((project / "data/reports/metrics/clips/early_fusion.json").read_text())
    # sentiment spreads evenly over -3..3: guessing its middle is off by 1.5
    assert scores["sentiment"]["mae"] < 1.0
