"""Stage ``report``: leaderboard and analysis of the data as files, and the page that people read.

``index.html`` also shows the times of the machine that ran the stages, so it is written beside
DVC's outs and not tracked; ``affectloom report`` draws it again from the tracked files.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tasks import paths
from tasks.context import Context, Progress
from tasks.cross_corpus import cross_corpus
from tasks.leaderboard import Judged, judge, to_csv
from tasks.page import render
from tasks.page_corpus import overview
from tasks.plots import write_plots
from tasks.selection import encoders_of, methods_of
from tasks.tables import (
    FACES,
    FEATURES,
    QUARANTINE,
    SPLIT,
    UTTERANCES,
    read_metadata,
    read_table,
    replacing,
)


class ReportParams(BaseModel):
    """How methods are compared.

    Attributes:
        resamples: of the cluster bootstrap behind intervals and tests.
        seed: of the bootstrap.
        allow_faces: show small face crops of real people in the page; those of the synthetic
            corpus always are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resamples: int = Field(default=10_000, ge=100)
    seed: int = 0
    allow_faces: bool = False


def run(params: ReportParams, raw: Mapping[str, Any], ctx: Context) -> None:
    """Judge every corpus and write leaderboard and page.

    Args:
        params: of the comparison.
        raw: all of params.yaml, for names and provenance.
        ctx: progress.
    """
    corpora = {corpus: methods_of(raw, corpus) for corpus in raw.get("corpora") or {}}
    board: dict[str, dict[str, Judged]] = {}
    for done, (corpus, methods) in enumerate(corpora.items()):
        board[corpus] = judge(corpus, methods, resamples=params.resamples, seed=params.seed)
        ctx.progress(Progress(done + 1, len(corpora), "corpora"))
    content: dict[str, Any] = {
        corpus: {target: judged.entries for target, judged in targets.items()}
        for corpus, targets in board.items()
    }
    content["provenance"] = provenance(raw)
    _write(paths.leaderboard("json"), json.dumps(content, indent=1, sort_keys=True) + "\n")
    _write(paths.leaderboard("csv"), to_csv(board))
    write_plots(corpora)
    write_analysis(list(corpora))
    draw_page(raw)


def write_analysis(corpora: list[str]) -> None:
    """What the page draws of each data set, as ``data/reports/analysis/<corpus>.json``."""
    for corpus in corpora:
        found = overview(corpus, read_table(SPLIT, paths.splits(corpus)))
        text = json.dumps(found, sort_keys=True, allow_nan=False)
        _write(paths.REPORTS / "analysis" / f"{corpus}.json", text + "\n")


def draw_page(raw: Mapping[str, Any]) -> Path:
    """Write ``index.html`` from the tracked files and this machine's stage times."""
    _write(paths.page(), render(raw))
    return paths.page()


def provenance(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers were made from: parameters, encoders trained or not, clip accounting."""
    corpora = list(raw.get("corpora") or {})
    encoders: dict[str, dict[str, str]] = {}
    versions: dict[str, str] = {}
    for corpus in corpora:
        for name in encoders_of(raw, corpus):
            found = read_metadata(paths.features(corpus, name))
            encoders[name] = {
                key: found.get(key, "")
                for key in ("family", "checkpoint", "revision", "weights_sha256", "trained")
            }
            versions |= json.loads(found.get("libraries") or "{}")
    transfer = cross_corpus(raw)
    return {
        **({"cross_corpus": transfer} if transfer else {}),
        "parameters": {key: value for key, value in raw.items() if key != "execution"},
        "encoders": encoders,
        "versions": dict(sorted(versions.items())),
        "clips": {corpus: account(corpus, encoders_of(raw, corpus)) for corpus in corpora},
    }


def account(corpus: str, encoders: list[str]) -> dict[str, Any]:
    """Every clip of a corpus by stage and status, with reasons."""
    utterances = read_table(UTTERANCES, paths.utterances(corpus), ["utterance_id"])
    quarantine = read_table(QUARANTINE, paths.quarantine(corpus))
    stages = {
        "ingest": {
            "ok": utterances.height,
            "quarantined": quarantine.height,
            "reasons": _counts(quarantine.get_column("reason")),
        }
    }
    faces = read_table(FACES, paths.faces(corpus), ["utterance_id", "status", "reason"])
    stages["faces"] = _by_status(faces.unique(["utterance_id"], keep="first", maintain_order=True))
    for name in encoders:
        table = read_table(
            FEATURES, paths.features(corpus, name), ["utterance_id", "status", "reason"]
        )
        stages[f"features {name}"] = _by_status(table)
    return stages


def _by_status(table: pl.DataFrame) -> dict[str, Any]:
    bad = table.filter(pl.col("status") != "ok")
    return {
        **_counts(table.get_column("status")),
        "reasons": _counts(bad.get_column("reason").drop_nulls()),
    }


def _counts(values: pl.Series) -> dict[str, int]:
    return dict(values.value_counts().sort(values.name).iter_rows())


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
