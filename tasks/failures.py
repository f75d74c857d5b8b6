"""Why stages failed on this machine, so that the page can show a failed method with its reason."""

import json
from pathlib import Path

from tasks import paths


def note(address: str, reason: str | None) -> None:
    """Remember that a stage instance failed, or with None that it works again.

    Args:
        address: DVC's name of the instance, e.g. ``train@sample-corect``.
        reason: one sentence.
    """
    file = paths.cache() / "failures.jsonl"
    if reason is None and address not in latest():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"stage": address, "reason": reason}) + "\n")


def latest() -> dict[str, str]:
    """Stage instance to its last failure, without those that have worked since."""
    file = paths.cache() / "failures.jsonl"
    if not file.exists():
        return {}
    found: dict[str, str | None] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        found[entry["stage"]] = entry["reason"]
    return {address: reason for address, reason in found.items() if reason is not None}


def standing() -> dict[str, str]:
    """Failures whose output is still absent: one that DVC brought back has nothing to answer for.

    DVC removes a stage's outputs before it runs, and a stage writes them whole or not at all.
    """
    return {
        address: reason
        for address, reason in latest().items()
        if not any(out.exists() for out in _outs(address))
    }


def behind(corpus: str) -> str:
    """Why the tables of a corpus are not there: the first failure on the way to them, or ''."""
    found = standing()
    for stage in ("sample", "checkpoints", "ingest", "labels", "splits", "faces", "features"):
        for address, reason in found.items():
            name, _, of = address.partition("@")
            if name == stage and (not of or of == corpus or of.startswith(f"{corpus}-")):
                return f"{address} failed: {reason}"
    return ""


def _outs(address: str) -> list[Path]:
    """Where the output of a stage instance lies; names may hold dashes, so there may be several."""
    stage, _, of = address.partition("@")
    single = {
        "sample": [paths.raw("sample")],
        "checkpoints": [paths.CHECKPOINTS],
        "ingest": [paths.utterances(of)],
        "labels": [paths.labels(of)],
        "splits": [paths.splits(of)],
        "faces": [paths.faces(of)],
        "report": [paths.leaderboard("json")],
    }
    if stage in single:
        return single[stage]
    double = {"features": paths.features, "train": paths.runs, "evaluate": paths.details}
    parts = of.split("-")
    cuts = range(1, len(parts))
    if stage in double:
        return [double[stage]("-".join(parts[:i]), "-".join(parts[i:])) for i in cuts]
    return [
        paths.transfer("-".join(parts[:i]), "-".join(parts[i:j]), "-".join(parts[j:]))
        for i in cuts
        for j in range(i + 1, len(parts))
    ]
