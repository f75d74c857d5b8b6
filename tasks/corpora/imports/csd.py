"""Reader of CMU's computational sequences: ``.csd``, which are HDF5 files.

Each file is ``<name>/data/<id>/{features (T, D), intervals (T, 2)}``. Where the ids are segments
(``video[3]``) they are the utterances. Raw sequences run over whole videos; then a labels file in
the same folder, whose intervals are the segments, cuts them: a frame belongs to the segment that
its middle lies in. Everything is read segment by segment.
"""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.corpora.imports.closed_hdf5 import check_closed
from tasks.corpora.imports.found import Block, Found, aside, text_of, utterance_frame
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.quarantine import QUARANTINE

#: Words in a sequence's name to what it holds.
_KINDS = {
    "label": "labels",
    "word": "words",
    "covarep": "audio",
    "opensmile": "audio",
    "acoustic": "audio",
    "audio": "audio",
    "facet": "video",
    "openface": "video",
    "visual": "video",
    "vision": "video",
    "glove": "text",
    "bert": "text",
    "text": "text",
}
#: Columns of MOSEI's labels after the sentiment: intensities from 0 to 3.
_EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
_SEGMENT = re.compile(r"^(.*)\[(\d+)\]$")
#: What each id of a sequence has.
_PARTS = ("features", "intervals")
_ALL = slice(None)


def read_csd(path: Path, modality: str | None) -> Found:
    """One sequence or a folder of them.

    Args:
        path: file or folder.
        modality: of a single file whose name does not say it.
    """
    try:
        h5py = importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: reading .csd needs the package h5py; install it (pip install h5py) and run "
            "the command again"
        ) from error
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in (".csd", ".h5", ".hdf5"))
    sequences: dict[str, _Sequence] = {}
    for file in files:
        found = _open(h5py, file)
        kind = modality if modality and len(files) == 1 else _kind(found.name) or _kind(file.stem)
        if kind is None:
            raise UserError(
                f"{file}: neither its name nor '{found.name}' says what it holds; name it with "
                "--modality audio, video or text"
            )
        if kind in sequences:
            raise UserError(
                f"{file}: {sequences[kind].file.name} already holds {kind}; import one of them at "
                "a time, the second with --features-only"
            )
        sequences[kind] = found
    labels = sequences.pop("labels", None)
    words = sequences.pop("words", None)
    segments = _segments(path, labels, sequences or ({"words": words} if words else {}))
    blocks = [_block(kind, sequence, segments) for kind, sequence in sorted(sequences.items())]
    judgements, problems = _judgements(segments, labels)
    return Found(
        format="CMU computational sequences",
        blocks=blocks,
        utterances=_utterances(segments, words),
        annotations=ANNOTATIONS.frame(judgements),
        quarantine=QUARANTINE.frame(problems),
        label_map={name: {"anger": "angry"}.get(name, name) for name in _EMOTIONS},
        scales={"sentiment": (-3.0, 3.0, 1)},
        splits="none: the sequences carry no split",
    )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Name ``file`` where it turns out to be damaged: h5py raises any of these, at any access."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise UserError(f"{file}: not a readable HDF5 file ({error}); copy it again") from error


@dataclass(frozen=True)
class _Sequence:
    """One file's sequence, read when asked.

    Attributes:
        file: where it is.
        name: that it has in the file.
        data: ``{<id>: {features, intervals}}``, an h5py group.
    """

    file: Path
    name: str
    data: Any

    def __contains__(self, key: str) -> bool:
        with _readable(self.file):
            return key in self.data

    def keys(self) -> list[str]:
        """Ids in the order of the file."""
        with _readable(self.file):
            return list(self.data)

    def width(self, key: str) -> int:
        """Columns of its features."""
        with _readable(self.file):
            return int(self.data[key]["features"].shape[-1])

    def features(self, key: str, rows: slice = _ALL) -> np.ndarray:
        """(T, D), or fewer rows."""
        with _readable(self.file):
            return np.asarray(self.data[key]["features"][rows])

    def numbers(self, key: str) -> np.ndarray:
        """(T, D) features as numbers."""
        with _readable(self.file):
            return np.asarray(self.data[key]["features"], float)

    def intervals(self, key: str, rows: slice = _ALL) -> np.ndarray:
        """(T, 2) start and end in seconds, or fewer rows."""
        with _readable(self.file):
            return np.asarray(self.data[key]["intervals"][rows], float).reshape(-1, 2)


def _open(h5py: Any, file: Path) -> _Sequence:
    with _readable(file):
        content = h5py.File(file, "r")
        check_closed(h5py, file, content)
        groups = {name: part for name, part in content.items() if isinstance(part, h5py.Group)}
        names = [name for name, part in groups.items() if isinstance(part.get("data"), h5py.Group)]
        if len(names) != 1:
            raise UserError(f"{file}: holds {len(names)} sequences with 'data', expected one")
        data = groups[names[0]]["data"]
        for key, segment in data.items():
            is_group = isinstance(segment, h5py.Group)
            parts: list[Any] = [segment.get(part) if is_group else None for part in _PARTS]
            is_data = all(isinstance(part, h5py.Dataset) and part.ndim for part in parts)
            if not is_data or len(parts[0]) != len(parts[1]):
                raise UserError(
                    f"{file}: {key} does not have features and as many intervals; copy it again"
                )
        return _Sequence(file, names[0], data)


