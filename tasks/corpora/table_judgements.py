"""Judgements in a table of the user's own, wide or long, in its file or another; in parts."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from models.errors import UserError, nearest
from tasks.corpora import table_rows
from tasks.corpora.files import blank_to_null, judgements
from tasks.corpora.table_files import LIST_MARK, read_table_parts
from tasks.corpora.table_options import LabelOptions, TableOptions, TargetOptions
from tasks.corpora.table_rows import read_rows
from tasks.targets import FAMILIES, WORDS


def read_judgements(
    root: Path, options: TableOptions, utterances: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Part after part, at least one; what only all of them show is checked in the end."""
    labels = options.labels
    if not labels.targets and not labels.is_long:
        yield judgements([])
        return
    height = 0
    said = pl.DataFrame(schema={"utterance_id": pl.String, "file": pl.String, "word": pl.String})
    blank = dict(labels.targets)
    for votes in _votes(root, options, utterances):
        height += votes.height
        if labels.is_long:
            said = _first_said(votes, labels, said)
            yield judgements([_long(votes, labels)])
            continue
        frames = []
        for name, target in labels.targets.items():
            own = [
                _wide(votes, name, target, rater, column, labels.rater)
                for rater, column in target.raters().items()
            ]
            if any(frame.height for frame in own):
                blank.pop(name, None)
            frames += own
        yield judgements(frames)
    if labels.is_long:
        _check_targets(said, labels)
    for name, target in blank.items() if height and not labels.is_long else ():
        raise UserError(
            f"{root / (labels.file or options.file)}: {name} is blank in all {height} "
            f"rows (column {', '.join(target.raters().values())}); fill it in, or take it out "
            "of labels.targets"
        )


