"""What tables say of an utterance in a word, as sentences for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from tasks.layout import Layout
from tasks.media.decoding import REASONS
from tasks.predict.answer import Seen
from tasks.predict.corpus import CORPUS
from tasks.predict.model import Part
from tasks.tables.faces import FACES
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_table
from tasks.tables.words import STATUSES

_WORDS = {
    "no_face": "no face is to be seen",
    "no_text": "its words are not known",
    "no_voice": "nobody speaks",
    "no_audio": "there is no sound",
    "no_video": "there is no picture",
}
_UNREADABLE = "the encoder could make nothing of it"


def sentence(reason: str) -> str:
    """What a word of the tables means."""
    return _WORDS.get(reason) or REASONS.get(reason, "") or reason.replace("_", " ")  # type: ignore[call-overload]


def seen_of(
    part: Part, layout: Layout, present: Mapping[str, np.ndarray], ids: Sequence[str]
) -> list[dict[str, Seen]]:
    """For each utterance, what the networks had of each modality.

    Args:
        part: the networks.
        layout: where tables and features lie.
        present: modality to what there was to see, in the order of ``ids``.
        ids: of utterances.
    """
    found: list[dict[str, Seen]] = [{} for _ in ids]
    for modality in part.modalities:
        ends = _ends(part, layout, modality)
        for place, name in enumerate(ids):
            status, reason = ends[name]
            found[place][modality] = _seen(bool(present[modality][place]), status, reason, modality)
    return found


def _seen(is_there: bool, status: str, reason: str | None, modality: str) -> Seen:
    if is_there and status == "ok":
        return Seen("ok")
    if is_there:
        word = reason or "degraded"
        return Seen("degraded", word, sentence(word))
    if status == "quarantined" or reason is not None:
        word = reason or "unreadable"
        return Seen("missing", word, sentence(word) if reason else _UNREADABLE)
    word = "no_voice" if modality == "audio" else "unreadable"
    return Seen("missing", word, _WORDS.get(word, _UNREADABLE))


def _ends(part: Part, layout: Layout, modality: str) -> dict[str, tuple[str, str | None]]:
    """Utterance to status and reason, in the table that the networks read."""
    columns = ["utterance_id", "status", "reason"]
    encoders = part.read.get(modality, ())
    frames = [read_table(FEATURES, layout.features(CORPUS, one), columns) for one in encoders]
    if not frames:
        frames = [_faces(layout.faces(CORPUS), columns)]
    found: dict[str, tuple[str, str | None]] = {}
    for name, status, reason in (row for frame in frames for row in frame.iter_rows()):
        known = found.setdefault(name, (status, reason))
        if STATUSES.index(status) > STATUSES.index(known[0]):  # the worst of several encoders
            found[name] = (status, reason)
    return found


def _faces(path: Path, columns: list[str]) -> pl.DataFrame:
    return read_table(FACES, path, columns).unique("utterance_id", keep="first")
