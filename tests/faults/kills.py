"""Kill extraction and training at random moments; what they write must not differ.

    python -m tests.faults.kills [--extractions 50] [--trainings 30] [--seed 0]

Each kind of work runs once undisturbed. Then a run is begun again and again in a process group of
its own and killed with -9 at a random moment, until it was killed so many times; the last one is
left to end. Prints the seed, and a line for each kind: kills, runs that ended, files that differ.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile

from tasks.tables.parquet import write_table
from tasks.tables.utterances import UTTERANCES
from tests.places import ROOT, here
from tests.tasks.corpus_factory import make_corpus

_EXTRACT = """
import io
from tasks.features import stage
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.plain_context import PlainContext
ctx = PlainContext("features", stream=io.StringIO())
stage.run(EncoderParams(family="prosody"), Layout(), ctx, "toy", "prosody")
"""
_TRAIN = """
import io
from tasks.context import ForMethod
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.train import stage
from tasks.train.stage import TrainParams
from tests.tasks.corpus_factory import CORPUS, INPUTS
entry = {"epochs": 40, "patience": 0, "lr": 0.01, "hidden": 8, "targets": ["category"]}
ctx = PlainContext("train", stream=io.StringIO())
asked = ForMethod(TrainParams(seeds=[0, 1]), entry, INPUTS)
stage.run(asked, Layout(), ctx, CORPUS, "early_fusion")
"""
#: How long a run took is no result.
_COMPARED = (".parquet", ".safetensors", ".tsv")


@dataclass(frozen=True)
class Result:
    """What became of one kind of work."""

    kills: int
    ended: int
    differing: tuple[str, ...]
    orphans: int


def make_sounds(root: Path, clips: int = 40) -> None:
    """A corpus of short noises."""
    rng, rows = np.random.default_rng(0), []
    for number in range(clips):
        media = root / here().raw("toy") / f"{number}.wav"
        media.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(media, 0.1 * rng.standard_normal(16000), 16000)
        rows.append(
            {
                "utterance_id": f"toy/d/{number:03d}",
                "dialogue_id": "toy/d",
                "turn": number,
                "media": f"toy/{number}.wav",
                "media_sha256": hashlib.sha256(media.read_bytes()).hexdigest(),
            }
        )
    write_table(UTTERANCES, UTTERANCES.frame(rows), root / here().utterances("toy"))


def extraction(kills: int, chance: random.Random, folder: Path) -> Result:
    """Features of an encoder for a small corpus."""
    make_sounds(folder)
    return _killed(_EXTRACT, here().features("toy", "prosody"), kills, chance, folder)


def training(kills: int, chance: random.Random, folder: Path) -> Result:
    """Two seeds of a small network."""
    make_corpus(folds=1).write(folder)
    return _killed(_TRAIN, here().runs("tiny", "early_fusion"), kills, chance, folder)


def _killed(code: str, out: Path, kills: int, chance: random.Random, folder: Path) -> Result:
    begun = time.monotonic()
    if _start(code, folder, "calm").wait() != 0:
        raise RuntimeError("the undisturbed run failed")
    length_s = time.monotonic() - begun
    wanted = _contents(folder / out)
    shutil.rmtree(folder / out)
    done = ended = 0
    differing: set[str] = set()
    while done < kills:
        process = _start(code, folder, "cache")
        try:
            process.wait(timeout=chance.uniform(0.0, 1.1 * length_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            continue
        ended += 1
        differing |= _differing(wanted, _contents(folder / out))
        shutil.rmtree(folder / out)
        shutil.rmtree(folder / "cache")
    if _start(code, folder, "cache").wait() != 0:
        raise RuntimeError("the run after the last kill failed")
    differing |= _differing(wanted, _contents(folder / out))
    return Result(done, ended + 1, tuple(sorted(differing)), _orphans(folder))


def _start(code: str, folder: Path, cache: str) -> subprocess.Popen[bytes]:
    changed = {"PYTHONPATH": str(ROOT), "AFFECTLOOM_CACHE": str(folder / cache)}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=folder, env=os.environ | changed, start_new_session=True)


def _contents(folder: Path) -> dict[str, bytes]:
    found = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.suffix in _COMPARED
    }
    if not found:
        raise RuntimeError(f"{folder} holds nothing to compare")
    return found


def _differing(wanted: dict[str, bytes], found: dict[str, bytes]) -> set[str]:
    return {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)}


def _orphans(folder: Path) -> int:
    """Processes that still work in the folder."""
    count = 0
    for process in psutil.process_iter(["cwd"]):
        count += process.info["cwd"] == str(folder)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extractions", type=int, default=50)
    parser.add_argument("--trainings", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    for work, kills in ((extraction, options.extractions), (training, options.trainings)):
        with tempfile.TemporaryDirectory() as folder:
            found = work(kills, chance, Path(folder).resolve())
        print(
            f"{work.__name__}: {found.kills} kills, {found.ended} runs ended, "
            f"{len(found.differing)} files differ {list(found.differing)}, "
            f"{found.orphans} processes left",
            flush=True,
        )


if __name__ == "__main__":
    main()
