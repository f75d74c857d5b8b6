"""What each stage costs: clock, processor seconds, and how much of them is start-up.

Run ``python -m benchmarks.pipeline [ADDRESS ...] [--workers 1]`` in a clone of a project whose
pipeline has run once: outs are written anew. Addresses are those of DVC (``train@sample-corect``)
or the stages' names, which stand for all of their instances; without any, every stage but
``checkpoints``, which needs an index of packages. Each stage gets a process and an empty cache.
Start-up is the interpreter's own and all that it spends within imports, those that libraries put
off included. Prints a line a stage and the sums.
"""

import argparse
import builtins
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Imports:
    """From now on, what this process spends within imports.

    Attributes:
        spent_s: processor seconds, from the start of the interpreter.
    """

    def __init__(self) -> None:
        self.spent_s, self._depth = time.process_time(), 0
        builtins.__import__ = self._timed(builtins.__import__)
        importlib.import_module = self._timed(importlib.import_module)

    def _timed(self, function):
        def timed(*args, **options):
            began = time.process_time()
            self._depth += 1
            try:
                return function(*args, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.spent_s += time.process_time() - began

        return timed


def child(argv: list[str], told: Path) -> int:
    """Run one stage in this process and write what its start-up took."""
    imports = Imports()
    stage = importlib.import_module("flows.stage")
    code = stage.main(argv)
    told.write_text(json.dumps(imports.spent_s))
    return code


def instances() -> dict[str, list[str]]:
    """Address of every stage instance of this project to the arguments of its command."""
    from flows.settings import read_params
    from tasks.stages import STAGES

    raw = read_params(Path()).raw
    return {
        stage.address(ids): [stage.name, *(f"--{key}={value}" for key, value in ids.items())]
        for stage in STAGES.values()
        for ids in stage.instances_of(raw)
    }


def measure(argv: list[str], workers: int) -> dict[str, float]:
    """Clock, processor seconds with those of workers that ended and of the start-up, memory."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "startup.json"
        environment = os.environ | {
            "AFFECTLOOM_CACHE": str(Path(folder) / "cache"),
            "AFFECTLOOM_EXECUTION__WORKERS": str(workers),
        }
        command = [sys.executable, "-m", "benchmarks.pipeline", "--child", str(told), *argv]
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(argv)} failed:\n{said}")
        clock_s = time.monotonic() - began
        cpu_s = used.ru_utime + used.ru_stime
        return {
            "clock_s": clock_s,
            "cpu_s": cpu_s,
            "startup_s": json.loads(told.read_text()),
            "peak_mb": used.ru_maxrss * 1024 / 1e6,
        }


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        raise SystemExit(child(sys.argv[3:], Path(sys.argv[2])))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="*")
    parser.add_argument("--workers", type=int, default=1, help="more: their time may be missed")
    asked = parser.parse_args()
    known = instances()
    names = asked.addresses or list(dict.fromkeys(argv[0] for argv in known.values()))
    chosen = {
        address: argv
        for address, argv in known.items()
        if address in names or (argv[0] in names and (asked.addresses or argv[0] != "checkpoints"))
    }
    strangers = [name for name in names if name not in known and name not in
                 {argv[0] for argv in known.values()}]  # fmt: skip
    if strangers:
        raise SystemExit(f"there is no {strangers[0]}; there are: {', '.join(known)}")
    found = {}
    print(f"{'stage':40} {'clock s':>8} {'cpu s':>8} {'start-up s':>10}  share")
    for address, argv in chosen.items():
        found[address] = measure(argv, asked.workers)
        show(address, found[address])
    show("all", {k: sum(f[k] for f in found.values()) for k in ("clock_s", "cpu_s", "startup_s")})


def show(what: str, took: dict[str, float]) -> None:
    clock_s, cpu_s, startup_s = (took[name] for name in ("clock_s", "cpu_s", "startup_s"))
    share = startup_s / max(cpu_s, 1e-9)
    print(f"{what:40} {clock_s:8.1f} {cpu_s:8.1f} {startup_s:10.1f}  {share:.2f}", flush=True)


if __name__ == "__main__":
    main()
