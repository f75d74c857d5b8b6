"""``python -m flows.stage <name>``: what DVC runs. One stage, with or without a Prefect API.

The API is probed before prefect is imported: without one the same functions run directly, and no
server is started behind the user's back.
"""

import argparse
import hashlib
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import graph
from flows.bridge import PIPELINE_PID, open_context
from flows.closure import closure
from flows.execution import execution
from flows.sentences import sentence
from flows.settings import read_params
from models.errors import UserError
from tasks import failures, paths
from tasks.context import Context
from tasks.params import Params
from tasks.plain_context import end_with

log = logging.getLogger("affectloom")


def run_stage(stage: str, arguments: Mapping[str, str], params: Params, ctx: Context) -> None:
    """Call the stage's function in ``tasks`` with its own part of the parameters."""
    module = importlib.import_module(f"tasks.{stage}.stage")
    corpus = arguments.get("corpus", "")
    if stage in ("sample", "checkpoints"):
        destination = paths.raw("sample") if stage == "sample" else paths.CHECKPOINTS
        module.run(params.section(stage), destination)
    elif stage == "ingest":
        module.run(params.ingest(corpus), corpus, ctx)
    elif stage in ("labels", "splits"):
        module.run(params.section(stage, corpus), corpus)
    elif stage == "faces":
        module.run(params.section(stage, corpus), corpus, ctx)
    elif stage == "features":
        module.run(params.encoder(arguments["encoder"]), arguments["encoder"], corpus, ctx)
    elif stage == "search":
        name = arguments["method"]
        entry, section = params.method(name), params.section("train")
        code = _code_fingerprint(stage, arguments, params.raw)
        how, inputs = params.search(name), params.inputs(corpus)
        module.run(how, corpus, name, entry, inputs, ctx, targets=section.targets, code=code)
    elif stage == "train":
        name = arguments["method"]
        entry, inputs, found = params.method(name), params.inputs(corpus), None
        if entry.get("search") is not None:
            found = importlib.import_module("tasks.search.result").searched(corpus, name)
        code = _code_fingerprint(stage, arguments, params.raw)
        section = params.section(stage)
        module.run(section, corpus, name, entry, inputs, ctx, code=code, found=found)
    elif stage == "evaluate":
        module.run(params.section(stage), corpus, arguments["method"], params.inputs(corpus), ctx)
    elif stage == "transfer":
        name, onto = arguments["method"], arguments["onto"]
        module.run(params.section(stage), corpus, name, onto, params.inputs(onto), ctx)
    elif stage == "report":
        module.run(params.section(stage), params.raw, ctx)
    else:
        raise UserError(f"there is no stage '{stage}'; stages: {', '.join(graph.STAGES)}")


def _code_fingerprint(stage: str, arguments: Mapping[str, str], raw: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for file in closure(graph.stage_code(stage, arguments, raw, Path()), Path()):
        digest.update(str(file).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def execute(stage: str, arguments: Mapping[str, str]) -> None:
    """Run one stage instance in the current folder, reporting to Prefect where it answers."""
    params = read_params(Path())
    raw = params.raw
    _check_arguments(stage, arguments, raw)
    if stage == "report" and graph.sync(raw, Path()):
        raise UserError(
            "params.yaml or the code named something that dvc.yaml did not know; dvc.yaml is up "
            "to date now, so run the same command again"
        )
    settings = execution(raw)
    name = graph.address(stage, arguments)
    started = time.monotonic()
    try:
        with open_context(name, settings) as ctx:
            run_stage(stage, arguments, params, ctx)
    except Exception as error:
        _note(name, str(error) or type(error).__name__)
        raise
    _note(name, None, time.monotonic() - started)


def _note(name: str, reason: str | None, seconds: float = 0.0) -> None:
    """Remember how the stage ended; notes that cannot be written cost the report, not the work."""
    try:
        failures.note(name, reason)
        if reason is None:
            note_time(name, seconds)
    except OSError as error:
        log.warning("%s: cannot note how it ended: %s", name, sentence(error))


def _check_arguments(stage: str, arguments: Mapping[str, str], raw: Mapping[str, Any]) -> None:
    known = [dict(found) for found in graph.instances(raw, stage)]
    if dict(arguments) not in known:
        names = ", ".join(graph.address(stage, found) for found in known) or "none"
        raise UserError(
            f"there is no {graph.address(stage, arguments)} in params.yaml; there is: {names}"
        )


def note_time(name: str, seconds: float) -> None:
    """Remember how long a stage took here, for the report."""
    file = paths.cache() / "times.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"stage": name, "seconds": round(seconds, 2)}) + "\n")


def parse_arguments(argv: list[str]) -> tuple[str, dict[str, str]]:
    """The stage and its arguments, in the order that its address has them."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.stage", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("stage", choices=graph.STAGES)
    for option in ("corpus", "encoder", "method", "onto"):
        parser.add_argument(f"--{option}")
    found = parser.parse_args(argv)
    arguments = {k: v for k, v in vars(found).items() if k != "stage" and v is not None}
    return found.stage, arguments


def main(argv: list[str] | None = None) -> int:
    """Entry point; prints one sentence and returns 1 when something is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        os.chdir(paths.find_root())
        stage, arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        if PIPELINE_PID in os.environ:
            end_with(int(os.environ[PIPELINE_PID]))
        execute(stage, arguments)
    except UserError as error:
        if os.environ.get("AFFECTLOOM_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a read-only folder: no defect of the code
        if os.environ.get("AFFECTLOOM_DEBUG"):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
