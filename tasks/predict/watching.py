"""``affectloom predict --watch``: a folder whose media are answered as they arrive.

A file is taken when its size and time of change were quiet for a while and it can be read as a
medium; one that cannot is given longer, since it may still be written. What is done is noted in the
folder of the answers, so that a restart goes on from there and a file that changes is looked at
again.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.errors import UserError
from tasks.atomic import write_json
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.predict.engine import Asked, MakeContext, Result, predict
from tasks.predict.listening.listeners import find_listeners
from tasks.predict.listening.words import bring_transcriber, transcriber_named
from tasks.predict.media import TRANSCRIPTS, Found, find_media
from tasks.predict.output.index import write_index
from tasks.predict.output.publishing import check_folder, write_answer, write_partial
from tasks.predict.output.writing import read_json
from tasks.predict.session import Request, choose_model, told, wheels_of
from tasks.predict.weights import bring_weights

#: In the folder of the answers: file to its identity and what became of it.
DONE = "watched.json"
#: Names that programs give to files that they are still writing.
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp")
_QUIET_S, _BROKEN_S, _PAUSE_S = 2.0, 60.0, 1.0


@dataclass
class Watch:
    """What is known of a watched folder.

    Attributes:
        folder: where media arrive; its folders are searched to their ends.
        out: where answers go; never looked into.
        quiet_s: how long a file has to stay as it is.
        broken_s: how long one has to that cannot be read.
        now: seconds of a clock that never goes back.
    """

    folder: Path
    out: Path
    quiet_s: float = _QUIET_S
    broken_s: float = _BROKEN_S
    now: Callable[[], float] = time.monotonic
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    _since: dict[str, tuple[list[int], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        file = self.out / DONE
        if file.exists():
            try:
                self.done = dict(json.loads(file.read_text(encoding="utf-8")))
            except ValueError as error:
                raise UserError(f"{file} is not readable ({error}); delete it") from error

    def ready(self) -> list[Found]:
        """Files that are complete and not done, each named by its place in the folder."""
        found = [self._probed(name, path, quiet_s) for name, path, quiet_s in self._quiet()]
        return [one for one in found if one is not None]

    def _quiet(self) -> Iterator[tuple[str, Path, float]]:
        """Name and path of files that have not changed for a while, and for how long."""
        for name, path in self._files():
            identity = _identity(path)
            if identity is None or self.done.get(name, {}).get("identity") == identity:
                continue
            known, since = self._since.get(name, (None, 0.0))
            if known != identity:
                self._since[name] = (identity, self.now())
            elif self.now() - since >= self.quiet_s and identity[0] > 0:
                yield name, path, self.now() - since

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder)
            is_hidden = any(part.startswith(".") for part in inside.parts)
            is_ours = path.is_relative_to(self.out)
            is_none = path.suffix.lower() in TRANSCRIPTS | set(_UNFINISHED)
            if not (is_hidden or is_ours or is_none) and path.is_file():
                yield inside.as_posix(), path

    def _probed(self, name: str, path: Path, quiet_s: float) -> Found | None:
        try:
            (found,) = find_media([str(path)], self.folder)
        except UserError:  # it went away in this moment
            return None
        if found.fault and quiet_s < self.broken_s:
            return None
        return replace(found, name=name)

    def note(self, found: Found, reason: str) -> None:
        """Remember what became of a file, and show it in the overview."""
        identity, _ = self._since.pop(found.name)
        self.done[found.name] = {"identity": identity, "reason": reason}
        write_json(self.out / DONE, self.done)
        rows = []
        for name, one in self.done.items():
            file = self.out / name / "predictions.json"
            answer = read_json(file) if not one["reason"] and file.exists() else None
            rows.append((name, answer, one["reason"]))
        write_index(rows, self.out / "index.html")


def _identity(path: Path) -> list[int] | None:
    """Size and time of change; None where it went away."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def watch(
    request: Request,
    folder: Path,
    layout: Layout,
    params: Params,
    make_context: MakeContext,
    say: Callable[[str], None],
    rest: Callable[[float], None] = time.sleep,
) -> int:
    """Answer what arrives until somebody interrupts; what is written stays.

    Args:
        request: what is wanted; it names no media.
        folder: where media arrive.
        layout: of the project.
        params: of the project.
        make_context: see ``tasks.predict.session.run``.
        say: takes lines for a person as soon as they are known.
        rest: called with seconds between two looks.

    Returns:
        How many files were answered.
    """
    if not folder.is_dir():
        raise UserError(f"--watch {folder}: there is no such folder")
    if request.media or request.transcript is not None:
        raise UserError("--watch takes what arrives: give neither media nor a transcript")
    check_folder(request.out)
    asked = Asked(faces=request.wanted.faces or request.wanted.overlay)
    if request.asr is not None:
        asked = replace(asked, asr=transcriber_named(request.asr, params, layout.project))
    there = ("audio", "video") if asked.asr is None else ("audio", "video", "text")
    model = choose_model(request, layout, params, there)
    seen = Watch(folder.resolve(), request.out.resolve())
    say(model.told)
    say(f"watching {folder}; Ctrl-C ends it")
    bring_weights(model, layout, say)
    if asked.asr is not None:
        bring_transcriber(asked.asr, layout, say)
    listeners = find_listeners(layout, wheels_of(model, params), say, speech=True, voices=True)
    answered = 0
    try:
        while True:
            ready = seen.ready()
            for result in predict(ready, model, layout, make_context, asked, listeners):
                if result.is_partial:
                    write_partial(result, seen.out / result.found.name)
                else:
                    answered += _written(result, seen, request, make_context, say)
            if not ready:
                rest(_PAUSE_S)
    except KeyboardInterrupt:
        say(f"stopped; {answered} answered, the same command goes on from here")
    return answered


def _written(
    result: Result,
    seen: Watch,
    request: Request,
    make_context: MakeContext,
    say: Callable[[str], None],
) -> bool:
    """Write what became of a file; whether that is an answer."""
    folder, faults = seen.out / result.found.name, []
    if result.answer is not None:
        faults = write_answer(
            result, folder, request.wanted, lambda what: make_context(what, False)
        )
    say("\n".join([told(result, folder), *(f"  note: {fault}" for fault in faults)]))
    seen.note(result.found, result.reason)
    return result.answer is not None
