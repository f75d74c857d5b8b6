"""``predictions.json`` and ``.csv``: an answer as files, and back."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from pydantic import TypeAdapter, ValidationError

from models.errors import UserError
from tasks.atomic import replacing
from tasks.atomic import write_json as write_any_json
from tasks.predict.answer import FORMAT, Answer, Utterance

_ANSWERS = TypeAdapter(Answer)
_PLAIN = ("id", "start_s", "end_s", "speaker", "text", "words_from", "language")


def write_json(answer: Answer, path: Path, *, faces: bool = False) -> None:
    """Write everything that is known as JSON; the same answer gives the same bytes.

    Args:
        answer: what to write.
        path: the file, replaced whole.
        faces: whether the boxes of faces go in, which are many and about people.
    """
    kept = answer if faces else replace(answer, faces=())
    write_any_json(path, {"format": FORMAT, **_ANSWERS.dump_python(kept, mode="json")})


def read_json(path: Path) -> Answer:
    """The answer that ``write_json`` wrote; anything else is an error of one sentence."""
    again = "write it again with `affectloom predict`"
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text, parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); {again}") from error
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise UserError(f"{path} holds no predictions of format {FORMAT}; {again}")
    try:
        # from text, since lists become tuples only there where nothing else may be converted
        return _ANSWERS.validate_json(json.dumps(found), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg'].lower()}; {again}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def write_csv(answer: Answer, path: Path) -> None:
    """Write one row for each utterance; a column that any utterance has is there for all.

    Columns after the plain ones: for each target with categories ``<target>``, ``_confidence``,
    ``_spread`` and ``_p_<category>``; for each number ``<target>_<column>`` with ``_low``,
    ``_high`` and ``_spread``; ``seen_<modality>`` with ``_reason``; ``far`` and ``reason``. An
    empty cell is unknown.
    """
    rows = [row_of(utterance) for utterance in answer.utterances]
    columns = columns_of(rows)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row_of(utterance: Utterance) -> dict[str, object]:
    """An utterance by the names of its columns."""
    row: dict[str, object] = {name: getattr(utterance, name) for name in _PLAIN}
    for target, classes in utterance.classes.items():
        row[target] = classes.label
        row[f"{target}_confidence"] = classes.confidence
        row[f"{target}_spread"] = classes.spread
        row |= {f"{target}_p_{name}": p for name, p in classes.probabilities.items()}
    for target, values in utterance.values.items():
        for column, value in values.items():
            name = f"{target}_{column}"
            row[name] = value.value
            row |= {f"{name}_{part}": getattr(value, part) for part in ("low", "high", "spread")}
    for modality, seen in utterance.seen.items():
        row[f"seen_{modality}"] = seen.status
        row[f"seen_{modality}_reason"] = seen.reason
    return row | {"far": utterance.far, "reason": utterance.reason}


def columns_of(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Every column that any of the rows has, in order."""
    return list(dict.fromkeys((*_PLAIN, *_sorted_names(rows), "far", "reason")))


def _sorted_names(rows: Iterable[Mapping[str, object]]) -> list[str]:
    names = {name for row in rows for name in row} - {"far", "reason"}
    return sorted(names, key=lambda name: (name.startswith("seen_"), name))
