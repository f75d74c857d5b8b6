"""Unions of corpora: one corpus by reference to others, ``adapter: union`` with ``of: [a, b]``.

A union reads its parts' tables in place of a raw folder; every later stage takes it for a corpus.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.errors import UserError, hint

UNION = "union"
#: Settings that stay with the parts.
_OF_PARTS = ("labels", "splits")


class UnionParams(BaseModel):
    """A union (``params.yaml: corpora.<corpus>``).

    Attributes:
        adapter: ``union``.
        of: its parts, keys of ``corpora``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Literal["union"]
    of: tuple[str, ...]


def parts_of(raw: Mapping[str, Any], corpus: str) -> tuple[str, ...]:
    """Parts of a union of corpora; none of any other corpus."""
    entry = (raw.get("corpora") or {}).get(corpus) or {}
    named = entry.get("of")
    if entry.get("adapter", corpus) != UNION or not isinstance(named, list | tuple):
        return ()
    return tuple(named)


def share_rows(raw: Mapping[str, Any], corpus: str, other: str) -> bool:
    """Whether two corpora are the same utterances in part: a union and its part, or two unions."""
    mine, theirs = ({one, *parts_of(raw, one)} for one in (corpus, other))
    return bool(mine & theirs)


def check_unions(raw: Mapping[str, Any]) -> None:
    """Every union names two plain corpora or more, each once, and leaves them their settings."""
    corpora = raw.get("corpora") or {}
    for corpus, entry in corpora.items():
        if (entry or {}).get("adapter", corpus) != UNION:
            continue
        where = f"params.yaml: corpora.{corpus}"
        named = entry.get("of")
        if not isinstance(named, list | tuple) or len(named) < 2:
            raise UserError(f"{where}.of is {named!r}, expected a list of two corpora or more")
        plain = [name for name in corpora if not parts_of(raw, name) and name != corpus]
        for part in named:
            if part not in corpora:
                raise UserError(f"{where}.of names '{part}'; {hint(str(part), plain)}")
            if part == corpus:
                raise UserError(f"{where}.of names the union itself; name its parts alone")
            if inner := parts_of(raw, part):
                raise UserError(
                    f"{where}.of names '{part}', which is itself a union; name its parts "
                    f"{', '.join(inner)} instead"
                )
        if len(set(named)) < len(named):
            raise UserError(f"{where}.of names a corpus twice; leave one out")
        for section in _OF_PARTS:
            if entry.get(section) is not None:
                raise UserError(
                    f"{where}.{section}: the parts of a union keep their own {section}; set "
                    f"corpora.{named[0]}.{section} and so on"
                )
