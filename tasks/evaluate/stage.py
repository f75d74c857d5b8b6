"""Stage ``evaluate``: scores the runs of a method; the only stage that reads test labels."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.batch import MODALITIES, Target
from models.metrics.scoring import CONVENTION
from models.training import best_device, compute_steadily, predict
from tasks.atomic import write_json
from tasks.batches.hiding import subsets
from tasks.batches.source import Source
from tasks.context import Context, ForMethod, Progress
from tasks.evaluate.calibration import calibrations, temperatures
from tasks.evaluate.cells import Masks, fill
from tasks.evaluate.consistency import COLUMNS, violation_rates
from tasks.evaluate.grids import CHOSEN, Grids
from tasks.evaluate.networks import Run, load_runs, part_of, sources_of, targets_of
from tasks.evaluate.predictions import SCORED_SPLITS, Predicted, write_predictions
from tasks.evaluate.scores import (
    cell_details,
    libraries,
    masked_details,
    score,
    spread,
    target_details,
)
from tasks.layout import Layout
from tasks.params.inputs import Named
from tasks.score_files import Details, Oracle, RunDetails, TargetDetails
from tasks.tables.parquet import give_back

#: What `dvc metrics` and the columns of `dvc exp show` have beside the headline and its deviation;
#: more would be unreadable there, and the details file has all.
_SHOWN = {
    "category": ("accuracy", "uar"),
    "vad": ("rmse",),
    "sentiment": ("pearson", "acc7", "acc2_non0"),
    "emi": (),
    "categories": ("micro_f1", "first_label_top3"),
}


class EvaluateParams(BaseModel):
    """What is measured beside the plain scores.

    Attributes:
        missing_rates: shares of missing cells for the robustness curve.
        masks: masks of each rate, over which a score is averaged.
        mask_seed: of the first, the same for every method; the others count on.
        hide_unit: hide a modality from single utterances, or from a whole ``dialogue``.
        calibrate: score test once more with the temperature of each network's validation rows; the
            file of temperatures is written either way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    missing_rates: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    )
    masks: int = Field(default=3, ge=1)
    mask_seed: int = Field(default=0, ge=0)
    hide_unit: Literal["utterance", "dialogue"] = "utterance"
    calibrate: bool = True


def run(
    asked: ForMethod[EvaluateParams], layout: Layout, ctx: Context, corpus: str, method: str
) -> None:
    """Score every run of ``method`` on ``corpus``; write metrics, details and predictions.

    Args:
        asked: the grids, and the encoders that are read.
        layout: where the tables and runs lie.
        ctx: progress.
        corpus: whose test rows.
        method: key under ``methods`` in params.yaml.
    """
    params = asked.own
    compute_steadily()
    runs = load_runs(layout, corpus, method)
    grids = Grids()
    by_dialogue = params.hide_unit == "dialogue"
    masks = Masks(params.missing_rates, params.masks, params.mask_seed, by_dialogue)
    source, predicted = _predicted(runs, asked.inputs, layout, ctx, corpus, masks, grids)
    targets = targets_of(runs)
    subset_names = ["+".join(subset) for subset in subsets(source.modalities)]
    rates = violation_rates(
        write_predictions(layout, corpus, method, targets, predicted, source, COLUMNS)
    )
    scored: dict[str, TargetDetails] = {}
    for target in targets:
        heat = temperatures(target, predicted) if params.calibrate else {}
        found = target_details(target, predicted, rates if target.name == "vad" else {}, heat)
        subset_cells = {
            cell: cell_details(found["headline"], scores)
            for cell, scores in grids.scores(target, subset_names, score).items()
        }
        rate_cells = {}
        for rate in masks.rates:
            drawn = [*grids.scores(target, masks.cells(rate), score).values()]
            if drawn:
                rate_cells[f"{rate:g}"] = masked_details(found["headline"], drawn)
        scored[target.name] = {
            **found,
            "subsets": subset_cells,
            "missing_rates": rate_cells,
            "test_oracle": _oracle(grids, target),
        }
    details: Details = {
        "corpus": corpus,
        "method": method,
        "convention": CONVENTION,
        "libraries": libraries(),
        "targets": scored,
        "runs": [_provenance(one) for one in runs],
    }
    write_json(layout.calibration(corpus, method), calibrations(targets, predicted))
    write_json(layout.details(corpus, method), details)
    write_json(layout.metrics(corpus, method), _summary(details))


def _predicted(
    runs: Sequence[Run],
    inputs: Mapping[str, Named],
    layout: Layout,
    ctx: Context,
    corpus: str,
    masks: Masks,
    grids: Grids,
) -> tuple[Source, list[Predicted]]:
    """What the networks say of every row, and ``grids`` filled; no input is held any more."""
    sources = sources_of(layout, runs, corpus, inputs)
    predicted: list[Predicted] = []
    for done, (one, seen) in enumerate(zip(runs, sources, strict=True)):
        names = [m for m in MODALITIES if m in inputs or m in seen.present]
        for split in SCORED_SPLITS:
            data = part_of(seen, one, split)
            if len(data):
                found = predict(one.method, data, device=best_device())
                predicted.append(Predicted(one, split, data.without_inputs(), found))
                if split == "test":
                    fill(grids, masks, one, seen, names, data, found)
        give_back()
        ctx.progress(Progress(done + 1, len(runs), "runs"))
    return sources[0].without_inputs(), predicted  # ids and modalities are the same in all


def _oracle(grids: Grids, target: Target) -> Oracle | None:
    """What choosing the epoch on the test split would have given: for information only."""
    scores = grids.oracle(target, CHOSEN)
    if not scores:
        return None
    return {**spread(scores), "epochs_tried": grids.epochs_tried(target)}


def _provenance(one: Run) -> RunDetails:
    return {
        "seed": one.seed,
        "fold": one.fold,
        "targets": [target.name for target in one.targets],
        "history": one.report["history"],
        "parameters": one.report["parameters"],
        "chosen_epoch": one.report["chosen_epoch"],
        "validation_score": one.report["validation_score"],
        "stopped_early": one.report["stopped_early"],
        "rows": one.report["rows"],
        "data": one.report["data"],
    }


def _summary(details: Details) -> dict[str, dict[str, float]]:
    """What `dvc metrics` shows: means over seeds on test, and the headline's deviation."""
    shown: dict[str, dict[str, float]] = {}
    for name, target in details["targets"].items():
        found = target["test"]["metrics"] if "test" in target else {}
        headline = target["headline"]
        scores = {m: found[m]["mean"] for m in (headline, *_SHOWN[name]) if m in found}
        deviation = {f"{headline}_sd": found[headline]["std"]} if headline in found else {}
        both = (scores | deviation).items()
        shown[name] = {metric: value for metric, value in both if value is not None}
    return shown