def _kind(name: str) -> str | None:
    return next((kind for word, kind in _KINDS.items() if word in name.lower()), None)


#: Utterance id to its sequence's key, and start and end in seconds; null for the whole sequence.
_Segments = dict[str, tuple[str, float | None, float | None]]


def _segments(path: Path, labels: _Sequence | None, others: Mapping[str, _Sequence]) -> _Segments:
    found: _Segments = {}
    if labels is not None:
        for key in sorted(labels.keys()):
            for number, (start, end) in enumerate(labels.intervals(key)):
                match = _SEGMENT.match(key)
                name = f"{match[1]}/{match[2]}" if match else f"{key}/{number}"
                found[name] = (key, float(start), float(end))
        return found
    if not others:
        raise UserError(f"{path}: holds neither features nor labels")
    for sequence in others.values():
        for key in sorted(sequence.keys()):
            match = _SEGMENT.match(key)
            found[f"{match[1]}/{match[2]}" if match else f"{key}/0"] = (key, None, None)
    return found


def _cutter(sequence: _Sequence, segments: _Segments) -> Callable[[str], np.ndarray | None]:
    """Frames of an utterance, read when asked for."""

    def cut(name: str) -> np.ndarray | None:
        key, start, end = segments[name]
        if key not in sequence:
            return None
        if start is None or end is None or _SEGMENT.match(key):
            return sequence.features(key)
        middle = sequence.intervals(key).mean(axis=1)
        places = np.flatnonzero((middle >= start) & (middle < end))
        # sequences are in order of time, so a segment's frames stand together
        return sequence.features(key, slice(places[0], places[-1] + 1)) if len(places) else None

    return cut


def _block(kind: str, sequence: _Sequence, segments: _Segments) -> Block:
    names = list(segments)
    first = next(iter(sequence.keys()), None)
    if first is None:
        raise UserError(f"{sequence.file}: holds no features")
    steps = np.diff(sequence.intervals(first, slice(3))[:, 0])
    is_even = len(steps) == 2 and np.isclose(steps[0], steps[1]) and steps[0] > 0
    cut = _cutter(sequence, segments)
    return Block(
        kind,
        kind,
        names,
        lambda place: cut(names[place]),
        sequence.width(first),
        float(steps[0]) if is_even else None,
    )


def _utterances(segments: _Segments, words: _Sequence | None) -> pl.DataFrame:
    cut = None if words is None else _cutter(words, segments)
    rows: list[dict[str, object]] = []
    for name in segments:
        dialogue, number = name.rsplit("/", 1)
        spoken = None if cut is None else cut(name)
        rows.append(
            {
                "utterance_id": name,
                "dialogue_id": dialogue,
                "turn": int(number),
                "text": None if spoken is None else _sentence(spoken),
                "language": "en",
            }
        )
    return utterance_frame(rows)


def _sentence(spoken: np.ndarray) -> str | None:
    words = [text_of(word) for word in np.ravel(spoken)]
    return " ".join(word for word in words if word != "sp") or None  # sp: a short pause


def _judgements(
    segments: _Segments, labels: _Sequence | None
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Sentiment and MOSEI's emotions, and quarantine rows of labels that are no numbers.

    An emotion is present where its intensity is above 0; the value 0 says that it is absent.
    """
    rows: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    if labels is None:
        return rows, problems
    file = labels.file
    for name, (key, _, _) in segments.items():
        values = labels.numbers(key)
        number = 0 if _SEGMENT.match(key) else int(name.rsplit("/", 1)[1])
        found = np.atleast_1d(values[number]) if number < len(values) else np.full(1, np.nan)
        if not np.isfinite(found).all():
            detail = f"{file.name}: the labels of {name} are {found.tolist()}; mend the source"
            problems.append(aside(name, "missing_value", detail))
            continue
        common = {"utterance_id": name, "rater": "released", "source": file.name}
        sentiment = {"target": "sentiment", "scale_min": -3.0, "value": float(found[0])}
        rows.append({**common, **sentiment, "scale_max": 3.0})
        if (found[1:] < 0).any() or (found[1:] > 3).any():
            detail = (
                f"{file.name}: the emotions of {name} are {found[1:].tolist()}, not within 0..3"
            )
            problems.append(aside(name, "out_of_range", detail + "; mend the source"))
            continue
        for label, value in zip(_EMOTIONS, found[1:], strict=False):
            emotion = {"target": "categories", "label": label, "value": float(value)}
            rows.append({**common, **emotion, "scale_min": 0.0, "scale_max": 3.0})
    return rows, problems
