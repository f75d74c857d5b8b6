"""How time and memory grow with the corpus: tables of any size, a process for each stage.

    python -m benchmarks.scale [SIZE ...] [--stages ingest labels ...] [--folder FOLDER] [--wide 64]
                               [--kills 3] [--changes] [--again]

Sizes are utterances; 10,000 and 100,000 unless others are named. A corpus has no media: a CSV file
of dialogues of 20 utterances that five raters judge on valence, arousal, dominance and category,
with imported features of one modality. The stages run in a project of its own in FOLDER, by default
a temporary one, with one worker. Prints processor seconds, how much of them is start-up (the
interpreter and all imports), the peak of resident memory and, from the second size on, by what
power of the size the seconds without start-up grow: 1 is linear. With ``--kills``, ``ingest`` and
``labels`` are then killed so many times at moments spread over their time and run again: the outs
must be what they were before, after the kill and after the next run. With ``--changes``, one
judgement is changed, then a dialogue added, and what of the tables is new is printed. With
``--again``, ``affectloom run`` makes everything, and then what ``dvc repro``, ``affectloom run``
and ``affectloom status`` cost with nothing to do is printed.
"""

import argparse
import hashlib
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.pipeline import measure
from benchmarks.project import ROOT, affectloom, make_project
from tasks.corpora.imports.found import Block
from tasks.corpora.imports.writing import write_features
from tasks.layout import Layout
from tasks.stages import STAGES as ROWS
from tasks.targets import VAD

CORPUS, RATERS, TURNS = "big", 5, 20
WORDS = 2_000
CATEGORIES = np.array(["angry", "happy", "neutral", "sad"])
#: Rows that are drawn and written together.
BLOCK = 50_000
STAGES = ("ingest", "splits", "labels", "features", "train", "evaluate", "report")
#: Stages that a change of the source reaches and that need no features.
_CHANGED = ("ingest", "splits", "labels")
FEATURES = f"data/raw/{CORPUS}/imported/voice.parquet"


def judgements_of(target: str) -> list[str]:
    """Columns of a target, one for each rater."""
    return [f"{target}_{rater}" for rater in range(RATERS)]


def params() -> dict[str, object]:
    """``params.yaml`` of the project."""
    columns = {"utterance": "id", "dialogue": "talk", "turn": "turn", "speaker": "who"}
    targets: dict[str, object] = {
        name: {
            "columns": {f"r{i}": column for i, column in enumerate(judgements_of(name))},
            **({"scale": [1, 5]} if name in VAD else {}),
        }
        for name in (*VAD, "category")
    }
    table = {
        "file": "clips.csv",
        "columns": {**columns, "text": "words"},
        "labels": {"targets": targets},
    }
    return {
        "corpora": {CORPUS: {"adapter": "table", "options": table}},
        "labels": {"merge": "mean"},
        "splits": {"protocol": "group_kfold", "group": "speaker", "folds": 1},
        "encoders": {"voice": {"family": "imported", "checkpoint": FEATURES}},
        "inputs": {"audio": "voice"},
        "train": {"seeds": [0]},
        "execution": {"runner": "processes", "workers": 1},
        "methods": {"linear": {"batch_size": 256, "epochs": 2}},
    }


