"""What the page says about where its numbers come from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.dvc_lock import flatten, read_lock, read_text
from tasks.params.inputs import names_in
from tasks.params.method_reads import method_reads
from tasks.score_files import Provenance
from tasks.selection import inputs_of, methods_on, read_by


def provenance(raw: Mapping[str, Any], recorded: Provenance) -> dict[str, Any]:
    """Encoders, parameters, and short hashes of code and data for every method.

    Args:
        raw: all of params.yaml.
        recorded: ``provenance`` of leaderboard.json.
    """
    read = _read(raw)
    encoders = [
        {"name": name, "used_for": [m for m, e in read if e == name], **found}
        for name, found in recorded["encoders"].items()
    ]
    parameters = flatten(recorded["parameters"])
    return {
        "encoders": encoders,
        "untrained_inputs": [
            encoder["name"]
            for encoder in encoders
            if encoder["used_for"] and encoder.get("trained") not in ("yes", "true")
        ],
        "parameters": [[key, json.dumps(value)] for key, value in sorted(parameters.items())],
        "seeds": (raw.get("train") or {}).get("seeds") or [],
        "versions": recorded.get("versions") or {},
        "convention": recorded.get("convention", ""),
        "methods": _methods(),
    }


def _read(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every modality, or further input, with every encoder that a method reads for it."""
    found: dict[tuple[str, str], None] = {}
    for ids in methods_on(raw):
        inputs = inputs_of(raw, **ids)
        extra = method_reads(ids["method"], raw["methods"][ids["method"]]).extra
        read = read_by(raw, **ids) | {m: names_in(inputs[m]) for m in extra if m in inputs}
        found |= {(modality, name): None for modality, names in read.items() for name in names}
    return list(found)


def _methods() -> list[dict[str, str]]:
    """Short hashes of what each training read, from dvc.lock."""
    return [
        {
            "run": address.removeprefix("train@"),
            "code": locked.digest("code")[:10],
            "features": locked.digest("features")[:10],
            "split": locked.digest("split")[:10],
            "data": locked.digest("data")[:10],
        }
        for address, locked in sorted(read_lock(read_text(Path("dvc.lock"))).items())
        if address.startswith("train@")
    ]
