"""Files for ``dvc plots``: what methods did, and how the labels of each corpus are spread.

One file of each kind holds all corpora and methods in long form; the templates in ``.dvc/plots``
split it into panels, and ``dvc plots diff`` draws revisions side by side. Where a method was judged
on validation, because the labels of test are hidden, its name says so.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from tasks.atomic import replacing
from tasks.layout import Layout
from tasks.report.error_curves import curves, predicted_errors
from tasks.report.tested import Loaded, Tested
from tasks.score_files import Curve, CurvesAcross
from tasks.targets import VAD

#: Name of a file to its columns.
PLOTS: Mapping[str, tuple[str, ...]] = {
    "history": ("corpus", "method", "seed", "fold", "target", "epoch", "score", "loss"),
    "confusion": ("corpus", "method", "actual", "predicted"),
    "robustness": ("corpus", "method", "target", "metric", "missing_rate", "score"),
    "circumplex": ("corpus", "method", "which", "valence", "arousal", "category"),
    "coverage": ("corpus", "tested_on", "method", "target", "dimension", "error", "share"),
    "reliability": ("corpus", "method", "which", "confidence", "accuracy", "n"),
    "risk": ("corpus", "method", "which", "coverage", "risk"),
    "frequency": ("corpus", "kind", "split", "label", "n", "share"),
    "scatter": ("corpus", "valence", "arousal", "category"),
    "spread": (
        "corpus", "dimension", "split", "category", "n", "mean", "low", "first", "median", "third",
        "high", "outside",
    ),
    "histogram": ("corpus", "column", "split", "from", "to", "n", "share"),
    "cardinality": ("corpus", "split", "labels", "n", "share"),
}  # fmt: skip
_MOST_POINTS = 400

Row = Sequence[object]


def folder(layout: Layout) -> Path:
    """Where the files lie; one out of the stage ``report``."""
    return layout.reports / "plots"


def write_plots(
    layout: Layout,
    loaded: Mapping[str, Loaded],
    overviews: Mapping[str, Mapping[str, Any]],
    across: Sequence[CurvesAcross],
) -> list[Path]:
    """Write every file; empty ones keep their header, so that DVC finds what it tracks.

    Args:
        layout: where to write.
        loaded: corpus to what was evaluated.
        overviews: corpus to ``page.corpus.overview``.
        across: curves of ``cross_corpus.curves_across``.
    """
    rows: dict[str, list[Row]] = {name: [] for name in PLOTS}
    for corpus, (tested, _) in loaded.items():
        for method, one in tested.items():
            rows["history"] += _history(corpus, method, one)
            rows["confusion"] += _confusion(corpus, method, one)
            rows["robustness"] += _robustness(corpus, method, one)
            rows["circumplex"] += _circumplex(corpus, method, one)
            rows["coverage"] += _coverage(corpus, method, one)
            for name, found in _calibration(corpus, method, one).items():
                rows[name] += found
        for name, found in corpus_rows(corpus, overviews[corpus]).items():
            rows[name] += found
    for one in across:
        place = (one["trained_on"], one["tested_on"], one["method"], one["target"])
        rows["coverage"] += _curve_rows(place, one["curves"])
    return [_write(layout, name, rows[name]) for name in PLOTS]


def _write(layout: Layout, name: str, rows: Iterable[Row]) -> Path:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(PLOTS[name])
    writer.writerows(rows)
    file = folder(layout) / f"{name}.csv"
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
    table, shown = one.rows("category"), _shown(method, one, "category")
    seed = table.get_column("seed").min()
    rows = table.filter((pl.col("seed") == seed) & pl.col("target_category").is_not_null()).sort(
        "utterance_id", "fold"
    )
    pairs = rows.select("target_category", "prediction_category").iter_rows()
    return [(corpus, shown, actual, predicted) for actual, predicted in pairs]


def _robustness(corpus: str, method: str, one: Tested) -> list[Row]:
    return [
        (corpus, method, name, target["headline"], rate, f"{found['mean']:.6g}")
        for name, target in one.targets.items()
        for rate, found in sorted(target["missing_rates"].items(), key=lambda item: float(item[0]))
        if found["mean"] is not None
    ]


def _calibration(corpus: str, method: str, one: Tested) -> dict[str, list[Row]]:
    """Accuracy by confidence, and the error rate of the most confident rows: raw and calibrated."""
    rows: dict[str, list[Row]] = {"reliability": [], "risk": []}
    if "category" not in one.targets:
        return rows
    place = corpus, _shown(method, one, "category")
    known = one.scores("category").get("reliability", {})
    for which, bins in (("raw", known.get("raw")), ("calibrated", known.get("calibrated"))):
        if bins is None:
            continue
        columns = zip(bins["confidence"], bins["accuracy"], bins["count"], strict=True)
        rows["reliability"] += [(*place, which, *found) for found in columns if found[-1]]
        steps = len(bins["risk"])
        rows["risk"] += [
            (*place, which, f"{(step + 1) / steps:.6g}", risk)
            for step, risk in enumerate(bins["risk"])
        ]
    return rows


def _circumplex(corpus: str, method: str, one: Tested) -> list[Row]:
    if "vad" not in one.targets or not set(VAD[:2]) <= set(one.targets["vad"]["names"]):
        return []
    table, who = one.rows("vad"), _shown(method, one, "vad")
    seed = table.get_column("seed").min()
    columns = [f"{part}_{name}" for part in ("target", "prediction") for name in VAD[:2]]
    rows = table.filter(
        (pl.col("seed") == seed) & pl.all_horizontal(pl.col(columns).is_not_null())
    ).sort("utterance_id", "fold")
    rows = rows.gather_every(max(1, -(-rows.height // _MOST_POINTS)))
    has_category = "target_category" in rows.columns
    category = pl.col("target_category") if has_category else pl.lit(None, pl.String)
    shown = rows.select(*columns, category.fill_null("none").alias("category"))
    found: list[Row] = []
    for true_v, true_a, guess_v, guess_a, name in shown.iter_rows():
        found.append((corpus, who, "true", f"{true_v:.4f}", f"{true_a:.4f}", name))
        found.append((corpus, who, "predicted", f"{guess_v:.4f}", f"{guess_a:.4f}", name))
    return found


def _coverage(corpus: str, method: str, one: Tested) -> list[Row]:
    found: list[Row] = []
    for name, target in one.targets.items():
        if target["kind"] == "values":
            place = (corpus, corpus, _shown(method, one, name), name)
            found += _curve_rows(place, curves(predicted_errors(one.rows(name), target["names"])))
    return found


def _curve_rows(place: Row, found: Mapping[str, Curve]) -> list[Row]:
    return [
        (*place, name, f"{i * curve['step']:.6g}", f"{share:.6g}")
        for name, curve in found.items()
        for i, share in enumerate(curve["shares"])
    ]


def _shown(method: str, one: Tested, target: str) -> str:
    return method if one.split(target) == "test" else f"{method} (validation)"


def corpus_rows(corpus: str, found: Mapping[str, Any]) -> dict[str, list[Row]]:
    """How the labels of a corpus are spread, by the name of the file.

    Args:
        corpus: its name.
        found: what ``page_corpus.overview`` found.
    """
    rows: dict[str, list[Row]] = {}
    sets, points, counts = found["sets"], found["points"], found["categories"]
    rows["frequency"] = [
        (corpus, kind, split, label, n, _share(n, total))
        for kind, labels, by_split, totals in (
            ("category", found["classes"], counts, {s: sum(c) for s, c in counts.items()}),
            ("categories", sets["labels"], sets["counts"], sets["judged"]),
        )
        for split, total in totals.items()
        if total
        for label, n in zip(labels, by_split[split], strict=True)
    ]
    names = [*found["classes"], "none"]  # -1, no category, is the last
    rows["scatter"] = [
        (corpus, v / 100, a / 100, names[code])
        for v, a, code in zip(*(points[k] for k in ("valence", "arousal", "category")), strict=True)
    ]
    rows["spread"] = [
        (corpus, dimension, *(box[key] for key in PLOTS["spread"][2:]))
        for dimension, boxes in found["boxes"].items()
        for box in boxes
    ]
    rows["histogram"] = [
        (
            corpus, column, split, f"{low + i * width:.6g}", f"{low + (i + 1) * width:.6g}", n,
            _share(n, sum(bins)),
        )
        for column, by_split in found["histograms"].items()
        for split, bins in by_split.items()
        if sum(bins)
        for (low, high) in [found["ranges"][column]]
        for width in [(high - low) / len(bins)]
        for i, n in enumerate(bins)
    ]  # fmt: skip
    rows["cardinality"] = [
        (corpus, split, labels, n, _share(n, sum(bins)))
        for split, bins in sets["cardinality"].items()
        if sum(bins)
        for labels, n in enumerate(bins)
    ]
    return rows


def _share(n: int, total: int) -> str:
    return f"{n / total:.6g}"
