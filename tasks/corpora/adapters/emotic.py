"""EMOTIC: people in context with 26 kinds of emotion and VAD from 1 to 10 (Kosti et al. 2019).

Read from the official ``Annotations/Annotations.mat`` (structures ``train``, ``val``, ``test`` of
images with one ``person`` or more), or from ``train.csv``, ``val.csv``, ``test.csv`` with columns
Folder, Filename, BBox, Categorical_Labels, Continuous_Labels. Every person is an utterance, the
persons of a picture are one dialogue, and the body's box is the utterance's ``region``.

A training person was seen by one annotator. Validation and test persons were seen by several, and
the released combination (union of labels, mean of VAD) is the published truth; it appears as rater
``released``, which need not be a whole number. Set ``faces: {detect: whole}`` for the corpus, so
that methods see the persons and not what a detector finds in them (``params/faces.yaml``).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.context import WorkerDied
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.boxes import add_regions
from tasks.corpora.claims import check_mat
from tasks.corpora.source import choose, read_csv
from tasks.plain_context import PlainContext
from tasks.tables.quarantine import QUARANTINE
from tasks.targets import VAD

LABELS = (
    "Affection",
    "Anger",
    "Annoyance",
    "Anticipation",
    "Aversion",
    "Confidence",
    "Disapproval",
    "Disconnection",
    "Disquietment",
    "Doubt/Confusion",
    "Embarrassment",
    "Engagement",
    "Esteem",
    "Excitement",
    "Fatigue",
    "Fear",
    "Happiness",
    "Pain",
    "Peace",
    "Pleasure",
    "Sadness",
    "Sensitivity",
    "Suffering",
    "Surprise",
    "Sympathy",
    "Yearning",
)
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_REMEDY = "take EMOTIC's own Annotations.mat"

CARD = ProtocolCard(
    name="emotic",
    citation="Kosti et al., IEEE TPAMI 42(11), 2020",
    licence="by agreement with the makers, for research",
    # persons with labels and VAD: 23,266 train, 3,315 validation, 7,203 test
    expected_utterances=33_784,
    scales=dict.fromkeys(VAD, "emotic"),
    splits="the release's own; all persons of a picture are in one split",
)


@dataclass
class _Rows:
    """Persons and judgements while they are read."""

    people: list[dict[str, object]] = field(default_factory=list)
    judgements: list[dict[str, object]] = field(default_factory=list)


#: What ``params.yaml`` may say of the corpus.
OPTIONS = {"raters": ("combined", "each")}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The annotated persons under ``root``.

    Args:
        root: folder with the annotations and the pictures (``emotic/mscoco/images`` and so on, or
            the same without ``emotic``).
        options: ``raters``: ``combined`` (default) takes the released combination where several
            people judged; ``each`` takes every annotator (Annotations.mat only).
    """
    raters = choose("emotic", options, OPTIONS)["raters"]
    pictures = "emotic/" if (root / "emotic").is_dir() else ""
    mat = next(
        (
            path
            for folder in ("Annotations", "annotations", ".")
            if (path := root / folder / "Annotations.mat").is_file()
        ),
        None,
    )
    if mat is not None:
        people, judgements = _read_mat(mat, pictures, raters == "each")
    else:
        if raters == "each":
            raise UserError(
                f"{root / 'Annotations/Annotations.mat'} does not exist; single annotators are "
                "only there, so copy it or leave the option raters out of params.yaml"
            )
        people, judgements = _read_tables(root, pictures)
    people = add_regions(people, root, "emotic")
    unusable = people.filter(pl.col("reason").is_not_null()).select(
        "utterance_id",
        pl.lit("ingest").alias("stage"),
        "reason",
        pl.format("{}: {}", "where", "detail").alias("detail"),
    )
    people = people.filter(pl.col("reason").is_null())
    utterances = people.select(
        "utterance_id", "dialogue_id", "turn", "media", "region", published_split="split"
    )
    # judgements of persons set aside go with them
    gone = unusable.select("utterance_id")
    judgements = judgements.join(gone, on="utterance_id", how="anti", maintain_order="left")
    return Corpus(utterances, judgements, unusable.select(list(QUARANTINE.columns)), CARD)


_PEOPLE = {
    "utterance_id": pl.String,
    "dialogue_id": pl.String,
    "turn": pl.Int32,
    "media": pl.String,
    "x0_px": pl.Float64,
    "y0_px": pl.Float64,
    "x1_px": pl.Float64,
    "y1_px": pl.Float64,
    "split": pl.String,
    "where": pl.String,
}
_JUDGEMENTS = {
    "utterance_id": pl.String,
    "rater": pl.String,
    "target": pl.String,
    "value": pl.Float64,
    "label": pl.String,
    "source": pl.String,
    "position": pl.Int32,
}


# the official file --------------------------------------------------------------------------------


