"""``affectloom run``: the whole graph, stale stages side by side, shown in Prefect if it answers.

With an API the walk is a run of the Prefect flow ``pipeline``; its stages hang below it as task
runs, and those with several shards as child flow runs. Prefect is told of the walk and never asked
for anything that the walk waits for, so a server that dies changes nothing.
"""

import fcntl
import logging
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows import graph, remembered
from flows.plan import Plan, read_plan
from flows.prefect.home import has_api
from flows.prefect.reporting import Ending, FlowReport, reconcile_zombies
from flows.settings import read_whole
from flows.telling import has_failed, walk_plan
from flows.walk import Outcome
from models.errors import UserError

log = logging.getLogger("affectloom")

_STOPPED = "stopped; run the same command again to go on from here"


def run_pipeline(
    root: Path,
    names: Sequence[str] = (),
    jobs: int | None = None,
    pull: bool = False,
    run: uuid.UUID | None = None,
    force: Sequence[str] = (),
    tell: Callable[[Mapping[str, object]], None] | None = None,
) -> list[Outcome]:
    """Bring ``names`` (default: everything) up to date; what they need comes first.

    Args:
        root: the repository.
        names: stages or single instances.
        jobs: stages at once (default: one for each core).
        pull: fetch missing data from the DVC remote first.
        run: the flow run that Prefect opened for it, where it was started there.
        force: stages or instances to run although they may be up to date.
        tell: hears each event of the walk.
    """
    params = read_whole(root)
    with only_one(root):
        if not remembered.is_right(root, "dvc.yaml"):
            if graph.out_of_step(graph.render(params.raw, root), root):
                params.check_everything()  # a mistake must not change the graph
                graph.sync(params.raw, root)
                log.info("dvc.yaml brought up to date with params.yaml and the code")
            remembered.remember(root, "dvc.yaml")
        plan = read_plan(root)
        plan.tell = tell
        plan.force(force)
        if names:
            plan = plan.upstream_of(plan.match([*names, *force]))
        if plan.maybe:  # else nothing changed since these parameters worked; importing costs 4 s
            params.check_everything()
        return walk_shown(root, plan, names, jobs, pull, run)


def walk_shown(
    root: Path,
    plan: Plan,
    names: Sequence[str],
    jobs: int | None,
    pull: bool,
    run: uuid.UUID | None = None,
) -> list[Outcome]:
    """Walk the plan, as a flow run where a Prefect API answers."""
    if not has_api():
        return walk_plan(root, plan, jobs, pull, None)
    count = f"{len(plan.maybe)} stage{'s' * (len(plan.maybe) != 1)}"
    title = " ".join(["pipeline", *names, count])
    asked = {"stages": list(names), "jobs": jobs, "pull": pull}
    report = open_report(title, asked, run)
    with finish_on_error(report):
        outcomes = walk_plan(root, plan, jobs, pull, report)
    report.finish(*ending(outcomes))
    return outcomes


def open_report(title: str, asked: Mapping[str, Any], run: uuid.UUID | None = None) -> FlowReport:
    """A flow run of ``pipeline``: a new one, or ``run``, which Prefect opened."""
    tags = ["affectloom", *_revision()]
    if run is None:
        report = FlowReport.open("pipeline", title[:200], tags, parameters=asked)
    else:
        report = FlowReport.join(run, title[:200], tags)
    report.outbox.put(lambda: reconcile_zombies(report.api))
    return report


def _revision() -> list[str]:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [f"git:{found.stdout.strip()}"] if found.returncode == 0 else []


@contextmanager
def finish_on_error(report: FlowReport | None) -> Iterator[None]:
    """End the flow run when what is inside ends early."""
    try:
        yield
    except BaseException as error:
        if report and isinstance(error, KeyboardInterrupt):
            report.finish("cancelled", _STOPPED)
        elif report:
            report.finish("failed", str(error) or type(error).__name__)
        raise


def ending(outcomes: Sequence[Outcome]) -> tuple[Ending, str]:
    """The flow run's final state, and why."""
    if any(outcome.state == "stopped" for outcome in outcomes):
        return "cancelled", _STOPPED
    bad = [f"{o.address}: {o.reason}" for o in outcomes if o.state == "failed"]
    return ("failed", "; ".join(bad)) if has_failed(outcomes) else ("completed", "")


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Hold the project's pipeline lock; two pipelines at once would undo each other's work."""
    folder = root / ".cache" / "affectloom"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pipeline.lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            pid = stream.read().strip() or "unknown"
            raise UserError(
                f"another `affectloom run` (process {pid}) is at work in this folder; "
                "wait for it or stop it with Ctrl-C"
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def stop_on_signal() -> None:
    """Let SIGTERM end the walk like Ctrl-C, so that no stage survives it.

    And let Ctrl-C interrupt a wait for a process: polars, when it is imported, has such calls begin
    again instead.
    """
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
        signal.siginterrupt(signal.SIGINT, True)
