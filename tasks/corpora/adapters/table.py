"""Adapter of a table of the user's own; ``options`` say what its columns mean.

corpora:
  mine:
    adapter: table
    options:
      file: clips.csv
      columns: {utterance: id, dialogue: talk, speaker: who, media: file, text: words}
      media: wav/{}.wav
      labels:
        targets:
          valence: {columns: {ann: v_ann, bob: v_bob}, scale: [1, 5]}
          category: {column: emotion}
"""

import itertools
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import UTTERANCE_COLUMNS, parse_options, to_number
from tasks.corpora.table_judgements import read_judgements
from tasks.corpora.table_options import TableOptions
from tasks.corpora.table_rows import read_rows, region_of

_SEXES = {"f": "female", "m": "male"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "devel": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
#: What ``params.yaml`` may say of the corpus.
OPTIONS = TableOptions


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The table ``options.file`` under ``root``."""
    chosen = parse_options(TableOptions, options, "table")
    parts = [(_utterances(rows, chosen), aside) for rows, aside in read_rows(root, chosen, ())]
    utterances = pl.concat((own for own, _ in parts), rechunk=True)
    quarantine = pl.concat(aside for _, aside in parts)
    del parts
    if "turn" not in chosen.columns:
        utterances = utterances.with_columns(
            turn=pl.int_range(pl.len()).over("dialogue_id").cast(pl.Int32)
        )
    judged = read_judgements(root, chosen, utterances)
    first, second = next(judged), next(judged, None)
    return Corpus(
        utterances.select(*UTTERANCE_COLUMNS, "sex", "age", "dataset"),
        first,
        quarantine,
        _card(chosen),
        () if second is None else itertools.chain([second], judged),
    )


def _utterances(rows: pl.DataFrame, chosen: TableOptions) -> pl.DataFrame:
    """Columns of the table of utterances, and ``utterance`` where other files name it so."""
    return rows.select(
        "utterance_id",
        *(["utterance"] if chosen.labels.file is not None else []),
        dialogue_id="dialogue",
        turn=to_number("turn").cast(pl.Int32, strict=False),
        speaker="speaker",
        session="session",
        media=pl.when(pl.col("media").is_not_null()).then(
            pl.format(chosen.media, pl.col("media").fill_null(""))
        ),
        start_s=to_number("start_s"),
        end_s=to_number("end_s"),
        text="text",
        language="language",
        region=region_of(),
        published_split=_split(chosen),
        sex=pl.col("sex").str.to_lowercase().replace(_SEXES),  # other words ingest names
        age=to_number("age"),
        dataset="dataset",
    )


def _split(options: TableOptions) -> pl.Expr:
    """The user's own words, else the usual ones in any case; others stay, for ingest to name."""
    usual = pl.col("split").str.to_lowercase().replace_strict(_SPLITS, default=pl.col("split"))
    return pl.col("split").replace_strict(options.splits, default=usual, return_dtype=pl.String)


def _card(options: TableOptions) -> ProtocolCard:
    scales = {
        name: (*target.scale, target.sign)
        for name, target in options.labels.targets.items()
        if target.scale is not None
    }
    return ProtocolCard(
        name=options.file,
        citation=options.citation,
        licence=options.licence,
        expected_utterances=options.expected.utterances,
        expected_dialogues=options.expected.dialogues,
        label_map=options.label_map,
        scales=scales or None,
        splits="as the table's column says" if "split" in options.columns else "",
    )
