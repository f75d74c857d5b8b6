"""``python -m flows.stage <name>``: what DVC runs. One stage, with or without a Prefect API.

The API is probed before prefect is imported: without one the same functions run directly, and no
server is started behind the user's back.
"""

import argparse
import errno
import hashlib
import importlib
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import graph
from flows.bridge import PIPELINE_PID, open_context
from flows.closure import closure
from flows.execution import execution
from flows.sentences import MACHINE, sentence, told
from flows.settings import check_whole, read_params
from flows.times import note_time
from models.errors import UserError
from tasks import failures
from tasks.atomic import sweep
from tasks.context import Context, WorkerDied
from tasks.layout import Layout, find_root
from tasks.params.model import Params
from tasks.plain_context import end_with
from tasks.stages import STAGES, Stage

log = logging.getLogger("affectloom")

#: Seconds before each further try of a stage whose failure may pass.
RETRIES_S = (10.0,)
#: What network folders say when their server is away for a moment.
_PASSING = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ENETDOWN, errno.ENETUNREACH}


def run_stage(
    name: str, ids: Mapping[str, str], params: Params, layout: Layout, ctx: Context
) -> None:
    """Call the stage's function with its own part of the parameters."""
    stage = STAGES[name]
    function = importlib.import_module(stage.module(params.raw, **ids)).run
    function(stage.asked(params, **ids), layout, ctx, **ids)


def _tell_unknown(raw: Mapping[str, Any]) -> None:
    """Say which stages a plain ``dvc repro`` leaves out, since dvc.yaml does not know them yet."""
    if PIPELINE_PID in os.environ or not Path("dvc.yaml").exists():
        return  # `affectloom run` has just written it
    known = graph.addresses_in(Path("dvc.yaml").read_text(encoding="utf-8"))
    asked = [row.address(ids) for row in STAGES.values() for ids in row.instances_of(raw)]
    if unknown := [address for address in asked if address not in known]:
        rest = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        log.warning(
            "dvc.yaml does not know %s%s yet, which params.yaml asks for; run `affectloom sync`",
            ", ".join(unknown[:3]),
            rest,
        )


def _code_fingerprint(stage: Stage, ids: Mapping[str, str], raw: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for file in closure(graph.stage_code(stage, ids, raw), Path()):
        digest.update(str(file).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def execute(
    name: str,
    ids: Mapping[str, str],
    layout: Layout | None = None,
    run: uuid.UUID | None = None,
) -> None:
    """Run one stage instance of the current folder, reporting to Prefect where it answers.

    What may pass, a dropped connection or a worker that died, is tried again.

    Args:
        name: of the stage.
        ids: of the instance.
        layout: default: the project's own.
        run: the flow run that Prefect opened for it, where it was started there.
    """
    layout = layout or Layout()
    params = read_params(Path())
    raw, stage = params.raw, STAGES[name]
    _check_ids(stage, ids, raw)
    if name == "report":
        check_whole(raw, Path())
    if name == "report" and graph.sync(raw, Path()):
        raise UserError(
            "params.yaml or the code named something that dvc.yaml did not know; dvc.yaml is up "
            "to date now, so run the same command again"
        )
    _tell_unknown(raw)
    address, outs = stage.address(ids), stage.writes(layout, **ids)
    for out in outs:
        sweep(out)
    started = time.monotonic()
    code = _code_fingerprint(stage, ids, raw)
    try:
        with open_context(address, execution(raw), code, run) as ctx:
            _run_patiently(name, ids, params, layout, ctx)
    except Exception as error:
        _note(layout, address, told(error) or str(error) or type(error).__name__, outs)
        raise
    _note(layout, address, None, outs, time.monotonic() - started)


def _run_patiently(
    name: str, ids: Mapping[str, str], params: Params, layout: Layout, ctx: Context
) -> None:
    for pause_s in RETRIES_S:
        try:
            return run_stage(name, ids, params, layout, ctx)
        except Exception as error:
            if not may_pass(error):
                raise
            ctx.log(f"{str(error) or type(error).__name__}; trying again in {pause_s:g} s")
            time.sleep(pause_s)
    return run_stage(name, ids, params, layout, ctx)


def may_pass(error: BaseException | None) -> bool:
    """Whether a failure, or what caused it, may be gone when the work is tried again."""
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError | WorkerDied):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__
    return False


def _note(
    layout: Layout, address: str, reason: str | None, outs: Sequence[Path], seconds: float = 0.0
) -> None:
    """Remember how the stage ended; notes that cannot be written cost the report, not the work."""
    try:
        failures.note(layout, address, reason, outs)
        if reason is None:
            note_time(layout, address, seconds)
    except MACHINE as error:
        log.warning("%s: cannot note how it ended: %s", address, sentence(error))


def _check_ids(stage: Stage, ids: Mapping[str, str], raw: Mapping[str, Any]) -> None:
    known = stage.instances_of(raw)
    if dict(ids) not in [*known, *stage.on_request(raw)]:
        names = ", ".join(stage.address(found) for found in known) or "none"
        raise UserError(f"there is no {stage.address(ids)} in params.yaml; there is: {names}")


def parse_arguments(argv: list[str]) -> tuple[str, dict[str, str]]:
    """The stage and its arguments, in the order that its address has them."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.stage", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("stage", choices=list(STAGES))
    for option in dict.fromkeys(name for stage in STAGES.values() for name in stage.per):
        parser.add_argument(f"--{option}")
    found = parser.parse_args(argv)
    arguments = {k: v for k, v in vars(found).items() if k != "stage" and v is not None}
    return found.stage, arguments


def main(argv: list[str] | None = None) -> int:
    """Entry point; prints one sentence and returns 1 when something is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # what a script starts with & begins so; Cancel in the UI and a stopped run want to be heard
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        os.chdir(find_root())
        name, ids = parse_arguments(sys.argv[1:] if argv is None else argv)
        if PIPELINE_PID in os.environ:
            end_with(int(os.environ[PIPELINE_PID]))
        execute(name, ids)
    except Exception as error:
        said = told(error)
        if said is None or os.environ.get("AFFECTLOOM_DEBUG"):
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
