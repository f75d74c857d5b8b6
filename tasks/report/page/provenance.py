"""What the page says about where its numbers come from, and how long the stages took here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.dvc_lock import flatten, read_lock
from tasks.layout import Layout
from tasks.score_files import Provenance


def provenance(raw: Mapping[str, Any], recorded: Provenance) -> dict[str, Any]:
    """Encoders, parameters, and short hashes of code and data for every method.

    Args:
        raw: all of params.yaml.
        recorded: ``provenance`` of leaderboard.json.
    """
    inputs = dict(raw.get("inputs") or {})
    encoders = [
        {"name": name, "used_for": [m for m, e in inputs.items() if e == name], **found}
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


def _methods() -> list[dict[str, str]]:
    """Short hashes of what each training read, from dvc.lock."""
    file = Path("dvc.lock")
    if not file.exists():
        return []
    return [
        {
            "run": address.removeprefix("train@"),
            "code": locked.digest("code")[:10],
            "features": locked.digest("features")[:10],
            "split": locked.digest("split")[:10],
            "data": locked.digest("data")[:10],
        }
        for address, locked in sorted(read_lock(file.read_text(encoding="utf-8")).items())
        if address.startswith("train@")
    ]


def stage_times(layout: Layout) -> list[dict[str, Any]]:
    """Seconds of the last run of each stage instance on this machine, longest first."""
    file = layout.cache / "times.jsonl"
    if not file.exists():
        return []
    last: dict[str, float] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        last[found["stage"]] = found["seconds"]
    ordered = sorted(last.items(), key=lambda item: (-item[1], item[0]))
    return [{"stage": stage, "seconds": seconds} for stage, seconds in ordered]
