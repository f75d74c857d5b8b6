"""What the training rows of a fold tell of how each part of a union uses its scales."""

import numpy as np

from models.batch import Target
from models.errors import UserError
from models.part_scales import Align, Knots, PartSpec, fit_knots
from tasks.batches.dataset import Dataset


def fit_parts(
    train: Dataset, align: Align, has_offsets: bool, corpus: str, fold: int
) -> PartSpec | None:
    """Maps of all columns of values, fitted on training rows, each of them counted once.

    None where the network predicts no values.

    Args:
        train: the rows.
        align: see ``models.part_scales.fit_knots``.
        has_offsets: see ``PartSpec``.
        corpus: who to name in an error.
        fold: which to name.
    """
    parts = train.parts
    names = train.part_names
    option = "part_offset" if align == "none" else "part_align"
    if len(np.unique(parts)) < 2:
        raise UserError(
            f"params.yaml: {option} has no effect on {corpus}: all its training rows are of one "
            "part; leave it out, or limit the entry to unions with corpora: [...]"
        )
    columns: dict[str, dict[str, Knots]] = {name: {} for name in names}
    targets = [target for target in train.targets if target.kind == "values"]
    for target in targets:
        truth = train.truth_to_select_by(target)
        for place, column in enumerate(target.names):
            known = _by_part(truth[:, place], parts)
            if align != "none":
                _check(known, target, column, corpus, fold)
            for name, knots in fit_knots(align, known).items():
                columns[name][column] = knots
    return PartSpec(columns, has_offsets) if targets else None


def _by_part(values: np.ndarray, parts: np.ndarray) -> dict[str, np.ndarray]:
    """Part to what its rows are judged, in float64; parts without a judgement are left out."""
    is_there = ~np.isnan(values)
    found = {name: values[is_there & (parts == name)] for name in np.unique(parts[is_there])}
    return {str(name): one.astype(np.float64) for name, one in found.items()}


def _check(
    known: dict[str, np.ndarray], target: Target, column: str, corpus: str, fold: int
) -> None:
    for name, values in known.items():
        if len(np.unique(values)) < 2:
            raise UserError(
                f"params.yaml: part_align: the training rows of part {name} of {corpus} have one "
                f"value of {column} ({values[0]:g}, in fold {fold}), so nothing tells how it uses "
                f"the scale of {target.name}; leave part_align out, or {name} out of the union"
            )
