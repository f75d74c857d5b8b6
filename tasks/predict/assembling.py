"""One answer of a medium out of what the parts of a model say of its utterances."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from tasks.layout import Layout
from tasks.predict.answer import Answer, Classes, Face, Gap, Seen, Utterance, Value
from tasks.predict.answering import COVERAGE
from tasks.predict.corpus import Prepared, dialogue_id, utterance_id
from tasks.predict.distance import told
from tasks.predict.languages import foreign_words
from tasks.predict.model import Model, runs_that_read
from tasks.predict.outputs import Said
from tasks.tables.faces import FACES
from tasks.tables.parquet import table_files

_FACE_COLUMNS = ["utterance_id", "time_s", "track", "box_px", "confidence"]
#: Between the reasons of an utterance.
_AND = "; "
_READ = {"audio": "sound", "video": "faces", "text": "words"}


@dataclass(frozen=True)
class PartSays:
    """What a part of the model says of all utterances, a row each.

    Attributes:
        said: the outputs.
        seen: what there was of each modality.
        classes: target to the categories of each row.
        values: target to the numbers of each row.
    """

    said: Said
    seen: Sequence[Mapping[str, Seen]]
    classes: Mapping[str, Sequence[Classes]]
    values: Mapping[str, Sequence[Mapping[str, Value]]]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Utterance to its row."""
        return {name: row for row, name in enumerate(self.said.ids)}


def answer_of(
    medium: Prepared, dialogue: int, parts: Sequence[PartSays], model: Model, faces: Path | None
) -> Answer:
    """Everything that is known of a medium.

    Args:
        medium: which one.
        dialogue: its place in the corpus of new media.
        parts: what the parts of the model say.
        model: their model.
        faces: table of faces; None where nobody asked.
    """
    plan = medium.plan
    every = [_utterance(medium, dialogue, turn, parts) for turn in range(len(plan.stretches))]
    shown, gaps = every, plan.gaps
    if plan.is_cut:  # nobody cut these parts by what happens in them
        shown = [one for one in every if one.is_answered]
        unseen = _joined([one for one in every if not one.is_answered])
        gaps = (*unseen, *plan.gaps)
    return Answer(
        medium.found.medium,
        tuple(shown),
        tuple(_faces(faces, dialogue, {one.id for one in shown})) if faces and shown else (),
        gaps,
        model.modalities,
        model.networks,
        COVERAGE,
        (*plan.notes, *_learnt_from(medium, model), *foreign_words(plan, model)),
        plan.looked_s,
    )


def _learnt_from(medium: Prepared, model: Model) -> Iterator[str]:
    """Sentences about networks that know this very medium."""
    for part in model.parts:
        count = sum(medium.sha256 in part.learnt.get(run.fold, ()) for run in part.runs)
        if count == len(part.runs):
            yield f"{part.name} learnt from this medium, so the answer tells nothing about new ones"
        elif count:
            yield (
                f"{count} of the {len(part.runs)} networks of {part.name} learnt from this medium "
                "and were not asked"
            )


def _utterance(medium: Prepared, dialogue: int, turn: int, parts: Sequence[PartSays]) -> Utterance:
    part, length_s = medium.plan.stretches[turn], medium.found.length_s
    said = said_of(utterance_id(dialogue, turn), parts)
    return replace(
        said,
        id=str(turn + 1),
        start_s=part.start_s or 0.0,
        end_s=length_s if part.end_s is None else part.end_s,
        speaker=part.speaker,
        text=part.text,
        words_from=medium.plan.words_from if part.text else None,
        language=part.language if part.text else None,
    )


def said_of(name: str, parts: Sequence[PartSays]) -> Utterance:
    """What the parts say of an utterance, put side by side under its id in the tables."""
    seen: dict[str, Seen] = {}
    classes: dict[str, Classes] = {}
    values: dict[str, Mapping[str, Value]] = {}
    far: list[str] = []
    for one in parts:  # of a target that two predict, the first that sees anything says it
        row = one.rows[name]
        seen = {**one.seen[row], **seen}
        if one.said.is_seen[row]:
            classes = {**{target: rows[row] for target, rows in one.classes.items()}, **classes}
            values = {**{target: rows[row] for target, rows in one.values.items()}, **values}
            far += [modality for modality in one.said.far[row] if modality not in far]
    return Utterance(
        id=name,
        start_s=0.0,
        end_s=0.0,
        classes=classes,
        values=values,
        seen=seen,
        far=told(far),
        reason="" if classes or values else _why_not(seen),
    )


def _why_not(seen: Mapping[str, Seen]) -> str:
    return _AND.join(dict.fromkeys(one.detail for one in seen.values() if one.detail))


def _joined(parts: Sequence[Utterance]) -> Iterator[Gap]:
    """Neighbouring parts without an answer for the same reason, as one gap."""
    last: Gap | None = None
    for part in parts:
        if last is not None and last.end_s == part.start_s and last.reason == part.reason:
            last = Gap(last.start_s, part.end_s, last.reason)
            continue
        if last is not None:
            yield last
        last = Gap(part.start_s, part.end_s, part.reason)
    if last is not None:
        yield last


def _faces(path: Path, dialogue: int, shown: set[str]) -> Iterator[Face]:
    """Faces of a medium in order of time; crops stay in the file."""
    names = [utterance_id(dialogue, int(one) - 1) for one in shown]
    parts = [
        pq.read_table(file, columns=_FACE_COLUMNS, filters=[("utterance_id", "in", names)])
        for file in table_files(path, FACES)
    ]
    table = pl.concat([pl.DataFrame(pl.from_arrow(part)) for part in parts])
    start = len(f"{dialogue_id(dialogue)}/u")
    for name, time_s, track, box, confidence in (
        table.filter(pl.col("box_px").is_not_null()).sort("time_s", "track").iter_rows()
    ):
        x0, y0, x1, y1 = box
        number = str(int(name[start:]) + 1)
        yield Face(number, time_s or 0.0, track, (x0, y0, x1, y1), confidence or 0.0)


def nothing_said(answer: Answer, model: Model, project: Layout) -> str:
    """Why nothing was predicted of a medium, and what could be used instead."""
    reasons = [one.reason for one in (*answer.utterances, *answer.gaps) if one.reason]
    single = dict.fromkeys(part for reason in reasons for part in reason.split(_AND))
    why = ", ".join(single) or "there is nothing to see or hear"
    names = [_READ[name] for name in model.modalities]
    reads = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    others = _others(answer, model)
    could = runs_that_read(project, others) if others else []
    could = [name for name in could if name not in {part.name for part in model.parts}]
    remedy = f"; trained runs that could: {', '.join(could[:6])}" if could else ""
    return f"the model reads {reads}: {why}{remedy}"


def _others(answer: Answer, model: Model) -> list[str]:
    """What the medium may have that the model does not read."""
    there = {"video": ["audio", "video"], "audio": ["audio"], "image": ["video"], "text": []}
    return [name for name in there[answer.medium.kind] if name not in model.modalities]
