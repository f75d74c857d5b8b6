"""Readers of features in tables and arrays: CSV, Parquet, openSMILE's CSV and ARFF, ``.npy``.

A table names its utterances in one column and may hold what else is known of them; every other
column of numbers is a feature, unless one column of lists holds them all. Rows that share a name
and have a time are frames, in order of time. Names stay as they are written: ``00001`` is not
``1``.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tokenize import TokenError

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.corpora.claims import check_npy, check_parquet
from tasks.corpora.files import read_text
from tasks.corpora.imports.found import Block, Found, utterance_frame
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.words import MODALITIES, SPLITS
from tasks.targets import NUMBERS

#: Column names by what they hold, best first; matched without regard to case.
_ID = ("utterance_id", "utterance", "name", "id", "file", "filename", "segment", "clip")
_TIME = ("frametime", "frame_time", "frame", "time_s")
_KNOWN = {
    "dialogue_id": ("dialogue_id", "dialogue", "video", "video_id", "conversation"),
    "turn": ("turn",),
    "speaker": ("speaker", "speaker_id"),
    "text": ("text", "sentence", "transcript"),
    "language": ("language",),
    "session": ("session",),
    "published_split": ("published_split", "split", "usage", "partition"),
    "category": ("category", "label", "emotion"),
}
_NOT_FEATURES = ("start", "end", "start_s", "end_s", "index", "")
_SPLIT_NAMES = {"dev": "validation", "valid": "validation", "val": "validation"}
#: Cells that say that nothing was measured, in lower case.
_ABSENT = ("", "nan", "na", "n/a", "null", "none", "?")
_MEDIA = re.compile(r"\.(wav|flac|mp3|mp4|avi|mov|mkv|flv|jpg|jpeg|png|m4a|ogg)$", re.IGNORECASE)
_FOLDERS = {
    **{name: name for name in MODALITIES},
    "visual": "video",
    "vision": "video",
    "face": "video",
    "acoustic": "audio",
    "speech": "audio",
    "language": "text",
}
_ATTRIBUTE = re.compile(r"""^@attribute\s+('[^']*'|"[^"]*"|\S+)\s+(.+)$""", re.IGNORECASE)


def read_frame(path: Path, modality: str | None) -> Found:
    """CSV, Parquet, openSMILE CSV (``;`` between cells) or ARFF.

    Args:
        path: the file.
        modality: what the features are of; a table does not say.
    """
    if modality is None:
        raise UserError(
            f"{path}: a table does not say what its features are of; name it with --modality "
            "audio, video or text"
        )
    frame, form = _load(path)
    if not frame.height:
        raise UserError(f"{path}: holds no row below its header; export the table again")
    by_name = {name.strip().lower(): name for name in reversed(frame.columns)}
    key = next((by_name[name] for name in _ID if name in by_name), None)
    if key is None:
        raise UserError(f"{path}: no column names the utterances; call one of them utterance_id")
    time = next((by_name[name] for name in _TIME if name in by_name and by_name[name] != key), None)
    # a list of numbers is a matrix of features, whatever its column is called
    lists = {name for name, dtype in frame.schema.items() if dtype.is_nested()}
    taken = {what: next((by_name[n] for n in names if by_name.get(n) not in {None, *lists}), None)
             for what, names in _KNOWN.items()}  # fmt: skip
    taken = {what: column for what, column in taken.items() if column not in (None, key, time)}
    numbers = {name: by_name[name] for name in NUMBERS if name in by_name}
    used = {key, time, *taken.values(), *numbers.values()}
    frame = _with_numbers(path, frame, [n for n in (time, *numbers.values()) if n is not None])
    rest = [n for n in frame.columns if n not in used and n.strip().lower() not in _NOT_FEATURES]
    frame, folded = _unfolded(path, frame, [n for n in rest if n in lists], modality)
    rest = [name for name in rest if name in frame.columns]
    frame = _with_features(frame, rest)
    features = folded or [name for name in rest if frame.schema[name].is_numeric()]
    left_out = {name: _why_no_feature(frame[name]) for name in rest if name not in features}
    if not features:
        raise UserError(f"{path}: holds no column of numbers that could be a feature")
    if frame[key].null_count():
        raise UserError(f"{path}: {frame[key].null_count()} rows have an empty {key}; name them")
    frame = frame.with_columns(pl.Series(key, [_id(value) for value in frame[key]]))
    frame = frame.with_columns(row=pl.int_range(pl.len()))
    if time is not None:
        frame = frame.sort(key, time, "row")
    firsts = frame.group_by(key, maintain_order=True).agg(pl.all().first(), rows=pl.len())
    if time is not None and frame.select(key, time).is_duplicated().any():
        again = frame.filter(pl.struct(key, time).is_duplicated()).row(0, named=True)
        raise UserError(
            f"{path}: {again[key]} stands there more than once at {time} {again[time]}; give each "
            "recording its own name"
        )
    if time is None and firsts["rows"].max() != 1:
        again = firsts.filter(pl.col("rows") > 1)[key][0]
        raise UserError(
            f"{path}: {again} stands there more than once and no column holds a time; give each "
            "row its own name or add a column frameTime"
        )
    block = _block(frame, firsts, key, time, features, modality)
    return Found(
        format=form,
        blocks=[block],
        utterances=_utterances(firsts, key, taken),
        annotations=_annotations(firsts, key, taken, numbers, path.name),
        splits="the column of the table" if "published_split" in taken else "none",
        left_out=left_out,
    )


