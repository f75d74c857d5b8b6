"""Readers of features in tables and arrays: CSV, Parquet, openSMILE's CSV and ARFF, ``.npy``.

A table names its utterances in one column and may hold what else is known of them; every other
column of numbers is a feature. Rows that share a name and have a time are frames, in order of time.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.import_model import Block, Found, utterance_frame
from tasks.tables import ANNOTATIONS, EMI, MODALITIES, SPLITS, VAD

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
_NUMBERS = (*VAD, *EMI, "sentiment")
_NOT_FEATURES = ("start", "end", "start_s", "end_s", "index", "")
_SPLIT_NAMES = {"dev": "validation", "valid": "validation", "val": "validation"}
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
    by_name = {name.strip().lower(): name for name in reversed(frame.columns)}
    key = next((by_name[name] for name in _ID if name in by_name), None)
    if key is None:
        raise UserError(f"{path}: no column names the utterances; call one of them utterance_id")
    time = next((by_name[name] for name in _TIME if name in by_name and by_name[name] != key), None)
    taken = {what: next((by_name[n] for n in names if n in by_name), None)
             for what, names in _KNOWN.items()}  # fmt: skip
    taken = {what: column for what, column in taken.items() if column not in (None, key, time)}
    numbers = {name: by_name[name] for name in _NUMBERS if name in by_name}
    used = {key, time, *taken.values(), *numbers.values()}
    rest = [n for n in frame.columns if n not in used and n.strip().lower() not in _NOT_FEATURES]
    features = [name for name in rest if frame.schema[name].is_numeric()]
    left_out = {
        name: "no column of numbers" if frame.schema[name] != pl.Null else "empty"
        for name in rest
        if name not in features
    }
    if not features:
        raise UserError(f"{path}: holds no column of numbers that could be a feature")
    if frame[key].null_count():
        raise UserError(f"{path}: {frame[key].null_count()} rows have an empty {key}; name them")
    frame = frame.with_columns(pl.Series(key, [_id(value) for value in frame[key]]))
    frame = frame.with_columns(row=pl.int_range(pl.len()))
    if time is not None:
        frame = frame.sort(key, time, "row")
    firsts = frame.group_by(key, maintain_order=True).agg(pl.all().first(), rows=pl.len())
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
            return pl.read_parquet(path), "Parquet"
        if path.suffix.lower() == ".arff":
            return _load_arff(path), "ARFF"
        with path.open(encoding="utf-8", errors="replace") as stream:
            head = stream.readline()
        if head.count(";") > head.count(","):
            frame = pl.read_csv(path, separator=";", quote_char="'", infer_schema_length=None)
            return frame, "openSMILE CSV"
        return pl.read_csv(path, infer_schema_length=None), "CSV"
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable table ({reason})") from error


def _load_arff(path: Path) -> pl.DataFrame:
    """The attributes become columns; ``?`` becomes null."""
    names: list[str] = []
    head = 0
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in map(str.strip, stream):
            head += 1
            if line.lower().startswith("@data"):
                break
            if found := _ATTRIBUTE.match(line):
                names.append(found[1].strip("'\""))
        else:
            raise UserError(f"{path}: has no @data; it is no ARFF file")
    frame = pl.read_csv(
        path,
        has_header=False,
        skip_rows=head,
        new_columns=names,
        quote_char="'",
        null_values="?",
        comment_prefix="%",
        infer_schema_length=None,
        truncate_ragged_lines=False,
    )
    if frame.width != len(names):
        raise UserError(f"{path}: has {len(names)} attributes but {frame.width} values a row")
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
    # a column of question marks was never measured
    empty = [name for name in names if frame[name].null_count() == frame.height]
    return frame.with_columns(pl.lit(None).alias(name) for name in empty)


def _id(value: object) -> str:
    """``<dialogue>/<utterance>`` from a name or a path of a media file."""
    text = _MEDIA.sub("", str(value).strip().strip("'\"")).replace("\\", "/").strip("/")
    return text if "/" in text else f"{text}/0"


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
                row[what] = int(values[place]) if what == "turn" else str(values[place])
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
            return np.atleast_1d(np.load(files[place], allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{files[place]}: not a readable array of numbers ({error}); save it with "
                "numpy.save and without objects"
            ) from error

    return Block(modality, modality, names, load, int(load(0).shape[-1]))
