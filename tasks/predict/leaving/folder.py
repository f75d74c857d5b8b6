"""A model as a folder that can be given away, read with suspicion.

A part is a folder with ``encoders.json`` (what is read, and the hashes of its weights),
``calibration.json``, weights of encoders without a public address in ``weights/``, hashes of all
files in ``sha256.txt`` and, in other folders below, networks as a run has them: ``config.json``
and ``weights.safetensors``. A model is a part, or a folder of them named ``parts``. ``README.md``
is for people. Nothing in it is ever run: no pickle, no code, no path that leads out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.batch import Kind
from models.errors import UserError
from tasks.checkpoints.wheels import WheelFile
from tasks.evaluate.networks import Run, network_of
from tasks.faces.params import FacesParams
from tasks.features.params import EncoderParams
from tasks.params.inputs import Named
from tasks.predict.answering import ENDS
from tasks.predict.distance import Range
from tasks.predict.leaving.carried import CARRIED, read_carried
from tasks.predict.leaving.folder_sums import check_sums
from tasks.predict.model import Expected, Model, Part, encoders_read

ENCODERS, CALIBRATION, CONFIG = "encoders.json", "calibration.json", "config.json"
WEIGHTS, PARTS, CARD = "weights.safetensors", "parts", "README.md"
FORMAT = 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")
_SUM = r"^[0-9a-f]{64}$"
#: Far above what any of these files needs.
_MOST_BYTES = 16_000_000

Read = TypeVar("Read", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetFile(_Strict):
    """A target in ``config.json``."""

    name: str
    kind: Kind
    names: tuple[str, ...]
    lower: float
    upper: float


class KnotsFile(_Strict):
    """A map of one column of one part of a union; see ``models.part_scales.Knots``."""

    own: list[float]
    common: list[float]

    @model_validator(mode="after")
    def _rises(self) -> "KnotsFile":
        """What a map needs to be read both ways."""
        for line in (self.own, self.common):
            if not np.isfinite(line).all() or (np.diff(line) <= 0).any():
                raise ValueError(f"{line} does not rise")
        if len(self.own) != len(self.common) or len(self.own) == 1:
            raise ValueError("own and common are not of one length, 0 or 2 and more")
        return self


class PartsFile(_Strict):
    """What a network knows of the parts of a union; see ``models.part_scales.PartSpec``."""

    columns: dict[str, dict[str, KnotsFile]]
    has_offsets: bool


class NetworkFile(_Strict):
    """``config.json`` of a network, as its run has it."""

    method: str
    entry: dict[str, Any]
    inputs: dict[str, str | list[str]]
    dims: dict[str, int]
    frame_dims: dict[str, int] = {}
    speakers: int = Field(ge=0)
    people: int = Field(0, ge=0)
    parts: PartsFile | None = None
    targets: tuple[TargetFile, ...] = Field(min_length=1)
    seed: int
    fold: int


class EncodersFile(_Strict):
    """``encoders.json``.

    Attributes:
        format: of the folder.
        inputs: modality or further input to encoder.
        encoders: their entries, as in params.yaml.
        weights_sha256: of what each of them was at training.
        faces: how faces are looked for.
        listening: where networks that tell speech and voices come from.
    """

    format: Literal[1]
    inputs: dict[str, str | list[str]]
    encoders: dict[str, EncoderParams]
    weights_sha256: dict[str, str]
    faces: FacesParams
    listening: dict[Literal["silero_vad", "resemblyzer"], WheelFile] = {}


class RangeFile(_Strict):
    """See ``tasks.predict.distance.Range``."""

    mean: list[float]
    scale: list[float]
    limit: float


class KnownFile(_Strict):
    """What validation rows told of a target; see ``tasks.evaluate.calibration``."""

    kind: Kind
    names: tuple[str, ...]
    temperature: float | None = Field(None, gt=0)
    n: int | None = None
    networks: list[dict[str, float]] = []
    residuals: dict[str, "ResidualsFile"] | None = None


class ResidualsFile(_Strict):
    """Quantiles of the residuals of a column; those at the ends of a range have to be there."""

    n: int
    quantiles: dict[str, float]

    @field_validator("quantiles")
    @classmethod
    def _has_ends(cls, found: dict[str, float]) -> dict[str, float]:
        if not set(ENDS) <= set(found):
            raise ValueError(f"expected {' and '.join(ENDS)} among them")
        return found


class CalibrationFile(_Strict):
    """``calibration.json``: that of ``evaluate``, and where training rows lie."""

    fitted_on: Literal["validation"] = "validation"
    targets: dict[str, KnownFile] = {}
    ranges: dict[str, RangeFile] = {}


def is_model(folder: Path) -> bool:
    """Whether a folder looks like one that holds a model."""
    return (folder / ENCODERS).exists() or (folder / PARTS).is_dir()


def read_model(folder: Path) -> Model:
    """The model of a folder; anything unexpected is an error of one sentence."""
    if not folder.is_dir():
        raise UserError(f"--model {folder}: there is no such folder")
    if (folder / ENCODERS).exists():
        places = [folder]
    else:
        places = sorted(p.parent for p in (folder / PARTS).glob(f"*/{ENCODERS}"))
    if not places:
        raise UserError(
            f"--model {folder}: there is no {ENCODERS} in it or in {PARTS}/*; `affectloom export` "
            "writes such folders"
        )
    parts = tuple(_part(place) for place in places)
    count = sum(len(part.runs) for part in parts)
    kinds = f" in {len(parts)} parts" if len(parts) > 1 else ""
    networks = f"{count} network{'s' if count > 1 else ''}"
    return Model(parts, f"model: folder {folder.name} ({networks}{kinds})")


def _part(folder: Path) -> Part:
    read = _read(folder / ENCODERS, EncodersFile)
    encoders = {}
    for encoder, entry in read.encoders.items():
        check_source(folder / ENCODERS, encoder, entry)
        if not re.fullmatch(_SUM, read.weights_sha256.get(encoder, "")):
            raise UserError(f"{folder / ENCODERS}: weights_sha256.{encoder} is no SHA-256")
        encoders[encoder] = read_carried(encoder, entry, folder, read.weights_sha256[encoder])
    apart = {PARTS, CARRIED}
    files = [f for f in sorted(folder.rglob(CONFIG)) if not apart & {*_below(f, folder)}]
    if not files:
        raise UserError(f"{folder}: there is no network in it ({CONFIG} and {WEIGHTS})")
    runs = tuple(_network(file, read.inputs) for file in files)
    _check_alike(folder, runs)
    for run in runs:
        for encoder in encoders_read(run.recipe, read.inputs):
            if encoder not in read.encoders:
                raise UserError(f"{folder / ENCODERS}: {encoder} of inputs is no key of encoders")
    known = CalibrationFile()
    if (folder / CALIBRATION).exists():
        known = _read(folder / CALIBRATION, CalibrationFile)
        _check_widths(folder / CALIBRATION, known, runs[0].method.spec.dims)
    check_sums(folder)  # last: whoever changed a file on purpose learns first what is wrong with it
    return Part(
        name=folder.name,
        runs=runs,
        inputs=read.inputs,
        encoders=encoders,
        faces=read.faces,
        calibration={
            name: one.model_dump(exclude_none=True) for name, one in known.targets.items()
        },
        ranges={
            name: Range(np.array(one.mean), np.array(one.scale), one.limit)
            for name, one in known.ranges.items()
        },
        expected={name: Expected(read.weights_sha256[name]) for name in read.encoders},
        listening={str(name): wheel for name, wheel in read.listening.items()},
    )


def _check_widths(file: Path, known: CalibrationFile, dims: Mapping[str, int]) -> None:
    for name, one in known.ranges.items():
        if not len(one.mean) == len(one.scale) == dims.get(name, len(one.mean)):
            raise UserError(f"{file}: ranges.{name} is not as wide as the features of its networks")


def _below(file: Path, folder: Path) -> tuple[str, ...]:
    return file.relative_to(folder).parts


def _read(file: Path, kind: type[Read]) -> Read:
    """A JSON file that holds exactly what it should."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise UserError(f"{file} is larger than any such file; take the model from its maker")
        found = json.loads(file.read_text(encoding="utf-8"))
        with _told_of(file):
            return kind.model_validate(found)
    except (OSError, ValueError, RecursionError) as error:
        why = _first(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{file} is not as a model has it: {why}") from error


@contextmanager
def _told_of(file: Path) -> Iterator[None]:
    """Errors of what params.yaml has as well, told of the file that they are in here."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {str(error).removeprefix('params.yaml: ')}") from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg'].lower()}" if where else first["msg"].lower()


def check_source(file: Path, encoder: str, entry: EncoderParams) -> None:
    """Weights come from names that say what they are, never from any file of this machine."""
    checkpoint = entry.checkpoint or ""
    is_free = checkpoint.startswith(("/", ".", "~")) or ".." in checkpoint.split("/")
    if not _NAME.fullmatch(encoder) or is_free or entry.family == "imported":
        raise UserError(
            f"{file}: encoder {encoder!r} with checkpoint {checkpoint!r} does not name weights "
            "that another machine can have"
        )


def _network(file: Path, inputs: Mapping[str, Named]) -> Run:
    config = _read(file, NetworkFile)
    if not _NAME.fullmatch(config.method):
        raise UserError(f"{file}: method {config.method!r} is no name")
    if config.inputs != dict(inputs):
        raise UserError(f"{file}: its inputs are not those of {ENCODERS}")
    with _told_of(file):
        recipe, network = network_of(config.model_dump(), config.method)
    weights = file.parent / WEIGHTS
    try:
        network.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights} is no file of safetensors ({error})") from error
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"{weights} does not fit its {CONFIG}: {first}") from error
    return Run(file.parent, config.seed, config.fold, recipe, network, {"corpus": None})


def _check_alike(folder: Path, runs: tuple[Run, ...]) -> None:
    """Networks whose outputs are averaged predict the same names."""
    names: dict[str, tuple[str, ...]] = {}
    for run in runs:
        for target in run.targets:
            if names.setdefault(target.name, target.names) != target.names:
                raise UserError(f"{folder}: its networks predict different names of {target.name}")
