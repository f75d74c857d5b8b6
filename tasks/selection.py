"""Which encoders, methods and inputs a corpus has: all of params.yaml unless it says less."""

from collections.abc import Mapping
from typing import Any


def encoders_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Encoders that run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("encoders") or {}, corpus)


def methods_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Methods that run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("methods") or {}, corpus)


def inputs_of(raw: Mapping[str, Any], corpus: str) -> dict[str, str]:
    """Modality to encoder; ``corpora.<corpus>.inputs`` takes the place of ``inputs``."""
    own = ((raw.get("corpora") or {}).get(corpus) or {}).get("inputs")
    return dict(own or raw.get("inputs") or {})


def _of(entries: Mapping[str, Any], corpus: str) -> list[str]:
    return [
        name
        for name, entry in entries.items()
        if (entry or {}).get("corpora") is None or corpus in entry["corpora"]
    ]
