"""Which encoders, methods and inputs a corpus has: all of params.yaml unless it says less."""

from collections.abc import Mapping
from typing import Any


def encoders_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Encoders that run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("encoders") or {}, corpus)


def methods_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Methods that run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("methods") or {}, corpus)


def searches_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Corpus and method of every entry whose options are searched."""
    entries = raw.get("methods") or {}
    return [
        {"corpus": corpus, "method": name}
        for corpus in raw.get("corpora") or {}
        for name in methods_of(raw, corpus)
        if (entries[name] or {}).get("search") is not None
    ]


def inputs_of(raw: Mapping[str, Any], corpus: str) -> dict[str, str]:
    """Modality or further input to encoder; ``corpora.<corpus>.inputs`` replaces ``inputs``."""
    own = ((raw.get("corpora") or {}).get(corpus) or {}).get("inputs")
    return dict(raw.get("inputs") or {}) if own is None else dict(own)


def transfers_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every ``corpus``, ``method`` and other corpus ``onto`` that reads the same encoders.

    Empty with a single corpus, or where ``transfer.enabled`` is false.
    """
    if not (raw.get("transfer") or {}).get("enabled", True):
        return []
    corpora = list(raw.get("corpora") or {})
    found = []
    for corpus in corpora:
        for method in methods_of(raw, corpus):
            used = (raw["methods"][method] or {}).get("modalities") or list(inputs_of(raw, corpus))
            mine = {m: e for m, e in inputs_of(raw, corpus).items() if m in used}
            for onto in corpora:
                theirs = {m: e for m, e in inputs_of(raw, onto).items() if m in used}
                if onto != corpus and theirs == mine:
                    found.append({"corpus": corpus, "method": method, "onto": onto})
    return found


def _of(entries: Mapping[str, Any], corpus: str) -> list[str]:
    return [
        name
        for name, entry in entries.items()
        if (entry or {}).get("corpora") is None or corpus in entry["corpora"]
    ]
