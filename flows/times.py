"""How long stages took on this machine: kept in the cache, since it is true of no other."""

import json

from tasks.layout import Layout


def note_time(layout: Layout, address: str, seconds: float) -> None:
    """Remember how long a stage took here."""
    file = layout.cache / "times.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"stage": address, "seconds": round(seconds, 2)}) + "\n")


def read_times(layout: Layout) -> dict[str, float]:
    """Seconds of the last run of each stage instance here, longest first."""
    file = layout.cache / "times.jsonl"
    if not file.exists():
        return {}
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    last = {line["stage"]: float(line["seconds"]) for line in lines}
    return dict(sorted(last.items(), key=lambda item: (-item[1], item[0])))
