"""Walks DVC's graph: runs stale stages side by side, each through ``dvc repro`` of its own.

DVC stays the only judge of what is stale and the only writer of its lock: this module decides the
order and the company. ``--single-item`` together with ``--wait-for-lock`` is what makes parallel
``dvc`` processes safe; without either most of them fail on each other's locks.
"""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flows.bridge import PIPELINE_PID
from flows.lock_text import entries, write
from flows.noting import Notes
from flows.plan import Node, Plan
from flows.warm import Process, Server
from tasks import dvc_lock

log = logging.getLogger("affectloom")

State = Literal["cached", "reproduced", "restored", "failed", "upstream failed", "stopped"]
#: DVC's words for data that ``dvc add`` noted and nobody brought.
_MISSING = re.compile(r"missing data 'source': (\S+)$")
#: Seconds that a process group is given after each signal before the next, harder one.
_SIGNALS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

#: Stages that import torch.
_HEAVY = frozenset(("features", "search", "train", "evaluate"))
#: Of how many stages on it saves time to import once for all what they need.
_WORTH = 3


@dataclass
class Outcome:
    """What became of a node."""

    address: str
    state: State
    reason: str = ""
    seconds: float = 0.0


class Watcher(Protocol):
    """Hears what happens; the Prefect flow shows it, the terminal prints it."""

    def started(self, address: str) -> None:
        """A stage began."""
        ...

    def said(self, address: str, line: str) -> None:
        """A stage told something: how far it is, or what it left out."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """A stage ended or was found up to date."""
        ...

    def must_stop(self) -> bool:
        """Somebody asked to stop."""
        ...


def walk(
    root: Path,
    plan: Plan,
    watcher: Watcher,
    jobs: int,
    variables: Callable[[], Mapping[str, str]] = dict,
    options: Sequence[str] = (),
) -> list[Outcome]:
    """Run what is stale and what follows from it; independent branches side by side.

    A failure stops only what depends on it. Whatever ends this function early, no stage survives.

    Args:
        root: the repository.
        plan: what to run.
        watcher: hears what happens.
        jobs: stages at once.
        variables: gives more environment variables for a stage that starts now.
        options: more options for ``dvc repro``, e.g. ``--pull``.
    """
    walker = _Walker(root, plan, watcher, jobs, variables, list(options))
    try:
        return walker.run()
    except BaseException:
        walker.stop_all()
        raise
    finally:
        walker.close()
        if plan.maybe:  # else nobody wrote it, and reading thousands of lines takes long
            sort_lock(root)


class _Child:
    """A ``dvc repro`` process with the lines it printed."""

    def __init__(self, address: str, before: object, start: Callable[[], Process]) -> None:
        self.address, self.before = address, before
        self.began = time.monotonic()
        self.lines: list[str] = []
        self._heard = 0
        self.process = start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            log.debug("%s | %s", self.address, self.lines[-1])

    def said(self) -> list[str]:
        """What the stage itself printed since the last call, without DVC's lines and tracebacks."""
        fresh = self.lines[self._heard :]
        self._heard += len(fresh)
        return [line for line in fresh if _is_of(self.address, line)]

    def end(self) -> tuple[int, float]:
        """Exit status and seconds, once it ended and all it printed is read."""
        self._reader.join(timeout=5)
        return self.process.returncode, time.monotonic() - self.began


