"""Emotion from the voice alone on RAVDESS: Whisper-base out of a package index, against prosody.

``python -m benchmarks.voices FOLDER`` in the root of the repository, with the real data beside it
(``../shared/data``, or ``AFFECTLOOM_SHARED``). FOLDER becomes a project; ``affectloom run`` does
the work and goes on where it was stopped. Prints one row for each method: mean and standard
deviation over seeds of the test score of the epoch that validation chose.

720 clips of 24 actors, eight emotions, six folds that share no actor; the last actors of each
fold's training part choose the epoch. Set beside: MFCC statistics with an SVM in folds by actor
reach 46.1 %; the mean of Whisper's layers 2 to 5 with logistic regression, fitted on all rows of
the other folds, 72.6 %.
"""

import argparse
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import soundfile
import yaml

from benchmarks import project
from benchmarks.project import ROOT, SHARED

ACTORS = 24


def grow(root: Path, actors: int) -> None:
    """The clips of the first actors as the archive has them, one folder an actor."""
    clips = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet")
    wanted = clips.filter(pl.col("actor") <= actors).select("file", "actor", "audio_flac")
    for name, actor, sound in wanted.iter_rows():
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir(exist_ok=True)
        samples, rate_hz = soundfile.read(io.BytesIO(sound), dtype="int16")
        soundfile.write(folder / f"{name}.wav", samples, rate_hz)


def parameters(seeds: int, actors: int, only: list[str]) -> dict[str, Any]:
    """What stands in params.yaml."""
    offline = yaml.safe_load((ROOT / "params" / "offline.yaml").read_text(encoding="utf-8"))
    voices = {name: offline["encoders"][name] for name in ("whisper_base", "prosody")}
    voices["prosody"] = voices["prosody"] | {"trim_db": voices["whisper_base"]["trim_db"]}
    return {
        "corpora": {
            "ravdess": {
                "adapter": "ravdess",
                "splits": {
                    "protocol": "group_kfold", "group": "speaker", "folds": 6 if actors > 8 else 3,
                    "validation_fraction": 0.15, "seed": 0,
                },
                "max_quarantine_fraction": 1.0,
            }
        },
        "labels": {},
        "splits": {},
        "encoders": voices,
        "inputs": {"audio": "prosody"},
        "train": {"seeds": list(range(seeds)), "snapshot_mb": 0.0},
        "methods": {
            f"{method}_{name}": {
                "method": method, "modalities": ["audio"], "targets": ["category"],
                "inputs": {"audio": read}, **options,
            }
            for method, name, read, options in METHODS
            if not only or f"{method}_{name}" in only
        },
        "evaluate": {"missing_rates": [0.0]},
        "report": {},
        "execution": {"runner": "processes", "workers": 2},
    }  # fmt: skip


#: Method, its name's end, what it reads, options. One setting for all, not searched.
METHODS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("linear", "whisper", "whisper_base", {}),
    ("linear", "prosody", "prosody", {}),
    ("linear", "both", ["whisper_base", "prosody"], {}),
    ("ridge", "whisper", "whisper_base", {}),
]


def main() -> None:
    """Build the project, run it, print its leaderboard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--actors", type=int, default=ACTORS, help="30 clips each")
    parser.add_argument("--only", nargs="*", default=[], help="these methods, as linear_prosody")
    parser.add_argument("--stage", help="run up to this one only")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    project.grow(folder, "ravdess", lambda root: grow(root, arguments.actors))
    project.make_project(folder, parameters(arguments.seeds, arguments.actors, arguments.only))
    if arguments.stage:
        project.affectloom(folder, "run", arguments.stage)
        return
    project.affectloom(folder, "run")
    for row in project.rows(folder):
        print(json.dumps(_figures(row)))


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    """What a table needs, as shares of 1."""
    found = {key: row[key] for key in ("corpus", "target", "method", "n_test", "seeds")}
    names = ("accuracy", "weighted_f1", "macro_f1", "uar")
    scores = row["metrics"]
    return found | {n: [scores[n]["mean"], scores[n]["std"]] for n in names if n in scores}


if __name__ == "__main__":
    main()
