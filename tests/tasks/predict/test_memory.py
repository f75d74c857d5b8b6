"""Memory that is free goes back to the system."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import sys
from pathlib import Path
from tasks.predict.memory import hold_little
if sys.argv[1] == "little":
    hold_little()

def held_mb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")) / 1024

import numpy as np
before = held_mb()
large = np.ones(30 << 20, np.uint8)
del large  # from here on glibc takes smaller buffers from its heap
buffers = [bytearray(b"x" * (2 << 20)) for _ in range(100)]
last = bytearray(1000)
del buffers
print(held_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_free_memory_is_given_back():
    held_mb = {}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    for how in ("little", "much"):
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, how], env=kept, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        held_mb[how] = float(done.stdout)
    assert held_mb["little"] < 5 < held_mb["much"]
