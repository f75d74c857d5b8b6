"""Walking a plan while telling the terminal, and Prefect where it listens, what happens."""

import csv
import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from flows import graph
from flows.bridge import PIPELINE_RUN
from flows.execution import execution, worker_count
from flows.plan import Plan
from flows.sentences import MACHINE, sentence
from flows.settings import read_params
from flows.times import note_time
from flows.walk import Outcome, walk
from models.errors import UserError
from tasks import failures
from tasks.layout import Layout
from tasks.stages import outs_of

if TYPE_CHECKING:
    from flows.prefect.reporting import FlowReport

log = logging.getLogger("affectloom")

_GOOD = ("cached", "reproduced", "restored")
#: What Prefect calls the states of stages that ended well.
_NAMES = {"cached": "Cached", "restored": "RunCache", "reproduced": "Reproduced"}
#: What stages say of how far they are: ``120/200 clips``, ``epoch 3 of at most 60``.
_PROGRESS = re.compile(r": (\d+/\d+ |epoch \d+ of )")
#: Shortest time between two such lines of a stage.
_PAUSE_S = 30.0


def walk_plan(
    root: Path, plan: Plan, jobs: int | None, pull: bool, report: "FlowReport | None"
) -> list[Outcome]:
    """Walk the plan, telling the terminal and the report."""
    watcher = Teller(plan, report)
    watcher.begin()
    # every stage spreads its own shards over all cores; two stages fill each other's gaps
    slots = jobs or max(1, worker_count(execution(graph.read_raw_params(root))))
    if report:
        report.wait_for_id()
    options = ["--pull", "--allow-missing"] if pull else []
    noted = failures.latest(Layout())
    outcomes = walk(root, plan, watcher, slots, lambda: stage_variables(report), options)
    watcher.finish(outcomes)
    show_failures(root, outcomes, noted)
    return outcomes


def stage_variables(report: "FlowReport | None") -> dict[str, str]:
    """What a stage that starts now is told of Prefect, so that it need not look for itself.

    A server that does not answer this process holds up none of its stages: each would else wait at
    its beginning and at its end.
    """
    if report is None or report.outbox.is_lost:
        return {"AFFECTLOOM_PREFECT": "off"}
    return {PIPELINE_RUN: str(report.id)} if report.id else {}


def show_failures(root: Path, outcomes: Sequence[Outcome], noted: Mapping[str, str]) -> None:
    """Draw the page although stages failed, so that it shows them with their reasons.

    Args:
        root: the repository.
        outcomes: of all stages.
        noted: failures that were known before; a stage that was killed has noted none itself.
    """
    layout = Layout()
    outs = outs_of(layout, graph.read_raw_params(root))
    for outcome in outcomes:
        known = failures.latest(layout).get(outcome.address)
        if outcome.state == "failed" and known == noted.get(outcome.address):
            failures.note(layout, outcome.address, outcome.reason, outs.get(outcome.address, ()))
    if not any(o.address == "report" and o.state == "upstream failed" for o in outcomes):
        return
    from tasks.report.stage import draw_page  # seconds to import: only when needed

    try:
        params = read_params(root)
        page, _ = draw_page(layout, params.section("report"), params.raw)
    except UserError as error:
        log.warning("the report cannot be drawn: %s", error)
        return
    print(f"{page} shows what there is, and what failed", file=sys.stderr)


