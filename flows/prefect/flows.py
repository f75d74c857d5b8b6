"""The Prefect flows: ``pipeline``, and one for each row of ``tasks/stages.py``.

A flow is a way in, like ``affectloom run`` or ``dvc repro``, to the same functions; no result rests
on what Prefect remembers. Each is an attribute of this module, by which Prefect loads it.
"""

import contextlib
import inspect
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from prefect import Flow, flow
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows.experiment import run_experiment
from flows.pipeline import ending, only_one, run_pipeline
from flows.prefect.home import has_api
from flows.stage import execute
from flows.walk import Outcome
from models.errors import UserError
from tasks.layout import find_root
from tasks.stages import STAGES, Stage

Jobs = Annotated[int | None, Field(ge=1)]


@flow(name="pipeline", persist_result=False)
def pipeline(
    stages: list[str] = [],  # noqa: B006  # the form shows it as it stands
    jobs: Jobs = None,
    pull: bool = False,
    overrides: list[str] = [],  # noqa: B006
) -> Any:
    """Bring the pipeline up to date: stale stages and what follows from them.

    Args:
        stages: Stages or single instances, e.g. `features` or `train@sample-linear`; none:
            everything.
        jobs: Stages side by side; none: one for each core.
        pull: Fetch missing data from the DVC remote.
        overrides: Changes of params.yaml, e.g. `train.seeds=[0,1]`; the run becomes a DVC
            experiment.
    """
    root = find_root()
    with contextlib.chdir(root):
        try:
            if overrides:
                return _state(run_experiment(root, stages, overrides, _run_id()))
            return _state(run_pipeline(root, stages, jobs, pull, _run_id()))
        except UserError as error:  # one sentence in the UI, not a traceback
            return Failed(message=str(error))


def stage(name: str, **ids: str) -> None:
    """Run one stage now, whether it is stale or not: ``stage("faces", corpus="sample")``.

    A flow run where a Prefect API answers; the same work without one.
    """
    if name not in STAGES:
        raise UserError(f"there is no stage '{name}'; stages: {', '.join(STAGES)}")
    if has_api():
        globals()[name](**ids)
    else:
        _execute(STAGES[name], ids, None)


def _flow_of(row: Stage) -> Flow[Any, Any]:
    def work(**ids: str) -> None:
        _execute(row, ids, _run_id())

    work.__name__ = work.__qualname__ = row.name
    work.__doc__ = f"Run the stage ``{row.name}`` now, whether it is stale or not."
    kind = inspect.Parameter.KEYWORD_ONLY
    typed = [inspect.Parameter(one, kind, annotation=str) for one in row.per]
    work.__signature__ = inspect.Signature(typed)  # pyright: ignore[reportFunctionMemberAccess]
    work.__annotations__ = dict.fromkeys(row.per, str)
    return flow(name=f"stage-{row.name}", flow_run_name=_name_of(row), persist_result=False)(work)


def _name_of(row: Stage) -> str:
    return row.address({one: f"{{{one}}}" for one in row.per})


def _execute(row: Stage, ids: dict[str, str], run: uuid.UUID | None) -> None:
    root = find_root()
    with contextlib.chdir(root), only_one(root):
        execute(row.name, {one: ids[one] for one in row.per if one in ids}, run=run)


def _run_id() -> uuid.UUID | None:
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def _state(outcomes: Sequence[Outcome]) -> Any:
    """The flow run's state; returned, since raising would print a traceback for a user's error."""
    found, message = ending(outcomes)
    return {"completed": Completed, "failed": Failed, "cancelled": Cancelled}[found](
        message=message or None
    )


globals().update({name: _flow_of(row) for name, row in STAGES.items()})
