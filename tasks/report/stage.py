"""Stage ``report``: leaderboard, analysis of the data and mean predictions as files, and the page.

``index.html`` also shows the times of the machine that ran the stages, so it is written beside
DVC's outs and not tracked; ``affectloom report`` draws it again from the tracked files.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError
from models.metrics.scoring import CONVENTION
from tasks import failures, paths
from tasks.context import Context, Progress
from tasks.report.cross_corpus import cross_corpus, curves_across
from tasks.report.ensembles import write_ensembles
from tasks.report.leaderboard import Judged, judge, to_csv
from tasks.report.page.corpus import overview
from tasks.report.page.page import render
from tasks.report.plots import write_plots
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
    for done, corpus in enumerate(corpora):
        board[corpus] = _judge(params, raw, corpus)
        ctx.progress(Progress(done + 1, len(corpora), "corpora"))
    content = _content(raw, board)
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    _write(paths.leaderboard("json"), text)
    _write(paths.leaderboard("csv"), to_csv(board))
    write_ensembles(corpora)
    overviews = write_analysis(list(corpora))
    write_plots(corpora, overviews, curves_across(raw))
    _write(paths.page(), render(raw, json.loads(text)))  # as `affectloom report` will read it


def _judge(params: ReportParams, raw: Mapping[str, Any], corpus: str) -> dict[str, Judged]:
    methods = methods_of(raw, corpus)
    return judge(corpus, methods, resamples=params.resamples, seed=params.seed)


def _content(raw: Mapping[str, Any], board: Mapping[str, Mapping[str, Judged]]) -> dict[str, Any]:
    """What ``leaderboard.json`` holds."""
    content: dict[str, Any] = {
        corpus: {target: judged.entries for target, judged in targets.items()}
        for corpus, targets in board.items()
    }
    return content | {"provenance": provenance(raw, list(board))}


def write_analysis(corpora: list[str]) -> dict[str, dict[str, Any]]:
    """What the page draws of each data set, also as ``data/reports/analysis/<corpus>.json``."""
    found = {c: overview(c, read_table(SPLIT, paths.splits(c))) for c in corpora}
    for corpus, one in found.items():
        text = json.dumps(one, sort_keys=True, allow_nan=False)
        _write(paths.REPORTS / "analysis" / f"{corpus}.json", text + "\n")
    return found


def draw_page(params: ReportParams, raw: Mapping[str, Any]) -> tuple[Path, bool]:
    """Write ``index.html`` from what there is, and say whether the leaderboard file covers it.

    Where a stage failed, ``report`` has not run: what was evaluated is judged here and now, every
    other method appears with the reason, and no file that DVC tracks is touched.

    Args:
        params: of the comparison.
        raw: all of params.yaml.
    """
    file = paths.leaderboard("json")
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    is_current = content.get("provenance", {}).get("judged") == judged(raw)
    if not is_current:
        ready = [corpus for corpus in raw.get("corpora") or {} if not unready(corpus)]
        if not ready:
            reasons = {c: unready(c) for c in raw.get("corpora") or {}}
            why = "; ".join(f"{corpus}: {reason}" for corpus, reason in reasons.items())
            raise UserError(f"there is nothing to draw yet ({why or 'params.yaml has no corpus'})")
        content = _content(raw, {corpus: _judge(params, raw, corpus) for corpus in ready})
    _write(paths.page(), render(raw, content))
    return paths.page(), is_current


def judged(raw: Mapping[str, Any]) -> dict[str, str]:
    """Corpus/method to a short hash of its scores, for every method that has some that stand."""
    found, failed = {}, failures.standing()
    for corpus in raw.get("corpora") or {}:
        for method in methods_of(raw, corpus):
            file = paths.details(corpus, method)
            if file.exists() and f"train@{corpus}-{method}" not in failed:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                found[f"{corpus}/{method}"] = digest[:16]
    return found


def unready(corpus: str) -> str:
    """Why the page cannot show a corpus; empty if it can."""
    needed = {
        "ingest": [paths.utterances(corpus), paths.quarantine(corpus)],
        "labels": [
            paths.labels(corpus), paths.labels_quarantine(corpus), paths.agreement(corpus),
        ],
        "splits": [paths.splits(corpus), paths.leaks(corpus)],
    }  # fmt: skip
    for stage, files in needed.items():
        if not all(file.exists() for file in files):
            return failures.behind(corpus) or f"not finished: run stage {stage}@{corpus}"
    return ""


def provenance(raw: Mapping[str, Any], corpora: list[str]) -> dict[str, Any]:
    """What the numbers were made from: parameters, encoders trained or not, clip accounting.

    Args:
        raw: all of params.yaml.
        corpora: those that were judged.
    """
    encoders: dict[str, dict[str, str]] = {}
    versions: dict[str, str] = {}
    for corpus in corpora:
        for name in encoders_of(raw, corpus):
            if not paths.features(corpus, name).exists():
                continue  # account() says so
            found = read_metadata(paths.features(corpus, name))
            encoders[name] = {
                key: found.get(key, "")
                for key in ("family", "checkpoint", "revision", "weights_sha256", "trained")
            }
            versions |= json.loads(found.get("libraries") or "{}")
    transfer = cross_corpus(raw)
    return {
        **({"cross_corpus": transfer} if transfer else {}),
        "judged": judged(raw),
        "convention": CONVENTION,
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
    columns = ["utterance_id", "status", "reason"]
    if paths.faces(corpus).exists():
        faces = read_table(FACES, paths.faces(corpus), columns)
        faces = faces.unique(["utterance_id"], keep="first", maintain_order=True)
        stages["faces"] = _by_status(faces)
    else:
        stages["faces"] = _unfinished(f"faces@{corpus}")
    for name in encoders:
        folder = paths.features(corpus, name)
        stages[f"features {name}"] = (
            _by_status(read_table(FEATURES, folder, columns))
            if folder.exists()
            else _unfinished(f"features@{corpus}-{name}")
        )
    return stages


def _unfinished(address: str) -> dict[str, Any]:
    reason = failures.standing().get(address)
    return {"unfinished": f"failed: {reason}" if reason else "not finished", "reasons": {}}


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