class Teller:
    """Tells a person what happens: one line a stage on the terminal, task runs in Prefect."""

    def __init__(self, plan: Plan, report: "FlowReport | None") -> None:
        self.plan, self.report = plan, report
        self.total = len(plan.maybe)
        self.count = 0
        self._told: dict[str, float] = {}
        self._began = time.monotonic()

    def begin(self) -> None:
        """Say what is to be done."""
        fresh = len(self.plan.nodes) - self.total
        self._say(f"{self.total} of {len(self.plan.nodes)} stages to look at, {fresh} up to date")

    def started(self, address: str) -> None:
        """See ``Watcher.started``."""
        self._say(f"  ... {address}")
        self._told[address] = time.monotonic()
        if self.report:
            self.report.stage(address, self.plan.nodes[address].needs)

    def said(self, address: str, line: str) -> None:
        """See ``Watcher.said``: how far a stage is every half minute, all else at once."""
        if log.isEnabledFor(logging.DEBUG):
            return  # every line is shown as it comes
        now = time.monotonic()
        if _PROGRESS.search(line):
            if now - self._told[address] < _PAUSE_S:
                return
            self._told[address] = now
        self._say(f"  {line}")

    def ended(self, outcome: Outcome) -> None:
        """See ``Watcher.ended``."""
        if outcome.address in self.plan.maybe:
            self.count += 1
            line = f"[{self.count}/{self.total}] {outcome.address}: {outcome.state}"
            line += f" in {outcome.seconds:.1f} s" if outcome.seconds else ""
            line += f": {outcome.reason}" if outcome.reason else ""
            self._say(line)
        if outcome.state == "reproduced":
            _note_whole_time(outcome)
        if self.report:
            self._show(self.report, outcome)

    def _show(self, report: "FlowReport", outcome: Outcome) -> None:
        name = _NAMES.get(outcome.state, outcome.state.title().replace(" ", ""))
        needs = self.plan.nodes[outcome.address].needs
        if outcome.address in self._told:
            ending = "completed" if outcome.state in _GOOD else "failed"
            ending = "cancelled" if outcome.state == "stopped" else ending
            report.end_stage(outcome.address, ending, name, outcome.reason or self._why(outcome))
        else:  # never began
            kinds = {"cached": "COMPLETED", "stopped": "CANCELLED"}
            kind = kinds.get(outcome.state, "FAILED")
            why = outcome.reason or self._why(outcome)
            report.stage(outcome.address, needs, kind, name, why)

    def _why(self, outcome: Outcome) -> str:
        if outcome.state == "cached":
            return "nothing it depends on has changed"
        if outcome.state == "restored":
            return "DVC's run cache knew the result"
        return "; ".join(self.plan.nodes[outcome.address].reasons)[:300]

    def must_stop(self) -> bool:
        """See ``Watcher.must_stop``."""
        return self.report is not None and self.report.is_cancelled

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Sum up."""
        seconds = time.monotonic() - self._began
        counts: dict[str, int] = {}
        for outcome in outcomes:
            counts[outcome.state] = counts.get(outcome.state, 0) + 1
        self._say(", ".join(f"{n} {state}" for state, n in counts.items()) + f"; {seconds:.1f} s")
        if self.report:
            rows: list[Mapping[str, object]] = [
                {
                    "stage": o.address,
                    "state": o.state,
                    "reason": o.reason or self._why(o),
                    "seconds": round(o.seconds, 1),
                }
                for o in outcomes
            ]
            self.report.table("stages", rows)
            if any(o.address == "report" and o.state in _GOOD for o in outcomes):
                self.report.markdown("leaderboard", leaderboard(Layout().leaderboard("csv")))

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        if self.report:
            self.report.say(line)


def _note_whole_time(outcome: Outcome) -> None:
    """Remember what a stage took with all that DVC does around it; it noted its own time before."""
    try:
        note_time(Layout(), outcome.address, outcome.seconds)
    except MACHINE as error:
        log.warning("%s: cannot note how long it took: %s", outcome.address, sentence(error))


def leaderboard(file: Path) -> str:
    """The leaderboard as Markdown: for each corpus and target who leads, and whether clearly."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = []
    for key, found in groupby(rows, lambda row: (row["corpus"], row["target"])):
        entries = list(found)
        first = entries[0]
        is_clear = first["significant_vs_next"] == "True"
        verdict = "clearly ahead of" if is_clear else "not clearly ahead of"
        lines += [f"## {key[0]}, {key[1]}", ""]
        if len(entries) > 1:
            lines += [f"{first['method']} is {verdict} {entries[1]['method']}.", ""]
        lines += [f"| rank | method | {first['metric']} | interval |", "|---|---|---|---|"]
        for row in entries:
            interval = f"{row['ci_low']} to {row['ci_high']}"
            lines.append(f"| {row['rank']} | {row['method']} | {row['mean']} | {interval} |")
        lines.append("")
    return "\n".join(lines)


def has_failed(outcomes: Sequence[Outcome]) -> bool:
    """True when anything did not end well."""
    return any(outcome.state not in _GOOD for outcome in outcomes)
