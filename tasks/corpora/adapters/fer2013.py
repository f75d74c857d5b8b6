"""FER2013: faces of 48 x 48 grey pixels in seven classes, with Huo & Ge's VAD where it is there.

Three forms are read:

* pictures in folders ``train|validation|test/<class>/*.jpg`` (also Training, PublicTest,
  PrivateTest); a name beginning with ``PublicTest`` or ``PrivateTest`` decides between the two;
* ``fer2013.csv`` or ``icml_face_data.csv`` with columns emotion, pixels, Usage;
* tables of Huo & Ge (2024) with columns Valence, Arousal, Dominance (whole numbers -2 to 2),
  emotion and pixels; ``train``, ``public`` or ``private`` in a table's name says which part it is.

Later stages read pictures from files, and tables hold them as numbers. So their pictures are
written once as PNG, which changes no pixel, into ``affectloom_images`` beside the tables, with the
table's hash in ``source.json``; a changed table is written anew. Set ``faces: {detect: whole,
crop_px: 48, crop_format: png}`` for the corpus: the pictures are the faces (``params/faces.yaml``).
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.source import IMAGES, aside, choose, list_files, read_csv, single, with_stems
from tasks.media.hashes import hash_file
from tasks.targets import VAD

#: By number.
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE_PX = 48
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "publictest": "validation",
    "test": "test",
    "privatetest": "test",
}
_PARTS = {"train": "train", "public": "validation", "private": "test"}
_PIXELS = SIDE_PX * SIDE_PX
_REMEDY = "take the table of the Kaggle challenge or of Huo & Ge"

CARD = ProtocolCard(
    name="fer2013",
    citation="Goodfellow et al., ICML 2013 challenges; VAD: Huo and Ge, IEEE Access 2024",
    licence="web images, for research",
    expected_utterances=35_887,
    label_map={name: name for name in EMOTIONS},
    scales=dict.fromkeys(VAD, "fer_vad"),
    splits="28,709 training images, 3,589 of the public test (validation), 3,589 of the private",
)


#: What ``params.yaml`` may say of the corpus.
OPTIONS = {"form": ("auto", "vad", "csv", "folders")}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The faces under ``root``.

    Args:
        root: folder with class folders or tables.
        options: ``form``: ``auto`` (default: tables with VAD before tables without before
            folders), ``vad``, ``csv`` or ``folders``.
    """
    form = choose("fer2013", options, OPTIONS)["form"]
    with_vad, plain = _tables(root)
    if form == "vad" or (form == "auto" and with_vad):
        return _from_tables(root, with_vad, "with VAD", has_vad=True)
    if form == "csv" or (form == "auto" and plain):
        return _from_tables(root, plain, "of the challenge", has_vad=False)
    return _from_folders(root)


def _tables(root: Path) -> tuple[list[Path], list[Path]]:
    """Tables with VAD and tables without, told apart by their first line."""
    with_vad, plain = [], []
    for path in sorted(root.glob("*.csv")):
        with path.open("rb") as stream:
            head = stream.readline(1 << 16).decode("utf-8", "replace").lower()
        names = {name.strip().strip('"\ufeff') for name in head.split(",")}
        if {"pixels", *VAD} <= names:
            with_vad.append(path)
        elif {"pixels", "usage"} <= names:
            plain.append(path)
    return with_vad, plain


def _from_folders(root: Path) -> Corpus:
    files = with_stems(list_files(root, (".jpg", ".jpeg", ".png")))
    top = pl.col("media").str.split("/").list.get(-3, null_on_oob=True).str.to_lowercase()
    prefix = pl.col("stem").str.extract(r"^(Training|PublicTest|PrivateTest)").str.to_lowercase()
    rows = files.with_columns(
        split=top.replace_strict(_SPLITS, default=None, return_dtype=pl.String),
        named=prefix.replace_strict(_SPLITS, default=None, return_dtype=pl.String),
    )
    # a name may settle which test it is, never whether it is training
    clash = (pl.col("split") == "train") != (pl.col("named") == "train")
    problem = (
        pl.when(pl.col("split").is_null())
        .then(pl.lit("it lies in no folder <split>/<class>; move it there"))
        .when(clash.fill_null(False))
        .then(pl.lit("its name belongs to another split than its folder; move it there"))
    )
    rows = rows.with_columns(problem=problem, split=pl.coalesce("named", "split"))
    bad = rows.filter(pl.col("problem").is_not_null())
    rows = rows.filter(pl.col("problem").is_null())
    ids = single(pl.col("media"))
    utterances = rows.select(*ids, "media", published_split="split")
    annotations = rows.select(
        ids[0],
        rater=pl.lit("released"),
        target=pl.lit("category"),
        label=pl.col("folder").str.to_lowercase(),
        source=pl.lit("folder"),
    )
    detail = pl.format("{}: {}", "media", "problem")
    quarantine = aside(bad, pl.col("media"), "bad_folder", detail)
    return Corpus(utterances, annotations, quarantine, replace(CARD, scales=None))


