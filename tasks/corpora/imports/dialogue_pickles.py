"""Readers of dialogue pickles: tuples of dictionaries from dialogue id to a list over utterances.

The tuples, by length (``ids`` to lists of utterance ids, ``speakers``, ``labels`` as numbers,
``text``, ``audio``, ``video`` features, ``sentences``; then lists of dialogue ids)::

    9   DialogueRNN, DialogueGCN, MMGCN, MM-DFN on IEMOCAP:
        ids speakers labels text audio video sentences | train test
    9   DialogueRNN on MELD:
        ids speakers emotions text audio sentences | train test | sentiments
    10  MMGCN, MM-DFN on MELD:
        ids speakers labels text audio video sentences | train test | (another, left out)
    10  COGMEN on MOSEI:
        ids speakers labels text audio video sentences | train validation test
    10  COSMIC on IEMOCAP and EmoryNLP:
        speakers labels roberta1 roberta2 roberta3 roberta4 sentences | train test validation
    11  COSMIC on MELD:
        speakers emotions sentiments roberta1 .. roberta4 sentences | train test validation
    12  IEMOCAP with COSMIC's text, as M3NET, SDT and MultiEMO have it:
        ids speakers labels roberta1 .. roberta4 audio video sentences | train test
    13  the same of MELD:
        ids speakers labels roberta1 .. roberta4 audio video sentences | train test | (another)

COGMEN and CORECT write ``{"train": [...], "dev": [...], "test": [...]}`` of samples with vid,
speaker(s), label(s), text, audio, visual and sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import UserError
from tasks.corpora.imports.found import Block, Found, aside, text_of, utterance_frame
from tasks.corpora.imports.stand_ins import Record
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.quarantine import QUARANTINE

#: Numbers to categories, by the name that ``--labels`` takes.
LABELS = {
    "iemocap6": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    "iemocap4": ("happy", "sad", "neutral", "angry"),
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    "emorynlp": ("joyful", "mad", "peaceful", "neutral", "sad", "powerful", "scared"),
}
SENTIMENT = "sentiment"  # numbers from -3 to 3 instead of categories

_NINE = ("ids", "speakers", "labels", "text", "audio", "video", "sentences", "train", "test")
_MELD_NINE = ("ids", "speakers", "labels", "text", "audio", "sentences", "train", "test", "other")
_ROBERTA = ("roberta1", "roberta2", "roberta3", "roberta4")
_COSMIC = (*_ROBERTA, "sentences")
_TWELVE = (*_NINE[:3], *_ROBERTA, *_NINE[4:])
_LAST = ("train", "test", "validation")
_MODALITIES = {
    "text": "text",
    "audio": "audio",
    "video": "video",
    "sbert": "text",
    **dict.fromkeys(_ROBERTA, "text"),
}
_SPLITS = ("train", "validation", "test")


@dataclass
class _Dialogues:
    """One of the forms with its parts named."""

    format: str
    parts: Mapping[str, Mapping[Any, Any]]
    splits: Mapping[str, Sequence[Any]]
    labels: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)


def read_dialogues(path: Path, content: Any, labels: str | None) -> Found | None:
    """Dialogues of one of the forms above; None where ``content`` is none of them.

    Args:
        path: for messages.
        content: what the pickle holds.
        labels: key of ``LABELS``, ``sentiment``, or categories in order, with commas.
    """
    found = _from_tuple(path, content) if isinstance(content, tuple | list) else None
    if found is None and isinstance(content, dict):
        found = _from_samples(path, content)
    return None if found is None else _Reader(path, found, labels).read()


def _from_tuple(path: Path, content: Sequence[Any]) -> _Dialogues | None:
    kinds = "".join(
        "d" if isinstance(part, dict) else "l" if _is_list(part) else "?" for part in content
    )
    left_out: dict[str, str] = {}
    if kinds == "dddddddll":
        names, form, labels = _NINE, "dialogue tuple of 9 (IEMOCAP)", None
    elif kinds == "ddddddlld":
        names, form, labels = _MELD_NINE, "dialogue tuple of 9 (MELD)", "meld"
        if _highest(content[2]) <= 2 < _highest(content[8]):  # some files have them swapped
            names = (*_MELD_NINE[:2], "other", *_MELD_NINE[3:8], "labels")
        left_out["sentiment of three classes"] = "only emotions are imported"
    elif kinds == "dddddddlld":
        names, form, labels = (*_NINE, "other"), "dialogue tuple of 10 (MELD)", "meld"
        left_out["last dictionary"] = "its meaning is not published"
    elif kinds == "dddddddlll" and _width(content[2]) > 16:
        names, form = ("speakers", "labels", *_COSMIC, *_LAST), "COSMIC tuple of 10"
        labels = None
    elif kinds == "dddddddlll":
        names = (*_NINE[:7], "train", "validation", "test")
        form, labels = "dialogue tuple of 10 (MOSEI)", SENTIMENT
    elif kinds == "ddddddddlll":
        names, form = ("speakers", "labels", "other", *_COSMIC, *_LAST), "COSMIC tuple of 11"
        labels = "meld"
        left_out["sentiment of three classes"] = "only emotions are imported"
    elif kinds == "d" * 10 + "ll":
        names, form, labels = _TWELVE, "dialogue tuple of 12 (IEMOCAP)", None
    elif kinds == "d" * 10 + "lld":
        names, form, labels = (*_TWELVE, "other"), "dialogue tuple of 13 (MELD)", "meld"
        left_out["last dictionary"] = "its meaning is not published"
    elif len(content) == 9 and kinds == "d" * 9:
        raise UserError(
            f"{path}: holds nine dictionaries of COMET features without labels; import COSMIC's "
            "..._features_roberta.pkl instead"
        )
    else:
        return None
    parts = dict(zip(names, content, strict=True))
    splits = {name: list(parts.pop(name)) for name in _SPLITS if name in parts}
    parts.pop("other", None)
    return _Dialogues(form, parts, splits, labels, left_out)


def _from_samples(path: Path, content: Mapping[Any, Any]) -> _Dialogues | None:
    """Samples of COGMEN (objects) and CORECT (dictionaries)."""
    names = {"train": "train", "dev": "validation", "test": "test"}
    if not set(content) <= set(names) or not content:
        return None
    samples = {names[str(key)]: list(value) for key, value in content.items() if _is_list(value)}
    rows = [row for part in samples.values() for row in part]
    if not rows or len(samples) < len(content):
        return None
    if not all(isinstance(row, Record | dict) for row in rows):
        return None
    kind = "COGMEN samples" if isinstance(rows[0], Record) else "CORECT samples"
    keys = {
        "speakers": ("speakers", "speaker"),
        "labels": ("labels", "label"),
        "text": ("text",),
        "audio": ("audio",),
        "video": ("visual", "video"),
        "sentences": ("sentence",),
        "sbert": ("sbert_sentence_embeddings",),
    }
    parts: dict[str, dict[Any, Any]] = {name: {} for name in keys}
    splits: dict[str, list[Any]] = {name: [] for name in samples}
    for split, part in samples.items():
        for row in part:
            fields = row.fields if isinstance(row, Record) else row
            if "vid" not in fields:
                return None
            if fields["vid"] in splits[split]:
                raise UserError(
                    f"{path}: part {split} has two samples of dialogue {_plain(fields['vid'])}; "
                    "keep one of them"
                )
            splits[split].append(fields["vid"])
            for name, spellings in keys.items():
                for spelling in spellings:
                    if spelling in fields:
                        parts[name][fields["vid"]] = fields[spelling]
    return _Dialogues(kind, {name: part for name, part in parts.items() if part}, splits)


class _Reader:
    """Dialogues to tables; what does not fit together is set aside whole."""

    def __init__(self, path: Path, found: _Dialogues, labels: str | None) -> None:
        self.path, self.found = path, found
        self.rows: list[dict[str, object]] = []
        self.judgements: list[dict[str, object]] = []
        self.aside: list[dict[str, object]] = []
        self.blocks = {name: _Features() for name in found.parts if name in _MODALITIES}
        self.classes = self._classes(labels)

    def read(self) -> Found:
        """Everything, in the order of the file."""
        of_split: dict[Any, list[str]] = {}
        for split, dialogues in self.found.splits.items():
            for dialogue in dialogues:
                of_split.setdefault(_plain(dialogue), []).append(split)
        for dialogue in self.found.parts["labels"]:
            self._read_dialogue(dialogue, of_split.pop(_plain(dialogue), []))
        for dialogue in of_split:
            detail = f"dialogue {dialogue} is in a split but nowhere else; nothing to import"
            self.aside.append(aside(f"{dialogue}/?", "missing_dialogue", detail))
        is_sentiment = self.classes is None
        blocks = [
            Block(name, _MODALITIES[name], part.ids, part.values.__getitem__, part.dim)
            for name, part in self.blocks.items()
            if part.dim
        ]
        absent = {name: "holds no features" for name, p in self.blocks.items() if not p.dim}
        return Found(
            format=self.found.format,
            blocks=blocks,
            utterances=utterance_frame(self.rows),
            annotations=ANNOTATIONS.frame(self.judgements),
            quarantine=QUARANTINE.frame(self.aside),
            label_map=None if self.classes is None else {name: name for name in self.classes},
            scales={"sentiment": (-3.0, 3.0, 1)} if is_sentiment else None,
            splits="the file's own: " + ", ".join(self.found.splits),
            left_out={**self.found.left_out, **absent},
        )

    def _classes(self, labels: str | None) -> tuple[str, ...] | None:
        """Categories by number; None for sentiment."""
        words = _words(self.found.parts["labels"])
        if words:
            return words
        highest = _highest(self.found.parts["labels"])
        if labels is None:
            labels = self.found.labels
        if labels is None and all(
            str(_plain(dialogue)).startswith("Ses") for dialogue in self.found.parts["labels"]
        ):
            labels = "iemocap6" if highest > 3 else "iemocap4"
        if labels is None:
            raise UserError(
                f"{self.path}: what its label numbers mean is not in the file; name it with "
                f"--labels {'|'.join([*LABELS, SENTIMENT])} or --labels first,second,..."
            )
        if labels == SENTIMENT:
            return None
        classes = LABELS.get(labels) or tuple(part.strip() for part in labels.split(","))
        if len(classes) < 2:
            raise UserError(
                f"--labels {labels}: known are {', '.join([*LABELS, SENTIMENT])}; or name the "
                "categories in order, with commas"
            )
        return classes

    def _read_dialogue(self, dialogue: Any, splits: list[str]) -> None:
        parts = {name: part.get(dialogue, ()) for name, part in self.found.parts.items()}
        lengths = {name: len(part) for name, part in parts.items()}
        name = str(_plain(dialogue)).replace("/", "_")
        if len(set(splits)) > 1:
            detail = f"dialogue {name} is in the splits {' and '.join(sorted(set(splits)))}"
            self.aside.append(aside(f"{name}/?", "split_conflict", detail + "; keep it in one"))
            return
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{count} {part}" for part, count in lengths.items())
            detail = f"dialogue {name} has {told}; its parts cannot be told to belong together"
            self.aside.append(aside(f"{name}/?", "length_mismatch", detail))
            return
        ids = [str(_plain(i)).replace("/", "_") for i in parts.get("ids", range(lengths["labels"]))]
        for turn, own in enumerate(ids):
            utterance = f"{name}/{own}"
            sentence = parts.get("sentences")
            self.rows.append(
                {
                    "utterance_id": utterance,
                    "dialogue_id": name,
                    "turn": turn,
                    "speaker": _speaker(name, parts["speakers"][turn]),
                    "text": None if sentence is None else text_of(sentence[turn]).strip() or None,
                    "language": "en",
                    "session": name[:5] if name.startswith("Ses") else None,
                    "published_split": splits[0] if splits else None,
                }
            )
            self._judge(utterance, parts["labels"][turn])
            for block, features in self.blocks.items():
                features.add(utterance, parts[block][turn])

    def _judge(self, utterance: str, value: Any) -> None:
        """Take an utterance's label; what is none is set aside by name."""
        label = {"utterance_id": utterance, "rater": "released", "source": self.path.name}
        if isinstance(value, str | bytes):
            self.judgements.append({**label, "target": "category", "label": text_of(value)})
            return
        numbers = _numbers(value)
        if not len(numbers) or not np.isfinite(numbers).all():
            detail = f"{self.path.name}: the label of {utterance} is {value!r}, which is no label"
            self.aside.append(aside(utterance, "missing_value", detail))
        elif self.classes is None:
            self.judgements.append({**label, "target": "sentiment", "value": float(numbers[0])})
        else:
            name = self._class(utterance, numbers)
            self.judgements.append({**label, "target": "category", "label": name})

    def _class(self, utterance: str, numbers: np.ndarray) -> str:
        """Name of a class from its number, or from a vector that is 1 at its place."""
        assert self.classes is not None
        number = float(numbers[0])
        if len(numbers) > 1:
            if set(numbers.tolist()) != {0.0, 1.0} or numbers.sum() != 1:
                raise UserError(
                    f"{self.path}: the label of {utterance} is {numbers.tolist()}, neither the "
                    "number of a class nor a vector with one 1; save numbers of classes"
                )
            number = float(numbers.argmax())
        # a number without a name stays as it is, so that the stage labels can report it
        is_known = number.is_integer() and 0 <= number < len(self.classes)
        return self.classes[int(number)] if is_known else f"{number:g}"


