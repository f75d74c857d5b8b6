"""What a corpus's protocol card says about its judgements, and the rules that follow from it."""

import json
from dataclasses import dataclass, field

from models.errors import UserError
from tasks.labels.checks import Rules
from tasks.labels.params import Kind, LabelsParams, ScaleParams
from tasks.labels.scales import SCALES, Scale
from tasks.targets import FAMILIES


@dataclass(frozen=True)
class Card:
    """What the corpus's protocol card says about labels."""

    scales: dict[str, Scale]
    label_map: dict[str, str | None]
    kinds: dict[str, Kind] = field(default_factory=dict)


def read_card(metadata: dict[str, str]) -> Card:
    """Scales and label map that ingest recorded with the annotations."""
    card = json.loads(metadata.get("card", "{}"))
    scales = {
        target: SCALES[scale] if isinstance(scale, str) else Scale(*scale)
        for target, scale in (card.get("scales") or {}).items()
        if target in FAMILIES
    }
    return Card(scales, card.get("label_map") or {}, card.get("kinds") or {})


def rules_of(params: LabelsParams, card: Card) -> Rules:
    """What the checks hold judgements to: the corpus's card, and before it ``params``."""
    unknown = sorted(set(params.scales) - set(FAMILIES))
    if unknown:
        raise UserError(
            f"params.yaml: labels.scales: no target is called '{unknown[0]}'; "
            f"known targets: {', '.join(FAMILIES)}"
        )
    scales = dict(card.scales)
    for target, scale in params.scales.items():
        if isinstance(scale, ScaleParams) and not scale.min < scale.max:
            raise UserError(
                f"params.yaml: labels.scales.{target}: min {scale.min:g} is not below max "
                f"{scale.max:g}; a scale that runs the other way has sign: -1"
            )
        if isinstance(scale, ScaleParams):
            scales[target] = Scale(
                scale.min, scale.max, scale.sign, scale.integer, tuple(scale.sentinels)
            )
        elif scale in SCALES:
            scales[target] = SCALES[scale]
        else:
            raise UserError(
                f"params.yaml: labels.scales.{target}: no scale is called '{scale}'; "
                f"known scales: {', '.join(SCALES)}"
            )
    required = sorted(set(params.required) - set(FAMILIES))
    if required:
        raise UserError(
            f"params.yaml: labels.required: no target is called '{required[0]}'; "
            f"known targets: {', '.join(FAMILIES)}"
        )
    mapped = {category for category in card.label_map.values() if category is not None}
    allowed = set(params.categories) or mapped
    labels = {"category": frozenset(allowed)} if allowed else {}
    if params.multilabels:
        labels["categories"] = frozenset(params.multilabels)
    return Rules(
        scales=scales,
        labels=labels,
        required=params.required,
        released=params.released_raters,
        min_raters=params.min_raters,
        source_tolerance=params.source_tolerance,
        precedence=params.precedence,
        one_category=params.several_votes == "conflict",
    )
