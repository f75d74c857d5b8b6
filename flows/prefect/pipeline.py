"""The Prefect flow ``pipeline``. Importing this module imports prefect."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from flows.plan import Plan
from flows.prefect.reporting import FlowReport, reconcile_zombies
from flows.telling import has_failed, walk_plan
from flows.walk import Outcome

log = logging.getLogger("affectloom")


def pipeline(
    root: Path, plan: Plan, names: Sequence[str], jobs: int | None, pull: bool
) -> list[Outcome]:
    """Walk the plan as a flow run; every stage is a task run below it.

    Failed stages come back as outcomes, not as an exception. The walk goes on without Prefect when
    its API stops answering, before, during or after it.
    """
    ended: list[list[Outcome]] = []
    broken: list[BaseException] = []

    @flow(name="pipeline", persist_result=False, validate_parameters=False)
    def pipeline_flow(stages: list[str], jobs: int | None, pull: bool) -> Any:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        report = FlowReport.join(context.flow_run.id)
        try:
            ended.append(walk_plan(root, plan, jobs, pull, report))
        except BaseException as error:
            broken.append(error)
            raise
        finally:
            report.flush()
        return _final_state(ended[0])

    try:
        reconcile_zombies()
        pipeline_flow(list(names), jobs, pull, return_state=True)
    except TerminationSignal as error:  # what Prefect makes of SIGTERM
        raise KeyboardInterrupt from error
    except Exception as error:
        if not broken:
            log.warning("the Prefect API stopped answering (%s); going on without it", error)
    if broken:
        raise broken[0]
    return ended[0] if ended else walk_plan(root, plan, jobs, pull, None)


def _final_state(outcomes: Sequence[Outcome]) -> Any:
    """The flow run's state; returned, since raising would print a traceback for a user's error."""
    if any(outcome.state == "stopped" for outcome in outcomes):
        return Cancelled(message="stopped; run the same command again to go on from here")
    if has_failed(outcomes):
        failed = [f"{o.address}: {o.reason}" for o in outcomes if o.state == "failed"]
        return Failed(message="; ".join(failed))
    return Completed()
