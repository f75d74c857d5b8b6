"""The Prefect flow ``pipeline``. Importing this module imports prefect."""

from pathlib import Path

from prefect import flow
from prefect.context import FlowRunContext

from flows.pipeline import has_failed, walk_all
from flows.reporting import FlowReport, reconcile_zombies
from flows.walk import Outcome


class PipelineFailed(RuntimeError):
    """At least one stage failed; the table of stages names it."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        failed = [f"{o.address}: {o.reason}" for o in outcomes if o.state == "failed"]
        super().__init__("; ".join(failed) or "stopped")


@flow(name="pipeline", persist_result=False, validate_parameters=False)
def pipeline_flow(root: str, stages: list[str], jobs: int | None, pull: bool) -> list[Outcome]:
    """Walk DVC's graph; every stage is a task run below this flow run."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    report = FlowReport.join(context.flow_run.id)
    try:
        outcomes = walk_all(Path(root), stages, jobs, pull, report)
    finally:
        report.flush()
    if has_failed(outcomes):
        raise PipelineFailed(outcomes)
    return outcomes


def pipeline(root: str, stages: list[str], jobs: int | None, pull: bool) -> list[Outcome]:
    """Run the flow; failed stages come back as outcomes, not as an exception."""
    reconcile_zombies()
    try:
        return pipeline_flow(root, stages, jobs, pull)
    except PipelineFailed as error:
        return error.outcomes
