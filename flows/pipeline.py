"""``affectloom run``: the whole graph, stale stages side by side, shown in Prefect if it answers.

With an API the walk is a run of the Prefect flow ``pipeline``; its stages hang below it as task
runs, and those with several shards as child flow runs. Prefect is told of the walk and never asked
for anything that the walk waits for, so a server that dies changes nothing.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows import graph
from flows.bridge import has_api
from flows.plan import Plan, read_plan
from flows.prefect.reporting import Ending, FlowReport, reconcile_zombies
from flows.settings import check_before_graph, read_params
from flows.telling import has_failed, walk_plan
from flows.walk import Outcome
from models.errors import UserError

log = logging.getLogger("affectloom")

_STOPPED = "stopped; run the same command again to go on from here"


def run_pipeline(
    root: Path, names: Sequence[str] = (), jobs: int | None = None, pull: bool = False
) -> list[Outcome]:
    """Bring ``names`` (default: everything) up to date; what they need comes first.

    Args:
        root: the repository.
        names: stages or single instances.
        jobs: stages at once (default: half the cores, at least one).
        pull: fetch missing data from the DVC remote first.
    """
    params = read_params(root)
    check_before_graph(params)
    with only_one(root):
        if graph.sync(params.raw, root):
            log.info("dvc.yaml brought up to date with params.yaml and the code")
        plan = read_plan(root)
        if names:
            plan = plan.upstream_of(plan.match(names))
        if plan.maybe:  # else nothing changed since these parameters worked; importing costs 4 s
            params.check_everything()
        return walk_shown(root, plan, names, jobs, pull)


def walk_shown(
    root: Path, plan: Plan, names: Sequence[str], jobs: int | None, pull: bool
) -> list[Outcome]:
    """Walk the plan, as a flow run where a Prefect API answers."""
    if not has_api():
        return walk_plan(root, plan, jobs, pull, None)
    report = FlowReport.open(
        "pipeline",
        f"pipeline {' '.join(names)}".strip(),
        ["affectloom"],
        parameters={"stages": list(names), "jobs": jobs, "pull": pull},
    )
    report.outbox.put(lambda: reconcile_zombies(report.api))
    try:
        outcomes = walk_plan(root, plan, jobs, pull, report)
    except KeyboardInterrupt:
        report.finish("cancelled", _STOPPED)
        raise
    except BaseException as error:
        report.finish("failed", str(error) or type(error).__name__)
        raise
    report.finish(*_ending(outcomes))
    return outcomes


def _ending(outcomes: Sequence[Outcome]) -> tuple[Ending, str]:
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
    """Let SIGTERM end the walk like Ctrl-C, so that no stage survives it."""
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
