"""What the stages ``transfer`` found, gathered for the leaderboard and the page."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks import failures
from tasks.layout import Layout
from tasks.selection import transfers_of

_CELL = (
    "higher_is_better", "ci_low", "ci_high", "n", "n_dialogues", "networks", "names",
    "only_trained", "only_tested", "rows_left_out", "remark",
)  # fmt: skip


def cross_corpus(layout: Layout, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One cell for each method, target and ordered pair of corpora that read the same encoders.

    A cell has the headline metric with its interval, or the ``reason`` why there is none.

    Args:
        raw: all of params.yaml.
    """
    reasons = failures.standing(layout)
    cells: list[dict[str, Any]] = []
    for found in transfers_of(raw):
        place = {
            "method": found["method"],
            "trained_on": found["corpus"],
            "tested_on": found["onto"],
        }
        file = layout.transfer(**found)
        if not file.exists():
            address = f"transfer@{'-'.join(found.values())}"
            reason = reasons.get(address)
            why = f"failed: {reason}" if reason else f"not finished: run stage {address}"
            cells.append({**place, "target": None, "reason": why})
            continue
        content = json.loads(file.read_text(encoding="utf-8"))
        for target, one in content["targets"].items():
            score = one["metrics"].get(one["headline"], {"mean": None, "std": None})
            cell = {key: one[key] for key in _CELL if key in one}
            cells.append(
                {
                    **place,
                    "target": target,
                    "metric": one["headline"],
                    **score,
                    **cell,
                    "shared_media": content["shared_media"],
                }
            )
        for target, reason in content["unshared"].items():
            cells.append({**place, "target": target, "reason": reason})
    return cells


def curves_across(layout: Layout, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Coverage of the absolute errors on other corpora, for every target of values that has some.

    Args:
        raw: all of params.yaml.
    """
    found = []
    for place in transfers_of(raw):
        file = layout.transfer(**place)
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"targets": {}}
        found += [
            {
                "method": place["method"],
                "trained_on": place["corpus"],
                "tested_on": place["onto"],
                "target": target,
                "curves": one["coverage"],
            }
            for target, one in content["targets"].items()
            if one.get("coverage")
        ]
    return found


def thinned(found: Sequence[Mapping[str, Any]], most_points: int) -> list[dict[str, Any]]:
    """The same curves with wider steps, for the page."""
    return [
        {
            **one,
            "curves": {name: _thin(curve, most_points) for name, curve in one["curves"].items()},
        }
        for one in found
    ]


def _thin(curve: Mapping[str, Any], most_points: int) -> dict[str, Any]:
    # 1, 2, 5, 10, ... keep the round errors, such as 0.1, among the points
    strides = (digit * 10**power for power in range(4) for digit in (1, 2, 5))
    stride = next(s for s in strides if s * most_points >= len(curve["shares"]))
    shares = [round(share, 4) for share in curve["shares"][::stride]]
    # the last point of all, where everything is covered, is at most one step further
    return {"step": stride * curve["step"], "shares": [*shares, 1.0]}
