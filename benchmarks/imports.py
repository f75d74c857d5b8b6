"""How much memory and time ``affectloom import`` takes for a large MMSA pickle.

Run ``python -m benchmarks.imports [--mb 300]``. A pickle of that size is generated in a temporary
folder and imported by a fresh process, whose peak of resident memory is compared with the file's
size and with that of a process that imports the same modules and reads nothing.
"""

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHILD = """
import json, sys, time
from pathlib import Path
from tasks.corpora.imports import reading, safe_pickle
from tasks.layout import Layout
started = time.monotonic()
if sys.argv[1] == "import":
    reading.run(Layout(), Path(sys.argv[2]), "big", reading.ImportOptions())
elif sys.argv[1] == "load":
    safe_pickle.load(Path(sys.argv[2]))
# the peak of this program alone; getrusage would remember the parent's at the fork
lines = Path("/proc/self/status").read_text().splitlines()
peak_kb = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
print(json.dumps({"peak_mb": peak_kb / 1024, "seconds": time.monotonic() - started}))
"""


def write(path: Path, size_mb: int) -> None:
    """An unaligned MMSA pickle: text 50 x 768, audio 500 x 74, video 500 x 35, float32."""
    per_clip = 4 * (50 * 768 + 500 * 74 + 500 * 35)
    clips = size_mb * 1_000_000 // per_clip
    rng = np.random.default_rng(0)
    content = {}
    for split, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
        count = max(1, int(clips * share))
        shapes = {"text": (50, 768), "audio": (500, 74), "vision": (500, 35)}
        content[split] = {
            **{name: rng.random((count, *shape), np.float32) for name, shape in shapes.items()},
            "id": [f"{split}{n // 10}$_${n % 10}" for n in range(count)],
            "raw_text": [f"words {n}" for n in range(count)],
            "regression_labels": rng.uniform(-3, 3, count),
            "audio_lengths": [500] * count,
            "vision_lengths": [500] * count,
        }
    with path.open("wb") as stream:
        pickle.dump(content, stream, protocol=4)


def measure(what: str, path: Path, folder: Path) -> dict:
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run(
        [sys.executable, "-c", CHILD, what, str(path)],
        cwd=folder,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "big.pkl"
        started = time.monotonic()
        write(path, arguments.mb)
        size_mb = path.stat().st_size / 2**20
        print(f"file: {size_mb:.0f} MB, generated in {time.monotonic() - started:.0f} s")
        idle = measure("nothing", path, folder)["peak_mb"]
        print(f"nothing: peak {idle:.0f} MB")
        for what in ("load", "import"):
            found = measure(what, path, folder)
            ratio = (found["peak_mb"] - idle) / size_mb
            print(
                f"{what}: peak {found['peak_mb']:.0f} MB, {ratio:.2f} times the file beyond an "
                f"idle process, {found['seconds']:.1f} s"
            )


if __name__ == "__main__":
    main()
