"""Runs, shards, progress and tables, shown in the Prefect UI through its client.

Prefect sees the work and never decides about it: the first report that fails is logged, the rest
are left out, and the work goes on. This module imports prefect; import it only when an API answers.
"""

import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from prefect import Task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate, LogCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.flows import Flow
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from tasks.context import Progress

log = logging.getLogger("affectloom")
Answer = TypeVar("Answer")

Ending = Literal["completed", "failed", "cancelled"]
_PAUSE_S = 2.0  # between two updates of a progress artifact
_ENDINGS = {"completed": Completed, "failed": Failed, "cancelled": Cancelled}


def host_tags() -> list[str]:
    """Tags by which runs of a process that was killed are recognised later."""
    return [f"host:{socket.gethostname()}", f"pid:{os.getpid()}"]


def slug(text: str) -> str:
    """Artifact keys take only lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "affectloom"


def _work() -> None:
    """Stands for the work in Prefect's records; it is never called through Prefect."""


class FlowReport:
    """One flow run in the UI: its task runs, log lines, progress and tables."""

    def __init__(self, name: str) -> None:
        self.client: SyncPrefectClient = get_client(sync_client=True)
        self.name = name
        self.id: uuid.UUID | None = None
        self.is_lost = False
        self._lines: list[LogCreate] = []
        self._progress_id: uuid.UUID | None = None
        self._shown_at = 0.0
        self._parent_task: uuid.UUID | None = None

    @classmethod
    def open(
        cls, flow: str, run: str, tags: Sequence[str] = (), parent: str | None = None
    ) -> "FlowReport":
        """A new flow run, below the flow run ``parent`` where there is one."""
        report = cls(run)
        report.id = report._try(lambda: report._create(flow, run, tags, parent))
        return report

    @classmethod
    def join(cls, run: uuid.UUID) -> "FlowReport":
        """Report into a flow run that Prefect itself opened; only Prefect ends it."""
        report = cls("pipeline")
        report.id = run
        report._try(lambda: report._add_tags(run))
        return report

    def _add_tags(self, run: uuid.UUID) -> None:
        self.client.update_flow_run(run, tags=["affectloom", *host_tags()])

    def _create(self, flow: str, run: str, tags: Sequence[str], parent: str | None) -> uuid.UUID:
        if parent:
            # a child hangs below its parent's run through a task run that stands for it
            stand_in = self.client.create_task_run(
                Task(_work, name=run), uuid.UUID(parent), uuid.uuid4().hex, name=run
            )
            self._parent_task = stand_in.id
            self.client.set_task_run_state(stand_in.id, Running(), force=True)
        created = self.client.create_flow_run(
            Flow(_work, name=flow),
            name=run,
            tags=[*tags, *host_tags()],
            parent_task_run_id=self._parent_task,
        )
        self.client.set_flow_run_state(created.id, Running(), force=True)
        return created.id

    def task(self, name: str) -> uuid.UUID | None:
        """A task run, running."""

        def create() -> uuid.UUID:
            key = uuid.uuid4().hex
            task = Task(_work, name=slug(name))
            made = self.client.create_task_run(task, self.id, key, name=name)
            self.client.set_task_run_state(made.id, Running(), force=True)
            return made.id

        return self._try(create)

    def end_task(self, task: uuid.UUID | None, ending: Ending, name: str = "") -> None:
        """Set the final state of a task run; ``name`` shows instead of the state's own."""
        if task is not None:
            self._try(lambda: self.client.set_task_run_state(task, _state(ending, name), True))

    def say(self, message: str, level: int = logging.INFO) -> None:
        """A log line of the run; sent with the next progress or at the end."""
        self._lines.append(
            LogCreate(
                name="affectloom",
                level=level,
                message=message,
                timestamp=datetime.now(UTC),  # pyright: ignore[reportArgumentType]  # pydantic converts
                flow_run_id=self.id,
            )
        )

    def progress(self, progress: Progress, line: str) -> None:
        """Update the progress artifact, at most every two seconds."""
        now = time.monotonic()
        if now - self._shown_at < _PAUSE_S and progress.done < progress.total:
            return
        self._shown_at = now
        share = 100.0 * progress.done / max(progress.total, 1)
        if self._progress_id is None:
            made = self._try(
                lambda: self.client.create_artifact(
                    ArtifactCreate(
                        key=slug(f"progress-{self.name}"),
                        type="progress",
                        data=share,
                        description=line,
                        flow_run_id=self.id,
                    )
                )
            )
            self._progress_id = made.id if made else None
        else:
            found = self._progress_id
            update = ArtifactUpdate(data=share, description=line)
            self._try(lambda: self.client.update_artifact(found, update))
        self.flush()

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A table artifact of the run."""
        data = [
            {k: v if isinstance(v, int | float) else str(v) for k, v in r.items()} for r in rows
        ]
        artifact = ArtifactCreate(
            key=slug(f"{title}-{self.name}"),
            type="table",
            data=data,
            description=title,
            flow_run_id=self.id,
        )
        self._try(lambda: self.client.create_artifact(artifact))

    def markdown(self, title: str, text: str) -> None:
        """A markdown artifact of the run."""
        artifact = ArtifactCreate(
            key=slug(title), type="markdown", data=text, description=title, flow_run_id=self.id
        )
        self._try(lambda: self.client.create_artifact(artifact))

    def is_cancelled(self) -> bool:
        """Did somebody press Cancel in the UI?"""
        run = self.id
        found = self._try(lambda: self.client.read_flow_run(run)) if run else None
        return bool(
            found
            and found.state
            and found.state.type in (StateType.CANCELLING, StateType.CANCELLED)
        )

    def finish(self, ending: Ending, message: str = "") -> None:
        """Send what is waiting and set the final state."""
        self.flush()
        run = self.id
        if run is not None:
            state = _state(ending, message=message)
            self._try(lambda: self.client.set_flow_run_state(run, state, force=True))
        self.end_task(self._parent_task, ending)

    def flush(self) -> None:
        """Send the log lines that are waiting."""
        lines, self._lines = self._lines, []
        if lines and self.id is not None:
            self._try(lambda: self.client.create_logs(lines))

    def _try(self, report: Callable[[], Answer]) -> Answer | None:
        if self.is_lost:
            return None
        try:
            return report()
        except Exception as error:
            # whatever the server does, the work goes on; this is said once and not hidden
            self.is_lost = True
            log.warning("the Prefect API stopped answering (%s); going on without it", error)
            return None


def _state(ending: Ending, name: str = "", message: str = "") -> Any:
    options = {"name": name} if name else {}
    return _ENDINGS[ending](message=message or None, **options)


def reconcile_zombies() -> int:
    """Mark runs of ours whose process on this machine is gone as crashed; returns how many."""
    client = get_client(sync_client=True)
    running = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
            ),
            tags=FlowRunFilterTags(all_=[f"host:{socket.gethostname()}"]),
        )
    )
    count = 0
    for run in running:
        pids = [tag.removeprefix("pid:") for tag in run.tags if tag.startswith("pid:")]
        if pids and not os.path.exists(f"/proc/{pids[0]}"):
            message = "its process is gone"
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            count += 1
    return count
