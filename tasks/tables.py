"""Every table's contract, declared once and checked whenever a table is written or read.

A stage can neither emit nor accept a broken table: ``write_table`` and ``read_table`` both call
``Table.check``, whose errors name the file, the column, the first offending rows and the remedy.
Ids are strings ``<corpus>/<dialogue>/<utterance>``; joins go by id, never by row order.
Modalities are ``audio``, ``video`` and ``text``. ``vad`` is valence, arousal, dominance in [-1, 1].
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from tasks.targets import KINDS, NUMBERS, ROW_OF, VAD

MODALITIES = ("audio", "video", "text")
SPLITS = ("train", "validation", "test")
SEXES = ("female", "male", "other")
STATUSES = ("ok", "degraded", "quarantined")

#: Rows in one Parquet row group: small enough to read one without its neighbours.
ROW_GROUP = 128


class TableError(UserError):
    """A table breaks its contract; the message names file, column, row and remedy."""


@dataclass(frozen=True)
class Column:
    """What one column holds. ``minimum`` and ``maximum`` are inclusive.

    A table that has nothing to say in an ``optional`` column is written without it; read, it is
    null.
    """

    dtype: pl.DataType | type[pl.DataType]
    meaning: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A named table: its columns in order, its key, and where broken rows come from.

    Rows are sorted by ``key`` on writing; unless ``is_unique`` is False, no two may share one.
    """

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    made_by: str
    checks: tuple["RowRule", ...] = ()
    is_unique: bool = True

    @property
    def schema(self) -> dict[str, pl.DataType | type[pl.DataType]]:
        """Column names and types in order."""
        return {name: column.dtype for name, column in self.columns.items()}

    def empty(self) -> pl.DataFrame:
        """A table with no rows."""
        return pl.DataFrame(schema=self.schema)

    def frame(self, rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
        """Rows as a frame with this table's columns and types; absent keys become null."""
        unknown = sorted({key for row in rows for key in row} - set(self.columns))
        if unknown:
            raise TableError(f"table {self.name}: no such column: {', '.join(unknown)}")
        return pl.DataFrame(
            {name: [row.get(name) for row in rows] for name in self.columns},
            schema=self.schema,
            strict=True,
        )

    def completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The same rows with null in each ``optional`` column that is not there, in order."""
        absent = {n: c for n, c in self.columns.items() if c.optional and n not in frame.columns}
        whole = frame.with_columns(pl.lit(None, c.dtype).alias(n) for n, c in absent.items())
        own = [name for name in self.columns if name in whole.columns]
        return whole.select(*own, *(name for name in whole.columns if name not in own))

    def check(self, frame: pl.DataFrame, where: str, columns: Sequence[str] | None = None) -> None:
        """Raise ``TableError`` unless ``frame`` keeps the contract.

        Args:
            frame: the rows.
            where: file name for the message.
            columns: only these columns were asked for (default: all must be there, in order).
        """
        wanted = list(columns) if columns is not None else list(self.columns)
        absent = {n for n, c in self.columns.items() if c.optional and n not in frame.columns}
        wanted = [name for name in wanted if name not in absent]
        self._check_columns(frame, where, wanted)
        for name in wanted:
            self._check_values(frame, where, name, self.columns[name])
        key = [name for name in self.key if name not in absent]
        if self.is_unique and set(key) <= set(wanted):
            repeated = frame.filter(pl.struct(key).is_duplicated())
            if repeated.height:
                first = repeated.select(key).row(0)
                raise TableError(
                    f"{where}: {repeated.height} rows share a key; the first is "
                    f"{self._row_name(first)}; keep one row per {', '.join(key)} "
                    f"(made by {self.made_by})"
                )
        for check in self.checks:
            if set(check.columns) <= set(wanted):
                broken = frame.filter(check.broken).select(self.key)
                if broken.height:
                    raise TableError(
                        f"{where}: {broken.height} rows break '{check.rule}'; the first is "
                        f"{self._row_name(broken.row(0))} (made by {self.made_by})"
                    )

    def _check_columns(self, frame: pl.DataFrame, where: str, wanted: list[str]) -> None:
        missing = [name for name in wanted if name not in frame.columns]
        extra = [name for name in frame.columns if name not in wanted]
        if missing or extra:
            parts = []
            if missing:
                parts.append(f"lacks column {', '.join(missing)}")
            if extra:
                parts.append(f"has unknown column {', '.join(extra)}")
            raise TableError(
                f"{where}: table {self.name} {' and '.join(parts)}; rerun {self.made_by}"
            )
        for name in wanted:
            expected, found = self.columns[name].dtype, frame.schema[name]
            if not _same_dtype(expected, found):
                raise TableError(
                    f"{where}: column {name} of table {self.name} is {found}, expected {expected}; "
                    f"rerun {self.made_by}"
                )

    def _check_values(self, frame: pl.DataFrame, where: str, name: str, column: Column) -> None:
        values = pl.col(name)
        rules: list[tuple[str, pl.Expr]] = []
        if not column.nullable:
            rules.append(("is empty", values.is_null()))
        if frame.schema[name].is_float():
            rules.append(("is not finite", values.is_not_null() & ~values.is_finite()))
        if column.minimum is not None:
            rules.append((f"is below {column.minimum:g}", values < column.minimum))
        if column.maximum is not None:
            rules.append((f"is above {column.maximum:g}", values > column.maximum))
        if column.choices is not None:
            rules.append(
                (
                    f"is none of {', '.join(column.choices)}",
                    values.is_not_null() & ~values.is_in(column.choices),
                )
            )
        for what, broken in rules:
            rows = frame.filter(broken)
            if not rows.height:
                continue
            key = [k for k in self.key if k in frame.columns]
            row = self._row_name(rows.select(key).row(0)) if key else "first such row"
            value = rows.get_column(name)[0]
            raise TableError(
                f"{where}: row {row}: {name} = {value!r} {what} ({rows.height} such rows); "
                f"mend the source or rerun {self.made_by}"
            )

    @staticmethod
    def _row_name(values: tuple) -> str:
        return " / ".join(str(value) for value in values if value is not None) or "without a key"


@dataclass(frozen=True)
class RowRule:
    """A rule over several columns; ``broken`` selects the rows that break it."""

    rule: str
    columns: tuple[str, ...]
    broken: pl.Expr


def _same_dtype(expected: pl.DataType | type[pl.DataType], found: pl.DataType) -> bool:
    if isinstance(expected, pl.Array) and expected.size == 0:  # any fixed width
        return isinstance(found, pl.Array) and found.inner == expected.inner
    return found == expected


_ID = Column(pl.String, "<corpus>/<dialogue>/<utterance>")

UTTERANCES = Table(
    "utterances",
    {
        "utterance_id": _ID,
        "dialogue_id": Column(pl.String, "<corpus>/<dialogue>"),
        "turn": Column(pl.Int32, "position in the dialogue, from 0", minimum=0),
        "speaker": Column(pl.String, "who speaks; unique within the corpus", nullable=True),
        "start_s": Column(pl.Float64, "start within media", nullable=True, minimum=0),
        "end_s": Column(pl.Float64, "end within media", nullable=True, minimum=0),
        "media": Column(pl.String, "file, relative to data/raw", nullable=True),
        "media_sha256": Column(pl.String, "hash of the file's bytes", nullable=True),
        "text": Column(pl.String, "what is said; null where none exists", nullable=True),
        "language": Column(pl.String, "BCP 47 tag", nullable=True),
        "sex": Column(pl.String, "of the speaker", True, choices=SEXES, optional=True),
        "age": Column(pl.Float64, "of the speaker, in years", True, 0, 150, optional=True),
        "dataset": Column(
            pl.String, "which part of a union of corpora, else the corpus", True, optional=True
        ),
        "region": Column(
            pl.List(pl.Float64),
            "x0, y0, x1, y1 of the part of the picture to use, as fractions; null = all",
            nullable=True,
        ),
        "session": Column(
            pl.String, "recording session or other group that must not be split", nullable=True
        ),
        "published_split": Column(
            pl.String, "split of the corpus's own protocol", nullable=True, choices=SPLITS
        ),
    },
    key=("utterance_id",),
    made_by="stage ingest",
    checks=(
        RowRule(
            "end_s must be after start_s",
            ("start_s", "end_s"),
            pl.col("end_s") <= pl.col("start_s"),
        ),
        RowRule(
            "a media file needs its hash",
            ("media", "media_sha256"),
            pl.col("media").is_not_null() & pl.col("media_sha256").is_null(),
        ),
    ),
)

ANNOTATIONS = Table(
    "annotations",
    {
        "utterance_id": _ID,
        "rater": Column(pl.String, "who judged; unique within the corpus"),
        "target": Column(pl.String, "valence, category, sentiment, joy, ..."),
        "value": Column(pl.Float64, "a number on the raw scale", nullable=True),
        "label": Column(pl.String, "a category", nullable=True),
        "scale_min": Column(pl.Float64, "lowest value of the raw scale", nullable=True),
        "scale_max": Column(pl.Float64, "highest value of the raw scale", nullable=True),
        "source": Column(pl.String, "file or protocol the judgement comes from"),
        "position": Column(
            pl.Int32, "place of a label in the list it stood in, from 0", True, 0, optional=True
        ),
    },
    key=("utterance_id", "rater", "target", "label"),
    made_by="stage ingest",
    is_unique=False,  # raters do judge a clip twice; the stage labels decides what that means
    checks=(
        RowRule(
            "a judgement has a value or a label",
            ("value", "label"),
            pl.col("value").is_null() & pl.col("label").is_null(),
        ),
    ),
)

QUARANTINE = Table(
    "quarantine",
    {
        "utterance_id": Column(
            pl.String, "the clip, or <corpus>/?/<source row> without a usable id"
        ),
        "stage": Column(pl.String, "stage that set it aside"),
        "reason": Column(pl.String, "typed reason, lower_case_words"),
        "detail": Column(pl.String, "one sentence with file, row, value and remedy"),
    },
    key=("utterance_id", "stage", "reason", "detail"),
    made_by="stage ingest or labels",
)


def _merged(name: str) -> Column:
    """The merged number of a target's column, in the target's range."""
    row = ROW_OF[name]
    meaning = f"{name.replace('_', ' ')} in [{row.low:g}, {row.high:g}]"
    return Column(pl.Float64, meaning, nullable=True, minimum=row.low, maximum=row.high)


LABELS = Table(
    "labels",
    {
        "utterance_id": _ID,
        "fold": Column(
            pl.Int32,
            "the fold in which the row holds, where rater weights are learnt; null: in every one",
            nullable=True,
            minimum=0,
            optional=True,
        ),
        "category": Column(pl.String, "the merged category", nullable=True),
        "categories": Column(pl.List(pl.String), "merged multi-label set, sorted", nullable=True),
        "category_shares": Column(
            pl.List(pl.Struct({"label": pl.String, "share": pl.Float64})),
            "soft label: share of the votes by label, sorted by label",
            nullable=True,
        ),
        **{name: _merged(name) for name in VAD},
        **{
            f"{name}_std": Column(
                pl.Float64, "standard deviation over raters (ddof 1)", nullable=True, minimum=0
            )
            for name in VAD
        },
        **{
            f"{name}_kind": Column(
                pl.String, f"what {name} comes from", nullable=True, choices=KINDS, optional=True
            )
            for name in VAD
        },
        "n_raters": Column(pl.Int32, "raters with any judgement", minimum=0),
        **{name: _merged(name) for name in NUMBERS if name not in VAD},
        "first_category": Column(
            pl.String, "the one of categories that was listed first", nullable=True, optional=True
        ),
    },
    key=("utterance_id", "fold"),
    made_by="stage labels",
)

SPLIT = Table(
    "splits",
    {
        "utterance_id": _ID,
        "fold": Column(pl.Int32, "cross-validation fold, from 0", minimum=0),
        "split": Column(pl.String, "what the row is for in this fold", choices=SPLITS),
    },
    key=("utterance_id", "fold"),
    made_by="stage splits",
)

FACES = Table(
    "faces",
    {
        "utterance_id": _ID,
        "frame": Column(pl.Int32, "index of the sampled frame within the utterance; -1: none"),
        "time_s": Column(pl.Float64, "time within the media file", nullable=True),
        "track": Column(pl.Int32, "face track within the utterance; -1: no face"),
        "chosen": Column(pl.Boolean, "True: this track is taken as the speaker's"),
        "box_px": Column(pl.List(pl.Float32), "x0, y0, x1, y1 in the upright frame", nullable=True),
        "landmarks_px": Column(
            pl.List(pl.Float32), "x, y of eyes, nose, mouth corners, upright frame", nullable=True
        ),
        "confidence": Column(pl.Float32, "detector's probability", nullable=True),
        "is_detected": Column(pl.Boolean, "False: interpolated between two detections"),
        "quality": Column(
            pl.Float32, "0 (useless) to 1, from size, sharpness, pose", nullable=True
        ),
        "speaking": Column(
            pl.Float32, "correlation of mouth motion and voice energy: a hint", nullable=True
        ),
        "crop": Column(pl.Binary, "aligned face, JPEG or PNG bytes", nullable=True),
        "status": Column(pl.String, "ok, degraded or quarantined", choices=STATUSES),
        "reason": Column(pl.String, "why not ok, e.g. no_face", nullable=True),
    },
    key=("utterance_id", "frame", "track"),
    made_by="stage faces",
)

FEATURES = Table(
    "features",
    {
        "utterance_id": _ID,
        "status": Column(pl.String, "ok, degraded or quarantined", choices=STATUSES),
        "reason": Column(pl.String, "why not ok, e.g. no_audio", nullable=True),
        "frames": Column(pl.Int32, "rows of the sequence, 0 without one", minimum=0),
        "dim": Column(pl.Int32, "width of the features", minimum=1),
        "hop_s": Column(pl.Float64, "seconds between frames", nullable=True),
        "pooled": Column(
            pl.Array(pl.Float32, 0), "fixed-size summary of the utterance", nullable=True
        ),
        "sequence": Column(pl.Binary, "fp16 bytes, frames x dim, row by row", nullable=True),
    },
    key=("utterance_id",),
    made_by="stage features",
)

TABLES = {
    table.name: table
    for table in (UTTERANCES, ANNOTATIONS, QUARANTINE, LABELS, SPLIT, FACES, FEATURES)
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place, whole and on disk, on success.

    Readers see the old file or the new one, never a part; a failure leaves the old one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or allow writing there"
        ) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or allow writing there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_table(
    table: Table, frame: pl.DataFrame, path: Path, metadata: Mapping[str, str] | None = None
) -> Path:
    """Check ``frame``, sort it by the table's key and write it as Parquet, atomically.

    The same rows give the same bytes, whatever their order was. ``metadata`` goes into the schema.
    """
    table.check(frame, str(path))
    said = [n for n, c in table.columns.items() if not c.optional or _has_values(frame, n)]
    ordered = frame.select(said).sort([name for name in table.key if name in said], nulls_last=True)
    arrow = ordered.to_arrow(compat_level=pl.CompatLevel.oldest())
    encoded = {key: metadata[key] for key in sorted(metadata)} if metadata else None
    write_arrow(arrow.replace_schema_metadata(encoded), path)
    return path


def _has_values(frame: pl.DataFrame, name: str) -> bool:
    return name in frame.columns and frame.get_column(name).null_count() < frame.height


def write_arrow(arrow: pa.Table, path: Path) -> None:
    """Write an Arrow table the one way this project does: zstd, fixed row groups, atomic."""
    with replacing(path) as temporary:
        pq.write_table(
            arrow, temporary, compression="zstd", compression_level=1, row_group_size=ROW_GROUP
        )


def read_table(table: Table, path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read and check a table; ``path`` is one file or a folder of bucket files.

    Args:
        table: the contract to hold the file to.
        path: a Parquet file, or a folder whose ``*.parquet`` files together are the table.
        columns: read only these.
    """
    files = table_files(path, table)
    try:
        parts = [pq.read_table(file, columns=list(columns) if columns else None) for file in files]
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(
            f"{path}: not a readable Parquet file ({error}); rerun {table.made_by}"
        ) from error
    frames = [pl.DataFrame(pl.from_arrow(part.replace_schema_metadata(None))) for part in parts]
    for file, frame in zip(files, frames, strict=True):
        table.check(frame, str(file), columns)
        if frame.schema != frames[0].schema:
            raise TableError(
                f"{file}: its columns have other types or widths than those of {files[0].name}; "
                f"rerun {table.made_by}"
            )
    whole = pl.concat(frames)
    if len(frames) > 1:
        table.check(whole, str(path), columns)  # a key may stand in two files
    return table.completed(whole) if columns is None else whole


def read_metadata(path: Path) -> dict[str, str]:
    """What a table's writer recorded in the schema: encoder, weights, versions, parameters."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise TableError(f"{path}: no such table; run the stage that writes it first")
    found = pq.read_schema(files[0]).metadata or {}
    return {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}


def table_files(path: Path, table: Table) -> list[Path]:
    """The Parquet files of a table, or an error that says which stage makes them."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise TableError(f"{path}: no such table; run {table.made_by} first")
    return files


def predictions_table(columns: Mapping[str, type[pl.DataType] | pl.DataType]) -> Table:
    """The contract of one method's predictions.

    Args:
        columns: ``target_<t>`` and ``prediction_<t>`` by name, ``t`` being ``category``,
            ``categories`` or a value column; all may be null where nothing is known.
    """
    return Table(
        "predictions",
        {
            "utterance_id": _ID,
            "seed": Column(pl.Int32, "seed of the run"),
            "fold": Column(pl.Int32, "cross-validation fold", minimum=0),
            "split": Column(pl.String, "validation or test", choices=("validation", "test")),
            **{name: Column(dtype, "truth or prediction", True) for name, dtype in columns.items()},
            "probabilities": Column(
                pl.List(pl.Float64), "of the classes, in the order of metadata", nullable=True
            ),
        },
        key=("utterance_id", "seed", "fold", "split"),
        made_by="stage evaluate",
    )
