"""A whole small project: a dozen sounds of a user's table, one encoder, one method."""

import atexit
import compileall
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile
from dvc.repo import Repo

from tests.places import ROOT

CORPUS = "toy"
SEED = int(os.environ.get("AFFECTLOOM_FAULTS_SEED", random.randrange(10**6)))
#: Of each kind of work in a test.
KILLS = int(os.environ.get("AFFECTLOOM_FAULTS_KILLS", "3"))
#: What is compared; how long a run took, which other files tell, is no result.
_COMPARED = (".parquet", ".safetensors", ".tsv", ".csv")
_PARAMS = """\
corpora:
  toy:
    adapter: table
    options:
      file: clips.csv
      columns: {utterance: id, dialogue: talk, speaker: who, session: room, media: clip}
      labels: {targets: {category: {column: emotion}}}
labels: {merge: mean, min_raters: 1, category: majority, ties: none}
splits: {protocol: group_kfold, folds: 2, group: speaker, validation_fraction: 0.25, seed: 0}
encoders:
  prosody: {family: prosody}
inputs: {audio: prosody}
train: {seeds: [0, 1]}
methods:
  early_fusion: {epochs: 3, patience: 0, hidden: 8, targets: [category]}
checkpoints: {models: {bert_tiny: {kind: bert, layers: 1}}}
execution: {workers: 1}
"""
#: Set for the undisturbed run; nothing of it may stand in what the run leaves.
SECRETS = {
    "HF_TOKEN": "hf_QmFyZWZvb3RhbmRmYW5jeWZyZWU",
    "AWS_ACCESS_KEY_ID": "AKIAQUIETHARBOUR2X7Z",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIaffectloomEXAMPLEKEY",
    "PREFECT_API_KEY": "pnu_Z3VhcmRlZGJ5dHdvYmxhY2tjYXRz",
    "PREFECT_API_AUTH_STRING": "somebody:lanternsinthefog",
    "PIP_INDEX_URL": "https://ann:umbrellaweather@packages.example/simple",
    "GITHUB_TOKEN": "ghp_dGhlc2V2ZW50aHNlY3JldGlzaGVyZQ",
}
_EMOTIONS = ("angry", "happy", "neutral")


def make_project(root: Path, clips: int = 12) -> Path:
    """A project in the folder ``root``, which was never run."""
    root.mkdir(parents=True, exist_ok=True)
    for package in ("flows", "tasks", "models"):
        skipped = shutil.ignore_patterns("*.tmp", "starter")  # __pycache__ saves a run seconds
        shutil.copytree(ROOT / package, root / package, ignore=skipped)
        # Python 3.11 keeps half of a compiled module where the disk is full, and fails on it later
        compileall.compile_dir(root / package, quiet=2)
    shutil.copy(ROOT / ".dvcignore", root / ".dvcignore")
    (root / "params.yaml").write_text(_PARAMS)
    _write_clips(root / "data/raw" / CORPUS, clips)
    Repo.init(str(root), no_scm=True).close()
    return root


def _write_clips(folder: Path, clips: int) -> None:
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), ["id,talk,who,room,clip,emotion"]
    for number in range(clips):
        group, emotion = number % 6, _EMOTIONS[number % 3]
        loud = 0.02 * (1 + 3 * _EMOTIONS.index(emotion))
        soundfile.write(folder / f"{number}.wav", loud * rng.standard_normal(8000), 16000)
        lines.append(f"u{number},t{group}-{number},s{group},r{group},{number}.wav,{emotion}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")


def run_project() -> Path:
    """The project after a run that nobody disturbed: made once, or what the environment names."""
    if made := os.environ.get("AFFECTLOOM_FAULTS_CALM"):
        return Path(made)
    root = make_project(Path(tempfile.mkdtemp(prefix="affectloom_calm_")) / "project")
    atexit.register(shutil.rmtree, root.parent, ignore_errors=True)
    begun = time.monotonic()
    code, said = ended(root, "run", **SECRETS)
    assert code == 0, said
    (root / "said.txt").write_text(said)
    (root / "length_s.txt").write_text(str(time.monotonic() - begun))
    code, said = ended(root, "export", f"{CORPUS}/early_fusion", "--out", str(root / "model"))
    assert code == 0, said
    os.environ["AFFECTLOOM_FAULTS_CALM"] = str(root)
    return root


def environment(root: Path, **changed: str) -> dict[str, str]:
    """That of a run which shares nothing with others: own cache, own home, no Prefect."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own |= {
        "AFFECTLOOM_CACHE": str(root / ".cache"),
        "AFFECTLOOM_PREFECT": "off",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
    }
    own.pop("PYTHONDONTWRITEBYTECODE", None)  # to compile anew in each process takes seconds
    return own | changed


def start(root: Path, *words: str, **changed: str) -> subprocess.Popen[str]:
    """``affectloom WORDS`` in the project, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", *words],
        cwd=root,
        env=environment(root, **changed),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(root: Path, *words: str, **changed: str) -> tuple[int, str]:
    """Exit code and words of ``affectloom WORDS``."""
    process = start(root, *words, **changed)
    said, _ = process.communicate()
    return process.returncode, said


def as_nobody(root: Path, *words: str) -> tuple[int, str]:
    """Exit code and words of ``affectloom WORDS``, called by a user without rights, home or name.

    A name space of its own, in which this user has another number and is bound to files' rights.
    """
    user = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    done = subprocess.run(
        [*user, sys.executable, "-m", "flows.cli.main", *words],
        cwd=root,
        env=environment(root, HOME="/nonexistent"),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def check_sentence(said: str) -> None:
    """A command that failed, or the stage of it that did, said so in a sentence."""
    assert "Traceback" not in said, said
    assert "unexpected" not in said, said
    told = [
        line for line in said.splitlines() if line.startswith("error: ") or ": failed in " in line
    ]
    assert told, said


def flip(file: Path, chance: random.Random) -> None:
    """Turn one bit of a file round."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.chmod(0o644)
    file.write_bytes(content)


def contents_of(root: Path, folder: str) -> dict[str, bytes]:
    """Tables and networks in a folder of the project that a run wrote, by their path."""
    found = {
        str(file.relative_to(root)): file.read_bytes()
        for file in (root / folder).rglob("*")
        if file.suffix in _COMPARED and "raw" not in file.parts
    }
    if not found:
        raise RuntimeError(f"{root / folder} holds nothing to compare")
    return found


def differing_from(wanted: dict[str, bytes], found: dict[str, bytes]) -> set[str]:
    """Files that only one of them has, or that differ."""
    return {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)}


def differing(wanted: dict[str, bytes], root: Path) -> set[str]:
    """Files that are not what an undisturbed run wrote."""
    return differing_from(wanted, contents_of(root, "data"))


def left_behind(root: Path) -> list[str]:
    """Processes that still work in the project's folder."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if Path(process.info["cwd"] or "/").is_relative_to(root):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found
