"""A corpus whose words nobody wrote down, from `asr:` to the report, under DVC, on real voices."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import soundfile
import yaml

from benchmarks.project import ROOT, SHARED, make_project
from tasks.layout import Layout, default_cache
from tasks.params.model import Params
from tasks.predict.listening.words import bring_transcriber
from tasks.store.segments import stats

VOICES = SHARED / "ravdess_speech_16k.parquet"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not VOICES.exists(), reason=f"{VOICES} is not there"),
]
CORPUS = "voices"


def parameters() -> dict:
    """Voices alone; text is what Whisper hears."""
    offline = yaml.safe_load((ROOT / "params" / "offline.yaml").read_text())
    return {
        "corpora": {
            CORPUS: {
                "adapter": "table",
                "asr": "whisper_base",
                "options": {
                    "file": "clips.csv",
                    "columns": {"utterance": "id", "speaker": "actor", "media": "file"},
                    "labels": {"targets": {"category": {"column": "emotion"}}},
                },
                "splits": {
                    "protocol": "group_kfold", "group": "speaker", "folds": 2,
                    "validation_fraction": 0.5, "seed": 0,
                },
            }
        },
        "asr": offline["asr"],
        "labels": {},
        "splits": {},
        "encoders": {"minilm": offline["encoders"]["minilm"]},
        "inputs": {"text": "minilm"},
        "train": {"seeds": [0], "snapshot_mb": 0.0},
        "methods": {"linear": {"targets": ["category"], "modalities": ["text"], "epochs": 3}},
        "evaluate": {"missing_rates": [0.0]},
        "report": {},
        "execution": {"runner": "processes", "workers": 1},
    }  # fmt: skip


def clips() -> pl.DataFrame:
    """Four actors, two sentences, two emotions."""
    table = pl.read_parquet(VOICES).filter(
        pl.col("actor").is_in([1, 2, 3, 4]), pl.col("emotion").is_in(["happy", "sad"])
    )
    return table.sort("file").unique(["actor", "statement", "emotion"], keep="first").sort("file")


def write(folder: Path, name: str, sound: bytes) -> None:
    samples, rate_hz = soundfile.read(io.BytesIO(sound), dtype="int16")
    soundfile.write(folder / f"{name}.wav", samples, rate_hz)


def grow(folder: Path) -> pl.DataFrame:
    """Media and the table of the corpus, without a word."""
    folder.mkdir(parents=True)
    table = clips()
    for name, sound in table.select("file", "audio_flac").iter_rows():
        write(folder, name, sound)
    said = table.select(
        id="file", file=pl.format("{}.wav", "file"), actor="actor", emotion="emotion"
    )
    said.write_csv(folder / "clips.csv")
    return table


def run(root: Path) -> str:
    """What `affectloom run` says."""
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "AFFECTLOOM_CACHE": str(root / ".cache"),
        "AFFECTLOOM_PREFECT": "off",
        "DVC_NO_ANALYTICS": "1",
    }
    command = [sys.executable, "-m", "flows.cli.main", "run"]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def heard(root: Path) -> tuple[dict[str, str], int]:
    """Words by clip, and for how many sounds they are kept."""
    layout = Layout(root / "data", cache=root / ".cache")
    file = layout.transcripts(CORPUS)
    words = pl.read_parquet(file, columns=["utterance_id", "text"])
    fingerprint = pl.read_parquet_metadata(file)["fingerprint"]
    kept = [one for one in stats(layout.store) if fingerprint.startswith(one.fingerprint)]
    return dict(words.iter_rows()), kept[0].entries


def test_words_are_heard_once_and_again_only_where_the_sound_changes(tmp_path):
    raw = tmp_path / "data/raw" / CORPUS
    table = grow(raw)
    make_project(tmp_path, parameters())
    (tmp_path / ".cache").mkdir()
    bring_transcriber(Params(parameters()).transcriber("whisper_base"), Layout(), print)
    (tmp_path / ".cache/weights").symlink_to(default_cache() / "weights")

    run(tmp_path)
    words, kept = heard(tmp_path)
    assert (len(words), kept) == (table.height, table.height)
    right = sum("by the door" in (text or "").lower() for text in words.values())
    assert right >= 0.9 * table.height
    rows = pl.read_parquet(tmp_path / f"data/features/{CORPUS}/minilm/*.parquet")
    assert set(rows["status"]) == {"degraded"}
    assert set(rows["reason"]) == {"asr"}
    with (tmp_path / "data/reports/leaderboard.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["corpus"], row["method"], row["n_test"]) == (CORPUS, "linear", str(table.height))
    assert (tmp_path / "data/reports/index.html").exists()

    assert "0 of " in run(tmp_path)

    first, statement = table.select("file", "statement").row(0)
    others = pl.read_parquet(VOICES).filter(
        pl.col("actor") == 5, pl.col("statement") != statement, pl.col("emotion") == "neutral"
    )
    write(raw, first, others.row(0, named=True)["audio_flac"])
    assert f"1 of {table.height} clips to compute" in run(tmp_path)
    changed, kept = heard(tmp_path)
    assert kept == table.height + 1  # what was heard before is still there, and one sound more
    assert [name for name in words if words[name] != changed[name]] == [f"{CORPUS}/{first}/{first}"]
