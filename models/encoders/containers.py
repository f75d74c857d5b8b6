"""Tensors out of foreign files: safetensors, HDF5 of Keras, pickles of torch, CTranslate2.

What a file is, its first bytes say. Nothing in a file is run: a pickle is read by torch's
restricted reader, which makes tensors and plain containers only, and one of a whole module by
``pickled_modules``.
"""

import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.encoders.pickled_modules import read_module
from models.encoders.records import first_line
from models.errors import UserError

Tensors = dict[str, Tensor]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
#: CTranslate2's numbers for types of tensors.
_CT2_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_CT2_VERSIONS = range(3, 7)
_CT2_MOST = 100_000


def read_tensors(file: Path, checkpoint: str) -> Tensors:
    """Every tensor of a file by its name there; groups inside are joined with ``/``.

    Args:
        file: which.
        checkpoint: its name in messages.
    """
    with file.open("rb") as stream:
        start = stream.read(16)
    try:
        return _reader(start)(file)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError) as error:
        raise UserError(
            f"checkpoint '{checkpoint}' cannot be read as weights ({first_line(error)}); known are "
            "safetensors, HDF5 of Keras, pickles of tensors and CTranslate2"
        ) from error
    except (struct.error, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint '{checkpoint}' is damaged, or holds more than tensors, and nothing of it "
            "was run; name another file"
        ) from error


def _reader(start: bytes) -> Callable[[Path], Tensors]:
    if start.startswith(_HDF5):
        return _hdf5
    if start.startswith((_ZIP, _PICKLE)):
        return _pickle
    if len(start) > 8 and start[8:9] == b"{":
        return load_file
    return _ctranslate2


def _hdf5(file: Path) -> Tensors:
    import h5py

    found: Tensors = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
            if item.external or item.is_virtual:
                raise ValueError(f"{name} lies in another file")
            found[name] = torch.from_numpy(np.asarray(item))

    with h5py.File(file, "r") as content:
        content.visititems(visit)
    return found


def _pickle(file: Path) -> Tensors:
    try:
        return dict(_flat(torch.load(file, map_location="cpu", weights_only=True)))
    except pickle.UnpicklingError:
        if not zipfile.is_zipfile(file):
            raise
        return read_module(file)


def _flat(content: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value.clone().contiguous()
            elif isinstance(name, str):
                yield from _flat(value, f"{prefix}{name}/")


def _ctranslate2(file: Path) -> Tensors:
    """A header, every tensor with name, shape, type and bytes, then further names of the same."""
    found: Tensors = {}
    with file.open("rb") as stream:
        (version,) = _unpack(stream, "<I")
        if version not in _CT2_VERSIONS:
            raise ValueError("its first bytes belong to no format that is known here")
        _text(stream)  # the kind of network
        _revision, count = _unpack(stream, "<II")
        if count > _CT2_MOST:
            raise ValueError(f"{count} tensors are more than any network has")
        for _ in range(count):
            name = _text(stream)
            (rank,) = _unpack(stream, "<B")
            shape = _unpack(stream, f"<{rank}I")
            kind, size = _unpack(stream, "<BI")
            if kind not in _CT2_TYPES:
                raise ValueError(f"tensor {name} is of a type {kind} that is not known here")
            values = np.frombuffer(_exactly(stream, size), _CT2_TYPES[kind]).reshape(shape)
            found[name] = torch.from_numpy(values.copy())
        if version >= 3:
            for _ in range(*_unpack(stream, "<I")):
                alias, name = _text(stream), _text(stream)
                found[alias] = found[name]
    return found


def _unpack(stream: IO[bytes], form: str) -> tuple:
    return struct.unpack(form, _exactly(stream, struct.calcsize(form)))


def _text(stream: IO[bytes]) -> str:
    (length,) = _unpack(stream, "<H")
    return _exactly(stream, length).rstrip(b"\0").decode("utf-8")


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise EOFError("it ends in the middle of a tensor")
    return content
