"""Utterances without a medium: words alone, or features that somebody has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from models.errors import UserError
from tasks.layout import Layout
from tasks.predict.answer import Utterance
from tasks.predict.answering import classes_of, values_of
from tasks.predict.assembling import PartSays, said_of
from tasks.predict.corpus import CORPUS, Contexts, compute_features, dialogue_id, utterance_id
from tasks.predict.engine import workplace
from tasks.predict.model import Model, Part
from tasks.predict.outputs import outputs_of
from tasks.predict.reasons import seen_of
from tasks.predict.tables import WHO, packed
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES


def of_texts(
    texts: Sequence[str], model: Model, project: Layout, contexts: Contexts
) -> list[Utterance]:
    """What the model says of sentences, each a dialogue of its own."""
    rows = [
        {"utterance_id": utterance_id(n, 0), "dialogue_id": dialogue_id(n), "turn": 0, "text": text}
        for n, text in enumerate(texts)
    ]
    with workplace(project) as root:
        parts = []
        for number, part in enumerate(model.parts):
            layout = replace(project, root=root / f"part{number}", media=root)
            _write_corpus(UTTERANCES.frame(rows), layout)
            compute_features(part, layout, contexts)
            parts.append(_says(part, layout))
    said = [said_of(str(row["utterance_id"]), parts) for row in rows]
    return [
        replace(one, id="1", text=text, words_from="transcript")
        for one, text in zip(said, texts, strict=True)
    ]


def of_features(
    tables: Mapping[str, pl.DataFrame], model: Model, project: Layout
) -> list[Utterance]:
    """What the model says of utterances whose features are known.

    Args:
        tables: encoder to ``utterance_id`` and ``pooled``, null where there is nothing; with
            ``dialogue_id``, ``turn`` and ``speaker`` where context counts, and ``sequence`` where
            the method reads frames. An utterance that a table lacks has no such features.
        model: what answers.
        project: its cache is worked in.
    """
    wanted = {name for part in model.parts for name in part.encoders}
    if set(tables) != wanted:
        raise UserError(
            f"there are tables of features of {', '.join(sorted(map(str, tables))) or 'nothing'}, "
            f"but the model reads {', '.join(sorted(wanted)) or 'none'}; give one for each"
        )
    for part in model.parts:
        if "images" in part.runs[0].recipe.method.needs:
            raise UserError(f"{part.name} looks at pictures, not at features; give it media")
    utterances = _utterances(tables)
    ids = utterances.get_column("utterance_id").to_list()
    with workplace(project) as root:
        parts = []
        for number, part in enumerate(model.parts):
            layout = replace(project, root=root / f"part{number}", media=root)
            _write_corpus(utterances, layout)
            for name in part.encoders:
                needs_frames = "frames" in part.runs[0].recipe.method.needs
                table = _features(name, tables[name], ids, needs_frames)
                write_table(FEATURES, table, layout.features(CORPUS, name) / "bucket-00.parquet")
            _check_widths(part, tables)
            parts.append(_says(part, layout))
    return [
        replace(said_of(name, parts), speaker=speaker)
        for name, speaker in utterances.select("utterance_id", "speaker").iter_rows()
    ]


def _utterances(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Every utterance of any table, each once, as the first that has it tells of it."""
    parts = []
    for name, table in tables.items():
        for column in ("utterance_id", "pooled"):
            if column not in table.columns:
                raise UserError(f"the table of features of {name} has no column {column}")
        if table.get_column("utterance_id").is_duplicated().any():
            raise UserError(f"the table of features of {name} has an utterance_id twice")
        known = {"dialogue_id": pl.col("utterance_id"), "turn": 0, "speaker": pl.lit(None)}
        said = [
            expression if isinstance(expression, pl.Expr) else pl.lit(expression)
            for column, expression in known.items()
            if column not in table.columns
        ]
        names = [column for column in known if column not in table.columns]
        filled = table.with_columns(**dict(zip(names, said, strict=True)))
        parts.append(filled.select(pl.col(column).cast(_KINDS[column]) for column in WHO))
    every = pl.concat(parts).unique("utterance_id", keep="first", maintain_order=True)
    return UTTERANCES.frame(every.to_dicts())


