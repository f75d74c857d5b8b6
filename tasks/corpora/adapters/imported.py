"""Adapter of what ``affectloom import`` wrote below ``imported``."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.imports.found import UTTERANCES_OF_IMPORT
from tasks.corpora.source import IMPORTS, choose
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import read_table
from tasks.tables.quarantine import QUARANTINE

#: What ``params.yaml`` may say of the corpus.
OPTIONS: dict[str, tuple[str, ...]] = {}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The tables of an import, with the card that its reader wrote; there are no options."""
    choose("imported", options, OPTIONS)
    folder = root / IMPORTS
    manifest = folder / "manifest.json"
    again = "run `affectloom import` again with --replace"
    if not manifest.is_file():
        raise UserError(f"{manifest} does not exist; run `affectloom import` first")
    try:
        noted = json.loads(manifest.read_text())["card"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{manifest}: holds no protocol card; {again}") from error
    # an import of an earlier version notes more than cards have today
    known = {item.name: noted[item.name] for item in fields(ProtocolCard) if item.name in noted}
    scales = known.pop("scales")
    card = ProtocolCard(
        **known,
        scales=scales and {n: s if isinstance(s, str) else tuple(s) for n, s in scales.items()},
    )
    return Corpus(
        read_table(UTTERANCES_OF_IMPORT, folder / "utterances.parquet"),
        read_table(ANNOTATIONS, folder / "annotations.parquet"),
        read_table(QUARANTINE, folder / "quarantine.parquet"),
        card,
    )
