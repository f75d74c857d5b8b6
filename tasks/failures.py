"""Why stages failed on this machine, so that the page can show a failed method with its reason."""

import json

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