_KINDS = {"utterance_id": pl.String, "dialogue_id": pl.String, "turn": pl.Int32,
          "speaker": pl.String}  # fmt: skip


def _features(
    name: str, table: pl.DataFrame, ids: Sequence[str], needs_frames: bool
) -> pl.DataFrame:
    """The table of one encoder as the stages have it."""
    pooled = table.get_column("pooled")
    values = pooled.drop_nulls()
    width = len(values[0]) if len(values) else 1
    try:
        pooled = pooled.cast(pl.Array(pl.Float32, width))
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"the table of features of {name}: pooled is no column of vectors of one length"
        ) from error
    has_frames = "sequence" in table.columns
    counted = "frames" in table.columns and table.get_column("frames").max()
    if needs_frames and counted and not has_frames:
        raise UserError(
            f"the model reads frames, but the table of features of {name} has none; take it with "
            "`features(corpus, encoder, frames=True)`"
        )
    found = pl.DataFrame({"utterance_id": table.get_column("utterance_id"), "pooled": pooled})
    lengths = pl.Series("frames", [0] * len(table), pl.Int32)
    dim, blobs = width, pl.Series("sequence", [None] * len(table), pl.Binary)
    if has_frames and (vectors := table.get_column("sequence")).drop_nulls().len():
        lengths = vectors.list.len().fill_null(0).cast(pl.Int32).alias("frames")
        dim, blobs = len(vectors.drop_nulls()[0][0]), packed(vectors)
    found = found.with_columns(lengths, blobs, pl.lit(dim, pl.Int32).alias("dim"))
    for column, kind in (("status", pl.String), ("reason", pl.String), ("hop_s", pl.Float64)):
        known = table.get_column(column) if column in table.columns else None
        found = found.with_columns(
            pl.Series(column, [None] * len(table), kind) if known is None else known
        )
    absent = pl.DataFrame({"utterance_id": sorted(set(ids) - set(found["utterance_id"]))},
                          schema={"utterance_id": pl.String})  # fmt: skip
    whole = pl.concat([found, absent], how="diagonal").with_columns(
        pl.col("frames").fill_null(0),
        pl.col("dim").fill_null(dim),
        pl.when(pl.col("pooled").is_not_null())
        .then(pl.col("status").fill_null("ok"))
        .otherwise(pl.lit("quarantined"))
        .alias("status"),
    )
    return whole.select(list(FEATURES.columns))


def _check_widths(part: Part, tables: Mapping[str, pl.DataFrame]) -> None:
    """Features of another width belong to another encoder."""
    dims = part.runs[0].method.spec.dims
    for modality, encoders in part.read.items():
        found = [tables[name].get_column("pooled").drop_nulls() for name in encoders]
        if all(len(values) for values in found):
            width = sum(len(values[0]) for values in found)
            if width != dims[modality]:
                raise UserError(
                    f"features of {' and '.join(encoders)} are {width} wide, but {part.name} "
                    f"learnt from {dims[modality]}"
                )


def _write_corpus(utterances: pl.DataFrame, layout: Layout) -> None:
    """A corpus of test rows without labels."""
    names = utterances.get_column("utterance_id").to_list()
    splits = [{"utterance_id": name, "fold": 0, "split": "test"} for name in names]
    write_table(UTTERANCES, utterances, layout.utterances(CORPUS))
    write_table(LABELS, LABELS.frame([]), layout.labels(CORPUS))
    write_table(SPLIT, SPLIT.frame(splits), layout.splits(CORPUS))


def _says(part: Part, layout: Layout) -> PartSays:
    said = outputs_of(part, layout, set())
    seen = seen_of(part, layout, said.present, said.ids)
    return PartSays(said, seen, classes_of(part, said), values_of(part, said))
