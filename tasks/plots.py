"""Files for ``dvc plots``: histories, confusion matrices, robustness curves, circumplex.

One file of each kind holds all corpora and methods in long form; the templates in ``.dvc/plots``
split it into panels, and ``dvc plots diff`` draws revisions side by side.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from tasks import paths
from tasks.aligned import Tested, load_tested
from tasks.tables import VAD, replacing

#: Name of a file to its columns.
PLOTS: Mapping[str, tuple[str, ...]] = {
    "history": ("corpus", "method", "seed", "fold", "target", "epoch", "score", "loss"),
    "confusion": ("corpus", "method", "actual", "predicted"),
    "robustness": ("corpus", "method", "target", "metric", "missing_rate", "score"),
    "circumplex": ("corpus", "method", "which", "valence", "arousal", "category"),
}
_MOST_POINTS = 400

Row = Sequence[object]


def folder() -> Path:
    """Where the files lie; one out of the stage ``report``."""
    return paths.REPORTS / "plots"


def write_plots(corpora: Mapping[str, Sequence[str]]) -> list[Path]:
    """Write every file; empty ones keep their header, so that DVC finds what it tracks.

    Args:
        corpora: corpus to its methods, whose details and predictions to read.
    """
    rows: dict[str, list[Row]] = {name: [] for name in PLOTS}
    for corpus, methods in corpora.items():
        tested, _ = load_tested(corpus, methods)
        for method, one in tested.items():
            rows["history"] += _history(corpus, method, one)
            rows["confusion"] += _confusion(corpus, method, one)
            rows["robustness"] += _robustness(corpus, method, one)
            rows["circumplex"] += _circumplex(corpus, method, one)
    return [_write(name, rows[name]) for name in PLOTS]


def _write(name: str, rows: Iterable[Row]) -> Path:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(PLOTS[name])
    writer.writerows(rows)
    file = folder() / f"{name}.csv"
    with replacing(file) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8")
    return file


def _history(corpus: str, method: str, one: Tested) -> list[Row]:
    """Score on validation (higher is better) and the sum of the training losses."""
    return [
        (
            corpus, method, run["seed"], run["fold"], "+".join(run["targets"]),
            round(record["epoch"]), f"{record['score']:.6g}",
            f"{sum(value for name, value in record.items() if name.startswith('loss_')):.6g}",
        )
        for run in one.details["runs"]
        for record in run["history"]
    ]  # fmt: skip


def _confusion(corpus: str, method: str, one: Tested) -> list[Row]:
    """One row for each prediction of the first seed, as DVC's confusion templates count them."""
    if "category" not in one.targets:
        return []
    seed = one.table.get_column("seed").min()
    rows = one.table.filter(
        (pl.col("seed") == seed) & pl.col("target_category").is_not_null()
    ).sort("utterance_id", "fold")
    pairs = rows.select("target_category", "prediction_category").iter_rows()
    return [(corpus, method, actual, predicted) for actual, predicted in pairs]


def _robustness(corpus: str, method: str, one: Tested) -> list[Row]:
    return [
        (corpus, method, name, target["headline"], rate, f"{found['mean']:.6g}")
        for name, target in one.targets.items()
        for rate, found in sorted(target["missing_rates"].items(), key=lambda item: float(item[0]))
        if found["mean"] is not None
    ]


def _circumplex(corpus: str, method: str, one: Tested) -> list[Row]:
    if "vad" not in one.targets or not set(VAD[:2]) <= set(one.targets["vad"]["names"]):
        return []
    seed = one.table.get_column("seed").min()
    columns = [f"{part}_{name}" for part in ("target", "prediction") for name in VAD[:2]]
    rows = one.table.filter(
        (pl.col("seed") == seed) & pl.all_horizontal(pl.col(columns).is_not_null())
    ).sort("utterance_id", "fold")
    rows = rows.gather_every(max(1, -(-rows.height // _MOST_POINTS)))
    has_category = "target_category" in rows.columns
    category = pl.col("target_category") if has_category else pl.lit(None, pl.String)
    shown = rows.select(*columns, category.fill_null("none").alias("category"))
    found: list[Row] = []
    for true_v, true_a, guess_v, guess_a, name in shown.iter_rows():
        found.append((corpus, method, "true", f"{true_v:.4f}", f"{true_a:.4f}", name))
        found.append((corpus, method, "predicted", f"{guess_v:.4f}", f"{guess_a:.4f}", name))
    return found
