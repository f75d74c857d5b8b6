"""AffectNet: faces from the web with one of eight expressions, valence and arousal.

Mollahosseini et al. 2017. Two forms of the lists are read:

* the first release's ``training.csv`` and ``validation.csv`` (columns subDirectory_filePath,
  face_x, face_y, face_width, face_height, facial_landmarks, expression, valence, arousal) beside
  ``Manually_Annotated_Images``; the face box becomes the utterance's ``region``;
* lists ``number,exp,val,aro`` beside ``train_set/images/<number>.jpg`` and ``val_set/images``,
  whose pictures are cropped faces.

The official validation set is what everybody reports on, so it becomes the split ``test``; a
validation part is cut from the training images. -2 stands for "not annotated" and is
counted by that name. Set ``faces: {detect: whole}`` for the corpus: the crops, or the boxes, are
the faces already (``params/faces.yaml``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.boxes import add_regions
from tasks.corpora.source import aside, choose, read_csv, single
from tasks.tables.quarantine import QUARANTINE

#: By number: the eight expressions, then what is none of them.
EXPRESSIONS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
    "none",
    "uncertain",
    "no_face",
)
#: Published counts by form of the lists and ``classes``; training and validation together.
_COUNTS = {
    ("release", 8): 287_651 + 4_000,
    ("release", 7): 283_901 + 3_500,
    ("release", "all"): 414_799 + 5_500,
    ("crops", 8): 287_651 + 3_999,
    ("crops", 7): 283_901 + 3_500,
    ("crops", "all"): 287_651 + 3_999,
}

CARD = ProtocolCard(
    name="affectnet",
    citation="Mollahosseini et al., IEEE Trans. Affective Computing 10(1), 2019",
    licence="by agreement with the makers, for research",
    expected_utterances=_COUNTS["release", 8],
    label_map={
        "neutral": "neutral",
        "happiness": "happy",
        "sadness": "sad",
        "surprise": "surprise",
        "fear": "fear",
        "disgust": "disgust",
        "anger": "angry",
        "contempt": "contempt",
        "none": None,
        "uncertain": None,
        "no_face": None,
    },
    scales={"valence": "affectnet", "arousal": "affectnet"},
    splits="the official validation set is the test part; no validation part is published",
)


@dataclass(frozen=True)
class _Form:
    """A form of the lists.

    Attributes:
        lists: split to file name.
        folders: where lists may lie, relative to the corpus.
        columns: image, expression, valence, arousal.
        images: split to folders where pictures may lie.
        boxes: left, top, width, height in pixels; empty where pictures are cropped.
    """

    lists: Mapping[str, str]
    folders: tuple[str, ...]
    columns: tuple[str, str, str, str]
    images: Mapping[str, tuple[str, ...]]
    boxes: tuple[str, ...] = ()


_FORMS = {
    "release": _Form(
        {"train": "training.csv", "test": "validation.csv"},
        (".", "Manually_Annotated_file_lists", "Manually_Annotated"),
        ("subDirectory_filePath", "expression", "valence", "arousal"),
        dict.fromkeys(
            ("train", "test"),
            ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images"),
        ),
        ("face_x", "face_y", "face_width", "face_height"),
    ),
    "crops": _Form(
        {
            "train": "train_set_annotation_without_lnd.csv",
            "test": "val_set_annotation_without_lnd.csv",
        },
        (".", "affectnet_annotations"),
        ("number", "exp", "val", "aro"),
        {"train": ("train_set/images",), "test": ("val_set/images",)},
    ),
}
_REMEDY = "take the list of AffectNet's own release"


#: What ``params.yaml`` may say of the corpus.
OPTIONS = {"classes": (8, 7, "all")}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The annotated images under ``root``.

    Args:
        root: folder with the lists and the pictures.
        options: ``classes``: 8 (default), 7 (without contempt), or ``all`` (also ``none``,
            ``uncertain`` and ``no_face``, whose category stays empty). What a protocol leaves out
            is counted in quarantine as ``not_in_protocol``.
    """
    classes = choose("affectnet", options, OPTIONS)["classes"]
    name, form, lists = _find(root)
    rows = pl.concat([_read(root, form, path, split) for split, path in lists.items()])
    code = pl.col("expression").cast(pl.Int64, strict=False)
    rows = rows.with_columns(
        label=code.replace_strict(dict(enumerate(EXPRESSIONS)), default=pl.col("expression")),
        code=code,
    )
    most = len(EXPRESSIONS) if classes == "all" else int(str(classes))
    left_out = rows.filter(pl.col("code").is_between(most, len(EXPRESSIONS) - 1))
    rows = rows.filter(~pl.col("code").is_between(most, len(EXPRESSIONS) - 1).fill_null(False))
    quarantine = [
        aside(
            left_out,
            pl.col("media"),
            "not_in_protocol",
            pl.format(
                "{} line {}: {} is no class of AffectNet-" + str(classes) + "; see option classes",
                "list",
                "line",
                "label",
            ),
        )
    ]
    nameless = rows.filter(pl.col("image").is_null())
    where = pl.format("{}:{}", "list", "line")
    detail = pl.format("{} line {}: no image is named; mend the list", "list", "line")
    quarantine.append(aside(nameless, where, "missing_key", detail))
    rows = rows.filter(pl.col("image").is_not_null())
    if form.boxes:
        rows = add_regions(rows, root, "affectnet")
        bad = rows.filter(pl.col("reason").is_not_null())
        quarantine.append(
            bad.select(
                pl.format("{}/0", "media").alias("utterance_id"),
                pl.lit("ingest").alias("stage"),
                "reason",
                pl.format("{} line {}: {}", "list", "line", "detail").alias("detail"),
            ).select(list(QUARANTINE.columns))
        )
        rows = rows.filter(pl.col("reason").is_null())
    else:
        rows = rows.with_columns(region=pl.lit(None, pl.List(pl.Float64)))
    ids = single(pl.col("media"))
    utterances = rows.select(*ids, "media", "region", published_split="split")
    judgement = {"rater": pl.lit("annotator"), "source": pl.col("list")}
    category = rows.select(
        ids[0],
        **judgement,
        target=pl.lit("category"),
        value=pl.lit(None, pl.String),
        label="label",
    )
    values = [
        rows.select(
            ids[0],
            **judgement,
            target=pl.lit(target),
            value=pl.col(target),
            label=pl.lit(None, pl.String),
        )
        for target in ("valence", "arousal")
    ]
    card = replace(CARD, expected_utterances=_COUNTS[name, classes])
    return Corpus(utterances, pl.concat([category, *values]), pl.concat(quarantine), card)


