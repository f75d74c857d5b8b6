"""Checkpoints in one file, to carry to machines that reach no hub.

A bundle is a plain tar: ``bundle.json`` first, which lists every file with its SHA-256, then the
files. Reading trusts nothing in it: only listed names are taken, only regular files, only tensors
(safetensors), configuration and tokenizers, each checked against its hash, and a checkpoint appears
whole or not at all. The same checkpoints make the same bytes.
"""

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.encoders.records import RECORD, check_record, fetched_path, read_record
from models.errors import UserError
from tasks.atomic import replacing

_LIST = "bundle.json"
_LIST_MAX_BYTES = 16_000_000
_NAME = re.compile(r"^[A-Za-z0-9_][\w.-]*$")
_KINDS = (".safetensors", ".json", ".txt", ".model")
_BLOCK_BYTES = 1 << 20


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class _Checkpoint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str
    revision: str | None
    files: dict[str, _File]


class _Contents(BaseModel):
    """``bundle.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    affectloom_bundle: int = Field(ge=1, le=1)
    checkpoints: list[_Checkpoint]


@dataclass(frozen=True)
class Bundled:
    """One checkpoint of a bundle.

    Attributes:
        checkpoint: its name in params.yaml.
        revision: its commit.
        folder: where it lies on this machine.
        is_new: it was not here before.
    """

    checkpoint: str
    revision: str | None
    folder: Path
    is_new: bool = False


def export_bundle(wanted: Sequence[Bundled], destination: Path) -> int:
    """Write fetched checkpoints as one file; returns its size in bytes."""
    listed = []
    for one in wanted:
        check_record(one.folder, one.checkpoint)
        files = {RECORD: _described(one.folder / RECORD)}
        files |= {name: _File.model_validate(f) for name, f in read_record(one.folder).items()}
        for name in files:
            _check_name(name, one.folder)
        listed.append(_Checkpoint(checkpoint=one.checkpoint, revision=one.revision, files=files))
    contents = _Contents(affectloom_bundle=1, checkpoints=listed)
    text = json.dumps(contents.model_dump(), indent=1, sort_keys=True).encode()
    with (
        replacing(destination) as temporary,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.addfile(_member(_LIST, len(text)), io.BytesIO(text))
        for number, (one, noted) in enumerate(zip(wanted, listed, strict=True)):
            for name in sorted(noted.files):
                with (one.folder / name).open("rb") as stream:
                    tar.addfile(_member(f"{number}/{name}", noted.files[name].bytes), stream)
    return destination.stat().st_size


def import_bundle(source: Path, cache: Path) -> list[Bundled]:
    """Take a bundle's checkpoints into ``cache``; those that are here already stay as they are."""
    if not source.is_file():
        raise UserError(f"there is no bundle {source}; make one with `affectloom fetch --export`")
    weights = cache / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".bundle.", suffix=".tmp", dir=weights) as folder,
            tarfile.open(source, "r:") as tar,
        ):
            contents = _read_list(tar, source)
            _unpack(tar, contents, Path(folder), source)
            return [
                _place(Path(folder) / str(number), one, cache)
                for number, one in enumerate(contents.checkpoints)
            ]
    except tarfile.TarError as error:
        raise UserError(
            f"{source} is no bundle of affectloom, or it is cut off ({error}); copy it again"
        ) from error


def _read_list(tar: tarfile.TarFile, source: Path) -> _Contents:
    first = tar.next()
    if first is None or first.name != _LIST or not first.isreg() or first.size > _LIST_MAX_BYTES:
        raise UserError(
            f"{source} is no bundle of affectloom: it does not begin with {_LIST}; make one with "
            "`affectloom fetch --export`"
        )
    try:
        contents = _Contents.model_validate_json(_stream(tar, first, source).read())
    except ValidationError as error:
        raise UserError(
            f"{source}: {_LIST} does not list checkpoints as affectloom {_LIST}s do "
            f"({error.errors()[0]['msg'].lower()}); make the bundle again"
        ) from error
    for one in contents.checkpoints:
        fetched_path(one.checkpoint, one.revision, Path())  # a name and a commit, or a sentence
        for name in one.files:
            _check_name(name, source)
    return contents


def _unpack(tar: tarfile.TarFile, contents: _Contents, folder: Path, source: Path) -> None:
    """Every listed file into ``folder/<number>``, checked; nothing else is written."""
    awaited = {
        f"{number}/{name}": (folder / str(number) / name, file)
        for number, one in enumerate(contents.checkpoints)
        for name, file in one.files.items()
    }
    for number in range(len(contents.checkpoints)):
        (folder / str(number)).mkdir()
    while (member := tar.next()) is not None:
        place, file = awaited.pop(member.name, (None, None))
        if place is None or file is None or not member.isreg() or member.size != file.bytes:
            raise UserError(
                f"{source} holds '{member.name}', which {_LIST} does not list in this form; "
                "nothing was taken from it: get the bundle from somebody you trust"
            )
        _copy_checked(_stream(tar, member, source), place, file, source)
    if awaited:
        raise UserError(
            f"{source} lacks {min(awaited)}, which {_LIST} lists; it is cut off: copy it again"
        )


def _copy_checked(stream: IO[bytes], place: Path, file: _File, source: Path) -> None:
    digest = hashlib.sha256()
    with place.open("wb") as out:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            out.write(block)
    if digest.hexdigest() != file.sha256:
        raise UserError(
            f"{source}: {place.name} is damaged (its checksum differs); nothing was taken from the "
            "bundle: copy it again"
        )


def _place(unpacked: Path, one: _Checkpoint, cache: Path) -> Bundled:
    check_record(unpacked, one.checkpoint)
    target = fetched_path(one.checkpoint, one.revision, cache)
    if target.exists():
        check_record(target, one.checkpoint)
        return Bundled(one.checkpoint, one.revision, target)
    shutil.move(unpacked, target)
    return Bundled(one.checkpoint, one.revision, target, is_new=True)


def _check_name(name: str, where: Path) -> None:
    """Plain names of kinds that run no code, and the record."""
    if name == RECORD or (_NAME.match(name) and name.endswith(_KINDS)):
        return
    raise UserError(
        f"{where}: '{name}' has no place in a bundle, which takes safetensors, configuration and "
        "tokenizers only (a pickle could run code); convert the weights to safetensors"
    )


def _described(file: Path) -> _File:
    content = file.read_bytes()
    return _File(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A member that tells nothing of this machine or moment."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _stream(tar: tarfile.TarFile, member: tarfile.TarInfo, source: Path) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise UserError(f"{source}: '{member.name}' is no file; get the bundle again")
    return stream
