"""Valence, arousal and dominance of single words, from a file that the user brings."""

from pathlib import Path

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.targets import VAD

#: Letters of any alphabet, with apostrophes and hyphens between them.
_WORD = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_COLUMNS = ("word", *VAD)
#: What the first column of a header is called in the editions of NRC-VAD.
_HEADS = ("word", "term")


def read_lexicon(file: Path, where: str) -> pl.DataFrame:
    """Columns word (lower case, once each), valence, arousal, dominance in [-1, 1].

    Args:
        file: in NRC-VAD's form: word, valence, arousal and dominance in [0, 1], separated by tabs,
            with or without a line of their names, which may then stand in another order.
        where: the key of params.yaml, for messages.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        why = "is not UTF-8" if isinstance(error, ValueError) else "cannot be read"
        raise UserError(
            f"params.yaml: {where}: {file} {why}; give a file of words, valence, arousal and "
            "dominance, separated by tabs"
        ) from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    order = _COLUMNS
    if rows and rows[0][1][0].strip().lower() in _HEADS:
        order = tuple(name.strip().lower() for name in rows.pop(0)[1])
        order = tuple("word" if name in _HEADS else name for name in order)
        if sorted(order) != sorted(_COLUMNS):
            raise UserError(
                f"{file}: its first line names {', '.join(order)}; expected {', '.join(_COLUMNS)}"
            )
    if not rows:
        raise UserError(f"{file} holds no word; give a lexicon as {where} of params.yaml")
    found: dict[str, tuple[float, ...]] = {}
    for number, cells in rows:
        word, values = _entry(file, number, cells, order)
        if found.setdefault(word, values) != values:
            raise UserError(f"{file}: line {number}: '{word}' stands twice with different values")
    columns = np.array(list(found.values()))
    return pl.DataFrame(
        {"word": list(found), **{name: 2 * columns[:, i] - 1 for i, name in enumerate(VAD)}}
    )


def _entry(
    file: Path, number: int, cells: list[str], order: tuple[str, ...]
) -> tuple[str, tuple[float, ...]]:
    if len(cells) != len(order):
        raise UserError(
            f"{file}: line {number} has {len(cells)} columns, expected {', '.join(order)} "
            "separated by tabs"
        )
    named = dict(zip(order, cells, strict=True))
    values = []
    for name in VAD:
        try:
            value = float(named[name])
        except ValueError:
            value = np.nan
        if not 0 <= value <= 1:
            raise UserError(
                f"{file}: line {number}: {name} is '{named[name]}', expected a number from 0 to 1"
            )
        values.append(value)
    return " ".join(named["word"].lower().split()), tuple(values)


def vad_of_texts(texts: pl.DataFrame, lexicon: pl.DataFrame, least_words: int) -> pl.DataFrame:
    """Mean over the words of each text that the lexicon has.

    Args:
        texts: columns utterance_id, text.
        lexicon: of ``read_lexicon``; entries of several words are not looked for.
        least_words: texts with fewer known words have none.

    Returns:
        Columns utterance_id, valence, arousal, dominance, of the texts that have a mean.
    """
    words = (
        texts.drop_nulls("text")
        .select("utterance_id", word=pl.col("text").str.to_lowercase().str.extract_all(_WORD))
        .explode("word")
        .drop_nulls("word")
        .with_columns(pl.col("word").str.replace_all("’", "'", literal=True))
    )
    known = words.join(lexicon, on="word").sort("utterance_id", "word")
    # sums in the order of the words, so that threads change no bit
    return (
        known.group_by("utterance_id", maintain_order=True)
        .agg(pl.col(VAD).mean(), count=pl.len())
        .filter(pl.col("count") >= least_words)
        .drop("count")
    )