def _find(root: Path) -> tuple[str, _Form, dict[str, Path]]:
    for name, form in _FORMS.items():
        for folder in form.folders:
            lists = {split: root / folder / file for split, file in form.lists.items()}
            found = {split: path for split, path in lists.items() if path.is_file()}
            if found:
                return name, form, found
    names = " or ".join(file for form in _FORMS.values() for file in form.lists.values())
    raise UserError(f"{root}: no list of AffectNet is there ({names}); {_REMEDY}")


def _read(root: Path, form: _Form, path: Path, split: str) -> pl.DataFrame:
    table = read_csv(path, [*form.columns, *form.boxes], _REMEDY)
    image, expression, valence, arousal = form.columns
    folder = next((f for f in form.images[split] if (root / f).is_dir()), form.images[split][0])
    file = pl.col(image) if form.boxes else pl.format("{}.jpg", pl.col(image))
    boxes: list[pl.Expr] = []
    if form.boxes:
        x, y, width, height = (pl.col(n).cast(pl.Float64, strict=False) for n in form.boxes)
        boxes = [
            x.alias("x0_px"),
            y.alias("y0_px"),
            (x + width).alias("x1_px"),
            (y + height).alias("y1_px"),
        ]
    return table.select(
        "line",
        *boxes,
        image=pl.col(image),
        media=pl.format(f"{folder}/{{}}", file),
        expression=pl.col(expression),
        valence=pl.col(valence),
        arousal=pl.col(arousal),
        list=pl.lit(path.name),
        split=pl.lit(split),
    )
