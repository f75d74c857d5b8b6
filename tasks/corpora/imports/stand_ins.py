"""What the names in a pickle get instead of what they name, and arrays out of what was said.

numpy's own classes never see the pickle: a forged state of ``numpy.dtype`` could make numpy take
bytes for addresses. ``_Array`` and ``_Dtype`` take the state, check it, and make the array
themselves, without a copy. Pickles of Python 2 (latin-1) and of numpy 1 and 2 are read.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

#: Classes that hold one sample in files of COGMEN and CORECT.
_RECORDS = {
    (module, "Sample")
    for module in ("cogmen", "cogmen.Sample", "corect", "corect.Sample", "Sample", "__main__")
}
_CODE = re.compile(r"^(b1|[iu][1248]|f[248]|c(?:8|16)|[SU]\d*|O8?)$")
_ORDERS = {"<", ">", "|", "="}
_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None), np.generic, np.ndarray)


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that is no plain data; the message is its name."""


class Record:
    """The attributes of one sample of a known project; none of its code.

    Attributes:
        fields: attribute names to plain values.
    """

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise Refused("a sample whose state is no dictionary")
        self.fields = state


class _Stand:
    """Stands for a function that a pickle may name; it cannot be changed by one."""

    __slots__ = ("_function", "name")

    def __init__(self, name: str, function: Callable[..., object]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: object) -> object:
        try:
            return self._function(*arguments)
        except (TypeError, ValueError) as error:
            raise Refused(f"{self.name} with arguments that it never has ({error})") from error

    def __setattr__(self, name: str, value: object) -> None:
        raise Refused(f"a change of {self.name}")

    def __setstate__(self, state: object) -> None:
        raise Refused(f"a change of {self.name}")


