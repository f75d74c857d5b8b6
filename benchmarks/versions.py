"""Versions of a corpus under DVC: what a new one costs, and that going back computes nothing.

    python -m benchmarks.versions FOLDER --clips 10000 [--linked]

Makes a project in FOLDER with so many short recordings, puts them under ``dvc add``, measures them
with the encoder ``prosody``, changes one recording in a hundred and adds as many, and goes back.
With ``--linked`` the corpus is a link to a folder beside FOLDER, as to a network disk, without
``dvc add``; going back is putting the old recordings there.
"""

import argparse
import os
import subprocess
import sys
import time
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.project import make_project
from tasks.store.segments import stats

RATE_HZ = 8000
CORPUS = "mine"
FEATURES = f"features@{CORPUS}-prosody"
PARAMS = {
    "corpora": {
        CORPUS: {
            "adapter": "table",
            "options": {
                "file": "utterances.csv",
                "columns": {"utterance": "id", "dialogue": "talk", "media": "file"},
                "labels": {"targets": {"valence": {"column": "valence", "scale": [1, 9]}}},
            },
        }
    },
    "encoders": {"prosody": {"family": "prosody", "pooling": "mean_std"}},
    "inputs": {"audio": "prosody"},
    "splits": {"protocol": "group_kfold", "group": "dialogue", "folds": 2},
    "methods": {"constant": {}},
    "train": {"seeds": [0]},
    "execution": {"runner": "processes", "workers": 0},
}


@dataclass(frozen=True)
class Step:
    """What a step cost.

    Attributes:
        name: what was done.
        seconds: by the clock.
        computed: clips that were measured in it.
        megabytes: of DVC's cache after it.
    """

    name: str
    seconds: float
    computed: int
    megabytes: float


class Versions:
    """A project whose corpus has versions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.run("git", "init", "-q")
        make_project(root, PARAMS)
        if (root / ".dvc/config").exists() and "no_scm" in (root / ".dvc/config").read_text():
            (root / ".dvc/config").write_text("")
        (root / ".gitignore").write_text(
            "/data/?*\n!/data/raw/\n/data/raw/?*\n!/data/raw/*.dvc\n.cache\n"
        )
        (root / ".dvcignore").write_text("__pycache__\n*.pyc\n.cache\n*.tmp\n")
        self.run(sys.executable, "-m", "flows.cli.main", "sync")

    @property
    def corpus(self) -> Path:
        """The folder of recordings."""
        return self.root / "data/raw" / CORPUS

    def record(self, first: int, last: int, seed: int) -> None:
        """Write recordings ``first`` to ``last``, and the table of all that there are."""
        self.corpus.mkdir(parents=True, exist_ok=True)
        for number in range(first, last):
            rng = np.random.default_rng((seed, number))
            time_s = np.arange(RATE_HZ // 4) / RATE_HZ
            sound = 0.3 * np.sin(2 * np.pi * rng.uniform(90, 300) * time_s)
            sound += 0.01 * rng.normal(size=time_s.size)
            with wave.open(str(self.corpus / f"{number:06d}.wav"), "wb") as file:
                file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
                file.writeframes((32767 * sound).astype("<i2").tobytes())
        names = sorted(file.stem for file in self.corpus.glob("*.wav"))
        rows = [f"{n},talk{int(n) // 10},{n}.wav,{1 + int(n) % 9}" for n in names]
        text = "\n".join(["id,talk,file,valence", *rows]) + "\n"
        (self.corpus / "utterances.csv").write_text(text)

    def keep(self, version: str) -> None:
        """``dvc add`` and a commit with a tag."""
        self.dvc("add", f"data/raw/{CORPUS}")
        self.commit(version)

    def commit(self, version: str) -> None:
        """A commit of what git shall keep, with a tag that moves."""
        self.run("git", "add", "-A")
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        self.run("git", *who, "commit", "-q", "--allow-empty", "-m", version)
        self.run("git", "tag", "-f", version)  # again once dvc.lock holds what was made of it

    def go_to(self, version: str) -> None:
        """Both halves of another version, git's and DVC's; ``repro`` does the rest."""
        self.run("git", "checkout", "-q", version)
        self.dvc("checkout", "-q", f"data/raw/{CORPUS}.dvc")

    def repro(self) -> str:
        """What DVC says while it brings the features up to date."""
        return self.dvc("repro", FEATURES)

    def computed(self) -> int:
        """Clips that were measured so far."""
        return sum(usage.entries for usage in stats(self.root / ".cache/affectloom/features"))

    def dvc(self, *words: str) -> str:
        """Run DVC in the project."""
        return self.run(sys.executable, "-m", "dvc", *words)

    def run(self, *command: str) -> str:
        """Run a command in the project; what it says."""
        environment = os.environ | {"PYTHONPATH": str(self.root), "DVC_NO_ANALYTICS": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment.pop("AFFECTLOOM_CACHE", None)
        done = subprocess.run(
            command, cwd=self.root, env=environment, text=True, check=False, capture_output=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr


def measure(root: Path, clips: int, is_linked: bool = False) -> list[Step]:
    """The life of a corpus of so many recordings."""
    project = Versions(root)
    if is_linked:
        disk = root.with_name(f"{root.name}.disk")
        disk.mkdir()
        project.corpus.parent.mkdir(parents=True, exist_ok=True)
        project.corpus.symlink_to(disk)
    share = max(1, clips // 100)
    steps: list[Step] = []

    def step(name: str, work, *arguments: object) -> None:
        before, began = project.computed(), time.perf_counter()
        work(*arguments)
        seconds = time.perf_counter() - began
        cache = root / ".dvc/cache"
        size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) / 1e6
        steps.append(Step(name, seconds, project.computed() - before, size))
        print(f"{name:32} {seconds:8.1f} s {steps[-1].computed:7} clips {size:8.1f} MB", flush=True)

    def keep(version: str, what: str) -> None:
        if not is_linked:
            step(f"dvc add{what}", project.keep, version)

    project.record(0, clips, seed=0)
    keep("v1", "")
    step("features of version 1", project.repro)
    project.commit("v1")
    step("repro with nothing to do", project.repro)
    project.record(0, share, seed=1)
    project.record(clips, clips + share, seed=0)
    keep("v2", f", {share} changed, {share} new")
    step(f"features of version 2, {share} + {share}", project.repro)
    project.commit("v2")
    if is_linked:
        for number in range(clips, clips + share):
            (project.corpus / f"{number:06d}.wav").unlink()
        project.record(0, share, seed=0)
        step("the recordings of version 1 again", project.repro)
        return steps
    step("git and dvc checkout of version 1", project.go_to, "v1")
    step("repro of version 1", project.repro)
    step("git and dvc checkout of version 2", project.go_to, "v2")
    step("repro of version 2", project.repro)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--linked", action="store_true", help="instead of under `dvc add`")
    asked = parser.parse_args()
    measure(asked.folder.resolve(), asked.clips, asked.linked)


if __name__ == "__main__":
    main()