def _load(path: Path) -> tuple[pl.DataFrame, str]:
    try:
        if path.suffix.lower() == ".parquet":
            check_parquet(path)
            return pl.read_parquet(path), "Parquet"
        if path.suffix.lower() == ".arff":
            return _load_arff(path), "ARFF"
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            head = stream.readline()
        if head.count(";") > head.count(","):
            quote = "'" if head.lower().startswith(("name;", "'name';")) else '"'
            frame = pl.read_csv(path, separator=";", quote_char=quote, infer_schema=False)
            return frame, "openSMILE CSV" if quote == "'" else "CSV"
        return pl.read_csv(path, infer_schema=False), "CSV"
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not a readable table ({reason}); save it again, as UTF-8 text"
        ) from error


def _number(column: str) -> pl.Expr:
    """Cells as numbers; NaN where nothing was measured, null where a word is no number."""
    text = pl.col(column).str.strip_chars()
    is_absent = text.is_null() | text.str.to_lowercase().is_in(_ABSENT)
    return pl.when(is_absent).then(float("nan")).otherwise(text.cast(pl.Float64, strict=False))


def _with_numbers(path: Path, frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """``frame`` with times and judgements as numbers; a word among them is an error."""
    for name in columns:
        if frame.schema[name] != pl.String:
            continue
        values = frame.select(_number(name)).to_series()
        if values.null_count():
            row = int(values.is_null().arg_true()[0])
            raise UserError(
                f"{path} row {row + 1}: column {name}: '{frame[name][row]}' is no number; mend it"
            )
        frame = frame.with_columns(values.fill_nan(None).alias(name))
    return frame


def _with_features(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """``frame`` with those of ``columns`` as numbers that hold nothing else.

    Nothing is guessed from the first rows, so a cell that says ``nan`` does not cost its column.
    """
    for name in columns:
        if frame.schema[name] != pl.String:
            continue
        values = frame.select(_number(name)).to_series()
        if values.is_nan().fill_null(False).all():
            frame = frame.with_columns(pl.lit(None).alias(name))  # never measured
        elif not values.null_count():
            frame = frame.with_columns(values.alias(name))
    return frame


def _why_no_feature(column: pl.Series) -> str:
    if column.dtype == pl.Null:
        return "empty"
    if column.dtype.is_numeric():
        return "a number beside the list of features"
    if column.dtype.is_nested():
        return "a list beside the list of features"
    if column.dtype != pl.String:
        return "no column of numbers"
    values = column.to_frame().select(_number(column.name)).to_series()
    if values.null_count() == column.len() - column.null_count():
        return "no column of numbers"
    row = int(values.is_null().arg_true()[0])
    return f"no column of numbers alone: row {row + 1} says '{column[row]}'"


def _unfolded(
    path: Path, frame: pl.DataFrame, lists: Sequence[str], modality: str
) -> tuple[pl.DataFrame, list[str]]:
    """``frame`` with the features of a list as columns, and their names; none without lists.

    Of several lists the one that is called as the modality is taken.
    """
    chosen = [n for n in lists if _FOLDERS.get(n.strip().lower()) == modality] or list(lists)
    if not chosen:
        return frame, []
    if len(chosen) > 1:
        raise UserError(
            f"{path}: {', '.join(chosen)} are lists; call the one to import {modality}, or leave "
            "the others out of the table"
        )
    try:
        values = frame[chosen[0]].cast(pl.List(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: column {chosen[0]} holds no lists of numbers") from error
    lengths = values.list.len()
    if lengths.null_count() or lengths.n_unique() != 1 or not lengths[0]:
        raise UserError(f"{path}: lists of {chosen[0]} differ in length; give all the same length")
    names = [f"{chosen[0]}[{i}]" for i in range(lengths[0])]
    columns = [values.list.get(i).alias(name) for i, name in enumerate(names)]
    return frame.drop(chosen[0]).with_columns(columns), names


def _load_arff(path: Path) -> pl.DataFrame:
    """The attributes become columns of text."""
    lines = [line.strip() for line in read_text(path, "auto").splitlines()]
    lines = [line for line in lines if line and not line.startswith("%")]
    data = next((n for n, line in enumerate(lines) if line.lower().startswith("@data")), None)
    if data is None:
        raise UserError(f"{path}: has no @data; it is no ARFF file")
    found = [_ATTRIBUTE.match(line) for line in lines[:data]]
    names = [attribute[1].strip("'\"") for attribute in found if attribute]
    rows = lines[data + 1 :]
    if any(row.startswith("{") for row in rows):
        raise UserError(f"{path}: is a sparse ARFF file; save it with all values of a row")
    if not rows:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    frame = pl.read_csv(
        "\n".join(rows).encode(), has_header=False, quote_char="'", infer_schema=False
    )
    if frame.width != len(names):
        raise UserError(f"{path}: has {len(names)} attributes but {frame.width} values a row")
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _id(value: object) -> str:
    """``<dialogue>/<utterance>`` from a name or a path of a media file."""
    text = _MEDIA.sub("", str(value).strip().strip("'\"")).replace("\\", "/").strip("/")
    return text if "/" in text else f"{text}/0"


def _whole(value: object) -> int | None:
    """A whole number; None, which ingest names, where there is none."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _block(
    frame: pl.DataFrame,
    firsts: pl.DataFrame,
    key: str,
    time: str | None,
    features: Sequence[str],
    modality: str,
) -> Block:
    # one matrix of all rows, frames of an utterance beside each other
    values = frame.select(pl.col(features).cast(pl.Float64)).to_numpy()
    ends = np.cumsum(firsts["rows"].to_numpy())
    starts = ends - firsts["rows"].to_numpy()
    has_frames = bool((firsts["rows"] > 1).any())
    hop_s = None
    if has_frames and time is not None and frame.schema[time].is_numeric():
        place = int(np.argmax(ends - starts))
        steps = np.diff(frame[time].to_numpy()[starts[place] : ends[place]])
        if np.allclose(steps, steps[0]) and time.lower() != "frame":
            hop_s = float(steps[0])

    def get(place: int) -> np.ndarray:
        part = values[starts[place] : ends[place]]
        return part if has_frames else part[0]

    return Block(modality, modality, firsts[key].to_list(), get, len(features), hop_s)


def _utterances(firsts: pl.DataFrame, key: str, taken: Mapping[str, str | None]) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    turns: dict[str, int] = {}
    columns = {what: firsts[str(column)].to_list() for what, column in taken.items()}
    for place, name in enumerate(firsts[key]):
        dialogue = str(columns["dialogue_id"][place]) if "dialogue_id" in columns else None
        own = name
        if dialogue is None:
            dialogue = name.rsplit("/", 1)[0]
        elif not name.startswith(f"{dialogue}/"):
            own = f"{dialogue}/{name.removesuffix('/0').replace('/', '_')}"
        turn = turns[dialogue] = turns.get(dialogue, -1) + 1
        row: dict[str, object] = {"utterance_id": own, "dialogue_id": dialogue, "turn": turn}
        for what, values in columns.items():
            if what not in ("dialogue_id", "category") and values[place] is not None:
                row[what] = _whole(values[place]) if what == "turn" else str(values[place])
        split = str(row.get("published_split", "")).lower()
        if split:
            row["published_split"] = split if split in SPLITS else _SPLIT_NAMES.get(split, split)
        rows.append(row)
    return utterance_frame(rows)


def _annotations(
    firsts: pl.DataFrame,
    key: str,
    taken: Mapping[str, str | None],
    numbers: Mapping[str, str],
    source: str,
) -> pl.DataFrame:
    names = _utterances(firsts, key, taken)["utterance_id"]
    common = {"rater": pl.lit("released"), "source": pl.lit(source)}
    base = firsts.with_columns(utterance_id=names)
    parts = []
    if "category" in taken:
        label = pl.col(str(taken["category"])).cast(pl.String)
        parts.append(base.select("utterance_id", **common, target=pl.lit("category"), label=label))
    for target, column in numbers.items():
        value = pl.col(column).cast(pl.Float64)
        parts.append(base.select("utterance_id", **common, target=pl.lit(target), value=value))
    if not parts:
        return ANNOTATIONS.empty()
    found = pl.concat(parts, how="diagonal")
    missing = [name for name in ANNOTATIONS.columns if name not in found.columns]
    found = found.with_columns(pl.lit(None).alias(name) for name in missing)
    found = found.filter(
        pl.any_horizontal(pl.col("value").is_not_null(), pl.col("label").is_not_null())
    )
    return found.select(list(ANNOTATIONS.columns)).cast(dict(ANNOTATIONS.schema))


def read_arrays(path: Path, modality: str | None) -> Found:
    """A folder of ``<utterance>.npy``, or of folders ``audio``, ``video``, ``text`` of them.

    Args:
        path: the folder.
        modality: of arrays that lie in no folder that says it.
    """
    inner = sorted(f for f in path.iterdir() if f.is_dir() and f.name.lower() in _FOLDERS)
    if modality is None and not inner:
        raise UserError(
            f"{path}: holds no folder audio, video or text, so name what its arrays are of with "
            "--modality"
        )
    places = {modality: path} if modality else {_FOLDERS[f.name.lower()]: f for f in inner}
    blocks = [_array_block(folder, str(kind)) for kind, folder in sorted(places.items())]
    names = sorted({name for block in blocks for name in block.ids})
    turns: dict[str, int] = {}
    rows: list[dict[str, object]] = []
    for name in names:
        dialogue = name.rsplit("/", 1)[0]
        turn = turns[dialogue] = turns.get(dialogue, -1) + 1
        rows.append({"utterance_id": name, "dialogue_id": dialogue, "turn": turn})
    return Found(format="folder of .npy", blocks=blocks, utterances=utterance_frame(rows))


def _array_block(folder: Path, modality: str) -> Block:
    files = sorted(folder.rglob("*.npy"))
    if not files:
        raise UserError(f"{folder}: holds no .npy file")
    names = [_id(PurePosixPath(f.relative_to(folder).with_suffix("").as_posix())) for f in files]

    def load(place: int) -> np.ndarray:
        try:
            check_npy(files[place])
            return np.atleast_1d(np.load(files[place], allow_pickle=False))
        # numpy takes a damaged header for code that does not end
        except (OSError, ValueError, EOFError, TokenError, MemoryError) as error:
            raise UserError(
                f"{files[place]}: not a readable array of numbers ({error}); save it with "
                "numpy.save and without objects"
            ) from error

    return Block(modality, modality, names, load, int(load(0).shape[-1]))
