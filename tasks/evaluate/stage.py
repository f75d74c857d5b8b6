"""Stage ``evaluate``: scores the runs of a method; the only stage that reads test labels."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file

from models.batch import MODALITIES, Target
from models.errors import UserError
from models.method import Method, Spec
from models.metrics.scoring import CONVENTION, HEADLINE, score_target, undefined_reasons
from models.training import best_device, compute_steadily, predict
from tasks.batches.hiding import Hidden, draw_masks, only, subsets
from tasks.batches.source import Dataset, Source, first_of, is_labelled, source_for
from tasks.context import Context, ForMethod, Progress
from tasks.evaluate.consistency import violation_rates
from tasks.evaluate.grids import Grids, probabilities
from tasks.layout import Layout
from tasks.recipes import Recipe, build, resolve
from tasks.tables import predictions_table, replacing, write_table

_SPLITS = ("validation", "test")
#: Cell of the networks as they were chosen, with everything that there is to see.
_CHOSEN = "chosen"
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
        mask_seed: of the masks, the same for every method.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    missing_rates: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    )
    mask_seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Run:
    """One trained network."""

    folder: Path
    seed: int
    fold: int
    recipe: Recipe
    method: Method
    report: Mapping[str, Any]

    @property
    def targets(self) -> tuple[Target, ...]:
        """What it predicts."""
        return self.method.spec.targets


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
    params, inputs = asked.own, asked.inputs
    compute_steadily()
    runs = load_runs(layout, corpus, method)
    sources = sources_of(layout, runs, corpus, inputs)
    source = sources[0]  # ids and modalities are the same in all
    outputs: list[tuple[Run, str, Dataset, dict[str, torch.Tensor]]] = []
    grids = Grids()
    for done, (one, seen) in enumerate(zip(runs, sources, strict=True)):
        names = [m for m in MODALITIES if m in inputs or m in seen.present]
        for split in _SPLITS:
            data = _part(seen, one, split)
            if len(data):
                found = predict(one.method, data, device=best_device())
                outputs.append((one, split, data, found))
                if split == "test":
                    _fill(grids, params, one, seen, names, data, found)
        ctx.progress(Progress(done + 1, len(runs), "runs"))
    targets = _all_targets(runs)
    subset_names = ["+".join(subset) for subset in subsets(source.modalities)]
    rate_names = [f"{rate:g}" for rate in params.missing_rates]
    rates = violation_rates(write_predictions(layout, corpus, method, targets, outputs, source))
    details: dict[str, Any] = {"corpus": corpus, "method": method, "targets": {}}
    details |= {"convention": CONVENTION, "libraries": libraries()}
    for target in targets:
        found = _target_details(target, outputs, rates if target.name == "vad" else {})
        cells = [grids.scores(target, names) for names in (subset_names, rate_names)]
        found["subsets"], found["missing_rates"] = (
            {cell: spread(scores) for cell, scores in grid.items()} for grid in cells
        )
        found["test_oracle"] = _oracle(grids, target)
        details["targets"][target.name] = found
    details["runs"] = [_provenance(one) for one in runs]
    _write_json(layout.details(corpus, method), details)
    _write_json(layout.metrics(corpus, method), _summary(details))


def _part(source: Source, one: Run, split: str) -> Dataset:
    """All rows of a split as the method of a run sees them."""
    data = source.part(one.fold, split, one.method.level, one.targets, labelled=False)
    return data.seen_through(one.method.view, one.method.shots)


def sources_of(
    layout: Layout, runs: Sequence[Run], corpus: str, inputs: Mapping[str, str]
) -> list[Source]:
    """What each run reads of a corpus.

    Searched options may differ between folds; of those only the length of sequences changes what
    is read, and runs that read the same share it.
    """
    found: dict[int, Source] = {}
    for one in runs:
        if one.recipe.max_frames not in found:
            found[one.recipe.max_frames] = source_for(layout, one.recipe, corpus, inputs)
    return [found[one.recipe.max_frames] for one in runs]


def load_runs(layout: Layout, corpus: str, method: str) -> list[Run]:
    """Every run of a method with its weights, by seed, fold and target.

    Each is built with the options that it was trained with: folds may have different ones.
    """
    folder = layout.runs(corpus, method)
    runs = []
    for file in sorted(folder.rglob("config.json")):
        config = json.loads(file.read_text())
        targets = tuple(
            Target(t["name"], t["kind"], tuple(t["names"]), t["lower"], t["upper"])
            for t in config["targets"]
        )
        dims, frame_dims = (
            {m: found[m] for m in MODALITIES if m in found}  # JSON has an order of its own
            for found in (config["dims"], config.get("frame_dims", {}))
        )
        # compiling takes longer than a look at the test rows
        recipe = resolve(method, {k: v for k, v in config["entry"].items() if k != "compile"})
        network = build(recipe, Spec(dims, targets, config["speakers"], frame_dims))
        network.load_state_dict(load_file(file.parent / "weights.safetensors"))
        report = json.loads((file.parent / "report.json").read_text())
        runs.append(Run(file.parent, config["seed"], config["fold"], recipe, network, report))
    if not runs:
        raise UserError(f"{folder}: there are no runs; run stage train for {corpus}-{method} first")
    for target in [target for one in runs for target in one.targets]:
        first = next(t for one in runs for t in one.targets if t.name == target.name)
        if target.names != first.names:
            raise UserError(
                f"{folder}: some runs predict {', '.join(first.names)} and some "
                f"{', '.join(target.names)} of {target.name}; search no option that changes this, "
                f"and run stage train for {corpus}-{method} again"
            )
    return runs


def _all_targets(runs: Sequence[Run]) -> list[Target]:
    found: dict[str, Target] = {}
    for one in runs:
        found |= {target.name: target for target in one.targets}
    return list(found.values())


def score(
    target: Target, truth: np.ndarray, output: torch.Tensor, first: np.ndarray | None = None
) -> Mapping[str, Any]:
    """All metrics of one target over the labelled rows; ``first`` is that of ``Dataset``."""
    values = probabilities(target, output)
    keep = is_labelled(target, truth)
    if target.kind == "category":
        return score_target(
            target.kind, target.names, truth[keep], values[keep].argmax(1), values[keep]
        )
    first = first_of(target, truth[keep], None if first is None else first[keep])
    return score_target(target.kind, target.names, truth[keep], values[keep], first_labels=first)


def _fill(
    grids: Grids,
    params: EvaluateParams,
    one: Run,
    source: Source,
    names: Sequence[str],
    data: Dataset,
    plain: dict[str, torch.Tensor],
) -> None:
    """Predict test with modalities hidden, and with the weights of every kept epoch.

    Masks that hide the same of what the method reads are predicted once: for a method of one
    modality most of them hide nothing.

    Args:
        grids: takes the outputs.
        params: the rates.
        one: the run.
        source: what it reads.
        names: modalities of the corpus: masks are drawn over all of them, so that a method that
            uses fewer meets the same ones.
        data: the test rows.
        plain: outputs with nothing hidden.
    """
    hidden = {"+".join(s): only(data, s, len(data.rows)) for s in subsets(source.modalities)}
    for rate in params.missing_rates:
        masks = draw_masks(len(source.ids), rate, params.mask_seed, len(names))[data.rows]
        hidden[f"{rate:g}"] = Hidden(data, {name: masks[:, i] for i, name in enumerate(names)})
    present = {name: there[data.rows] for name, there in source.present.items()}
    known = {only(data, MODALITIES, len(data.rows)).cells(present): plain}
    cells = {_CHOSEN: plain}
    for name, seen in hidden.items():
        left = seen.cells(present)
        if left not in known:
            known[left] = predict(one.method, seen, device=best_device())
        cells[name] = known[left]
    chosen = {name: value.clone() for name, value in one.method.state_dict().items()}
    epochs = []
    for file in sorted((one.folder / "snapshots").glob("*.safetensors")):
        one.method.load_state_dict(load_file(file))
        epochs.append(predict(one.method, data, device=best_device()))
    one.method.load_state_dict(chosen)
    truths = {target: data.truth(target).numpy() for target in one.targets}
    grids.add(one.seed, truths, cells, epochs)


def _target_details(
    target: Target,
    outputs: Sequence[tuple[Run, str, Dataset, dict[str, torch.Tensor]]],
    rates: Mapping[tuple[str, int], Mapping[str, Any]],
) -> dict[str, Any]:
    """Scores of one target; ``rates`` are further ones by split and seed."""
    headline, sign = HEADLINE[target.name]
    per_split: dict[str, Any] = {}
    for split in _SPLITS:
        by_seed = _pooled(target, split, outputs)
        scores = {
            seed: {**score(target, *found), **rates.get((split, seed), {})}
            for seed, found in by_seed.items()
            if is_labelled(target, found[0]).any()
        }
        if not scores:
            continue  # some corpora keep the labels of their test rows to themselves
        names = next(iter(scores.values()))
        per_split[split] = {
            "n": int(max(is_labelled(target, truth).sum() for truth, *_ in by_seed.values())),
            "metrics": {
                name: spread([float(found[name]) for found in scores.values()]) for name in names
            },
            "by_seed": {
                str(seed): {name: _plain(float(value)) for name, value in found.items()}
                for seed, found in scores.items()
            },
            "undefined": {
                str(seed): undefined_reasons(found)
                for seed, found in scores.items()
                if undefined_reasons(found)
            },
        }
    return {
        "headline": headline,
        "higher_is_better": sign > 0,
        "kind": target.kind,
        "names": list(target.names),
        **per_split,
    }


def _pooled(
    target: Target,
    split: str,
    outputs: Iterable[tuple[Run, str, Dataset, dict[str, torch.Tensor]]],
) -> dict[int, tuple[np.ndarray, torch.Tensor, np.ndarray | None]]:
    """Seed to what ``score`` gets of a target over the folds together."""
    parts: dict[int, list[tuple[Dataset, torch.Tensor]]] = {}
    for one, where, data, output in outputs:
        if where == split and target.name in output:
            parts.setdefault(one.seed, []).append((data, output[target.name]))
    pooled = {}
    for seed, found in sorted(parts.items()):
        firsts = [data.first for data, _ in found if data.first is not None]
        pooled[seed] = (
            np.concatenate([data.truth(target).numpy() for data, _ in found]),
            torch.cat([output for _, output in found]),
            np.concatenate(firsts) if firsts else None,
        )
    return pooled


def libraries() -> dict[str, str]:
    """What computed the scores."""
    return {"numpy": np.__version__, "torch": str(torch.__version__)}


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation; null where undefined."""
    array = np.asarray(values, float)
    std = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return {"mean": _plain(float(array.mean())), "std": _plain(std)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _oracle(grids: Grids, target: Target) -> dict[str, Any] | None:
    """What choosing the epoch on the test split would have given: for information only."""
    scores = grids.oracle(target, _CHOSEN)
    if not scores:
        return None
    return {**spread(scores), "epochs_tried": grids.epochs_tried(target)}


def _provenance(one: Run) -> dict[str, Any]:
    keys = ("parameters", "chosen_epoch", "validation_score", "stopped_early", "rows", "data")
    return {
        "seed": one.seed,
        "fold": one.fold,
        "targets": [target.name for target in one.targets],
        "history": one.report["history"],
        **{key: one.report[key] for key in keys},
    }


def _summary(details: Mapping[str, Any]) -> dict[str, Any]:
    """What `dvc metrics` shows: means over seeds on test, and the headline's deviation."""
    shown: dict[str, Any] = {}
    for name, target in details["targets"].items():
        found = target.get("test", {}).get("metrics", {})
        headline = target["headline"]
        scores = {m: found[m]["mean"] for m in (headline, *_SHOWN[name]) if m in found}
        deviation = {f"{headline}_sd": found[headline]["std"]} if headline in found else {}
        both = (scores | deviation).items()
        shown[name] = {metric: value for metric, value in both if value is not None}
    return shown


def write_predictions(
    layout: Layout,
    corpus: str,
    method: str,
    targets: Sequence[Target],
    outputs: Sequence[tuple[Run, str, Dataset, dict[str, torch.Tensor]]],
    source: Source,
) -> pl.DataFrame:
    """All predictions on validation and test, one row for each utterance, seed and fold."""
    schema: dict[str, Any] = {}
    for target in targets:
        kind = {"category": pl.String, "labels": pl.List(pl.String)}.get(target.kind, pl.Float64)
        for name in target.names if target.kind == "values" else (target.name,):
            schema |= {f"target_{name}": kind, f"prediction_{name}": kind}
        if target.kind == "labels":
            schema[f"scores_{target.name}"] = pl.List(pl.Float64)
    table = predictions_table(schema)
    keys = ["utterance_id", "seed", "fold", "split"]
    merged: dict[tuple[int, int, str], pl.DataFrame] = {}
    for one, split, data, output in outputs:
        frame = pl.DataFrame(
            {"utterance_id": source.ids[data.rows]}, schema={"utterance_id": pl.String}
        ).with_columns(
            pl.lit(one.seed, pl.Int32).alias("seed"),
            pl.lit(one.fold, pl.Int32).alias("fold"),
            pl.lit(split).alias("split"),
        )
        for target in one.targets:
            values = probabilities(target, output[target.name])
            frame = frame.with_columns(_columns(target, data.truth(target).numpy(), values))
        place = (one.seed, one.fold, split)
        old = merged.get(place)
        merged[place] = (
            frame if old is None else old.join(frame, on=keys, how="full", coalesce=True)
        )
    frames = [
        frame.with_columns(
            pl.lit(None, column.dtype).alias(name)
            for name, column in table.columns.items()
            if name not in frame.columns
        ).select(list(table.columns))
        for frame in merged.values()
    ]
    classes = next((list(t.names) for t in targets if t.kind == "category"), [])
    rows = pl.concat(frames)
    write_table(table, rows, layout.predictions(corpus, method), {"classes": json.dumps(classes)})
    return rows


def _columns(target: Target, truth: np.ndarray, values: np.ndarray) -> list[pl.Series]:
    if target.kind == "category":
        names = np.asarray([*target.names, None], dtype=object)
        return [
            pl.Series(f"target_{target.name}", names[truth].tolist(), pl.String),
            pl.Series(f"prediction_{target.name}", names[values.argmax(1)].tolist(), pl.String),
            pl.Series("probabilities", values.tolist(), pl.List(pl.Float64)),
        ]
    if target.kind == "values":
        columns = []
        for i, name in enumerate(target.names):
            known = pl.Series(f"target_{name}", truth[:, i].astype(np.float64)).fill_nan(None)
            columns += [known, pl.Series(f"prediction_{name}", values[:, i])]
        return columns
    names = np.asarray(target.names, dtype=object)
    known = ~np.all(np.isnan(truth), axis=1)
    sets = [sorted(names[row > 0.5]) if k else None for row, k in zip(truth, known, strict=True)]
    guessed = [sorted(names[row >= 0.5]) for row in values]
    return [
        pl.Series(f"target_{target.name}", sets, pl.List(pl.String)),
        pl.Series(f"prediction_{target.name}", guessed, pl.List(pl.String)),
        pl.Series(f"scores_{target.name}", values.tolist(), pl.List(pl.Float64)),
    ]


def _write_json(path: Path, value: object) -> None:
    with replacing(path) as temporary:
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n")
