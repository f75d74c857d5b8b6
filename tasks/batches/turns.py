"""The utterances of a corpus in the order of the source, and who says them."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.layout import Layout
from tasks.tables.parquet import read_table
from tasks.tables.utterances import UTTERANCES


@dataclass(frozen=True)
class Turns:
    """See the attributes of ``tasks.batches.source.Source`` of these names."""

    ids: pl.Series
    dialogues: np.ndarray
    speakers: np.ndarray
    people: np.ndarray
    parts: np.ndarray
    part_codes: np.ndarray | None


def read_turns(layout: Layout, corpus: str) -> Turns:
    """The utterances by dialogue and turn; no word of what is said."""
    columns = ["utterance_id", "dialogue_id", "turn", "speaker", "dataset"]
    # two may share a turn: their order is fixed too
    utterances = read_table(UTTERANCES, layout.utterances(corpus), columns).sort(
        "dialogue_id", "turn", "utterance_id"
    )
    dialogue, speaker = utterances.get_column("dialogue_id"), utterances.get_column("speaker")
    people = _by_name(speaker)
    parts = _names(utterances.get_column("dataset").fill_null(corpus))
    return Turns(
        ids=utterances.get_column("utterance_id"),
        dialogues=_names(dialogue),
        speakers=_by_appearance(
            dialogue.rle_id(), np.where(speaker.fill_null("?") == "?", -1, people)
        ),
        people=people,
        parts=parts,
        part_codes=_codes_of_parts(parts),
    )


def _names(column: pl.Series) -> np.ndarray:
    """(N,) strings, each there once however many rows have it: a text of its own takes 60 bytes.

    Where all rows have the same the array cannot be written to: it is one entry long in memory.
    """
    known: dict[str, str] = {}
    firsts = column.filter(column.ne_missing(column.shift()))
    names = np.array([known.setdefault(name, name) for name in firsts], object)
    if len(names) == 1:
        return np.broadcast_to(names, len(column))
    return names[column.rle_id().to_numpy()]


def _by_appearance(dialogues: pl.Series, people: np.ndarray) -> np.ndarray:
    """(N,) index of the speaker within the dialogue by first appearance."""
    first_row = pl.col("row").min().over("dialogue", "who")
    rows = pl.DataFrame({"dialogue": dialogues, "who": people}).with_row_index("row")
    speakers = rows.select((first_row.rank("dense").over("dialogue") - 1).cast(pl.Int32))
    return speakers.to_series().to_numpy()


def _by_name(speakers: pl.Series) -> np.ndarray:
    """(N,) index of each name among all names in order; -1 where there is none."""
    names = speakers.drop_nulls().unique().sort().to_list()
    codes = speakers.replace_strict(
        names, list(range(len(names))), default=-1, return_dtype=pl.Int32
    )
    return codes.fill_null(-1).to_numpy()


def _codes_of_parts(dataset: np.ndarray) -> np.ndarray | None:
    """(N,) place of each part among all by name; None with one part."""
    names, codes = np.unique(dataset, return_inverse=True)
    return codes if len(names) > 1 else None
