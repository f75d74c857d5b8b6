"""Why stages failed on this machine, so that the page can show a failed method with its reason."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.layout import Layout


def note(layout: Layout, address: str, reason: str | None, outs: Sequence[Path] = ()) -> None:
    """Remember that a stage instance failed, or with None that it works again.

    Args:
        layout: whose cache remembers it.
        address: DVC's name of the instance, e.g. ``train@sample-corect``.
        reason: one sentence.
        outs: what the instance would have written.
    """
    if reason is None and address not in latest(layout):
        return
    file = _file(layout)
    file.parent.mkdir(parents=True, exist_ok=True)
    entry = {"stage": address, "reason": reason, "outs": [str(out) for out in outs]}
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")


def latest(layout: Layout) -> dict[str, str]:
    """Stage instance to its last failure, without those that have worked since."""
    return {address: entry["reason"] for address, entry in _entries(layout).items()}


def standing(layout: Layout) -> dict[str, str]:
    """Failures whose output is still absent: one that DVC brought back has nothing to answer for.

    DVC removes a stage's outputs before it runs, and a stage writes them whole or not at all.
    """
    return {
        address: entry["reason"]
        for address, entry in _entries(layout).items()
        if not any(Path(out).exists() for out in entry.get("outs", ()))
    }


def behind(layout: Layout, corpus: str) -> str:
    """Why the tables of a corpus are not there: the first failure on the way to them, or ''."""
    found = standing(layout)
    for stage in ("sample", "checkpoints", "ingest", "labels", "splits", "faces", "features"):
        for address, reason in found.items():
            name, _, of = address.partition("@")
            if name == stage and (not of or of == corpus or of.startswith(f"{corpus}-")):
                return f"{address} failed: {reason}"
    return ""


def _entries(layout: Layout) -> dict[str, dict[str, Any]]:
    file = _file(layout)
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    found = {entry["stage"]: entry for entry in map(json.loads, lines)}
    return {address: entry for address, entry in found.items() if entry["reason"] is not None}


def _file(layout: Layout) -> Path:
    return layout.cache / "failures.jsonl"