class _Walker:
    def __init__(
        self,
        root: Path,
        plan: Plan,
        watcher: Watcher,
        jobs: int,
        variables: Callable[[], Mapping[str, str]],
        options: list[str],
    ) -> None:
        self.root, self.plan, self.watcher, self.jobs = root, plan, watcher, max(1, jobs)
        self.options, self.variables = options, variables
        self.environment = stage_environment(self.jobs)
        self.running: dict[str, _Child] = {}
        self.done: dict[str, Outcome] = {}
        self.maybe = set(plan.maybe)
        self.server = self._serve()
        self.notes = Notes(root, plan.maybe)

    def run(self) -> list[Outcome]:
        """Walk until nothing is left."""
        maybe = self.maybe
        self._tell("began", stages=list(self.plan.nodes), maybe=self.plan.maybe)
        for address in self.plan.nodes:
            if address not in maybe:
                self._end(Outcome(address, "cached"))
        waiting = [address for address in self.plan.nodes if address in maybe]
        while waiting or self.running:
            if self.watcher.must_stop():
                self.stop_all()
                for address in waiting:
                    self._end(Outcome(address, "stopped", "before it began"))
                break
            waiting = self._start_ready(waiting)
            self._collect()
            time.sleep(0.05)
        return [self.done[address] for address in self.plan.nodes if address in self.done]

    def _start_ready(self, waiting: list[str]) -> list[str]:
        left = []
        for address in waiting:
            node = self.plan.nodes[address]
            bad = [n for n in node.needs if n in self.done and _is_bad(self.done[n])]
            if bad:
                self._end(Outcome(address, "upstream failed", f"{sorted(bad)[0]} failed"))
            elif node.needs <= set(self.done) and self._has_room(node):
                self._start(address)
            else:
                left.append(address)
        return left

    def _has_room(self, node: Node) -> bool:
        gpu_busy = any(self.plan.nodes[address].gpu for address in self.running)
        return len(self.running) < self.jobs and not (node.gpu and gpu_busy)

    def _serve(self) -> Server | None:
        """A server of warm processes, where there are enough stages to be worth one."""
        if len(self.maybe) < _WORTH or sys.platform != "linux":
            return None
        heavy = [address for address in self.maybe if address.partition("@")[0] in _HEAVY]
        return Server(self.root, self.environment, is_heavy=len(heavy) >= _WORTH)

    def _start(self, address: str) -> None:
        argv = [
            "--wait-for-lock", "repro", "--single-item",
            *self.options, *(["--force"] if self.plan.nodes[address].is_forced else []), address,
        ]  # fmt: skip
        environment = {**self.environment, **self.variables()}
        before = _lock_entry(self.root, address)
        self.running[address] = _Child(address, before, lambda: self._process(argv, environment))
        self.notes.started(address)
        self._tell("started", stage=address)
        self.watcher.started(address)

    def _process(self, argv: list[str], environment: dict[str, str]) -> Process:
        if self.server is not None and self.server.is_ready:
            try:
                return self.server.start(argv, environment)
            except OSError as error:
                log.debug("%s starts cold: %s", argv[-1], error)
        return subprocess.Popen(
            [sys.executable, "-m", "flows.repro", *argv],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that the whole group can be signalled
        )

    def close(self) -> None:
        """Leave nothing behind, once nothing is at work."""
        self.notes.close()
        if self.server is not None:
            self.server.close()

    def _collect(self) -> None:
        for address, child in list(self.running.items()):
            has_ended = child.process.poll() is not None
            code, seconds = child.end() if has_ended else (0, 0.0)
            for line in child.said():
                self.notes.said(address, line)
                self._tell("said", stage=address, line=line)
                self.watcher.said(address, line)
            if not has_ended:
                continue
            del self.running[address]
            if code != 0:
                self._end(Outcome(address, "failed", why(child.lines, code), seconds))
            else:
                self._end(Outcome(address, self._what_happened(child), "", seconds))

    def _what_happened(self, child: _Child) -> State:
        if any("is cached - skipping run" in line for line in child.lines):
            return "restored"
        if any("Running stage" in line for line in child.lines):
            return "reproduced"
        same = _lock_entry(self.root, child.address) == child.before
        return "cached" if same else "reproduced"

    def _end(self, outcome: Outcome) -> None:
        self.done[outcome.address] = outcome
        if outcome.address in self.maybe:
            self.notes.ended(outcome.address, outcome.state)
        found = {"stage": outcome.address, "state": outcome.state, "reason": outcome.reason}
        self._tell("ended", **found, seconds=round(outcome.seconds, 2))
        self.watcher.ended(outcome)

    def _tell(self, event: str, **found: object) -> None:
        if self.plan.tell is not None:
            self.plan.tell({"event": event, "time": round(time.time(), 3), **found})

    def stop_all(self) -> None:
        """End every stage that is at work."""
        children = dict(self.running)
        stop_groups([child.process for child in children.values()])
        for address, child in children.items():
            self.running.pop(address, None)
            seconds = time.monotonic() - child.began
            self._end(Outcome(address, "stopped", "while it was at work", seconds))


def stop_groups(
    processes: Sequence[Process],
    signals: Sequence[tuple[signal.Signals, float]] = _SIGNALS,
) -> None:
    """Signal every process group, harder each time, until none is left."""
    for number, patience_s in signals:
        for process in processes:
            if process.poll() is None:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue
        end = time.monotonic() + patience_s
        while time.monotonic() < end and any(p.poll() is None for p in processes):
            time.sleep(0.05)


def _is_bad(outcome: Outcome) -> bool:
    return outcome.state in ("failed", "upstream failed", "stopped")


def _is_of(address: str, line: str) -> bool:
    """Whether a line begins, as those of stages do, with the stage's name or the corpus's."""
    stage, _, rest = address.partition("@")
    word = line.partition(":")[0]
    corpus = word == rest or rest.startswith(f"{word}-")
    return ":" in line and (word == address or word.startswith(f"{stage} ") or corpus)


def why(lines: list[str], code: int) -> str:
    """The stage's own sentence, else the last exception, else DVC's last line."""
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    for line in reversed(lines):
        if re.match(r"[\w.]*(Error|Exception|Interrupt|Killed)\b", line):
            return f"{line} (all lines: run `dvc repro -s` for this stage)"
    said = [line for line in lines if line.strip()]
    if said and (missing := _MISSING.search(said[-1])):
        return f"{missing[1]} is not here; `dvc checkout` or `dvc pull {missing[1]}.dvc` brings it"
    return said[-1] if said else f"exit status {code}"


def stage_environment(jobs: int) -> dict[str, str]:
    """Variables that stages need: this interpreter first on PATH, and each its share of the cores.

    Without a share every stage would start a thread for each core, and those of stages side by
    side would spend most of their time waiting for each other.
    """
    environment = dict(os.environ)
    share = max(1, len(os.sched_getaffinity(0)) // jobs)
    environment.setdefault("OMP_NUM_THREADS", str(share))
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    here = str(Path(sys.executable).parent)
    environment["PATH"] = here + os.pathsep + environment.get("PATH", "")
    environment["DVC_NO_ANALYTICS"] = "1"
    environment[PIPELINE_PID] = str(os.getpid())
    return environment


def _lock_entry(root: Path, address: str) -> object:
    """What DVC noted of a stage, or of data that ``dvc add`` watches over."""
    if address.endswith(".dvc"):
        return (root / address).read_bytes()
    text = dvc_lock.read_text(root / "dvc.lock")
    known = entries(text)
    return text if known is None else known.get(address)


def sort_lock(root: Path) -> None:
    """Put the entries of ``dvc.lock`` in one order, whatever order the stages ended in."""
    file = root / "dvc.lock"
    known = entries(dvc_lock.read_text(file))
    if known is not None and list(known) != sorted(known):
        write(file, [text for _, text in sorted(known.items())])
