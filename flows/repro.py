"""``python -m flows.repro ...``: DVC's own command line, which spares itself two detours.

After a stage DVC reads the whole of ``dvc.lock`` with a parser that keeps comments, and writes all
of it anew: 2.8 s of processor time for 48 stages, more than many of them work. Here only the entry
of the stage that ended is made anew, by DVC's own writer; the file comes out the same to the byte.

And DVC starts each stage as a new interpreter, through a shell. Where this process began warm
(``flows.warm``), a stage is forked from it instead.
"""

import atexit
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from dvc.dvcfile import Lockfile
from dvc.stage import run
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dump_yaml

from flows.lock_text import entries, write
from tasks import dvc_lock

log = logging.getLogger("dvc")

_rewrite = Lockfile.dump_stages
_run_apart = run._run
#: How commands of stages begin.
_STAGE = ["python", "-m", "flows.stage"]


def dump_stages(lock: Lockfile, stages: Sequence[Any], **options: Any) -> None:
    """In place of ``Lockfile.dump_stages``; a file that is not as DVC writes it is left to DVC."""
    file = Path(lock.path)
    known = entries(dvc_lock.read_text(file))
    fresh: dict[str, str] = {}
    for stage in stages:
        fresh |= _entries_of(to_lockfile(stage, **options))
    if known is None or len(fresh) < len(stages):
        _rewrite(lock, stages, **options)
        return
    if not all(known.get(name) == text for name, text in fresh.items()):
        log.info("Updating lock file '%s'", lock.relpath)
        write(file, (known | fresh).values())
        lock.repo.scm_context.track_file(lock.relpath)


def _entries_of(found: dict[str, Any]) -> dict[str, str]:
    """A stage's entry as DVC writes it; nothing where its name needs quotes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dvc.lock"
        dump_yaml(str(file), {"schema": "2.0", "stages": found})
        return entries(file.read_text(encoding="utf-8")) or {}


def run_command(executable: str | None, cmd: str, **options: Any) -> None:
    """In place of ``dvc.stage.run._run``; what is no stage of ours is left to DVC."""
    words = shlex.split(cmd)
    if words[: len(_STAGE)] != _STAGE:
        _run_apart(executable, cmd, **options)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # an interrupt reaches the whole group; the stage ends in its own way, and DVC hears of that
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, handler)
            _become(words[len(_STAGE) :], options["cwd"], options["env"])
        _, status = os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGINT, handler)
    if code := os.waitstatus_to_exitcode(status):
        raise StageCmdFailedError(cmd, code)


def _become(argv: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    """Be a stage as a new process would be, and end; nothing of DVC's is tidied up twice."""
    code = 1
    try:
        atexit._clear()
        logging.root.handlers.clear()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["flows.stage", *argv]
        from flows.stage import main as stage

        code = stage(argv)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except SystemExit as end:  # of wrong arguments
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(argv: list[str] | None = None, is_warm: bool = False) -> int:
    """Run DVC's command line so."""
    from dvc.cli import main as dvc

    Lockfile.dump_stages = dump_stages  # type: ignore[method-assign]
    if is_warm:
        run._run = run_command
    return dvc(argv)


if __name__ == "__main__":
    sys.exit(main())
