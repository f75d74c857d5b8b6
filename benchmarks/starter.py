"""Makes ``models/starter``, with which ``affectloom predict`` answers until something was trained.

``python -m benchmarks.starter FOLDER [--out models/starter]`` in the root of the repository, with
the real data beside it (``../shared/data``, or ``AFFECTLOOM_SHARED``). FOLDER becomes a project
with ``params/starter.yaml``; ``affectloom run`` there does the work, ``affectloom export`` gives
the parts, and the card gets the figures that ``evaluate`` measured on test rows. The same data and
machine give the same bytes.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks import project
from tasks.layout import Layout
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table
from tasks.tables.splits import SPLIT

PARAMS = project.ROOT / "params/starter.yaml"
MODEL = project.ROOT / "models/starter"
#: Folder of the model below ``parts`` to the run that it is.
PARTS = {"faces": "fer2013/faces", "words": "emobank/words"}
#: Is written by hand: EmoBank's terms bind what was learnt from it.
LICENCE = Path("parts/words/LICENCE")

#: The model's card, with names of figures in braces.
CARD = Path(__file__).with_name("starter_card.md")


def make(folder: Path, out: Path) -> None:
    """Run the project and write the model.

    Args:
        folder: of the project; what is there already is used.
        out: of the model, replaced whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    project.grow(folder, "emobank", project.link("emobank_vad.parquet"))
    project.grow(folder, "fer2013", project.fer2013)
    project.make_project(folder, yaml.safe_load(PARAMS.read_text(encoding="utf-8")))
    project.affectloom(folder, "run", "evaluate")
    made = folder / "made/starter"
    shutil.rmtree(made, ignore_errors=True)
    for name, run in PARTS.items():
        project.affectloom(folder, "export", run, "--out", str(made / "parts" / name))
    shutil.copyfile(MODEL / LICENCE, made / LICENCE)
    (made / "README.md").write_text(card(folder), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(made, out)


def card(folder: Path) -> str:
    """What people need to know, with the figures of the project."""
    words, vad = _scores(folder, PARTS["words"], "vad")
    faces, category = _scores(folder, PARTS["faces"], "category")
    residuals, temperature = vad["residuals"], category["temperature"]
    score, names = _means(faces["test"]), category["names"]
    rows = {name: _rows(folder, run) for name, run in PARTS.items()}
    counts = {name: dict(table["split"].value_counts().iter_rows()) for name, table in rows.items()}
    test = {name: table.filter(pl.col("split") == "test") for name, table in rows.items()}
    commonest = test["faces"]["category"].value_counts(sort=True, normalize=True).row(0)
    return CARD.read_text(encoding="utf-8").format(
        train=counts["words"]["train"],
        val=counts["words"]["validation"],
        fer_train=counts["faces"]["train"],
        fer_val=counts["faces"]["validation"],
        words_n=words["test"]["n"],
        words="\n".join(_row(words["test"], residuals[name], name) for name in vad["names"]),
        spread=", ".join(
            f"{value:.2f}" for value in test["words"].select(pl.col(vad["names"]).std()).row(0)
        ),
        faces_n=faces["test"]["n"],
        accuracy=score["accuracy"],
        wf1=score["weighted_f1"],
        mf1=score["macro_f1"],
        majority=commonest[0],
        majority_share=commonest[1],
        ece=score["ece"],
        ece_t=score["ece_calibrated"],
        temperature=temperature,
        names=" | ".join(names),
        rule="---|" * len(names),
        f1=" | ".join(f"{score[f'f1/{name}']:.2f}" for name in names),
    )


def _scores(folder: Path, run: str, target: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``evaluate`` found of a target: scores by split, and what it was calibrated by."""
    layout, ids = Layout(folder / "data"), run.split("/")
    details, known = (
        json.loads(file(*ids).read_text(encoding="utf-8"))["targets"][target]
        for file in (layout.details, layout.calibration)
    )
    return details, known


def _rows(folder: Path, run: str) -> pl.DataFrame:
    """Labels of all rows with their split."""
    layout, corpus = Layout(folder / "data"), run.split("/")[0]
    splits = read_table(SPLIT, layout.splits(corpus))
    return splits.join(read_table(LABELS, layout.labels(corpus)), on="utterance_id")


def _row(test: Mapping[str, Any], residual: Mapping[str, Any], name: str) -> str:
    score, ends = _means(test), residual["quantiles"]
    figures = [f"{score[f'{metric}/{name}']:.3f}" for metric in ("pearson", "ccc", "mae")]
    return f"| {name} | {' | '.join(figures)} | {ends['0.05']:+.2f} to {ends['0.95']:+.2f} |"


def _means(split: Mapping[str, Any]) -> dict[str, float]:
    return {name: spread["mean"] for name, spread in split["metrics"].items()}


def main() -> None:
    """Make the model and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=MODEL)
    arguments = parser.parse_args()
    make(arguments.folder.resolve(), arguments.out.resolve())
    print(arguments.out)


if __name__ == "__main__":
    main()
