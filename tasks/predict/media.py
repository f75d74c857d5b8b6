"""The media that somebody names: files, folders and patterns, told apart by what they hold."""

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError
from tasks.media.decoding import REASONS, Media, probe
from tasks.media.worker import Decoders
from tasks.predict.answer import Kind, Medium

#: Files of a folder that hold none of these are left out without a word.
_OTHER = ("not_media", "empty_file")


@dataclass(frozen=True)
class Found:
    """One file.

    Attributes:
        name: of its folder of answers; no two files of a call share one.
        path: without links and dots.
        about: what it holds; ``kind`` is None where that is nothing usable.
    """

    name: str
    path: Path
    about: Media

    @property
    def kind(self) -> Kind:
        """An animated picture is a video without sound."""
        kind = self.about.kind or "video"
        return "video" if kind == "animation" else kind

    @property
    def length_s(self) -> float:
        """0 for a picture."""
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
        if self.about.kind is not None:
            return ""
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
        for path, is_named in _files(name, base):
            named[path] = is_named or named.get(path, False)
    found = _probed(list(named), list(named.values()))
    if not found:
        raise UserError(f"{', '.join(names)}: no picture, sound or video is in there")
    return found


def _files(name: str, base: Path) -> Iterator[tuple[Path, bool]]:
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
        yield from _files(match, base)


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
            if about.kind is None and not is_named and reason in _OTHER:
                continue
            name = path.stem if stems[path.stem] == 1 else path.name
            taken[name] += 1
            again = f"-{taken[name]}" if taken[name] > 1 else ""
            found.append(Found(f"{name}{again}", path, about))
    return found
