"""What a leaderboard says in words: does fusion pay, does context pay, and is anything learnt."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tasks.params.method_reads import method_level, method_reads
from tasks.score_files import Against, Entry
from tasks.selection import methods_of, read_by

Kind = Literal["blind", "single", "fusion", "context"]

_WHO: Mapping[str, str] = {
    "single": "the best that sees one modality",
    "fusion": "the best fusion without context",
    "context": "the best that sees the conversation",
}


def kinds(raw: Mapping[str, Any], corpus: str) -> dict[str, Kind]:
    """Method to what it sees of ``corpus``: nothing, one modality, several, or dialogues."""
    found: dict[str, Kind] = {}
    for name in methods_of(raw, corpus):
        entry = raw["methods"][name] or {}
        reads, seen = method_reads(name, entry), len(read_by(raw, corpus, name))
        if reads.is_blind:
            found[name] = "blind"
        elif method_level(name, entry) == "dialogue":
            found[name] = "context"
        else:
            found[name] = "fusion" if seen + ("images" in reads.needs) > 1 else "single"
    return found


def story(entries: Sequence[Entry], seen: Mapping[str, Kind]) -> list[str]:
    """Sentences about one target; nothing about what no method of a kind was tested for.

    Args:
        entries: of leaderboard.json for the target.
        seen: as of ``kinds``.
    """
    ranked = sorted((e for e in entries if e["against"] or e["rank"]), key=lambda e: e["rank"] or 0)
    ranked = [e for e in ranked if not e["selected"] and e["metric"]["mean"] is not None]
    best: dict[str, Entry] = {}
    for entry in ranked:
        best.setdefault(seen.get(entry["method"], "unknown"), entry)
    found = []
    if "single" in best and "fusion" in best:
        found.append(_compared("Fusion", best["fusion"], best["single"], "fusion", "single"))
    without = min(
        (kind for kind in ("single", "fusion") if kind in best),
        key=lambda kind: best[kind]["rank"] or 0,
        default=None,
    )
    if "context" in best and without is not None:
        found.append(_compared("Context", best["context"], best[without], "context", without))
    if "blind" in best and len(ranked) > 1:
        blind = best["blind"]["method"]
        lower = [e["method"] for e in ranked if (e["rank"] or 0) > (best["blind"]["rank"] or 0)]
        found.append(
            f"{blind}, which sees nothing, is ahead of {', '.join(lower)}: these learnt nothing "
            "that holds for others."
            if lower
            else f"{blind}, which sees nothing, is last of {len(ranked)}."
        )
    return found


def _compared(what: str, rich: Entry, poor: Entry, kind: str, plain: str) -> str:
    """Whether the method that sees more is better than the one that sees less, and how surely."""
    is_ahead = (rich["rank"] or 0) < (poor["rank"] or 0)
    first, second = (rich, poor) if is_ahead else (poor, rich)
    test = next(a for a in first["against"] if a["method"] == second["method"])
    if test["significant"]:
        opening = f"{what} pays" if is_ahead else f"{what} costs"
    else:
        opening = f"{what} is {'ahead' if is_ahead else 'behind'}, but not beyond doubt"
    return (
        f"{opening}: {_told(rich)}, {_WHO[kind]}, against {_told(poor)}, {_WHO[plain]}{_by(test)}."
    )


def _told(entry: Entry) -> str:
    return f"{entry['method']} ({entry['metric']['mean']:.3f})"


def _by(test: Against) -> str:
    """The size of a difference with its interval and p-value, where they are defined."""
    numbers = (test["difference"], test["ci_low"], test["ci_high"], test["p_holm"])
    if any(number is None for number in numbers):
        return ""
    gap, low, high, p = numbers
    sure = f"p = {p:.2g} corrected for all pairs"
    return f" (difference {gap:+.3f}, interval {low:+.3f} to {high:+.3f}, {sure})"
