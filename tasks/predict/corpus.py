"""New media as a corpus of their own: its tables, and the stages of the pipeline on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.batches.pooled import read_pooled
from tasks.context import Context
from tasks.faces import stage as faces
from tasks.features import stage as features
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.predict.listening.voices import tell_apart
from tasks.predict.media import Found
from tasks.predict.model import Part
from tasks.predict.plan import Plan, Stretch
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

#: Its name; ids of utterances begin with it.
CORPUS = "new"
_VOICE = "voice"

#: The context of a piece of work, by its name for people.
Contexts = Callable[[str], Context]


@dataclass(frozen=True)
class Prepared:
    """A medium of which is known what is to be looked at.

    Attributes:
        found: the medium.
        sha256: of its bytes.
        plan: its utterances.
    """

    found: Found
    sha256: str
    plan: Plan

    def lengths_s(self) -> list[float]:
        """Of its utterances."""
        return [
            self.found.length_s if part.end_s is None else part.end_s - (part.start_s or 0.0)
            for part in self.plan.stretches
        ]


def dialogue_id(number: int) -> str:
    """Of a medium, by its place in the corpus."""
    return f"{CORPUS}/m{number:04d}"


def utterance_id(dialogue: int, turn: int) -> str:
    """Of an utterance of a medium."""
    return f"{dialogue_id(dialogue)}/u{turn:05d}"


def write_corpus(media: Sequence[Prepared], layout: Layout) -> None:
    """Tables of a corpus in which a medium is a dialogue, all of it test rows without labels."""
    rows = [
        _row(medium, part, dialogue, turn)
        for dialogue, medium in enumerate(media)
        for turn, part in enumerate(medium.plan.stretches)
    ]
    splits = [{"utterance_id": r["utterance_id"], "fold": 0, "split": "test"} for r in rows]
    write_table(UTTERANCES, UTTERANCES.frame(rows), layout.utterances(CORPUS))
    write_table(LABELS, LABELS.frame([]), layout.labels(CORPUS))
    write_table(SPLIT, SPLIT.frame(splits), layout.splits(CORPUS))


def _row(medium: Prepared, part: Stretch, dialogue: int, turn: int) -> dict[str, object]:
    return {
        "utterance_id": utterance_id(dialogue, turn),
        "dialogue_id": dialogue_id(dialogue),
        "turn": turn,
        "speaker": part.speaker,
        "start_s": part.start_s,
        "end_s": part.end_s,
        # absolute, so it counts from any folder; of a transcript there is nothing to see or hear
        "media": None if medium.found.turns else str(medium.found.path),
        "media_sha256": medium.sha256,
        "text": part.text,
    }


def compute_features(part: Part, layout: Layout, contexts: Contexts) -> None:
    """Faces and features of the corpus, as the stages of the pipeline compute them.

    Args:
        part: what reads them.
        layout: where the tables of the corpus lie.
        contexts: who does the work.
    """
    if "video" in part.modalities:
        faces.run(part.faces, layout, contexts("faces"), CORPUS)
    for name, encoder in part.encoders.items():
        folder = features.run(encoder, layout, contexts(name), CORPUS, name)
        _check_same(part, name, folder)


def _check_same(part: Part, encoder: str, folder: Path) -> None:
    """Features of another kind than those of training would be answered with nonsense."""
    expected = part.expected.get(encoder)
    if expected is not None and not expected.is_met_by(read_metadata(folder)):
        raise UserError(
            f"encoder {encoder} is not the one whose features {part.name} learnt from: its "
            "weights or settings are others; bring them back, or train again"
        )


def with_speakers(
    media: Sequence[Prepared], voice: EncoderParams, layout: Layout, contexts: Contexts
) -> list[Prepared]:
    """The same media, with speakers told apart by voice where nobody named them.

    Args:
        media: as they are.
        voice: the encoder of voices.
        layout: of a corpus that is made for this alone.
        contexts: who does the work.
    """
    wanting = [medium for medium in media if wants_speakers(medium)]
    if not wanting:
        return list(media)
    write_corpus(wanting, layout)
    folder = features.run(voice, layout, contexts("voices"), CORPUS, _VOICE)
    named = {}
    for dialogue, medium in enumerate(wanting):
        count = len(medium.plan.stretches)
        ids = pl.Series("utterance_id", [utterance_id(dialogue, turn) for turn in range(count)])
        voices, known = read_pooled(ids, folder)
        numbers = tell_apart(voices, known, medium.lengths_s())
        named[medium.found.path] = _named(medium, numbers)
    return [named.get(medium.found.path, medium) for medium in media]


def wants_speakers(medium: Prepared) -> bool:
    """Whether voices are to be told apart: several utterances that are heard, nobody named."""
    parts = medium.plan.stretches
    is_voice = medium.found.about.has_audio and all(part.is_heard for part in parts)
    return is_voice and len(parts) > 1 and not any(part.speaker for part in parts)


def with_note(medium: Prepared, note: str) -> Prepared:
    """The same medium with a sentence for people."""
    return replace(medium, plan=replace(medium.plan, notes=(*medium.plan.notes, note)))


def _named(medium: Prepared, numbers: Sequence[int]) -> Prepared:
    parts = [
        replace(part, speaker=f"speaker {number}" if number else None)
        for part, number in zip(medium.plan.stretches, numbers, strict=True)
    ]
    return replace(medium, plan=replace(medium.plan, stretches=tuple(parts)))


def unheard(media: Sequence[Prepared]) -> set[str]:
    """Utterances in which nobody speaks: their sound is no voice."""
    return {
        utterance_id(dialogue, turn)
        for dialogue, medium in enumerate(media)
        for turn, part in enumerate(medium.plan.stretches)
        if not part.is_heard
    }


def without_sound(
    present: Mapping[str, np.ndarray], ids: Sequence[str], silent: set[str]
) -> dict[str, np.ndarray]:
    """Presence of each modality with the sound of these utterances missing."""
    heard = np.array([name not in silent for name in ids], bool)
    return {name: there & heard if name == "audio" else there for name, there in present.items()}