def _votes(root: Path, options: TableOptions, utterances: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Columns of judgements with ``utterance_id`` and ``file``, part after part."""
    if options.labels.file is not None:
        yield from _other_file(root, options, utterances)
        return
    prefix = "label:"
    for rows, _ in read_rows(root, options, _label_columns(options.labels)):
        yield rows.select(
            "utterance_id",
            "file",
            pl.col(f"^{prefix}.*$").name.map(lambda name: name.removeprefix(prefix)),
        )


def _first_said(votes: pl.DataFrame, labels: LabelOptions, said: pl.DataFrame) -> pl.DataFrame:
    """Each word for a target, where it stands first."""
    assert labels.target is not None
    words = votes.select("utterance_id", "file", word=blank_to_null(labels.target))
    both = pl.concat([said, words.drop_nulls("word")])
    return both.unique("word", keep="first", maintain_order=True)


def _check_targets(first: pl.DataFrame, labels: LabelOptions) -> None:
    """The long form names no target that is nearly another, or that stands for one declared."""
    names = {target.name or name: name for name, target in labels.targets.items()}
    words = first["word"].to_list()
    for number, word in enumerate(words):
        near = nearest(word, FAMILIES, 0.8)
        if word not in names and word not in FAMILIES and near:
            raise UserError(
                f"{first['file'][number]}: column {labels.target} says '{word}' at "
                f"{first['utterance_id'][number]}; did you mean '{near}'? Mend it, or name it "
                "in labels.targets"
            )
    strange = [word for word in words if word not in names and word not in FAMILIES]
    for name in names if strange else ():
        if name not in words:
            raise UserError(
                f"{first['file'][0]}: column {labels.target} never says '{name}', but "
                f"'{strange[0]}', which no target is called; mend one or the other"
            )


def _other_file(
    root: Path, options: TableOptions, utterances: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Judgements of another file with the ids of their utterances; unknown ones keep theirs."""
    labels = options.labels
    assert labels.file is not None
    id_column = labels.utterance or options.columns["utterance"]
    assert isinstance(id_column, str)
    keys = [id_column] if labels.dialogue is None else [id_column, labels.dialogue]
    cells = _label_columns(labels)
    # a row of the long form is one judgement, whatever columns say it
    rows = table_rows.CELLS if labels.is_long else max(1, table_rows.CELLS // max(1, len(cells)))
    columns = [*keys, *cells]
    known = None
    for part in read_table_parts(
        root / labels.file, columns, options.delimiter, options.encoding, rows
    ):
        votes = part.with_columns(utterance=blank_to_null(id_column), file=pl.lit(labels.file))
        if labels.dialogue is not None:
            yield votes.with_columns(
                utterance_id=pl.format(
                    "{}/{}", blank_to_null(labels.dialogue).fill_null("?"), "utterance"
                )
            )
            continue
        known = _by_name(root, options, utterances) if known is None else known
        yield votes.join(known, on="utterance", how="left", maintain_order="left").with_columns(
            utterance_id=pl.coalesce("full", pl.format("?/{}", "utterance"))
        )


def _by_name(root: Path, options: TableOptions, utterances: pl.DataFrame) -> pl.DataFrame:
    """The full id of each utterance by its name in the table, where one name is one utterance."""
    known = utterances.select("utterance", full="utterance_id").unique(maintain_order=True)
    again = known.filter(pl.col("utterance").is_duplicated())
    if again.height:
        raise UserError(
            f"{root / options.file}: the id '{again['utterance'][0]}' stands in two dialogues, so "
            f"{options.labels.file} does not say which is meant; name its column of dialogues in "
            "options.labels.dialogue of params.yaml"
        )
    return known


def _wide(
    votes: pl.DataFrame,
    name: str,
    target: TargetOptions,
    rater: str,
    column: str,
    rater_column: str | None,
) -> pl.DataFrame:
    """One column of judgements; a blank field means that this rater did not judge."""
    given = votes.filter(blank_to_null(column).is_not_null())
    rows = given.select(
        "utterance_id",
        rater=pl.lit(rater) if rater_column is None else blank_to_null(rater_column),
        target=pl.lit(name),
        said=pl.col(column),
        source="file",
    )
    return _finish(rows, name, target)


def _long(votes: pl.DataFrame, labels: LabelOptions) -> pl.DataFrame:
    """One row for each judgement; targets that are not declared keep their names and no scale."""
    assert labels.target is not None
    names = {target.name or name: name for name, target in labels.targets.items()}
    value = pl.lit(None, pl.String) if labels.value is None else pl.col(labels.value)
    label = value if labels.label is None else pl.col(labels.label)
    rows = votes.select(
        "utterance_id",
        rater=pl.lit("released") if labels.rater is None else blank_to_null(labels.rater),
        target=blank_to_null(labels.target).replace(names),
        source="file",
        value=value,
        label=label,
    )
    frames = []
    for name in rows["target"].unique(maintain_order=True):
        part = rows.filter(pl.col("target").eq_missing(pl.lit(name, pl.String)))
        target = labels.targets.get(name or "", TargetOptions())
        said = "label" if name in WORDS else "value"
        frames.append(_finish(part.with_columns(said=pl.col(said)), name or "", target))
    return judgements(frames)


def _finish(rows: pl.DataFrame, name: str, target: TargetOptions) -> pl.DataFrame:
    """Judgements of one target from what was ``said``: a number as text, a label, or several."""
    low, high = target.scale if target.scale is not None else (None, None)
    rows = rows.select(
        "utterance_id",
        "rater",
        "target",
        "said",
        "source",
        scale_min=pl.lit(low, pl.Float64),
        scale_max=pl.lit(high, pl.Float64),
    )
    if name not in WORDS:
        return rows.rename({"said": "value"})
    if name == "category":
        return rows.with_columns(label=blank_to_null("said")).drop("said")
    parts = pl.col("said").str.replace_all(target.separator, LIST_MARK, literal=True)
    labels = parts.str.split(LIST_MARK).list.eval(pl.element().str.strip_chars())
    rows = rows.with_columns(
        label=labels.list.eval(pl.element().filter(pl.element() != "")),
        is_empty=pl.col("said") == LIST_MARK,
    ).explode("label", empty_as_null=True)
    # who gave an empty list looked for the labels and found none of them: he denies the first
    denied = pl.col("label").min()
    return rows.with_columns(
        value=pl.when(pl.col("is_empty") & denied.is_not_null()).then(pl.lit("0")),
        label=pl.when("is_empty").then(denied).otherwise("label"),
    ).drop("said", "is_empty")


def _label_columns(labels: LabelOptions) -> list[str]:
    """Columns of the judgements' file, beside the ids."""
    named = [labels.rater, labels.target, labels.value, labels.label]
    wide = [column for target in labels.targets.values() for column in target.raters().values()]
    return list(dict.fromkeys(name for name in [*named, *wide] if name is not None))
