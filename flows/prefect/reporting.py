"""Runs, shards, progress and tables, shown in the Prefect UI through its REST API.

Prefect sees the work and never decides about it: every method returns at once, and an ``Outbox``
delivers what it says. This module does not import prefect, which would take two seconds a stage.
"""

import logging
import os
import re
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from flows.prefect.api import Api
from flows.prefect.outbox import BUDGET_S, Outbox
from tasks.context import Progress

Ending = Literal["completed", "failed", "cancelled"]
_PAUSE_S = 2.0  # between two updates of a progress artifact, and two looks for Cancel
_TYPES = {"completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}
_MOST_LINES = 200  # in one message; the server takes no more than a megabyte


def host_tags() -> list[str]:
    """Tags by which runs of a process that was killed are recognised later."""
    return [f"host:{socket.gethostname()}", f"pid:{os.getpid()}"]


def slug(text: str) -> str:
    """Artifact keys take only lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "affectloom"


def stage_task(run: uuid.UUID, address: str) -> uuid.UUID:
    """Id of a stage's task run in the pipeline's run; the stage's process knows it untold."""
    return uuid.uuid5(run, address)


class FlowReport:
    """One flow run in the UI: its task runs, log lines, progress and tables.

    Args:
        name: of the run.
        on_cancel: called once, on another thread, when somebody cancels the run in the UI.
    """

    def __init__(self, name: str, on_cancel: Callable[[], None] = lambda: None) -> None:
        self.api = Api()
        self.name = name
        self.id: uuid.UUID | None = None
        self.is_cancelled = False
        self.on_cancel = on_cancel
        self._has_id = threading.Event()
        self._lines: deque[dict[str, Any]] = deque(maxlen=5000)
        self._progress_id: str | None = None
        self._shown_at = self._looked_at = 0.0
        self._is_ours = False
        self._parent_task: uuid.UUID | None = None
        self.outbox = Outbox(self._tick)

    @classmethod
    def open(
        cls,
        flow: str,
        run: str,
        tags: Sequence[str] = (),
        parent: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        on_cancel: Callable[[], None] = lambda: None,
    ) -> "FlowReport":
        """A new flow run; in the pipeline's run ``parent`` it stands for the task run ``run``."""
        report = cls(run, on_cancel)
        report._is_ours = True
        if parent:
            report._parent_task = stage_task(uuid.UUID(parent), run)
        body = {
            "name": run,
            "parameters": dict(parameters or {}),
            "tags": [*tags, *host_tags()],
            "parent_task_run_id": str(report._parent_task) if report._parent_task else None,
            "idempotency_key": uuid.uuid4().hex,  # so that asking twice makes one run
            "state": {"type": "RUNNING"},
        }
        report.outbox.put(lambda: report._create(flow, body))
        return report

    @classmethod
    def join(
        cls,
        run: uuid.UUID,
        name: str,
        tags: Sequence[str] = (),
        on_cancel: Callable[[], None] = lambda: None,
    ) -> "FlowReport":
        """Report into a flow run that Prefect itself opened; only Prefect ends it."""
        report = cls(name, on_cancel)
        report.id = run
        report._has_id.set()

        def rename() -> None:
            found = report.api.get(f"flow_runs/{run}")["tags"]
            kept = [tag for tag in found if not tag.startswith(("host:", "pid:"))]
            every = list(dict.fromkeys([*kept, *tags, *host_tags()]))
            report.api.patch(f"flow_runs/{run}", {"name": name, "tags": every})

        report.outbox.put(rename)
        return report

    def _create(self, flow: str, body: Mapping[str, Any]) -> None:
        found = self.api.post("flows/", {"name": flow})
        self.id = uuid.UUID(self.api.post("flow_runs/", {"flow_id": found["id"], **body})["id"])
        self._has_id.set()

    def wait_for_id(self) -> uuid.UUID | None:
        """The run's id, once the server gave one; None where it does not within the budget."""
        self._has_id.wait(BUDGET_S)
        return self.id

    def task(self, name: str, ending: str = "PENDING", task: uuid.UUID | None = None) -> uuid.UUID:
        """A task run of this run, not yet at work."""
        made = task or uuid.uuid4()
        self.outbox.put(lambda: self._create_task(made, name, {"type": ending}, ()))
        return made

    def stage(
        self, address: str, needs: Iterable[str], state: str = "RUNNING", name: str = "",
        message: str = "",
    ) -> None:  # fmt: skip
        """The task run of a stage, with edges from those that it ``needs``."""

        def create() -> None:
            if self.id is None:
                return
            before = [str(stage_task(self.id, other)) for other in needs]
            # in the graph a stage with shards stands under the id of its own flow run
            body = {"flow_runs": {"parent_task_run_id": {"any_": before}}}
            children = self.api.post("flow_runs/filter", body) if before else []
            whole = [run["id"] for run in children]
            edges = [{"input_type": "task_run", "id": one} for one in before]
            edges += [{"input_type": "flow_run", "id": one} for one in whole]
            first = _state(state, name, message)
            self._create_task(stage_task(self.id, address), address, first, edges)

        self.outbox.put(create)

    def end_stage(self, address: str, ending: Ending, name: str, message: str) -> None:
        """The final state of a stage's task run; ``name`` shows instead of the state's own."""

        def end() -> None:
            if self.id is not None:
                self._set("task_runs", stage_task(self.id, address), ending, name, message)

        self.outbox.put(end)

    def start_task(self, task: uuid.UUID) -> None:
        """A worker began with it."""
        self.outbox.put(lambda: self._set("task_runs", task, "running"), about=task)

    def end_task(self, task: uuid.UUID, ending: Ending, message: str = "") -> None:
        """The final state of a task run."""
        self.outbox.put(lambda: self._set("task_runs", task, ending, "", message), about=task)

    def _create_task(
        self, task: uuid.UUID, name: str, state: Mapping[str, Any], edges: Sequence[Any]
    ) -> None:
        body = {
            "id": str(task),
            "name": name,
            "flow_run_id": str(self.id),
            "task_key": slug(name.split("@")[0]),
            "dynamic_key": task.hex,
            "state": state,
            "task_inputs": {"needs": list(edges)} if edges else {},
        }
        self.api.post("task_runs/", body)

    def _set(
        self, kind: str, one: uuid.UUID | None, ending: str, name: str = "", message: str = ""
    ) -> None:
        state = _state(_TYPES.get(ending, ending.upper()), name, message)
        self.api.post(f"{kind}/{one}/set_state", {"state": state, "force": True})

    def say(self, message: str, level: int = logging.INFO) -> None:
        """A log line of the run, sent within a second."""
        self._lines.append(
            {
                "name": "affectloom",
                "level": level,
                "message": message,
                "timestamp": datetime.now(UTC).isoformat(),
            }
        )

    def progress(self, progress: Progress, line: str) -> None:
        """Update the progress artifact, at most every two seconds."""
        now = time.monotonic()
        if now - self._shown_at < _PAUSE_S and progress.done < progress.total:
            return
        self._shown_at = now
        share = 100.0 * progress.done / max(progress.total, 1)

        def show() -> None:
            if self._progress_id is None:
                key = slug(f"{self.name}-progress")
                made = self._artifact(key, "progress", share, line)
                self._progress_id = made["id"]
            else:
                body = {"data": share, "description": line}
                self.api.patch(f"artifacts/{self._progress_id}", body)

        self.outbox.put(show, about="progress")

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A table artifact of the run."""
        data = [
            {k: v if isinstance(v, int | float) else str(v) for k, v in r.items()} for r in rows
        ]
        self.outbox.put(lambda: self._artifact(slug(title), "table", data, title))

    def markdown(self, title: str, text: str) -> None:
        """A markdown artifact of the run."""
        self.outbox.put(lambda: self._artifact(slug(title), "markdown", text, title))

    def _artifact(self, key: str, kind: str, data: Any, description: str) -> Any:
        body = {
            "key": key,
            "type": kind,
            "data": data,
            "description": description,
            "flow_run_id": str(self.id) if self.id else None,
        }
        return self.api.post("artifacts/", body)

    def finish(self, ending: Ending, message: str = "") -> None:
        """Send what is waiting and set the final state of a run that is ours."""
        self.outbox.put(self._flush, is_last=True)
        if self._is_ours:
            self.outbox.put(self._end(ending, message), is_last=True)
        self.outbox.close()

    def _end(self, ending: Ending, message: str) -> Callable[[], None]:
        def end() -> None:
            if self.id is not None:
                self._set("flow_runs", self.id, ending, "", message)

        return end

    def _tick(self) -> None:
        """What is done every second: send log lines, look whether somebody pressed Cancel."""
        self._flush()
        now = time.monotonic()
        if self.id is None or self.is_cancelled or now - self._looked_at < _PAUSE_S:
            return
        self._looked_at = now
        if self.api.get(f"flow_runs/{self.id}")["state_type"] in ("CANCELLING", "CANCELLED"):
            self.is_cancelled = True
            self.on_cancel()

    def _flush(self) -> None:
        while self._lines and self.id is not None:
            batch = [self._lines[n] for n in range(min(len(self._lines), _MOST_LINES))]
            self.api.post("logs/", [{**line, "flow_run_id": str(self.id)} for line in batch])
            for _ in batch:
                self._lines.popleft()


def _state(kind: str, name: str = "", message: str = "") -> dict[str, Any]:
    return {"type": kind, "name": name or None, "message": message or None}


def reconcile_zombies(api: Api) -> int:
    """Mark runs of ours whose process on this machine is gone as crashed; returns how many."""
    wanted = {
        "state": {"type": {"any_": ["RUNNING", "CANCELLING"]}},
        "tags": {"all_": [f"host:{socket.gethostname()}"]},
    }
    count = 0
    for run in api.post("flow_runs/filter", {"flow_runs": wanted}):
        pids = [tag.removeprefix("pid:") for tag in run["tags"] if tag.startswith("pid:")]
        if pids and not os.path.exists(f"/proc/{pids[0]}"):
            state = _state("CRASHED", message="its process is gone")
            api.post(f"flow_runs/{run['id']}/set_state", {"state": state, "force": True})
            count += 1
    return count
