"""The files of an answer, and the folder that they go to."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.errors import UserError
from tasks.context import Context, Progress
from tasks.predict.engine import Result
from tasks.predict.output.annotations import write_eaf, write_srt, write_textgrid
from tasks.predict.output.index import write_index
from tasks.predict.output.overlay import write_overlay
from tasks.predict.output.timeline import write_timeline
from tasks.predict.output.writing import write_csv, write_json

#: One of these is in every folder that was written by an earlier call, and may be written again.
_MARKS = ("predictions.json", "index.html")


@dataclass(frozen=True)
class Wanted:
    """Files beside ``predictions.json``, ``predictions.csv`` and ``timeline.html``.

    Attributes:
        faces: boxes of all faces in ``predictions.json``.
        eaf: for ELAN.
        textgrid: for Praat.
        srt: subtitles.
        overlay: of a video, one with the answer drawn into it.
    """

    faces: bool = False
    eaf: bool = False
    textgrid: bool = False
    srt: bool = False
    overlay: bool = True


def check_folder(out: Path) -> None:
    """Refuse a folder that other files live in or that cannot be written, before hours of work."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = sorted(entry.name for entry in out.iterdir())
    except OSError as error:
        raise UserError(
            f"--out {out} cannot be used ({error.strerror or error}); name another folder"
        ) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise UserError(f"--out {out} is read-only; name another folder")
    is_ours = set(names) & set(_MARKS) or any((out / name / _MARKS[0]).exists() for name in names)
    if names and not is_ours:
        raise UserError(
            f"--out {out} holds other files ({names[0]}); name a folder that is new or empty"
        )


def write_answer(
    result: Result, folder: Path, wanted: Wanted, contexts: Callable[[str], Context]
) -> list[str]:
    """Every file of one answer; ``result`` has one.

    Returns:
        Sentences about files that could not be made of this medium; the answer itself is written.
    """
    answer, medium = result.answer, result.found.path
    assert answer is not None
    write_json(answer, folder / "predictions.json", faces=wanted.faces)
    write_csv(answer, folder / "predictions.csv")
    makers: dict[str, Callable[[Path], None]] = {
        "timeline.html": partial(write_timeline, answer, medium, portraits=result.portraits)
    }
    is_timed = answer.medium.kind != "image"
    if wanted.eaf and is_timed:
        makers["predictions.eaf"] = partial(write_eaf, answer, medium)
    if wanted.textgrid and is_timed:
        makers["predictions.TextGrid"] = partial(write_textgrid, answer, medium)
    if wanted.srt and is_timed:
        makers["predictions.srt"] = partial(write_srt, answer, medium)
    if wanted.overlay and answer.medium.kind == "video":
        told = _progress(contexts("overlay"), answer.medium.duration_s)
        makers["overlay.mp4"] = partial(write_overlay, answer, medium, progress=told)
    faults = []
    for name, make in makers.items():
        try:
            make(folder / name)
        except UserError as error:
            faults.append(f"{name} is not there: {error}")
    return faults


def write_partial(result: Result, folder: Path) -> None:
    """What is known before the end: it stays where somebody stops the rest."""
    assert result.answer is not None
    write_json(result.answer, folder / "predictions.json")
    write_csv(result.answer, folder / "predictions.csv")
    page = folder / "timeline.html"
    write_timeline(result.answer, result.found.path, page, portraits=result.portraits)


def _progress(ctx: Context, length_s: float) -> Callable[[float], None]:
    total = max(1, round(length_s))
    return lambda done_s: ctx.progress(Progress(min(round(done_s), total), total, "s"))


def write_overview(results: Sequence[Result], out: Path) -> None:
    """The page that leads to the answers of several media."""
    write_index([(r.found.name, r.answer, r.reason) for r in results], out / "index.html")
