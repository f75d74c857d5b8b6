"""A run with changed parameters: ``dvc exp run``, shown in Prefect like any other run."""

import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

from flows import graph
from flows.bridge import PIPELINE_RUN
from flows.pipeline import ending, finish_on_error, only_one, open_report
from flows.plan import Plan, read_plan
from flows.prefect.home import has_api
from flows.prefect.reporting import FlowReport
from flows.settings import check_before_graph, read_params
from flows.telling import Teller
from flows.walk import Outcome, State, stage_environment, stop_groups, why
from models.errors import UserError

_RUNNING = re.compile(r"Running stage '(.+)':")
_SKIPPED = re.compile(r"Stage '(.+)' (didn't change, skipping|is cached - skipping run)")


def run_experiment(
    root: Path, names: Sequence[str], overrides: Sequence[str], run: uuid.UUID | None = None
) -> list[Outcome]:
    """Run ``names`` (default: everything) with changes of ``params.yaml``; DVC keeps the result.

    Args:
        root: the repository, which must be under git.
        names: stages or single instances.
        overrides: ``key=value``, as ``dvc exp run -S`` takes them.
        run: the flow run that Prefect opened for it.
    """
    for one in overrides:
        if "=" not in one or one.startswith("-"):
            raise UserError(f"'{one}' changes no parameter; write key=value, e.g. train.seeds=[0]")
    params = read_params(root)
    check_before_graph(params)
    with only_one(root):
        graph.sync(params.raw, root)
        plan = read_plan(root)
        targets = plan.match(names) if names else []
        report = None
        if has_api():
            asked = {"stages": list(names), "overrides": list(overrides)}
            report = open_report(f"experiment {' '.join(overrides)}", asked, run)
        with finish_on_error(report):
            outcomes = _follow(root, plan, targets, overrides, report)
        if report:
            report.finish(*ending(outcomes))
        return outcomes


def _follow(
    root: Path, plan: Plan, targets: Sequence[str], overrides: Sequence[str],
    report: FlowReport | None,
) -> list[Outcome]:  # fmt: skip
    teller = Teller(plan, report)
    environment = stage_environment(1)
    found = report.wait_for_id() if report else None
    if found:
        environment[PIPELINE_RUN] = str(found)
    changes = [word for one in overrides for word in ("--set-param", one)]
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "exp", "run", *changes, *targets],
        cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    stopped = threading.Event()
    if report:

        def cancel() -> None:
            stopped.set()
            stop_groups([process])

        report.on_cancel = cancel
    try:
        return _listen(process, teller, stopped)
    except BaseException:
        stop_groups([process])
        raise


def _listen(
    process: subprocess.Popen[str], teller: Teller, stopped: threading.Event
) -> list[Outcome]:
    """What became of each stage, from DVC's own lines, as they come."""
    outcomes: list[Outcome] = []
    lines: list[str] = []
    current: str | None = None

    def end(state: State, reason: str = "") -> None:
        if current is not None:
            outcomes.append(Outcome(current, state, reason))
            teller.ended(outcomes[-1])

    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        print(lines[-1], file=sys.stderr, flush=True)
        if begun := _RUNNING.search(line):
            end("reproduced")
            current = str(begun[1])
            teller.started(current)
        elif skipped := _SKIPPED.search(line):
            end("reproduced")
            current = skipped[1]
            end("cached" if "change" in skipped[2] else "restored")
            current = None
    code = process.wait()
    if code == 0:
        end("reproduced")
    elif current is None:
        raise UserError(f"dvc exp run: {why(lines, code)}")
    else:
        end("stopped" if stopped.is_set() else "failed", why(lines, code))
    return outcomes