def grow(root: Path, utterances: int, width: int) -> None:
    """Write a corpus of a size: its table, block by block, and its features."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(WORDS)])
    with (root / "clips.csv").open("wb") as stream:
        for start in range(0, utterances, BLOCK):
            rows = np.arange(start, min(start + BLOCK, utterances))
            truth = rng.normal(3, 1, (len(rows), len(VAD)))
            said = words[rng.integers(0, WORDS, (len(rows), 8))]
            table: dict[str, object] = {
                "id": [f"u{n:08d}" for n in rows],
                "talk": [f"d{n // TURNS:07d}" for n in rows],
                "turn": rows % TURNS,
                "who": [f"s{n // TURNS // 10:06d}_{n % 2}" for n in rows],
                "words": [" ".join(line) for line in said],
            }
            for place, target in enumerate(VAD):
                noisy = truth[:, place, None] + rng.normal(0, 0.7, (len(rows), RATERS))
                value = np.clip(np.rint(noisy), 1, 5).astype(int)
                table |= dict(zip(judgements_of(target), value.T, strict=True))
            code = np.abs(truth[:, 0, None] + rng.normal(0, 1, (len(rows), RATERS))).astype(int) % 4
            table |= dict(zip(judgements_of("category"), CATEGORIES[code].T, strict=True))
            pl.DataFrame(table).write_csv(stream, include_header=start == 0)
    ids = [f"d{n // TURNS:07d}/u{n:08d}" for n in range(utterances)]
    block = Block("voice", "audio", ids, lambda _: rng.standard_normal(width, np.float32), width)
    known = {"corpus": CORPUS, "source_sha256": "0" * 64}
    path = root.parents[2] / FEATURES
    write_features(block, {}, CORPUS, path, known, False, lambda done, of: None)


def measured(folder: Path, utterances: int, stages: list[str], width: int) -> dict[str, dict]:
    """What each stage costs on a corpus of this size, in a project below ``folder``."""
    project = folder / str(utterances)
    make_project(project, params())
    if not (project / "data/raw" / CORPUS).exists():
        grow(project / "data/raw" / CORPUS, utterances, width)
    affectloom(project, "sync")  # the report wants dvc.yaml up to date
    os.chdir(project)
    of_method = ["--corpus=big", "--method=linear"]
    ids = {
        "features": ["--corpus=big", "--encoder=voice"],
        **dict.fromkeys(("train", "evaluate"), of_method),
        "report": [],
    }
    found = {}
    for stage in stages:
        found[stage] = measure([stage, *ids.get(stage, ["--corpus=big"])], workers=1)
        took = found[stage]
        print(
            f"{utterances:>9,}  {stage:10} {took['cpu_s']:8.1f} {took['startup_s']:10.1f} "
            f"{took['peak_mb']:8,.0f}",
            flush=True,
        )
    return found


def outs(project: Path, stage: str) -> dict[str, str]:
    """SHA-256 of every file that a stage writes."""
    written = ROWS[stage].writes(Layout(project / "data"), corpus=CORPUS)
    files = [each for out in written for each in (sorted(out.iterdir()) if out.is_dir() else [out])]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def kill(project: Path, stage: str, took_s: float, kills: int) -> None:
    """Kill a stage ``kills`` times, run it again, and compare bytes; stops at a difference."""
    whole = outs(project, stage)
    command = [sys.executable, "-m", "flows.stage", stage, f"--corpus={CORPUS}"]
    for number in range(1, kills + 1):
        after_s = took_s * number / (kills + 1)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as child:
            try:
                child.wait(after_s)
                print(f"{stage} ended before {after_s:.1f} s")
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
        between = outs(project, stage)
        left = [*(project / "data").rglob(".*.tmp")]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
        if between != whole or outs(project, stage) != whole:
            raise SystemExit(f"{stage}, killed after {after_s:.1f} s: other bytes")
        after = [*(project / "data").rglob(".*.tmp")]
        print(
            f"{stage} killed after {after_s:.1f} s: outs as before, {len(left)} temporary files; "
            f"run again: the same bytes, {len(after)} temporary files",
            flush=True,
        )


def change(project: Path) -> None:
    """One judgement more or less, and a dialogue more: what of the tables is new."""
    (source,) = (project / "data/raw" / CORPUS).glob("*.csv")
    original = source.read_text()
    head, *rows = original.splitlines()
    middle = len(rows) // 2 // TURNS * TURNS
    cells = rows[middle].split(",")
    place = head.split(",").index(judgements_of(VAD[0])[0])
    cells[place] = "1" if cells[place] != "1" else "5"
    one = [*rows[:middle], ",".join(cells), *rows[middle + 1 :]]
    dialogue = [
        re.sub(r",(d\d+),", r",\1x,", row, count=1) for row in rows[middle : middle + TURNS]
    ]
    for what, changed in {
        "one changed judgement": one,
        f"a dialogue of {TURNS} more": [*one[:middle], *dialogue, *one[middle:]],
    }.items():
        known = {stage: outs(project, stage) for stage in _CHANGED}
        source.write_text("\n".join([head, *changed]) + "\n")
        print(f"{what} of {len(rows):,} utterances:")
        for stage in _CHANGED:
            command = [sys.executable, "-m", "flows.stage", stage, f"--corpus={CORPUS}"]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
            before, after = set(known[stage].values()), outs(project, stage)
            tables: dict[Path, list[Path]] = {}
            for file in map(Path, after):
                table = file if file.parent.suffix != ".parquet" else file.parent
                tables.setdefault(table, []).append(file)
            for table, files in tables.items():
                new = [file for file in files if after[str(file)] not in before]
                kilobytes = sum(file.stat().st_size for file in new) / 1e3
                print(
                    f"  {table.relative_to(project / 'data')}: {len(new)} of {len(files)} files "
                    f"new, {kilobytes:,.0f} KB",
                    flush=True,
                )
    source.write_text(original)


def again(project: Path) -> None:
    """What the commands cost that find nothing to do, with the processes they start."""
    affectloom(project, "run")
    environment = os.environ | {
        "PYTHONPATH": str(project),
        "AFFECTLOOM_CACHE": str(project / ".cache"),
    }
    for what in ("dvc repro", "affectloom run", "affectloom status"):
        command = what.replace("affectloom", "flows.cli.main", 1).split()
        began = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=project,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"{what} ended with {child.returncode}")
        print(
            f"{what} with nothing to do: {used.ru_utime + used.ru_stime:.1f} s of CPU, "
            f"{time.monotonic() - began:.1f} s",
            flush=True,
        )


def show_growth(by_size: dict[int, dict[str, dict]]) -> None:
    """How seconds without start-up, and memory, grow from each size to the next."""
    sizes = sorted(by_size)
    for small, large in pairwise(sizes):
        for stage in by_size[small]:
            one, other = by_size[small][stage], by_size[large][stage]
            work = [max(took["cpu_s"] - took["startup_s"], 1e-3) for took in (one, other)]
            power = math.log(work[1] / work[0]) / math.log(large / small)
            memory = (other["peak_mb"] - one["peak_mb"]) / (large - small) * 1e3
            print(
                f"{small:,} to {large:,}: {stage:10} {work[1] / work[0]:6.1f} times the seconds "
                f"(power {power:.2f}), {memory:.1f} KB more for an utterance"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    parser.add_argument("--folder", type=Path, help="keep the projects here")
    parser.add_argument("--wide", type=int, default=64, help="width of the features")
    parser.add_argument("--kills", type=int, default=0, help="of ingest and labels")
    parser.add_argument("--changes", action="store_true", help="of one judgement, of a dialogue")
    parser.add_argument("--again", action="store_true", help="with nothing to do")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)  # the child is this folder's; its code is the project's
    print(f"{'size':>9}  {'stage':10} {'cpu s':>8} {'start-up s':>10} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        found = {n: measured(folder, n, asked.stages, asked.wide) for n in sorted(asked.sizes)}
        show_growth(found)
        for size, took in found.items():
            os.chdir(folder / str(size))
            for stage in [name for name in ("ingest", "labels") if asked.kills and name in took]:
                kill(folder / str(size), stage, took[stage]["clock_s"], asked.kills)
            if asked.changes:
                change(folder / str(size))
            if asked.again:
                again(folder / str(size))
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
