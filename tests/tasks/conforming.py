"""Whether what a file holds is what its type says, key by key."""

from collections.abc import Iterable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict


def misfits(value: object, kind: Any, where: str = "") -> list[str]:
    """Where ``value`` is not of ``kind``, a type made of TypedDicts and what JSON has."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return []
    if origin in (Union, UnionType):
        found = [misfits(value, part, where) for part in parts]
        return min(found, key=len) if all(found) else []
    if origin is Literal:
        return [] if value in parts else [f"{where}: {value!r}"]
    if is_typeddict(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        lost = [f"{where}: no {key}" for key in kind.__required_keys__ - value.keys()]
        strange = [f"{where}: {key} is unknown" for key in value.keys() - hints.keys()]
        here = [(value[key], hints[key], key) for key in hints if key in value]
        return [*lost, *strange, *_inside(here, where)]
    if origin is dict and isinstance(value, dict):
        return _inside([(item, parts[1], key) for key, item in value.items()], where)
    if origin is list and isinstance(value, list):
        return _inside([(item, parts[0], str(i)) for i, item in enumerate(value)], where)
    plain = (int, float) if kind is float else kind
    is_right = not (is_typeddict(kind) or origin) and isinstance(value, plain)
    return [] if is_right else [f"{where}: {value!r}"]


def _inside(items: Iterable[tuple[object, Any, str]], where: str) -> list[str]:
    return [one for item, kind, key in items for one in misfits(item, kind, f"{where}.{key}")]
