"""Values that cross from a decoder's process to its caller, written so that they cannot carry code.

A decoder reads bytes from strangers, so its answers are those of a stranger too. They are msgpack
with the raw bytes of arrays behind it: numbers, strings, lists, arrays of numbers, and the
dataclasses that called themselves `crossing`, whose fields are checked against their types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

import msgpack
import numpy as np

T = TypeVar("T", bound=type)

_ARRAY, _RECORD = 1, 2  # msgpack's extension types
_KINDS = "biuf"  # booleans, integers, floats: a dtype of objects would be pointers into memory
_crossing: dict[str, type] = {}


class BrokenAnswer(ValueError):
    """The bytes are not those of a value that may cross."""


def crossing(cls: T) -> T:
    """Let a dataclass cross; a decorator."""
    _crossing[cls.__name__] = cls
    cls.__pydantic_config__ = {"arbitrary_types_allowed": True}  # arrays
    return cls


def pack(value: object) -> tuple[bytes, list[memoryview]]:
    """The value without its arrays, and the bytes of these in order, as they lie in memory."""
    beside = _Beside()
    head: Any = msgpack.packb(value, default=beside)
    return head, beside.arrays


class _Beside:
    """Puts arrays aside; no function that calls itself by name, which would keep them for long."""

    def __init__(self) -> None:
        self.arrays: list[memoryview] = []

    def __call__(self, part: Any) -> Any:
        if isinstance(part, np.ndarray):
            if part.dtype.kind not in _KINDS:
                raise TypeError(f"an array of {part.dtype} cannot cross from a decoder")
            self.arrays.append(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
            return msgpack.ExtType(_ARRAY, msgpack.packb([part.dtype.str, part.shape]))
        if isinstance(part, np.generic):
            return part.item()
        if is_dataclass(part) and type(part).__name__ in _crossing:
            held = [getattr(part, field.name) for field in fields(part)]
            named = [type(part).__name__, held]
            return msgpack.ExtType(_RECORD, msgpack.packb(named, default=self))
        raise TypeError(f"{type(part).__name__} cannot cross from a decoder; mark it `crossing`")


def unpack(head: bytes, arrays: Sequence[bytearray]) -> Any:
    """The value that `pack` was given; tuples outside dataclasses come back as lists.

    Raises:
        BrokenAnswer: for bytes that `pack` would not have written.
    """
    left = list(reversed(arrays))

    def record(code: int, data: bytes) -> Any:
        if code == _ARRAY:
            dtype, shape = msgpack.unpackb(data)
            kind = np.dtype(dtype)
            if kind.kind not in _KINDS:
                raise BrokenAnswer(f"an array of {kind}")
            return np.frombuffer(left.pop(), kind).reshape(shape)
        name, held = msgpack.unpackb(data, ext_hook=record)
        cls = _crossing[name]
        names = [field.name for field in fields(cls)]
        return _checker(cls).validate_python(dict(zip(names, held, strict=True)))

    try:
        value = msgpack.unpackb(head, ext_hook=record)
    except (ValueError, TypeError, LookupError, RecursionError, msgpack.UnpackException) as error:
        raise BrokenAnswer(f"{type(error).__name__}: {error}") from None
    if left:
        raise BrokenAnswer(f"{len(left)} arrays that nothing mentions")
    return value


@cache
def _checker(cls: type) -> Any:
    from pydantic import TypeAdapter  # only callers check; decoders start without it

    return TypeAdapter(cls)
