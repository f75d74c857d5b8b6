"""Media that a program has in hand, files or arrays, and the answers as one table."""

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from scipy.io import wavfile

from models.encoders.encoder import Sound, Text
from models.errors import UserError
from tasks.context import Context
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.predict.answer import Utterance
from tasks.predict.bare import of_features, of_texts
from tasks.predict.engine import Asked
from tasks.predict.engine import predict as answers
from tasks.predict.listening.listeners import find_listeners
from tasks.predict.media import files_of, find_media
from tasks.predict.model import Model
from tasks.predict.output.writing import columns_of, row_of
from tasks.predict.transcripts import read_transcript
from tasks.predict.weights import bring_weights

#: Columns of text, also where every cell is empty.
_TEXT = ("medium", "id", "speaker", "text", "words_from", "language", "far", "reason")


@dataclass(frozen=True)
class _Said:
    """What there is to tell of a medium, by its place among those that were given."""

    place: int
    medium: str
    utterances: Sequence[Utterance]
    reason: str = ""


def predict(
    media: Any, model: Model, layout: Layout, transcript: str | Path | None = None
) -> pl.DataFrame:
    """See ``affectloom.Model.predict``."""
    if isinstance(media, Mapping):
        said = [_Said(0, "", of_features(media, model, layout))]
        return _table(said).drop("medium", "start_s", "end_s", "text", "words_from", "language")
    given = list(media) if isinstance(media, Sequence) and not isinstance(media, str) else [media]
    if not given:
        raise UserError("there is nothing to predict: name a file, or give an array")
    bring_weights(model, layout, lambda line: None)
    texts = {n: one.text for n, one in enumerate(given) if isinstance(one, Text)}
    said = _of_texts(texts, model, layout) if texts else []
    with tempfile.TemporaryDirectory(prefix="affectloom-") as folder:
        files = {n: _file(n, one, Path(folder)) for n, one in enumerate(given) if n not in texts}
        if files:
            said += _of_files(files, given, model, layout, transcript)
        elif transcript is not None:
            raise UserError("a transcript is of a medium, but there are only texts")
    return _table(sorted(said, key=lambda one: one.place))


def _of_texts(texts: Mapping[int, str], model: Model, layout: Layout) -> list[_Said]:
    found = of_texts(list(texts.values()), model, layout, _context)
    return [_Said(n, f"text {n}", [one]) for n, one in zip(texts, found, strict=True)]


def _of_files(
    files: Mapping[int, Path],
    given: Sequence[Any],
    model: Model,
    layout: Layout,
    transcript: str | Path | None,
) -> Iterator[_Said]:
    found = find_media([str(file) for file in files.values()], Path())
    asked = Asked()
    if transcript is not None:
        if len(found) > 1:
            raise UserError(f"a transcript is of one medium, but there are {len(found)}")
        notes: list[str] = []
        file = Path(transcript).expanduser()
        turns = read_transcript(file, found[0].length_s or None, notes.append)
        asked = Asked(turns, file.name, tuple(notes))
    places: dict[Path, int] = {}
    for number, file in files.items():
        for path, _ in files_of(str(file), Path()):
            places.setdefault(path, number)
    listeners = find_listeners(
        layout,
        model.listening,
        lambda line: None,
        speech=not asked.turns and any(one.about.has_audio for one in found),
        voices=any(one.about.has_audio for one in found),
    )
    for result in answers(found, model, layout, _long_context, asked, listeners):
        if result.is_partial:
            continue
        place = places[result.found.path]
        said = result.answer.utterances if result.answer else ()
        yield _Said(place, _name(place, given[place], result.found.path), said, result.reason)


def _name(place: int, one: Any, path: Path) -> str:
    if isinstance(one, Sound | np.ndarray):
        return f"{'sound' if isinstance(one, Sound) else 'picture'} {place}"
    return str(path)


def _context(what: str) -> Context:
    return PlainContext(what, stream=io.StringIO())


def _long_context(what: str, is_long: bool) -> Context:
    return _context(what)


def _file(number: int, one: Any, folder: Path) -> Path:
    """Arrays as files without loss, since networks see media through one door."""
    if isinstance(one, str | Path):
        return Path(one).expanduser()
    if isinstance(one, Sound):
        samples = np.asarray(one.samples)
        is_wave = samples.ndim == 1 and len(samples) > 0 and samples.dtype.kind == "f"
        if not is_wave or not np.isfinite(samples).all() or one.rate_hz <= 0:
            raise UserError(
                f"sound {number} is {samples.dtype} of shape {samples.shape}; give mono samples "
                "(S,) as finite floats from -1 to 1, and their rate"
            )
        wavfile.write(folder / f"{number}.wav", int(one.rate_hz), samples.astype(np.float32))
        return folder / f"{number}.wav"
    if isinstance(one, np.ndarray):
        if one.dtype != np.uint8 or one.ndim != 3 or one.shape[2] != 3 or not one.size:
            raise UserError(
                f"picture {number} is {one.dtype} of shape {one.shape}; give (H, W, 3) uint8, RGB"
            )
        Image.fromarray(one).save(folder / f"{number}.png")
        return folder / f"{number}.png"
    raise UserError(
        f"medium {number} is a {type(one).__name__}; give a file, an affectloom.Sound, an "
        "affectloom.Text or a picture (H, W, 3)"
    )


def _table(said: Sequence[_Said]) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    for one in said:
        rows += [{"medium": one.medium, **row_of(found)} for found in one.utterances]
        if not one.utterances:
            rows.append({"medium": one.medium, "reason": one.reason})
    columns = ["medium", *columns_of(rows)]
    schema = {
        name: pl.String if name in _TEXT else _kind([row.get(name) for row in rows])
        for name in dict.fromkeys(columns)
    }
    return pl.DataFrame(rows, schema=schema)


def _kind(values: Sequence[object]) -> type[pl.DataType]:
    is_text = any(isinstance(value, str) for value in values)
    return pl.String if is_text else pl.Float64
