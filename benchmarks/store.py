"""Storage: speed of sequences through the feature store and the table, and memory by corpus size.

    python -m benchmarks.store [--clips 400] [--frames 250] [--dim 768] [--repeats 5] [--memory]
                               [--cpu]

Speed: fp16 sequences into the store (hashed, fsynced), out of it (hash checked) into a features
table, and the table read back. Memory (``--memory``): the whole stage with the prosody encoder and
its sequences on 200 and on 2,000 clips, each in a fresh process. Prints JSON; MB are 10^6 bytes.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tasks.layout import Layout
from tasks.store.buckets import Row, assemble
from tasks.store.segments import Entry, Store
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_table, write_table
from tasks.tables.utterances import UTTERANCES

SEGMENT = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="processor instead of wall seconds")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.child:
            print(stage_peak_mb(arguments.child, Path(folder)))
            return
        result = speed(
            arguments.clips,
            arguments.frames,
            arguments.dim,
            Path(folder),
            arguments.cpu,
            arguments.repeats,
        )
    if arguments.memory:
        peaks = {clips: child_peak_mb(clips) for clips in (200, 2000)}
        result["peak_mb"] = peaks
        result["peak_ratio"] = round(peaks[2000] / peaks[200], 3)
    print(json.dumps(result, indent=2))


def speed(
    clips: int, frames: int, dim: int, root: Path, cpu: bool, repeats: int
) -> dict[str, object]:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(clips):
        sequence = rng.standard_normal((frames, dim), np.float32).astype("<f2")
        pooled = sequence.mean(0, dtype=np.float32)
        meta = {"status": "ok", "reason": None, "frames": frames, "hop_s": 0.02}
        blobs = {"pooled": pooled.tobytes(), "sequence": sequence.tobytes()}
        entries.append(Entry(f"{number:064x}", meta, blobs))
    clock = time.process_time if cpu else time.perf_counter
    megabytes = sum(len(blob) for entry in entries for blob in entry.blobs.values()) / 1e6
    rows = [
        Row(f"c/d/{number:06d}", entry.key, "ok", None, frames, 0.02)
        for number, entry in enumerate(entries)
    ]
    # best of some rounds: the first one pays for libraries that load when they are used
    best: dict[str, float] = {}
    for number in range(repeats):
        for name, spent in one_round(entries, rows, dim, root / str(number), clock).items():
            best[name] = min(spent, best.get(name, spent))
        shutil.rmtree(root / str(number))
    return {
        "megabytes": round(megabytes, 1),
        "seconds_of": "the processor" if cpu else "the clock",
        "repeats": repeats,
        "load": os.getloadavg()[0],
        "mb_per_s": {name: round(megabytes / spent) for name, spent in best.items()},
    }


def one_round(
    entries: list[Entry], rows: list[Row], dim: int, root: Path, clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds of each way that sequences go, once, on fresh files."""
    seconds = {}
    store = Store(root / "store", {"benchmark": 1})
    started = clock()
    for start in range(0, len(entries), SEGMENT):
        store.write(entries[start : start + SEGMENT])
    seconds["store_write"] = clock() - started

    store = Store(root / "store", {"benchmark": 1})
    started = clock()
    store.refresh()
    for _ in store.read([entry.key for entry in entries]):
        pass
    seconds["store_read"] = clock() - started

    started = clock()
    assemble(store, rows, dim, dim, root / "table", {})
    seconds["store_to_table"] = clock() - started

    started = clock()
    found = read_table(FEATURES, root / "table")
    seconds["table_read"] = clock() - started
    assert found.height == len(rows)
    return seconds


def child_peak_mb(clips: int) -> float:
    command = [sys.executable, __file__, "--child", str(clips)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def stage_peak_mb(clips: int, root: Path) -> float:
    """Peak resident memory of this process after the stage."""
    import resource

    import soundfile

    from tasks.features import stage as features
    from tasks.plain_context import PlainContext

    rng = np.random.default_rng(0)
    rows = []
    for number in range(clips):
        path = root / Layout().raw("c") / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(rng.integers(8000, 48000)), 16000)
        rows.append(
            {
                "utterance_id": f"c/d{number // 10}/u{number:05d}",
                "dialogue_id": f"c/d{number // 10}",
                "turn": number % 10,
                "media": f"c/{number}.wav",
                "media_sha256": f"{number:064x}",
            }
        )
    layout = Layout(root / "data", cache=root / "cache")
    write_table(UTTERANCES, UTTERANCES.frame(rows), layout.utterances("c"))
    params = features.EncoderParams(family="prosody", sequence=True)
    features.run(params, layout, PlainContext(stream=io.StringIO()), "c", "enc")
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1)


if __name__ == "__main__":
    main()
