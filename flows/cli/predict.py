"""The command ``affectloom predict``; ``flows/cli/main.py`` registers it."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import UserError

if TYPE_CHECKING:  # slow to import
    from tasks.layout import Layout
    from tasks.params.model import Params

EPILOG = "Example: affectloom predict talk.mp4 --transcript talk.srt --out answers"
EXPORT_EPILOG = "Example: affectloom export iemocap/mmgcn --out mmgcn_model"


def predict(
    media: Annotated[
        list[str] | None, typer.Argument(help="Files, folders or patterns; after -- any.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="CORPUS/METHOD: all of its networks answer together.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder of a model, or hub:OWNER/NAME@REVISION.")
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Words with times: SRT, VTT, TXT, CSV, JSON, TextGrid, EAF.")
    ] = None,
    asr: Annotated[
        bool, typer.Option("--asr", help="Write down what is said where no words are given.")
    ] = False,
    transcriber: Annotated[
        str | None, typer.Option(help="The entry of asr that does it; means --asr as well.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the answers.")] = Path("predictions"),
    faces: Annotated[bool, typer.Option("--faces", help="Every face in predictions.json.")] = False,
    eaf: Annotated[bool, typer.Option("--eaf", help="A file for ELAN.")] = False,
    textgrid: Annotated[bool, typer.Option("--textgrid", help="A file for Praat.")] = False,
    srt: Annotated[bool, typer.Option("--srt", help="Subtitles with emotions.")] = False,
    overlay: Annotated[bool, typer.Option(help="A video with the answer drawn into it.")] = True,
    watch: Annotated[
        Path | None, typer.Option(help="Answer what arrives in this folder, until Ctrl-C.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Say what is felt in new videos, sounds and pictures, and how sure that is."""
    from tasks.predict.memory import hold_little

    hold_little()  # before what is imported takes memory
    from dataclasses import asdict

    from flows.execution import execution, worker_count
    from flows.settings import read_params
    from tasks.layout import Layout
    from tasks.media.worker import thread_decoders
    from tasks.plain_context import PlainContext
    from tasks.predict import session
    from tasks.predict.leaving.hub import folder_of
    from tasks.predict.output.publishing import Wanted

    # the command settles in the repository's root; names were meant from where it was called
    base = Path(os.environ.get("PWD", "."))
    layout, params = (
        (Layout(), read_params(Path())) if Path("params.yaml").exists() else _alone(model)
    )
    # beside each thread its decoding process is at work
    threads = max(1, worker_count(execution(params.raw)) // 2)
    request = session.Request(
        tuple(media or ()),
        base,
        base / out,
        run,
        folder_of(model, base, layout.cache) if model is not None else None,
        transcript and base / transcript,
        transcriber or ("" if asr else None),
        Wanted(faces, eaf, textgrid, srt, overlay),
    )

    def context(what: str, is_long: bool) -> PlainContext:
        workers = threads if is_long else 1
        if workers > 1:  # this thread's own decoding process has nothing to do meanwhile
            thread_decoders().rest()
        return PlainContext(what, runner="threads", workers=workers)

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    if watch is not None:
        from tasks.predict import watching

        watching.watch(request, base / watch, layout, params, context, say)
        return
    if not media:
        raise UserError("name a file, a folder or a pattern, or a folder with --watch")
    results = session.run(request, layout, params, context, say)
    if as_json:
        found = [
            {"name": r.found.name, "reason": r.reason, "answer": r.answer and asdict(r.answer)}
            for r in results
        ]
        print(json.dumps(found, indent=1, allow_nan=False))
    if not any(result.answer for result in results):
        raise typer.Exit(1)


def _alone(model: str | None) -> "tuple[Layout, Params]":
    """Where no project is, a model that was given away is all that can answer."""
    from tasks.layout import find_root
    from tasks.params.model import Params
    from tasks.predict.outside import layout_outside

    if model is None:
        find_root()  # which says that this is no project
    return layout_outside(), Params({})


def export(
    run: Annotated[str, typer.Argument(help="CORPUS/METHOD that was trained.")],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="With a graph of each network for other runtimes.")
    ] = False,
    push: Annotated[
        str | None, typer.Option(help="OWNER/NAME on a model hub: upload it there, too.")
    ] = None,
) -> None:
    """Write a trained run as a folder that `predict --model` reads anywhere."""
    from flows.settings import read_params
    from tasks.layout import Layout
    from tasks.predict.leaving.export import export as export_run
    from tasks.predict.leaving.export import publish

    base = Path(os.environ.get("PWD", "."))
    folder = export_run(run, Layout(), read_params(Path()), base / out, onnx=onnx)
    print(folder)
    if push is not None:
        print(publish(run, Layout(), folder, push))
