"""Reader of MMSA's and MulT's pickles, aligned and unaligned, of MOSI, MOSEI and SIMS.

``{"train": {...}, "valid": {...}, "test": {...}}`` with ``text``, ``audio``, ``vision`` (N, T, D),
``id``, ``raw_text`` and ``regression_labels``. Sentiment is -3 to 3; files of SIMS, known by
their labels of single modalities, have -1 to 1. Unaligned files say how many frames are real
(``audio_lengths``); in others the frames that are all zero at both ends are padding.

Arrays stay where the pickle put them: nothing is copied but one utterance at a time.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import UserError
from tasks.corpora.imports.found import Block, Found, aside, text_of, trimmed, utterance_frame
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.quarantine import QUARANTINE

_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_BLOCKS = {"text": "text", "audio": "audio", "vision": "video"}
_LENGTHS = {"audio": "audio_lengths", "vision": "vision_lengths"}
_LEFT_OUT = {
    "text_bert": "token ids of a tokenizer, not features",
    "classification_labels": "made from the regression labels",
    "annotations": "made from the regression labels",
    "regression_labels_T": "sentiment of the text alone",
    "regression_labels_A": "sentiment of the voice alone",
    "regression_labels_V": "sentiment of the picture alone",
}


def read_mmsa(path: Path, content: Any) -> Found | None:
    """The splits of an MMSA pickle; None where ``content`` is none."""
    if not isinstance(content, dict) or "train" not in content:
        return None
    if not all(
        isinstance(part, dict) and "id" in part and ("vision" in part or "audio" in part)
        for name, part in content.items()
        if name in _SPLITS
    ):
        return None
    splits = {name: content[name] for name in _SPLITS if name in content}
    rows: list[dict[str, object]] = []
    judgements: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    has_sims = any("regression_labels_T" in part for part in splits.values())
    ids: dict[str, list[str]] = {}
    for name, part in splits.items():
        ids[name] = [_id(value) for value in part["id"]]
        labels = _labels(path, name, part)
        texts = part.get("raw_text")
        counts = {"labels": labels, "raw_text": texts}
        counts |= {key: part.get(key) for key in _LENGTHS.values()}
        for what, values in counts.items():
            if values is not None and len(values) != len(ids[name]):
                raise UserError(
                    f"{path}: split {name} has {len(ids[name])} ids but {len(values)} {what}; "
                    "take another copy of the file"
                )
        for number, utterance in enumerate(ids[name]):
            rows.append(
                {
                    "utterance_id": utterance,
                    "dialogue_id": utterance.rsplit("/", 1)[0],
                    "turn": _turn(utterance),
                    "text": None if texts is None else text_of(texts[number]).strip() or None,
                    "language": "zh" if has_sims else "en",
                    "published_split": _SPLITS[name],
                }
            )
            if not np.isfinite(labels[number]):
                detail = f"{path.name}: the label of {utterance} is {labels[number]}, no number"
                problems.append(aside(utterance, "missing_value", detail))
                continue
            judgements.append(
                {
                    "utterance_id": utterance,
                    "rater": "released",
                    "target": "sentiment",
                    "value": float(labels[number]),
                    "source": path.name,
                }
            )
    keys = {key for part in splits.values() for key in part}
    blocks = [
        _block(path, key, splits, ids, problems)
        for key in _BLOCKS
        if all(key in part for part in splits.values())
    ]
    return Found(
        format="MMSA pickle of SIMS" if has_sims else "MMSA pickle",
        blocks=blocks,
        utterances=utterance_frame(rows),
        annotations=ANNOTATIONS.frame(judgements),
        quarantine=QUARANTINE.frame(problems),
        scales={"sentiment": (-1.0, 1.0, 1) if has_sims else (-3.0, 3.0, 1)},
        splits="train, valid and test of the file",
        left_out={key: why for key, why in _LEFT_OUT.items() if key in keys},
    )


def _id(value: Any) -> str:
    """``<video>/<clip>``; MMSA joins the two by ``$_$``, MulT has a row of video, start, end."""
    if isinstance(value, np.ndarray | list | tuple):
        video, *times = (text_of(part).strip().replace("/", "_") for part in value)
        return f"{video}/{'-'.join(times)}"
    text = text_of(value).strip()
    for between in ("$_$", "/"):
        if between in text:
            video, clip = text.rsplit(between, 1)
            return f"{video.replace('/', '_')}/{clip}"
    video, _, clip = text.rpartition("_")
    return f"{video}/{clip}" if video and clip.isdigit() else f"{text}/0"


def _turn(utterance: str) -> int:
    """The clip's number; clips that have none are in no known order."""
    clip = utterance.rsplit("/", 1)[1]
    return int(clip) if clip.isdigit() else 0


def _labels(path: Path, name: str, part: Mapping[str, Any]) -> np.ndarray:
    for key in ("regression_labels", "labels"):
        if key in part:
            try:
                labels = np.asarray(part[key], float)
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"{path}: {key} of split {name} are no numbers ({error}); take another copy of "
                    "the file"
                ) from error
            return labels.reshape(len(labels), -1)[:, 0] if labels.size else labels.ravel()
    raise UserError(f"{path}: split {name} has no regression_labels; take another copy of the file")


def _block(
    path: Path,
    key: str,
    splits: Mapping[str, Mapping[str, Any]],
    ids: Mapping[str, list[str]],
    problems: list[dict[str, object]],
) -> Block:
    places: list[tuple[np.ndarray, int, int | None]] = []
    names: list[str] = []
    width = 0
    for name, part in splits.items():
        array: np.ndarray = np.empty(0, object)
        with suppress(ValueError):  # clips of different lengths make no array
            array = np.asarray(part[key])
        if array.ndim not in (2, 3) or array.dtype == object or len(array) != len(ids[name]):
            shape = "no array of numbers" if array.dtype == object else array.shape
            raise UserError(
                f"{path}: {key} of split {name} is {shape}, expected {len(ids[name])} rows of "
                "frames x width; pad the clips to one length and add their audio_lengths and "
                "vision_lengths, or take another copy of the file"
            )
        width = array.shape[-1]
        lengths = part.get(_LENGTHS.get(key, ""))
        for number, utterance in enumerate(ids[name]):
            length = None if lengths is None else int(lengths[number])
            if length is not None and length > array.shape[1]:
                detail = f"{key} of {utterance} claims {length} of {array.shape[1]} frames"
                problems.append(aside(utterance, "bad_length", detail + "; it is left out"))
                length = 0
            places.append((array, number, length))
            names.append(utterance)

    def get(place: int) -> np.ndarray | None:
        array, number, length = places[place]
        if array.ndim == 2:
            return array[number]
        frames = array[number]
        frames = trimmed(frames) if length is None else frames[:length]
        return frames if len(frames) else None

    return Block(_BLOCKS[key], _BLOCKS[key], names, get, width)