def _from_tables(root: Path, tables: list[Path], what: str, has_vad: bool) -> Corpus:
    if not tables:
        raise UserError(f"{root}: no table {what} is there; {_REMEDY} or change option form")
    parts = []
    for path in tables:
        columns = ["emotion", "pixels", *(VAD if has_vad else ["Usage"])]
        table = read_csv(path, columns, _REMEDY)
        table = table.with_columns(_split_of(path) if has_vad else _split_of_usage())
        table = table.with_columns(
            list=pl.lit(path.name),
            media=pl.format(f"{IMAGES}/{path.stem}/{{}}.png", _padded(pl.col("line"))),
        )
        parts.append(_write_pictures(root, path, table))
    rows = pl.concat(parts)
    bad = rows.filter(pl.col("problem").is_not_null())
    rows = rows.filter(pl.col("problem").is_null())
    code = pl.col("emotion").cast(pl.Int64, strict=False)
    ids = single(pl.col("media").str.strip_prefix(f"{IMAGES}/").str.strip_suffix(".png"))
    utterances = rows.select(*ids, "media", published_split="split")
    judgement = {"rater": pl.lit("annotator"), "source": pl.col("list")}
    annotations = [
        rows.select(
            ids[0],
            **judgement,
            target=pl.lit("category"),
            value=pl.lit(None, pl.String),
            # an unknown number stays as it is, so that the stage labels can name it
            label=code.replace_strict(dict(enumerate(EMOTIONS)), default=pl.col("emotion")),
        )
    ]
    if has_vad:
        annotations += [
            rows.select(
                ids[0],
                **judgement,
                target=pl.lit(dim),
                value=pl.col(dim),
                label=pl.lit(None, pl.String),
            )
            for dim in VAD
        ]
    quarantine = aside(
        bad,
        pl.format("{}:{}", "list", "line"),
        "bad_pixels",
        pl.format("{} line {}: {}; mend the row", "list", "line", "problem"),
    )
    card = replace(CARD, expected_utterances=None) if has_vad else replace(CARD, scales=None)
    return Corpus(utterances, pl.concat(annotations), quarantine, card)


def _padded(number: pl.Expr) -> pl.Expr:
    return number.cast(pl.String).str.zfill(5)


def _split_of(path: Path) -> pl.Expr:
    found = [split for word, split in _PARTS.items() if word in path.stem.lower()]
    if len(found) != 1:
        raise UserError(
            f"{path}: its name says none of {', '.join(_PARTS)}; rename it to the part it is"
        )
    return pl.lit(found[0]).alias("split")


def _split_of_usage() -> pl.Expr:
    usage = pl.col("Usage").str.to_lowercase()
    # an unknown word stays as it is, so that ingest can name it
    return usage.replace_strict(_SPLITS, default=pl.col("Usage")).alias("split")


def _write_pictures(root: Path, path: Path, table: pl.DataFrame) -> pl.DataFrame:
    """Add ``problem``, and write the pictures of rows that have none unless they are there."""
    folder = root / IMAGES / path.stem
    about = {"table": path.name, "sha256": hash_file(path)}
    counts = pl.col("pixels").str.count_matches(r"\S+")
    table = table.with_columns(
        problem=pl.when(pl.col("pixels").is_null())
        .then(pl.lit("there are no pixels"))
        .when(counts != _PIXELS)
        .then(pl.format("there are {} numbers instead of " + str(_PIXELS) + " pixels", counts))
        .when(~pl.col("pixels").str.contains(r"^[\d\s]+$"))
        .then(pl.lit("a pixel is no whole number"))
        # any number of four digits, or of three above 255
        .when(pl.col("pixels").str.contains(r"\b(\d{4,}|25[6-9]|2[6-9]\d|[3-9]\d\d)\b"))
        .then(pl.lit("a pixel is above 255"))
    )
    if _is_done(folder, about):
        return table.drop("pixels")
    good = table.filter(pl.col("problem").is_null())
    try:
        folder.parent.mkdir(exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", dir=folder.parent))
        try:
            for media, pixels in good.select("media", "pixels").iter_rows():
                grey = np.array(pixels.split(), np.uint8).reshape(SIDE_PX, SIDE_PX)
                Image.fromarray(grey).save(temporary / Path(media).name, "PNG")
            (temporary / "source.json").write_text(json.dumps(about, sort_keys=True) + "\n")
            temporary.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write {folder} ({error.strerror or error}); the pictures of {path.name} go "
            "there, so free space or allow writing"
        ) from error
    return table.drop("pixels")


def _is_done(folder: Path, about: Mapping[str, str]) -> bool:
    try:
        return json.loads((folder / "source.json").read_text()) == about
    except (OSError, ValueError):
        return False
