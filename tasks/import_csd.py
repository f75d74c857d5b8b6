"""Reader of CMU's computational sequences: ``.csd``, which are HDF5 files.

Each file is ``<name>/data/<id>/{features (T, D), intervals (T, 2)}``. Where the ids are segments
(``video[3]``) they are the utterances. Raw sequences run over whole videos; then a labels file in
the same folder, whose intervals are the segments, cuts them: a frame belongs to the segment that
its middle lies in. Everything is read segment by segment.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import UserError
from tasks.import_model import Block, Found, aside, text_of, utterance_frame
from tasks.tables import ANNOTATIONS, QUARANTINE

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
    sequences: dict[str, tuple[Path, Any]] = {}
    for file in files:
        name, data = _open(h5py, file)
        kind = modality if modality and len(files) == 1 else _kind(name) or _kind(file.stem)
        if kind is None:
            raise UserError(
                f"{file}: neither its name nor '{name}' says what it holds; name it with "
                "--modality audio, video or text"
            )
        if kind in sequences:
            raise UserError(
                f"{file}: {sequences[kind][0].name} already holds {kind}; import one of them at a "
                "time, the second with --features-only"
            )
        sequences[kind] = (file, data)
    labels = sequences.pop("labels", None)
    words = sequences.pop("words", None)
    segments = _segments(path, labels, sequences or ({"words": words} if words else {}))
    blocks = [
        _block(kind, file, data, segments) for kind, (file, data) in sorted(sequences.items())
    ]
    judgements, problems = _judgements(segments, labels)
    return Found(
        format="CMU computational sequences",
        blocks=blocks,
        utterances=_utterances(segments, None if words is None else words[1]),
        annotations=ANNOTATIONS.frame(judgements),
        quarantine=QUARANTINE.frame(problems),
        label_map={name: {"anger": "angry"}.get(name, name) for name in _EMOTIONS},
        scales={"sentiment": (-3.0, 3.0, 1)},
        splits="none: the sequences carry no split",
    )


def _open(h5py: Any, file: Path) -> tuple[str, Any]:
    try:
        content = h5py.File(file, "r")
    except OSError as error:
        raise UserError(f"{file}: not a readable HDF5 file ({error}); copy it again") from error
    names = [name for name in content if "data" in content[name]]
    if len(names) != 1:
        raise UserError(f"{file}: holds {len(names)} sequences with 'data', expected one")
    data = content[names[0]]["data"]
    for key in data:
        parts = [data[key].get(part) for part in ("features", "intervals")]
        if any(part is None for part in parts) or len(parts[0]) != len(parts[1]):
            raise UserError(
                f"{file}: {key} does not have features and as many intervals; copy it again"
            )
    return names[0], data


def _kind(name: str) -> str | None:
    return next((kind for word, kind in _KINDS.items() if word in name.lower()), None)


#: Utterance id to its sequence's key, and start and end in seconds; null for the whole sequence.
_Segments = dict[str, tuple[str, float | None, float | None]]


def _segments(path: Path, labels: Any, others: Mapping[str, Any]) -> _Segments:
    found: _Segments = {}
    if labels is not None:
        for key in sorted(labels[1]):
            spans = np.asarray(labels[1][key]["intervals"], float).reshape(-1, 2)
            for number, (start, end) in enumerate(spans):
                match = _SEGMENT.match(key)
                name = f"{match[1]}/{match[2]}" if match else f"{key}/{number}"
                found[name] = (key, float(start), float(end))
        return found
    if not others:
        raise UserError(f"{path}: holds neither features nor labels")
    for _, data in others.values():
        for key in sorted(data):
            match = _SEGMENT.match(key)
            found[f"{match[1]}/{match[2]}" if match else f"{key}/0"] = (key, None, None)
    return found


def _cutter(data: Any, segments: _Segments) -> Callable[[str], np.ndarray | None]:
    """Frames of an utterance, read when asked for."""

    def cut(name: str) -> np.ndarray | None:
        key, start, end = segments[name]
        if key not in data:
            return None
        frames = data[key]["features"]
        if start is None or end is None or _SEGMENT.match(key):
            return np.asarray(frames)
        spans = np.asarray(data[key]["intervals"], float)
        middle = spans.mean(axis=1)
        places = np.flatnonzero((middle >= start) & (middle < end))
        # sequences are in order of time, so a segment's frames stand together
        return np.asarray(frames[places[0] : places[-1] + 1]) if len(places) else None

    return cut


def _block(kind: str, file: Path, data: Any, segments: _Segments) -> Block:
    names = list(segments)
    first = next((data[key] for key in data), None)
    if first is None:
        raise UserError(f"{file}: holds no features")
    spans = np.asarray(first["intervals"][:3], float)
    steps = np.diff(spans[:, 0])
    is_even = len(steps) == 2 and np.isclose(steps[0], steps[1]) and steps[0] > 0
    cut = _cutter(data, segments)
    return Block(
        kind,
        kind,
        names,
        lambda place: cut(names[place]),
        int(first["features"].shape[-1]),
        float(steps[0]) if is_even else None,
    )


def _utterances(segments: _Segments, words: Any) -> Any:
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
    segments: _Segments, labels: Any
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Sentiment and MOSEI's emotions, and quarantine rows of labels that are no numbers.

    An emotion is present where its intensity is above 0; the value 0 says that it is absent.
    """
    rows: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    if labels is None:
        return rows, problems
    file, data = labels
    for name, (key, _, _) in segments.items():
        values = np.asarray(data[key]["features"], float)
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
