"""The media that somebody names: files, folders and patterns, told apart by what they hold.

A transcript that is named itself is a medium too, of words alone.
"""

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import UserError
from tasks.media.decoding import REASONS, Media, probe
from tasks.media.worker import Decoders
from tasks.predict.answer import Kind, Medium
from tasks.predict.transcripts import Turn, read_transcript

#: Files of a folder that hold none of these are left out without a word.
_OTHER = ("not_media", "empty_file")
#: Names of files that are meant as words, and of those that may have no times.
_WORDS = {".srt", ".vtt", ".csv", ".tsv", ".json", ".textgrid", ".eaf"}
_PLAIN = {".txt", ".text", ".md"}
TRANSCRIPTS = _WORDS | _PLAIN


@dataclass(frozen=True)
class Found:
    """One file.

    Attributes:
        name: of its folder of answers; no two files of a call share one.
        path: without links and dots.
        about: what it holds; ``kind`` is None where that is nothing usable.
        turns: of a transcript that was named as if it were a medium; empty otherwise.
        notes: sentences about what was mended in it.
        words_fault: sentence why a transcript could not be read; empty otherwise.
    """

    name: str
    path: Path
    about: Media
    turns: tuple[Turn, ...] = ()
    notes: tuple[str, ...] = ()
    words_fault: str = ""

    @property
    def kind(self) -> Kind:
        """An animated picture is a video without sound."""
        if self.turns:
            return "text"
        kind = self.about.kind or "video"
        return "video" if kind == "animation" else kind

    @property
    def length_s(self) -> float:
        """0 for a picture."""
        if self.turns:
            return max(turn.end_s for turn in self.turns)
        return self.about.duration_s or 0.0

    @property
    def medium(self) -> Medium:
        """As the answer names it."""
        about = self.about
        has_size = about.has_video and about.width_px and about.height_px
        size = (about.width_px or 0, about.height_px or 0) if has_size else None
        return Medium(self.path.name, self.kind, self.length_s, size)

    @property
    def fault(self) -> str:
        """Sentence why it cannot be used; empty where it can."""
        if self.about.kind is not None or self.turns:
            return ""
        if self.words_fault:
            return self.words_fault
        problem = self.about.problems[0] if self.about.problems else None
        return "nothing in it can be used" if problem is None else REASONS[problem.reason]


def find_media(names: Sequence[str], base: Path) -> list[Found]:
    """Every file that is named, each once, in order; folders are searched to their ends.

    Args:
        names: files, folders or patterns.
        base: what they are relative to.
    """
    named: dict[Path, bool] = {}
    for name in names:
        for path, is_named in files_of(name, base):
            named[path] = is_named or named.get(path, False)
    found = _probed(list(named), list(named.values()))
    if not found:
        raise UserError(f"{', '.join(names)}: no picture, sound or video is in there")
    return found


def files_of(name: str, base: Path) -> Iterator[tuple[Path, bool]]:
    """Files that a name stands for, and whether they were named one by one."""
    path = base / Path(name).expanduser()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts):
                yield file.resolve(), False
        return
    if path.exists():
        yield path.resolve(), True
        return
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(name) else []
    if not matches:
        raise UserError(f"{name} does not exist; name a file, a folder or a pattern that matches")
    for match in matches:
        yield from files_of(match, base)


def _probed(paths: Sequence[Path], named: Sequence[bool]) -> list[Found]:
    stems = Counter(path.stem for path in paths)
    taken: Counter[str] = Counter()
    found = []
    with Decoders(min(len(paths), 2) or 1) as decoders:  # strangers' bytes stay out of here
        for path, is_named, outcome in zip(paths, named, decoders.map(probe, paths), strict=True):
            about = outcome.value
            if about is None:
                about = Media(None, problems=(outcome.problem,) if outcome.problem else ())
            reason = about.problems[0].reason if about.problems else None
            is_other = reason in _OTHER or path.suffix.lower() in TRANSCRIPTS
            if about.kind is None and not is_named and is_other:
                continue
            name = path.stem if stems[path.stem] == 1 else path.name
            taken[name] += 1
            again = f"-{taken[name]}" if taken[name] > 1 else ""
            one = Found(f"{name}{again}", path, about)
            found.append(_with_words(one) if about.kind is None and is_named else one)
    return found


def _with_words(found: Found) -> Found:
    """The same file with its turns where it is a transcript; folders keep theirs beside media."""
    notes: list[str] = []
    is_plain = found.path.suffix.lower() in _PLAIN
    try:
        turns = read_transcript(found.path, None, notes.append, is_plain=is_plain)
    except UserError as error:
        is_meant = found.path.suffix.lower() in TRANSCRIPTS
        return replace(found, words_fault=str(error)) if is_meant else found
    return replace(found, turns=tuple(turns), notes=tuple(notes))
