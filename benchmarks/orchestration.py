"""What Prefect costs: a run without a server, with one, with one that fails at random moments.

    python -m benchmarks.orchestration --seconds 60 --faults 7

Four stages of sleeping shards stand for the work, so that the figures are waiting, not company on
the cores. `--seconds` is how long one run works. By hand, the four commands run one after the other
without DVC: what that takes over the work is the start of four interpreters. A server hangs
(SIGSTOP until the run has ended), dies (SIGKILL), or answers 500 to four requests of ten; `--seed`
draws the moments. The percentages are over the run without a server; the time of `--help` follows.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml
from dvc.repo import Repo

from tests.flows.prefect.servers import flaky

ROOT = Path(__file__).resolve().parents[1]
_STAGE = """
import sys, time
from flows.bridge import open_context
from tasks.params.model import ExecutionParams
name, shards, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with open_context(name, ExecutionParams(runner="threads", workers=2)) as ctx:
    list(ctx.map(time.sleep, [seconds] * shards, "shard"))
open(name, "w").write("done")
"""
_RUN = """
import sys
from pathlib import Path
from flows.pipeline import stop_on_signal, walk_shown
from flows.plan import read_plan
from flows.telling import has_failed
stop_on_signal()
root = Path.cwd()
sys.exit(has_failed(walk_shown(root, read_plan(root), [], 1, False)))
"""


def make_project(root: Path, seconds: float) -> None:
    Repo.init(str(root), no_scm=True).close()
    (root / "params.yaml").write_text("corpora: {}\n")
    (root / "stage.py").write_text(_STAGE)
    names = ["first", "second", "third", "fourth"]
    shard_s = seconds / len(names) / 5  # five rounds of two shards a stage
    stages = {}
    for before, name in zip([None, *names], names, strict=False):
        stages[name] = {
            "cmd": f"python stage.py {name} 10 {shard_s:g}",
            "deps": ["stage.py", *([before] if before else [])],
            "outs": [name],
        }
    (root / "dvc.yaml").write_text(yaml.dump({"stages": stages}, sort_keys=False))


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AFFECTLOOM_"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def run_once(
    root: Path, fault: signal.Signals | None = None, server: int = 0, at_s: float = 0.0, **more: str
) -> tuple[float, int]:
    """Seconds of a run of everything and its exit status; ``fault`` hits the server in it."""
    for made in ("first", "second", "third", "fourth", "dvc.lock"):
        (root / made).unlink(missing_ok=True)
    for cached in (root / ".dvc/cache", root / ".dvc/tmp"):
        subprocess.run(["rm", "-rf", cached], check=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN], cwd=root, env=environment(**more),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    hit = threading.Timer(at_s, os.killpg, (server, fault)) if fault else None
    if hit:
        hit.start()
    code = process.wait()
    took = time.monotonic() - began
    if hit:
        hit.cancel()
    if fault == signal.SIGSTOP:
        os.killpg(server, signal.SIGCONT)
    return took, code


def by_hand(root: Path) -> tuple[float, int]:
    """Seconds of the four stages without anything around them."""
    began = time.monotonic()
    for stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].values():
        subprocess.run(
            stage["cmd"].split(), cwd=root, env=environment(AFFECTLOOM_PREFECT="off"), check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return time.monotonic() - began, 0


def command_s(*words: str, **more: str) -> float:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *words],
        cwd=ROOT, env=environment(**more), check=True, capture_output=True,
    )  # fmt: skip
    return time.monotonic() - began


def start_server(home: Path) -> tuple[subprocess.Popen, str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"],
            cwd=home, env=environment(PREFECT_HOME=str(home), PREFECT_API_URL=url),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    os.environ["PREFECT_API_URL"] = url
    from flows.prefect.home import has_api

    while not has_api():
        time.sleep(0.3)
    return process, url


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of work in one run")
    parser.add_argument("--faults", type=int, default=2, help="runs with each kind of fault")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the faults")
    asked = parser.parse_args()
    dice = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        root, home = Path(folder) / "project", Path(folder) / "home"
        root.mkdir()
        home.mkdir()
        make_project(root, asked.seconds)
        alone, code = run_once(root, AFFECTLOOM_PREFECT="off")
        print(f"work                     {asked.seconds:7.1f} s")
        tell("by hand", *by_hand(root), alone)
        tell("without a server", alone, code, alone)
        server, url = start_server(home)
        try:
            tell("with a server", *run_once(root, PREFECT_API_URL=url), alone)
            for number in range(asked.faults):
                at_s = dice.uniform(1, asked.seconds)
                took = run_once(root, signal.SIGSTOP, server.pid, at_s, PREFECT_API_URL=url)
                tell(f"hangs at {at_s:.0f} s, {number + 1}", *took, alone)
            for number in range(asked.faults):
                at_s = dice.uniform(1, asked.seconds)
                took = run_once(root, signal.SIGKILL, server.pid, at_s, PREFECT_API_URL=url)
                tell(f"killed at {at_s:.0f} s, {number + 1}", *took, alone)
                server.wait()
                server, url = start_server(home)
            for number in range(asked.faults):
                with flaky(url, share=0.4, seed=dice.randrange(1000)) as refused:
                    took = run_once(root, PREFECT_API_URL=refused)
                tell(f"answers 500, {number + 1}", *took, alone)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    print(f"affectloom --help        {command_s('--help'):7.1f} s")


def tell(what: str, took: float, code: int, alone: float) -> None:
    over = f"{100 * (took / alone - 1):+6.1f} %"
    print(f"{what:24} {took:7.1f} s {over}, exit status {code}", flush=True)


if __name__ == "__main__":
    main()