class _Dtype:
    """What a pickle says about a numpy type; numbers, text and objects only."""

    __slots__ = ("_code", "_order", "_size")

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _CODE.match(code):
            raise Refused(f"numpy.dtype({code!r})")
        self._code, self._order, self._size = code, "=", 0

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 6 or state[1] not in _ORDERS:
            raise Refused("numpy.dtype with a forged state")
        if any(part is not None for part in state[2:5]):
            raise Refused("numpy.dtype with fields")
        self._order, self._size = state[1], state[5]

    @property
    def is_object(self) -> bool:
        return self._code.startswith("O")

    def real(self) -> np.dtype:
        """The numpy type itself."""
        code = self._code
        if code in ("S", "U"):  # the width then stands in the state, in bytes
            code += str(max(int(self._size), 0) // (4 if code == "U" else 1))
        return np.dtype("O" if self.is_object else f"{self._order.replace('|', '=')}{code}")


class _Array:
    """What a pickle says about an array; ``real`` makes it, once."""

    __slots__ = ("content", "dtype", "is_fortran", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = _Dtype("f8")
        self.is_fortran = False
        self.content: bytes | bytearray | list[object] = b""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise Refused("numpy.ndarray with a forged state")
        shape, dtype, is_fortran, content = state[-4:]
        self.fill(shape, dtype, bool(is_fortran), content)

    def fill(self, shape: object, dtype: object, is_fortran: bool, content: object) -> None:
        """Take what the pickle says, after checking that it fits together."""
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise Refused("numpy.ndarray with a forged shape")
        if not isinstance(dtype, _Dtype):
            raise Refused("numpy.ndarray with a forged type")
        if isinstance(content, str):  # Python 2 wrote bytes as text
            content = content.encode("latin-1")
        if not isinstance(content, list if dtype.is_object else bytes | bytearray):
            raise Refused("numpy.ndarray with forged content")
        size = prod(shape) * (1 if dtype.is_object else dtype.real().itemsize)
        if len(content) != size:
            raise Refused(f"numpy.ndarray with {len(content)} instead of {size} bytes or items")
        self.shape, self.dtype, self.is_fortran, self.content = shape, dtype, is_fortran, content

    def real(self) -> np.ndarray:
        """The array; it shares the memory of the bytes that were read."""
        order = "F" if self.is_fortran else "C"
        if isinstance(self.content, list):
            array = np.empty(len(self.content), object)
            for place, item in enumerate(self.content):  # assigning the list would look inside
                array[place] = item
            return array.reshape(self.shape, order=order)
        if not self.content:
            return np.empty(self.shape, self.dtype.real())
        return np.frombuffer(self.content, self.dtype.real()).reshape(self.shape, order=order)


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    if not isinstance(kind, _Stand) or kind.name != "numpy.ndarray" or shape != (0,):
        raise Refused("numpy.ndarray of a kind that is no array")
    return _Array()


def _scalar(dtype: object, content: object = b"") -> object:
    array = _Array()
    array.fill((), dtype, False, content)
    if array.dtype.is_object:
        raise Refused("a numpy number that is an object")
    return array.real()[()]


def _frombuffer(content: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.fill(shape, dtype, order == "F", content)
    return array


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("_codecs.encode of something else than bytes")
    return text.encode("latin-1")


def _empty_bytes(*arguments: object) -> bytes:
    if arguments:
        raise Refused("bytes made from something else")
    return b""


def _bytearray(content: object = b"", encoding: object = None) -> bytearray:
    if isinstance(content, str) and encoding in ("latin1", "latin-1"):
        content = content.encode("latin-1")
    if not isinstance(content, bytes):
        raise Refused("bytearray made from something else")
    return bytearray(content)


def _dictionary(pairs: object = ()) -> dict[object, object]:
    return dict(pairs)  # type: ignore[call-overload]  # a wrong argument is refused


def _default_dictionary(*_: object) -> dict[object, object]:
    return {}  # the default is forgotten: reading needs none


def _rebuild(kind: object, base: object, state: object) -> Record:
    if kind is not Record or not isinstance(base, _Stand) or base.name != "object":
        raise Refused("copyreg._reconstructor of an unknown class")
    return Record()


def _no_call(*_: object) -> object:
    raise Refused("a call of a class")


def _names() -> Mapping[tuple[str, str], object]:
    """Every name that a pickle may use, with what it gets instead."""
    found: dict[tuple[str, str], object] = {
        ("numpy", "ndarray"): _Stand("numpy.ndarray", _no_call),
        ("numpy", "dtype"): _Stand("numpy.dtype", _Dtype),
        ("_codecs", "encode"): _Stand("_codecs.encode", _encode),
        ("collections", "OrderedDict"): _Stand("collections.OrderedDict", _dictionary),
        ("collections", "defaultdict"): _Stand("collections.defaultdict", _default_dictionary),
    }
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = _Stand("_reconstruct", _reconstruct)
        found[f"{core}.multiarray", "scalar"] = _Stand("scalar", _scalar)
        found[f"{core}.numeric", "_frombuffer"] = _Stand("_frombuffer", _frombuffer)
    for builtins in ("builtins", "__builtin__"):
        for name in ("list", "dict", "int", "float", "str", "tuple", "object"):
            found[builtins, name] = _Stand(name, _no_call)  # factories of defaultdict
        found[builtins, "set"] = _Stand("set", set)
        found[builtins, "frozenset"] = _Stand("frozenset", frozenset)
        found[builtins, "complex"] = _Stand("complex", complex)
        found[builtins, "bytes"] = _Stand("bytes", _empty_bytes)
        found[builtins, "bytearray"] = _Stand("bytearray", _bytearray)
    for copyreg in ("copyreg", "copy_reg"):
        found[copyreg, "_reconstructor"] = _Stand("copyreg._reconstructor", _rebuild)
    return found | dict.fromkeys(_RECORDS, Record)


NAMES = _names()


def unwrap(value: Any, seen: dict[int, Any]) -> Any:
    """Put real arrays in the place of ``_Array``, in place wherever that can be."""
    if isinstance(value, _PLAIN):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if not isinstance(value, list | dict | Record):
        return _made_anew(value, seen)
    seen[id(value)] = value  # before what it holds, for that may be itself
    if isinstance(value, Record):
        value.fields = unwrap(value.fields, seen)
        return value
    for place, item in value.items() if isinstance(value, dict) else enumerate(value):
        if not isinstance(item, _PLAIN):
            value[place] = unwrap(item, seen)
    return value


def _made_anew(value: Any, seen: dict[int, Any]) -> Any:
    """An array, tuple or set out of what cannot change in place."""
    if isinstance(value, _Array):
        if isinstance(value.content, list):
            value.content = unwrap(value.content, seen)
        made: Any = value.real()
    elif isinstance(value, tuple | set | frozenset):
        items = []
        for item in value:  # a comprehension would take a frame more of each level
            items.append(unwrap(item, seen))
        made = type(value)(items)
    else:
        raise Refused(f"{getattr(value, 'name', type(value).__name__)} as a value")
    seen[id(value)] = made
    # the original must live as long as its id is remembered
    seen[-id(value)] = value
    return made