@dataclass
class _Features:
    """Features while they are read; ``dim`` is the first one's width."""

    ids: list[str] = field(default_factory=list)
    values: list[np.ndarray | None] = field(default_factory=list)
    dim: int = 0

    def add(self, utterance: str, value: Any) -> None:
        """One utterance's features, (D,) or (T, D)."""
        try:
            array = None if value is None else np.atleast_1d(np.asarray(value))
        except ValueError:
            array = None  # ragged
        if array is not None and array.dtype == object:
            array = None  # ragged: no matrix of numbers
        self.ids.append(utterance)
        self.values.append(array)
        if array is not None and not self.dim:
            self.dim = array.shape[-1]


def _is_list(part: Any) -> bool:
    if isinstance(part, np.ndarray):
        return part.ndim == 1
    return isinstance(part, list | tuple | set | frozenset)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return text_of(value) if isinstance(value, bytes) else value


def _numbers(value: Any) -> np.ndarray:
    """A label as numbers; empty where it is none."""
    try:
        return np.ravel(np.asarray(value, float))
    except (TypeError, ValueError):
        return np.empty(0)


def _words(part: Mapping[Any, Any]) -> tuple[str, ...]:
    """Labels that are words, sorted; none where the first is a number."""
    first = next((label for labels in part.values() for label in labels), None)
    if not isinstance(first, str | bytes):
        return ()
    words = {label for labels in part.values() for label in labels}
    return tuple(sorted(text_of(word) for word in words if isinstance(word, str | bytes)))


def _highest(part: Mapping[Any, Any]) -> float:
    """The highest label; a vector of several numbers counts as their places."""
    found = [_numbers(label) for labels in part.values() for label in labels]
    numbers = [x.argmax() if len(x) > 1 else x[0] for x in found if len(x)]
    return float(np.nanmax(numbers)) if np.isfinite(numbers).any() else 0.0


def _width(part: Mapping[Any, Any]) -> int:
    """Width of the first utterance's value: 1 or 7 for labels, hundreds for features."""
    first = next((value for value in part.values() if len(value)), None)
    return 0 if first is None else int(np.size(first[0]))


def _speaker(dialogue: str, value: Any) -> str:
    """Unique within the corpus: a letter or position means nothing outside its dialogue.

    IEMOCAP's two actors stay the same throughout a session, whose name begins the dialogue's.
    """
    if isinstance(value, str | bytes):
        letter = text_of(value)
        if dialogue.startswith("Ses"):
            return f"{dialogue[:5]}_{letter}"
        return f"{dialogue}_{letter}"
    array = np.ravel(np.asarray(value))
    position = int(array.argmax()) if array.size > 1 else int(array[0])
    return f"{dialogue}_speaker{position}"