def _read_mat(path: Path, pictures: str, each: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Utterances and judgements, read in a process of its own: damage can crash scipy's reader."""
    check_mat(path)
    try:
        return PlainContext().alone(partial(_parse_mat, pictures=pictures, each=each), path)
    except WorkerDied as error:
        reason = "reading it crashed"
        raise UserError(f"{path}: not a readable MATLAB file ({reason}); {_REMEDY}") from error


def _parse_mat(path: Path, pictures: str, each: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    from scipy.io import loadmat

    try:
        found = loadmat(path, struct_as_record=False, squeeze_me=True)
    except (
        Exception
    ) as error:  # of damaged files scipy raises zlib's, Index-, UnboundLocalErrors...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable MATLAB file ({reason}); {_REMEDY}") from error
    missing = [name for name in _SPLITS if name not in found]
    if missing:
        raise UserError(f"{path}: holds no structure '{missing[0]}'; {_REMEDY}")
    rows = _Rows()
    try:
        for name, split in _SPLITS.items():
            for number, image in enumerate(np.atleast_1d(found[name]), start=1):
                where = f"{path.name}:{name}({number})"
                _add_image(rows, image, split, where, pictures, each)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {where} has another form ({error}); {_REMEDY}") from error
    return (
        pl.DataFrame(rows.people, schema=_PEOPLE),
        pl.DataFrame(rows.judgements, schema=_JUDGEMENTS),
    )


def _add_image(rows: _Rows, image: Any, split: str, where: str, pictures: str, each: bool) -> None:
    media = f"{pictures}{image.folder}/{image.filename}"
    for number, person in enumerate(np.atleast_1d(image.person)):
        utterance = f"{media}/person{number}"
        box = [float(value) for value in np.ravel(person.body_bbox)]
        corners = box if len(box) == 4 else [None] * 4
        rows.people.append(
            {
                "utterance_id": utterance,
                "dialogue_id": media,
                "turn": number,
                "media": media,
                **dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), corners, strict=True)),
                "split": split,
                "where": f"{where}.person({number + 1})",
            }
        )
        for rater, labels, vad in _views(person, split, each):
            common: dict[str, object] = {"utterance_id": utterance, "rater": rater, "source": split}
            rows.judgements += [
                {**common, "target": "categories", "label": str(label), "position": place}
                for place, label in enumerate(labels)
            ]
            rows.judgements += [
                {**common, "target": dim, "value": value}
                for dim, value in zip(VAD, vad, strict=True)
                if value is not None
            ]


def _views(
    person: Any, split: str, each: bool
) -> Iterator[tuple[str, Iterable[object], list[float | None]]]:
    """Rater, labels and VAD of a person, as the release or the single annotators say."""
    if split != "train" and not each:
        yield (
            "released",
            np.atleast_1d(person.combined_categories),
            _vad(np.atleast_1d(person.combined_continuous)),
        )
        return
    seen = np.atleast_1d(person.annotations_categories)
    rated = np.atleast_1d(person.annotations_continuous)
    for number in range(max(len(seen), len(rated))):
        labels = np.atleast_1d(seen[number].categories) if number < len(seen) else ()
        vad = _vad(rated[number : number + 1])
        yield f"annotator_{number + 1}", labels, vad


def _vad(found: np.ndarray) -> list[float | None]:
    """Valence, arousal, dominance; NaN stays NaN, so that ingest can say that it is missing."""
    if not len(found):
        return [None] * 3
    return [float(np.ravel(getattr(found[0], dim))[0]) for dim in VAD]


# the tables ---------------------------------------------------------------------------------------


def _read_tables(root: Path, pictures: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    folders = [f for f in (".", "emotic_pre", "Annotations") if (root / f / "train.csv").is_file()]
    if not folders:
        raise UserError(
            f"{root}: neither Annotations/Annotations.mat nor train.csv is there; {_REMEDY}"
        )
    columns = ["Folder", "Filename", "BBox", "Categorical_Labels", "Continuous_Labels"]
    parts = []
    for name, split in _SPLITS.items():
        path = root / folders[0] / f"{name}.csv"
        table = read_csv(path, columns, "write it from EMOTIC's own Annotations.mat")
        parts.append(
            table.with_columns(
                split=pl.lit(split), where=pl.format(f"{path.name}:{{}}", pl.col("line"))
            )
        )
    number = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan)"
    media = pl.format(pictures + "{}/{}", "Folder", "Filename")
    rows = pl.concat(parts).with_columns(
        dialogue_id=media,
        media=media,
        box=pl.col("BBox").str.extract_all(number).cast(pl.List(pl.Float64)),
        vad=pl.col("Continuous_Labels").str.extract_all(number).cast(pl.List(pl.Float64)),
        labels=pl.col("Categorical_Labels").str.extract_all(r"'[^']*'"),
        turn=pl.int_range(pl.len(), dtype=pl.Int32).over("Folder", "Filename"),
    )
    rows = rows.with_columns(
        utterance_id=pl.format("{}/person{}", "dialogue_id", "turn"),
        **{
            name: pl.when(pl.col("box").list.len() == 4).then(
                pl.col("box").list.get(n, null_on_oob=True)
            )
            for n, name in enumerate(("x0_px", "y0_px", "x1_px", "y1_px"))
        },
    )
    rater = pl.when(pl.col("split") == "train").then(pl.lit("annotator_1"))
    judgement = {"rater": rater.otherwise(pl.lit("released")), "source": pl.col("split")}
    rows = rows.with_columns(place=pl.int_ranges(pl.col("labels").list.len()))
    labels = rows.explode("labels", "place").filter(pl.col("labels").is_not_null())
    found = [
        labels.select(
            "utterance_id",
            **judgement,
            target=pl.lit("categories"),
            label=pl.col("labels").str.strip_chars("'"),
            position=pl.col("place"),
        )
    ]
    found += [
        rows.select(
            "utterance_id",
            **judgement,
            target=pl.lit(dim),
            # a list of another length is no VAD: NaN, so that ingest can say that it is missing
            value=pl.when(pl.col("vad").list.len() == 3)
            .then(pl.col("vad").list.get(n, null_on_oob=True))
            .otherwise(float("nan")),
        )
        for n, dim in enumerate(VAD)
    ]
    judgements = pl.concat(found, how="diagonal").select(list(_JUDGEMENTS)).cast(_JUDGEMENTS)
    return rows.select(list(_PEOPLE)), judgements
