"""Kill work at random moments; what it writes in the end must not differ.

    python -m tests.faults.kills [extraction training ...] [--kills 50] [--seed 0]

Each kind of work runs once undisturbed. Then it is begun again and again on what the last one left
and killed with -9 at a random moment of its life; where it ends before, it begins anew from
nothing. The last one is left to end. Prints the seed, and a line for each kind: kills, runs that
ended, files that differ, processes that were left.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.project import contents_of, differing_from, left_behind
from tests.faults.works import WORKS, Process, Work

#: A child whose parent is gone notices within seconds, on a busy machine too.
_ORPHANED_S = 60.0


@dataclass(frozen=True)
class Result:
    """What became of one kind of work."""

    kills: int
    ended: int
    differing: tuple[str, ...]
    orphans: tuple[str, ...]


def kill(
    work: Work,
    kills: int,
    chance: random.Random,
    folder: Path,
    hear: Callable[[int], None] = lambda kills: None,
) -> Result:
    """Kill work in a folder so many times.

    Args:
        work: what is killed.
        kills: how many times, unless something differs or is left before.
        chance: of the moments.
        folder: empty.
        hear: is told of so many kills after which outputs were whole.

    Raises:
        RuntimeError: it failed where nobody killed it.
    """
    work.make(folder)
    length_s = _measured_s(work, folder)
    wanted = contents_of(folder, work.compared)
    _clear(work, folder)
    done = ended = heard = 0
    is_anew = True
    differing: set[str] = set()
    orphans: list[str] = []
    while True:
        is_last, code = done >= kills, None
        process, begun = work.begin(folder), time.monotonic()
        for _ in range(work.strikes):
            pause_s = None if done >= kills else chance.uniform(0.0, length_s / work.strikes)
            if (code := _wait(process, pause_s)) is not None:
                break
            done += work.strike(process, chance)
        code = _wait(process, None) if code is None else code
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{work.name}: ended with {code} after {done} kills")
        orphans += _orphans(folder)
        if code == 0:
            ended += 1
            if is_anew:
                length_s = min(length_s, time.monotonic() - begun)
            differing |= differing_from(wanted, contents_of(folder, work.compared))
            _clear(work, folder)
        is_anew = code == 0
        if is_last or differing or orphans:
            hear(0 if differing or orphans else done - heard)
            return Result(done, ended, tuple(sorted(differing)), tuple(orphans))
        if code == 0:
            hear(done - heard)
            heard = done


def _measured_s(work: Work, folder: Path) -> float:
    """How long an undisturbed one took, which has left its outputs in the folder."""
    if work.is_made_done:
        return float((folder / "length_s.txt").read_text())
    begun = time.monotonic()
    if (code := _wait(work.begin(folder), None)) != 0:
        raise RuntimeError(f"{work.name}: the undisturbed one ended with {code}")
    return time.monotonic() - begun


def _wait(process: Process, seconds: float | None) -> int | None:
    """The exit code, or None where the process works after so many seconds."""
    if not isinstance(process, subprocess.Popen):
        process.join(seconds)
        return process.exitcode
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    return process.returncode


def _clear(work: Work, folder: Path) -> None:
    for pattern in work.writes:
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _orphans(folder: Path) -> list[str]:
    """Processes that still work in the folder after a while."""
    end = time.monotonic() + _ORPHANED_S
    while (left := left_behind(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    named = {work.name.split(",")[0].split()[-1]: work for work in WORKS}
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(named))
    parser.add_argument("--kills", type=int, help="of each; default: as docs/safety.md has them")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    is_bad = False
    for name in options.works or named:
        work, chance = named[name], random.Random(f"{options.seed} {name}")
        kills = work.kills if options.kills is None else options.kills
        with tempfile.TemporaryDirectory() as folder:
            found = kill(work, kills, chance, Path(folder).resolve())
        print(
            f"{name}: {found.kills} kills, {found.ended} runs ended, "
            f"{len(found.differing)} files differ {list(found.differing)}, "
            f"{len(found.orphans)} processes left {list(found.orphans)}",
            flush=True,
        )
        is_bad = is_bad or bool(found.differing or found.orphans)
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
