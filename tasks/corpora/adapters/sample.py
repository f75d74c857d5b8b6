"""Adapter of the synthetic corpus that the stage ``sample`` writes (``tasks/sample/stage.py``)."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.sample.process import CATEGORIES
from tasks.tables.quarantine import QUARANTINE
from tasks.targets import EMI, VAD

_UTTERANCES = {
    "utterance": pl.String,
    "dialogue": pl.String,
    "turn": pl.Int32,
    "speaker": pl.String,
    "session": pl.String,
    "media": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "text": pl.String,
    "language": pl.String,
}
_ANNOTATIONS = {
    "utterance": pl.String,
    "rater": pl.String,
    "target": pl.String,
    "value": pl.Float64,
    "label": pl.String,
    "scale_min": pl.Float64,
    "scale_max": pl.Float64,
}

CARD = ProtocolCard(
    name="sample",
    citation="made by affectloom's own stage `sample`",
    licence="generated, Apache-2.0 like the project",
    label_map={category: category for category in CATEGORIES},
    scales={
        **{dim: (1.0, 5.0, 1) for dim in VAD},
        "sentiment": (-3.0, 3.0, 1),
        **{name: (0.0, 1.0, 1) for name in EMI},
    },
    splits="none published; speakers of one session never meet those of another",
    synthetic=True,
)


#: What ``params.yaml`` may say of the corpus.
OPTIONS: dict[str, tuple[str, ...]] = {}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The corpus under ``root``; ``factors.csv``, the hidden truth, is left alone.

    Args:
        root: folder with ``utterances.csv``, ``annotations.csv`` and ``media/``.
        options: there are none; anything in it is an error.
    """
    if options:
        raise UserError(
            f"params.yaml: the adapter sample has no option '{next(iter(options))}'; remove it"
        )
    rows = _read_csv(root / "utterances.csv", _UTTERANCES)
    judgements = _read_csv(root / "annotations.csv", _ANNOTATIONS)
    dialogues = rows.select("utterance", "dialogue")
    utterances = rows.select(
        pl.format("{}/{}", "dialogue", "utterance").alias("utterance_id"),
        pl.col("dialogue").alias("dialogue_id"),
        *[name for name in _UTTERANCES if name not in ("utterance", "dialogue")],
    )
    annotations = judgements.join(
        dialogues, on="utterance", how="left", maintain_order="left"
    ).select(
        # a judgement without an utterance keeps its name, so that ingest can report it
        pl.format("{}/{}", pl.col("dialogue").fill_null("?"), "utterance").alias("utterance_id"),
        *[name for name in _ANNOTATIONS if name != "utterance"],
        pl.lit("annotations.csv").alias("source"),
    )
    return Corpus(utterances, annotations, QUARANTINE.empty(), CARD)


def _read_csv(path: Path, schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """A CSV file with exactly these columns, in any order."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run stage sample")
    try:
        frame = pl.read_csv(path, infer_schema=False)
        missing = [name for name in schema if name not in frame.columns]
        extra = [name for name in frame.columns if name not in schema]
        if missing or extra:
            what = f"lacks column {missing[0]}" if missing else f"has unknown column {extra[0]}"
            raise UserError(f"{path}: {what}; run stage sample again")
        return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not readable ({reason}); run stage sample again") from error
