"""Stage ``report``: leaderboard, analysis of the data and mean predictions as files, and the page.

``index.html`` holds nothing of the machine that drew it: ``affectloom report``, which draws it
again from the tracked files, writes the same bytes, and `dvc pull` brings it like any other out.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError
from models.metrics.scoring import CONVENTION
from tasks import failures
from tasks.atomic import replacing, write_json
from tasks.context import Context, Progress
from tasks.layout import Layout
from tasks.report.cross_corpus import cross_corpus, curves_across
from tasks.report.ensembles import write_ensembles
from tasks.report.groups import Grouping, by_group
from tasks.report.leaderboard import Judged, judge_loaded, to_csv
from tasks.report.page.corpus import overview
from tasks.report.page.page import render
from tasks.report.plots import write_plots
from tasks.report.tested import Loaded, load_tested
from tasks.report.union_scores import UnionScores, union_scores
from tasks.score_files import Account, Board, Provenance
from tasks.selection import encoders_of, methods_of, seen_corpora
from tasks.tables.faces import FACES
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES


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


@dataclass(frozen=True)
class ForReport:
    """What the stage is asked to do: its own parameters, and all of params.yaml for names."""

    own: ReportParams
    raw: Mapping[str, Any]


def run(asked: ForReport, layout: Layout, ctx: Context) -> None:
    """Judge every corpus and write leaderboard and page."""
    params, raw = asked.own, asked.raw
    corpora = {corpus: methods_of(raw, corpus) for corpus in raw.get("corpora") or {}}
    board: dict[str, dict[str, Judged]] = {}
    loaded: dict[str, Loaded] = {}
    for done, (corpus, methods) in enumerate(corpora.items()):
        loaded[corpus] = load_tested(layout, corpus, methods)
        board[corpus] = _judge(layout, params, corpus, loaded[corpus])
        ctx.progress(Progress(done + 1, len(corpora), "corpora"))
    write_json(layout.leaderboard("json"), _board(layout, raw, board).to_json())
    _write(layout.leaderboard("csv"), to_csv(board))
    write_ensembles(layout, loaded)
    overviews = write_analysis(layout, list(corpora))
    groups = _groups(layout, params, loaded)
    for corpus, found in groups.items():
        write_json(layout.analysis / "groups" / f"{corpus}.json", found)
    unions = _unions(layout, asked, loaded)
    for corpus, scores in unions.items():
        write_json(layout.analysis / "unions" / f"{corpus}.json", scores)
    write_plots(layout, loaded, overviews, curves_across(layout, raw))
    written = _read_board(layout)  # as `affectloom report` will read it
    assert written is not None
    _write(layout.page(), render(layout, raw, written, loaded, overviews, groups, unions))


def _judge(layout: Layout, params: ReportParams, corpus: str, loaded: Loaded) -> dict[str, Judged]:
    return judge_loaded(layout, corpus, loaded, resamples=params.resamples, seed=params.seed)


def _groups(
    layout: Layout, params: ReportParams, loaded: Mapping[str, Loaded]
) -> dict[str, dict[str, list[Grouping]]]:
    """Corpus to target to scores by group of people."""
    return {
        corpus: by_group(layout, corpus, one, resamples=params.resamples, seed=params.seed)
        for corpus, one in loaded.items()
    }


def _unions(
    layout: Layout, asked: ForReport, loaded: Mapping[str, Loaded]
) -> dict[str, UnionScores]:
    """Union to its methods against the same ones on each part alone."""
    params, raw = asked.own, asked.raw
    across = cross_corpus(layout, raw)
    draws = {"resamples": params.resamples, "seed": params.seed}
    found = {c: union_scores(layout, raw, c, loaded, across, **draws) for c in loaded}
    return {corpus: scores for corpus, scores in found.items() if scores is not None}


def _board(
    layout: Layout, raw: Mapping[str, Any], judged: Mapping[str, Mapping[str, Judged]]
) -> Board:
    entries = {
        corpus: {target: one.entries for target, one in targets.items()}
        for corpus, targets in judged.items()
    }
    return Board(entries, provenance(layout, raw, list(judged)))


def _read_board(layout: Layout) -> Board | None:
    """The leaderboard as it was written; None where there is none."""
    file = layout.leaderboard("json")
    return Board.of_json(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def write_analysis(layout: Layout, corpora: list[str]) -> dict[str, dict[str, Any]]:
    """What the page draws of each data set, also as ``data/reports/analysis/<corpus>.json``."""
    found = _overviews(layout, corpora)
    for corpus, one in found.items():
        write_json(layout.analysis / f"{corpus}.json", one, indent=None)
    return found


def _overviews(layout: Layout, corpora: list[str]) -> dict[str, dict[str, Any]]:
    return {c: overview(layout, c, read_table(SPLIT, layout.splits(c))) for c in corpora}


def draw_page(layout: Layout, params: ReportParams, raw: Mapping[str, Any]) -> tuple[Path, bool]:
    """Write ``index.html`` from what there is, and say whether the leaderboard file covers it.

    Where a stage failed, ``report`` has not run: what was evaluated is judged here and now, every
    other method appears with the reason, and no file that DVC tracks is touched.

    Args:
        params: of the comparison.
        raw: all of params.yaml.
    """
    board = _read_board(layout)
    is_current = board is not None and board.provenance.get("judged") == judged(layout, raw)
    if board is None or not is_current:
        ready = [corpus for corpus in raw.get("corpora") or {} if not unready(layout, corpus)]
        if not ready:
            reasons = {c: unready(layout, c) for c in raw.get("corpora") or {}}
            why = "; ".join(f"{corpus}: {reason}" for corpus, reason in reasons.items())
            raise UserError(f"there is nothing to draw yet ({why or 'params.yaml has no corpus'})")
        shown = ready
    else:
        shown = [corpus for corpus in raw.get("corpora") or {} if corpus in board.corpora]
    loaded = {corpus: load_tested(layout, corpus, methods_of(raw, corpus)) for corpus in shown}
    if board is None or not is_current:
        fresh = {c: _judge(layout, params, c, one) for c, one in loaded.items()}
        board = _board(layout, raw, fresh)
    groups = _groups(layout, params, loaded)
    unions = _unions(layout, ForReport(params, raw), loaded)
    page = render(layout, raw, board, loaded, _overviews(layout, shown), groups, unions)
    _write(layout.page(), page)
    return layout.page(), is_current


def judged(layout: Layout, raw: Mapping[str, Any]) -> dict[str, str]:
    """Corpus/method to a short hash of its scores, for every method that has some that stand."""
    found, failed = {}, failures.standing(layout)
    for corpus in raw.get("corpora") or {}:
        for method in methods_of(raw, corpus):
            file = layout.details(corpus, method)
            if file.exists() and f"train@{corpus}-{method}" not in failed:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                found[f"{corpus}/{method}"] = digest[:16]
    return found


def unready(layout: Layout, corpus: str) -> str:
    """Why the page cannot show a corpus; empty if it can."""
    needed = {
        "ingest": [layout.utterances(corpus), layout.quarantine(corpus)],
        "labels": [
            layout.labels(corpus), layout.labels_quarantine(corpus), layout.agreement(corpus),
        ],
        "splits": [layout.splits(corpus), layout.leaks(corpus)],
    }  # fmt: skip
    for stage, files in needed.items():
        if not all(file.exists() for file in files):
            return failures.behind(layout, corpus) or f"not finished: run stage {stage}@{corpus}"
    return ""


def provenance(layout: Layout, raw: Mapping[str, Any], corpora: list[str]) -> Provenance:
    """What the numbers were made from: parameters, encoders trained or not, clip accounting.

    Args:
        raw: all of params.yaml.
        corpora: those that were judged.
    """
    encoders: dict[str, dict[str, str]] = {}
    versions: dict[str, str] = {}
    for corpus in corpora:
        for name in encoders_of(raw, corpus):
            if not layout.features(corpus, name).exists():
                continue  # account() says so
            found = read_metadata(layout.features(corpus, name))
            encoders[name] = {
                key: found.get(key, "")
                for key in ("family", "checkpoint", "revision", "weights_sha256", "trained")
            }
            versions |= json.loads(found.get("libraries") or "{}")
    recorded: Provenance = {
        "judged": judged(layout, raw),
        "convention": CONVENTION,
        "parameters": {key: value for key, value in raw.items() if key != "execution"},
        "encoders": encoders,
        "versions": dict(sorted(versions.items())),
        "clips": {corpus: account(layout, raw, corpus) for corpus in corpora},
    }
    if transfer := cross_corpus(layout, raw):
        recorded["cross_corpus"] = transfer
    return recorded


def account(layout: Layout, raw: Mapping[str, Any], corpus: str) -> dict[str, Account]:
    """Every clip of a corpus by stage and status, with reasons."""
    utterances = read_table(UTTERANCES, layout.utterances(corpus), ["utterance_id"])
    quarantine = read_table(QUARANTINE, layout.quarantine(corpus))
    stages: dict[str, Account] = {
        "ingest": {
            "ok": utterances.height,
            "quarantined": quarantine.height,
            "reasons": _counts(quarantine.get_column("reason")),
        }
    }
    columns = ["utterance_id", "status", "reason"]
    is_seen = {"corpus": corpus} in seen_corpora(raw)
    if is_seen and layout.faces(corpus).exists():
        faces = read_table(FACES, layout.faces(corpus), columns)
        faces = faces.unique(["utterance_id"], keep="first", maintain_order=True)
        stages["faces"] = _by_status(faces)
    elif is_seen:
        stages["faces"] = _unfinished(layout, f"faces@{corpus}")
    for name in encoders_of(raw, corpus):
        folder = layout.features(corpus, name)
        stages[f"features {name}"] = (
            _by_status(read_table(FEATURES, folder, columns))
            if folder.exists()
            else _unfinished(layout, f"features@{corpus}-{name}")
        )
    return stages


def _unfinished(layout: Layout, address: str) -> Account:
    reason = failures.standing(layout).get(address)
    return {"unfinished": f"failed: {reason}" if reason else "not finished", "reasons": {}}


def _by_status(table: pl.DataFrame) -> Account:
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
