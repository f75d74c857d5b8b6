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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import polars as pl

from models.errors import UserError, nearest
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import (
    ROW,
    UTTERANCE_COLUMNS,
    blank_to_null,
    is_no_number,
    judgements,
    parse_options,
    set_aside,
    to_number,
)
from tasks.corpora.table_files import LIST_MARK, read_table_parts
from tasks.corpora.table_options import (
    LabelOptions,
    TableField,
    TableOptions,
    TargetOptions,
)
from tasks.row_checks import RowCheck, judge
from tasks.targets import FAMILIES, WORDS

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
#: Fields of judgements that are read together.
_CELLS = 1 << 18


#: What ``params.yaml`` may say of the corpus.
OPTIONS = TableOptions


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The table ``options.file`` under ``root``."""
    chosen = parse_options(TableOptions, options, "table")
    parts = [(_utterances(rows, chosen), aside) for rows, aside in _screened(root, chosen, ())]
    utterances = pl.concat((own for own, _ in parts), rechunk=True)
    quarantine = pl.concat(aside for _, aside in parts)
    del parts
    if "turn" not in chosen.columns:
        utterances = utterances.with_columns(
            turn=pl.int_range(pl.len()).over("dialogue_id").cast(pl.Int32)
        )
    judged = _judgements(root, chosen, utterances)
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
        region=_region(),
        published_split=_split(chosen),
        sex=pl.col("sex").str.to_lowercase().replace(_SEXES),  # other words ingest names
        age=to_number("age"),
        dataset="dataset",
    )


def _screened(
    root: Path, options: TableOptions, own: Sequence[str]
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Part after part: rows whose fields can be read, with the columns ``own``, and the others.

    ``own`` are columns of judgements in the same file; rows have them as ``label:<column>``.
    """
    region = options.columns.get("region")
    corners = region if isinstance(region, list) else []
    single = [column for column in options.columns.values() if isinstance(column, str)]
    for part in read_table_parts(
        root / options.file,
        [*single, *corners, *own],
        options.delimiter,
        options.encoding,
        max(1, _CELLS // max(1, len(own))),
    ):
        yield _screen(_fields(part, options, own), options)


def _fields(part: pl.DataFrame, options: TableOptions, own: Sequence[str]) -> pl.DataFrame:
    """Our fields as strings, blanks as null, and the columns of judgements in the same file."""
    region = options.columns.get("region")
    single = {f: c for f, c in options.columns.items() if isinstance(c, str)}
    fields: dict[str, pl.Expr] = {}
    for field in get_args(TableField):
        if field in single:
            given = pl.col(single[field])
            fields[field] = blank_to_null(pl.when(given != LIST_MARK).then(given))
        elif field in options.constants:
            fields[field] = pl.lit(options.constants[field])
        else:
            fields[field] = pl.lit(None, pl.String)
    if isinstance(region, list):
        fields["region"] = pl.concat_str(
            [pl.col(name).fill_null("") for name in region], separator=LIST_MARK
        )
    if "dialogue" not in single:
        fields["dialogue"] = fields["utterance"]
    rows = part.select(ROW, *(pl.col(name).alias(f"label:{name}") for name in own), **fields)
    return rows.with_columns(
        utterance_id=pl.format("{}/{}", pl.col("dialogue").fill_null("?"), "utterance"),
        file=pl.lit(options.file),
    )


def _screen(rows: pl.DataFrame, options: TableOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose fields can be read, and quarantine rows that name file, row and column."""
    parts = _corners()
    numbers = parts.list.eval(pl.element().str.strip_chars().cast(pl.Float64, strict=False))
    bad_region = pl.col("region").is_not_null() & (
        (parts.list.len() != 4) | numbers.list.eval(pl.element().is_null()).list.any()
    )
    empty_region = pl.col("region").str.replace_all(LIST_MARK, "").str.strip_chars() == ""
    bad_turn = is_no_number("turn") | (to_number("turn") % 1 != 0)
    no_turn = pl.lit("turn" in options.columns) & pl.col("turn").is_null()
    rules: tuple[tuple[str, TableField, pl.Expr, str], ...] = (
        ("missing_key", "utterance", pl.col("utterance").is_null(), "is empty"),
        ("missing_key", "dialogue", pl.col("dialogue").is_null(), "is empty"),
        ("bad_turn", "turn", bad_turn | no_turn, "is no whole number"),
        ("bad_times", "start_s", is_no_number("start_s"), "is no number of seconds"),
        ("bad_age", "age", is_no_number("age"), "is no number of years"),
        ("bad_times", "end_s", is_no_number("end_s"), "is no number of seconds"),
        (
            "bad_region",
            "region",
            bad_region & ~empty_region,
            "is not x0, y0, x1, y1 as fractions of the picture",
        ),
    )
    checks = []
    for name, field, is_bad, what in rules:
        column = options.columns.get(field, field)
        shown = ", ".join(column) if isinstance(column, list) else column
        value = pl.col(field).fill_null("").str.replace_all(LIST_MARK, " ")
        sentence = pl.format(
            "{} row {}: column {}: '{}' " + what + "; mend the table",
            "file",
            ROW,
            pl.lit(shown),
            value,
        )
        checks.append(RowCheck(name, is_bad, sentence))
    judged = judge(rows, checks)
    key = pl.col("utterance_id").fill_null(pl.format("?/{}-{}", "file", ROW))
    broken = set_aside(judged.bad, key, pl.col("reason"), pl.col("detail"))
    return judged.good.with_columns(region=pl.when(~empty_region).then("region")), broken


def _split(options: TableOptions) -> pl.Expr:
    """The user's own words, else the usual ones in any case; others stay, for ingest to name."""
    usual = pl.col("split").str.to_lowercase().replace_strict(_SPLITS, default=pl.col("split"))
    return pl.col("split").replace_strict(options.splits, default=usual, return_dtype=pl.String)


def _corners() -> pl.Expr:
    """The parts of ``region``: a list, or numbers separated by blanks, commas or semicolons."""
    return (
        pl.col("region")
        .str.strip_chars("[]() ")
        .str.replace_all(rf"[\s,;{LIST_MARK}]+", LIST_MARK)
        .str.split(LIST_MARK)
    )


def _region() -> pl.Expr:
    return _corners().cast(pl.List(pl.Float64))


def _label_columns(labels: LabelOptions) -> list[str]:
    """Columns of the judgements' file, beside the ids."""
    named = [labels.rater, labels.target, labels.value, labels.label]
    wide = [column for target in labels.targets.values() for column in target.raters().values()]
    return list(dict.fromkeys(name for name in [*named, *wide] if name is not None))


def _judgements(
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
    for rows, _ in _screened(root, options, _label_columns(options.labels)):
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
    rows = _CELLS if labels.is_long else max(1, _CELLS // max(1, len(cells)))
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
