"""Hume-Vidmimic2, the corpus of the EMI challenge: six intensities of people who mimic videos.

``train_split.csv`` and ``valid_split.csv`` (columns Filename, Admiration, Amusement,
Determination, Empathic Pain, Excitement, Joy) lie beside a folder of mp4 files. Labels of the test
split were never released, so ``test_split.csv`` may have the column Filename alone. Who mimics is
not published: the splits share no speaker, but within one nothing is known, so ``speaker`` stays
empty. No words come with the corpus; who has transcripts of the clips names them by an option.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from pydantic import Field

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import Options, parse_options, read_text
from tasks.corpora.source import aside, list_files, read_csv, single, with_stems
from tasks.targets import EMI

#: Split to the names its list goes by.
_LISTS = {
    "train": ("train_split.csv",),
    "validation": ("valid_split.csv", "val_split.csv"),
    "test": ("test_split.csv",),
}
_COLUMNS = {name.replace("_", " ").title(): name for name in EMI}
_ENDING = r"\.[mM][pP]4$"
_FOLDERS = (".", "splits", "labels")

CARD = ProtocolCard(
    name="hume_vidmimic",
    citation="Kollias et al., the Affective Behavior Analysis in-the-wild (ABAW) competitions",
    licence="by agreement with the organisers, for research",
    scales={name: (0.0, 1.0, 1) for name in EMI},
    splits="the challenge's: speakers of one split are in no other; test labels are hidden",
)


class HumeOptions(Options):
    """How Hume-Vidmimic2 is read.

    Attributes:
        transcripts: words of the clips, in the corpus's folder: a CSV file with the columns
            Filename and Text, or a folder of text files named like the clips (``00001.txt``).
            Without them no clip has words.
    """

    transcripts: str | None = Field(None, min_length=1)


#: What ``params.yaml`` may say of the corpus.
OPTIONS = HumeOptions


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The clips that the lists under ``root`` name; ``options`` are ``HumeOptions``.

    Names are matched to mp4 files letter by letter: ``00001`` is not ``1``.
    """
    chosen = parse_options(HumeOptions, options, "hume_vidmimic")
    lists = {split: _find(root, names) for split, names in _LISTS.items()}
    if lists["train"] is None:
        raise UserError(
            f"{root / 'train_split.csv'} does not exist; put the challenge's split lists there"
        )
    parts = [_read(path, split) for split, path in lists.items() if path is not None]
    rows = pl.concat(parts)
    files = with_stems(list_files(root, (".mp4",)))
    first = files.unique("stem", keep="first", maintain_order=True).select("stem", "media")
    rows = rows.join(first, on="stem", how="left", maintain_order="left")
    spoken, unspoken = _spoken(root, chosen.transcripts, rows["stem"])
    rows = rows.join(spoken, on="stem", how="left", maintain_order="left")
    named = rows.filter(pl.col("stem").is_not_null())
    ids = single(pl.col("stem"))
    utterances = named.select(
        *ids,
        # a file that is not there keeps its name, so that ingest says which one is missing
        media=pl.coalesce("media", pl.format("{}.mp4", "stem")),
        text="text",
        language=pl.lit("en"),
        published_split="split",
    )
    annotations = (
        named.filter(pl.col("is_labelled"))
        .select(ids[0], pl.col("list").alias("source"), *_COLUMNS.values())
        .unpivot(
            list(_COLUMNS.values()),
            index=["utterance_id", "source"],
            variable_name="target",
            value_name="value",
        )
        .with_columns(rater=pl.lit("released"), scale_min=pl.lit(0.0), scale_max=pl.lit(1.0))
    )
    nameless = aside(
        rows.filter(pl.col("stem").is_null()),
        pl.format("{}:{}", "list", "line"),
        "missing_key",
        pl.format("{} line {}: Filename is empty; mend the list", "list", "line"),
    )
    twice = files.join(first, on="media", how="anti").join(named, on="stem", how="semi")
    again = aside(
        twice,
        pl.col("media"),
        "duplicate_file",
        pl.format("{} is there twice; the first in order of folders is kept", "stem"),
    )
    return Corpus(utterances, annotations, pl.concat([nameless, again, unspoken]), CARD)


def _spoken(
    root: Path, transcripts: str | None, stems: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Columns stem and text, each clip once, and transcripts that belong to no one clip."""
    if transcripts is None:
        rows = pl.DataFrame(schema={"stem": pl.String, "text": pl.String, "where": pl.String})
    elif (root / transcripts).is_dir():
        rows = _text_files(root, transcripts)
    else:
        remedy = "name a CSV file or a folder of text files in option transcripts of the adapter"
        table = read_csv(root / transcripts, ["Filename", "Text"], remedy)
        rows = table.select(
            stem=pl.col("Filename").str.replace(_ENDING, ""),
            text="Text",
            where=pl.format("{}:{}", pl.lit(transcripts), "line"),
        )
    rows = rows.filter(pl.col("text").is_not_null())
    is_strange = ~pl.col("stem").is_in(stems.implode()).fill_null(False)
    is_double = pl.col("text").n_unique().over("stem") > 1
    strange = aside(
        rows.filter(is_strange),
        pl.col("where"),
        "orphan_transcript",
        pl.format(
            "{}: no clip is called '{}'; mend the name", "where", pl.col("stem").fill_null("")
        ),
    )
    known = rows.filter(~is_strange)
    double = aside(
        known.filter(is_double),
        pl.col("where"),
        "transcript_conflict",
        pl.format("{}: clip '{}' has other words elsewhere; keep one of them", "where", "stem"),
    )
    kept = known.filter(~is_double).unique("stem", keep="first", maintain_order=True)
    return kept.select("stem", "text"), pl.concat([strange, double])


def _text_files(root: Path, folder: str) -> pl.DataFrame:
    """Stem, text (null where nothing is said) and place of every text file in ``folder``."""
    files = sorted((root / folder).glob("[!.]*.txt"))
    if not files:
        raise UserError(f"{root / folder}: no text file is there; name them like the clips")
    return pl.DataFrame(
        {
            "stem": [file.stem for file in files],
            "text": [" ".join(read_text(file).split()) or None for file in files],
            "where": [f"{folder}/{file.name}" for file in files],
        },
        schema={"stem": pl.String, "text": pl.String, "where": pl.String},
    )


def _find(root: Path, names: tuple[str, ...]) -> Path | None:
    paths = [root / folder / name for folder in _FOLDERS for name in names]
    return next((path for path in paths if path.is_file()), None)


def _read(path: Path, split: str) -> pl.DataFrame:
    remedy = "take the challenge's own list"
    labels = list(_COLUMNS)
    needed = ["Filename"] if split == "test" else ["Filename", *labels]
    table = read_csv(path, needed, remedy, optional=labels if split == "test" else ())
    values = [pl.col(column).alias(name) for column, name in _COLUMNS.items()]
    return table.select(
        "line",
        *values,
        stem=pl.col("Filename").str.replace(_ENDING, ""),
        list=pl.lit(path.name),
        split=pl.lit(split),
        is_labelled=pl.any_horizontal(pl.col(labels).is_not_null()) | (split != "test"),
    )
