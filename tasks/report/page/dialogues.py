"""Test dialogues with the predictions of all methods, packed small for the page.

Numbers travel as little-endian integers in base64: classes as bytes (255: none), values as
thousandths in 16 bits (-32768: none), label sets as bit masks. As many seeds and face crops go in
as the budget allows, and the page says how many.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from tasks.layout import Layout
from tasks.report.tested import Tested
from tasks.score_files import TargetDetails
from tasks.tables.faces import FACES
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table
from tasks.tables.utterances import UTTERANCES

_NO_CLASS, _NO_VALUE, _STEPS = 255, -32768, 1000
_FACE_PX = 48


@dataclass(frozen=True)
class Budget:
    """Bytes for predictions and faces, shared by the corpora of a page."""

    corpora: int
    prediction_bytes: int = 1_500_000
    face_bytes: int = 600_000
    most_utterances: int = 4_000


def dialogues(
    layout: Layout,
    corpus: str,
    tested: Mapping[str, Tested],
    test: pl.DataFrame,
    may_show_faces: bool,
    budget: Budget,
) -> dict[str, Any]:
    """Turns of the test dialogues, truths and predictions.

    Args:
        corpus: whose tables to read.
        tested: methods with their predictions.
        test: rows of the splits table that are test.
        may_show_faces: whether face crops may leave the data folder.
        budget: limits of size.
    """
    utterances = read_table(
        UTTERANCES,
        layout.utterances(corpus),
        ["utterance_id", "dialogue_id", "turn", "speaker", "start_s", "end_s", "text"],
    )
    chosen = test.unique("utterance_id").select("utterance_id")
    rows = utterances.join(chosen, on="utterance_id", how="semi").sort("dialogue_id", "turn")
    total = rows.height
    rows = _first_dialogues(rows, budget.most_utterances // max(1, budget.corpora))
    ids = rows.get_column("utterance_id")
    labels = labels_in(read_table(LABELS, layout.labels(corpus)))
    truth = ids.to_frame().join(labels, on="utterance_id", how="left", maintain_order="left")
    targets = _targets(tested)
    has_faces = layout.faces(corpus).exists()
    seeds, packed = _pack_methods(tested, targets, ids, budget)
    return {
        "total": total,
        "utterances": rows.select(
            "utterance_id",
            "dialogue_id",
            "speaker",
            pl.col("text").str.slice(0, 400),
            pl.col("start_s", "end_s").round(2),
        ).to_dict(as_series=False),
        "truth": {name: _pack(name, target, truth) for name, target in targets.items()},
        "predictions": packed,
        "seeds": seeds,
        "faces": _faces(layout, corpus, ids, budget) if may_show_faces and has_faces else {},
        "faces_allowed": may_show_faces,
    }


def _first_dialogues(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """Whole dialogues, in order, up to ``most`` rows and at least one dialogue."""
    if rows.height <= most:
        return rows
    ends = (
        rows.group_by("dialogue_id", maintain_order=True)
        .len()
        .with_columns(end=pl.col("len").cum_sum())
    )
    kept = ends.filter((pl.col("end") <= most) | (pl.int_range(pl.len()) == 0))
    return rows.join(kept, on="dialogue_id", how="semi", maintain_order="left")


def _targets(tested: Mapping[str, Tested]) -> dict[str, TargetDetails]:
    found: dict[str, TargetDetails] = {}
    for one in tested.values():
        for name, target in one.targets.items():
            if target["kind"] != "labels" or len(target["names"]) <= 31:
                found.setdefault(name, target)
    return found


def _pack_methods(
    tested: Mapping[str, Tested],
    targets: Mapping[str, TargetDetails],
    ids: pl.Series,
    budget: Budget,
) -> tuple[list[int], dict[str, Any]]:
    width = {"category": 1, "labels": 4}
    per_row = sum(width.get(t["kind"], 2 * len(t["names"])) for t in targets.values())
    per_seed = max(1, per_row * len(ids) * len(tested) * 4 // 3)
    seeds = sorted({run["seed"] for one in tested.values() for run in one.details["runs"]})
    seeds = seeds[: max(1, budget.prediction_bytes // max(1, budget.corpora) // per_seed)]
    packed: dict[str, Any] = {}
    for method, one in tested.items():
        by_seed = {}
        for seed in seeds:
            mine = (
                one.table.filter(pl.col("seed") == seed)
                .sort("utterance_id", "fold")
                .unique("utterance_id", keep="first", maintain_order=True)
            )
            mine = ids.to_frame().join(mine, on="utterance_id", how="left", maintain_order="left")
            by_seed[str(seed)] = {
                name: _pack(name, target, mine, "prediction_")
                for name, target in targets.items()
                if name in one.targets
            }
        packed[method] = by_seed
    return seeds, packed


def _pack(name: str, target: TargetDetails, rows: pl.DataFrame, prefix: str = "") -> str:
    names: Sequence[str] = target["names"]
    if target["kind"] == "category":
        codes = rows.get_column(f"{prefix}{name}").replace_strict(
            list(names), list(range(len(names))), default=_NO_CLASS, return_dtype=pl.Int64
        )
        return _base64(codes.fill_null(_NO_CLASS).to_numpy().astype("<u1"))
    if target["kind"] == "values":
        values = rows.select(pl.col(f"{prefix}{n}").cast(pl.Float64) for n in names)
        steps = (values * _STEPS).fill_null(_NO_VALUE).to_numpy()
        return _base64(np.clip(np.rint(steps), _NO_VALUE, 32767).astype("<i2"))
    sets = rows.get_column(f"{prefix}{name}")
    bits = sets.to_frame("set").select(
        pl.sum_horizontal(
            pl.col("set").list.contains(n).fill_null(False).cast(pl.Int64) * 2**i
            for i, n in enumerate(names)
        )
        + pl.col("set").is_null().cast(pl.Int64) * 2**31
    )
    return _base64(bits.to_series().to_numpy().astype("<u4"))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _faces(layout: Layout, corpus: str, ids: pl.Series, budget: Budget) -> dict[str, str]:
    """Index of the utterance to a small JPEG, in order until the budget is used up."""
    faces = read_table(
        FACES, layout.faces(corpus), ["utterance_id", "frame", "chosen", "quality", "crop"]
    )
    best = (
        faces.filter(pl.col("crop").is_not_null())
        .sort(
            "utterance_id", "chosen", "quality", "frame",
            descending=[False, True, True, False], nulls_last=True,
        )
        .unique("utterance_id", keep="first", maintain_order=True)
    )  # fmt: skip
    found = ids.to_frame().join(best, on="utterance_id", how="left", maintain_order="left")
    left = budget.face_bytes // max(1, budget.corpora)
    pictures = {}
    for index, crop in enumerate(found.get_column("crop")):
        if crop is None:
            continue
        text = _thumbnail(crop)
        left -= len(text)
        if left < 0:
            break
        pictures[str(index)] = text
    return pictures


def _thumbnail(crop: bytes) -> str:
    with Image.open(io.BytesIO(crop)) as picture:
        small = picture.convert("RGB").resize((_FACE_PX, _FACE_PX), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=70, optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
