"""``affectloom run``: the whole graph, stale stages side by side, shown in Prefect if it answers.

With an API the walk is the Prefect flow ``pipeline``; its stages hang below it as task runs, and
those with several shards as child flow runs. Without one the same walk runs without Prefect.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows import graph
from flows.bridge import has_api, prepare_environment
from flows.plan import read_plan
from flows.settings import read_whole
from flows.telling import walk_plan
from flows.walk import Outcome
from models.errors import UserError

log = logging.getLogger("affectloom")


def run_pipeline(
    root: Path,
    names: Sequence[str] = (),
    jobs: int | None = None,
    pull: bool = False,
    force: Sequence[str] = (),
    tell: Callable[[Mapping[str, object]], None] | None = None,
) -> list[Outcome]:
    """Bring ``names`` (default: everything) up to date; what they need comes first.

    Args:
        root: the repository.
        names: stages or single instances.
        jobs: stages at once (default: half the cores, at least one).
        pull: fetch missing data from the DVC remote first.
        force: stages or instances to run although they may be up to date.
        tell: hears each event of the walk.
    """
    params = read_whole(root)
    with only_one(root):
        if graph.sync(params.raw, root):
            log.info("dvc.yaml brought up to date with params.yaml and the code")
        plan = read_plan(root)
        plan.tell = tell
        plan.force(force)
        if names:
            plan = plan.upstream_of(plan.match([*names, *force]))
        if plan.maybe:  # else nothing changed since these parameters worked; importing costs 4 s
            params.check_everything()
        if has_api():
            prepare_environment(root)
            from flows.prefect.pipeline import pipeline

            return pipeline(root, plan, names, jobs, pull)
        return walk_plan(root, plan, jobs, pull, None)


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
