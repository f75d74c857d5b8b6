"""Which encoders, methods and inputs a corpus has: all of params.yaml unless it says less."""

from collections.abc import Mapping
from typing import Any

from tasks.method_reads import method_reads


def encoders_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Encoders that run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("encoders") or {}, corpus)


def methods_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Methods that run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("methods") or {}, corpus)


def features_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every corpus with every encoder that runs on it."""
    return [
        {"corpus": corpus, "encoder": encoder}
        for corpus in raw.get("corpora") or {}
        for encoder in encoders_of(raw, corpus)
    ]


def methods_on(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every corpus with every method that runs on it."""
    return [
        {"corpus": corpus, "method": method}
        for corpus in raw.get("corpora") or {}
        for method in methods_of(raw, corpus)
    ]


def searches_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Corpus and method of every entry whose options are searched."""
    entries = raw.get("methods") or {}
    return [
        ids for ids in methods_on(raw) if (entries[ids["method"]] or {}).get("search") is not None
    ]


def inputs_of(raw: Mapping[str, Any], corpus: str) -> dict[str, str]:
    """Modality or further input to encoder; ``corpora.<corpus>.inputs`` replaces ``inputs``."""
    own = ((raw.get("corpora") or {}).get(corpus) or {}).get("inputs")
    return dict(raw.get("inputs") or {}) if own is None else dict(own)


def transfers_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every ``corpus``, ``method`` and other corpus ``onto`` where it reads the same encoders.

    Methods on pictures read none. Empty with a single corpus, or where ``transfer.enabled`` is
    false.
    """
    corpora = list(raw.get("corpora") or {})
    if len(corpora) < 2 or not (raw.get("transfer") or {}).get("enabled", True):
        return []
    found = []
    for corpus in corpora:
        for method in methods_of(raw, corpus):
            mine = _read_by(raw, corpus, method)
            found += [
                {"corpus": corpus, "method": method, "onto": onto}
                for onto in corpora
                if onto != corpus and mine is not None and _read_by(raw, onto, method) == mine
            ]
    return found


def _read_by(raw: Mapping[str, Any], corpus: str, method: str) -> dict[str, str] | None:
    """Those modalities that a method reads, with encoders; None where it needs one and has none.

    Further inputs may be absent and do not count.
    """
    entry = raw["methods"][method] or {}
    reads = method_reads(method, entry)
    usable = reads.can_use & set(entry.get("modalities") or reads.can_use)
    inputs = inputs_of(raw, corpus).items()
    found = {m: e for m, e in inputs if m in usable and reads.has_features}
    return found if found or "images" in reads.needs or reads.is_blind else None


def _of(entries: Mapping[str, Any], corpus: str) -> list[str]:
    return [
        name
        for name, entry in entries.items()
        if (entry or {}).get("corpora") is None or corpus in entry["corpora"]
    ]
