"""What the stages ``transfer`` found, gathered for the leaderboard and the page."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks import failures
from tasks.layout import Layout
from tasks.score_files import Curve, CurvesAcross, Transfer, TransferCell, TransferTarget
from tasks.selection import transfers_of


def cross_corpus(layout: Layout, raw: Mapping[str, Any]) -> list[TransferCell]:
    """One cell for each method, target and ordered pair of corpora that read the same encoders.

    A cell has the headline metric with its interval, or the ``reason`` why there is none.

    Args:
        raw: all of params.yaml.
    """
    reasons = failures.standing(layout)
    cells: list[TransferCell] = []
    for found in transfers_of(raw):
        content = _read(layout, found)
        if content is None:
            address = f"transfer@{'-'.join(found.values())}"
            reason = reasons.get(address)
            why = f"failed: {reason}" if reason else f"not finished: run stage {address}"
            cells.append(_unscored(found, None, why))
            continue
        for target, one in content["targets"].items():
            cells.append(_scored(found, target, one, content["shared_media"]))
        for target, reason in content["unshared"].items():
            cells.append(_unscored(found, target, reason))
    return cells


def _read(layout: Layout, place: Mapping[str, str]) -> Transfer | None:
    """What a stage ``transfer`` found; None where it has not run."""
    file = layout.transfer(**place)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _unscored(place: Mapping[str, str], target: str | None, reason: str) -> TransferCell:
    return {
        "method": place["method"],
        "trained_on": place["corpus"],
        "tested_on": place["onto"],
        "target": target,
        "reason": reason,
    }


def _scored(
    place: Mapping[str, str], target: str, one: TransferTarget, shared_media: int
) -> TransferCell:
    score = one["metrics"].get(one["headline"], {"mean": None, "std": None})
    cell: TransferCell = {
        "method": place["method"],
        "trained_on": place["corpus"],
        "tested_on": place["onto"],
        "target": target,
        "metric": one["headline"],
        "mean": score["mean"],
        "std": score["std"],
        "higher_is_better": one["higher_is_better"],
        "n": one["n"],
        "networks": one["networks"],
        "names": one["names"],
        "only_trained": one["only_trained"],
        "only_tested": one["only_tested"],
        "rows_left_out": one["rows_left_out"],
        "remark": one["remark"],
        "shared_media": shared_media,
    }
    if "n_dialogues" in one and "ci_low" in one and "ci_high" in one:
        cell["ci_low"], cell["ci_high"] = one["ci_low"], one["ci_high"]
        cell["n_dialogues"] = one["n_dialogues"]
    return cell


def curves_across(layout: Layout, raw: Mapping[str, Any]) -> list[CurvesAcross]:
    """Coverage of the absolute errors on other corpora, for every target of values that has some.

    Args:
        raw: all of params.yaml.
    """
    found: list[CurvesAcross] = []
    for place in transfers_of(raw):
        content = _read(layout, place)
        for target, one in content["targets"].items() if content else ():
            if curves := one.get("coverage"):
                found.append(
                    {
                        "method": place["method"],
                        "trained_on": place["corpus"],
                        "tested_on": place["onto"],
                        "target": target,
                        "curves": curves,
                    }
                )
    return found


def thinned(found: Sequence[CurvesAcross], most_points: int) -> list[CurvesAcross]:
    """The same curves with wider steps, for the page."""
    return [
        {
            **one,
            "curves": {name: _thin(curve, most_points) for name, curve in one["curves"].items()},
        }
        for one in found
    ]


def _thin(curve: Curve, most_points: int) -> Curve:
    # 1, 2, 5, 10, ... keep the round errors, such as 0.1, among the points
    strides = (digit * 10**power for power in range(4) for digit in (1, 2, 5))
    stride = next(s for s in strides if s * most_points >= len(curve["shares"]))
    shares = [round(share, 4) for share in curve["shares"][::stride]]
    # the last point of all, where everything is covered, is at most one step further
    return {"step": stride * curve["step"], "shares": [*shares, 1.0]}
