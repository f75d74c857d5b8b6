"""The page ``index.html``: one self-contained, offline file drawn from the tracked reports.

Python gathers and packs the numbers; ``page_assets`` holds what the browser runs. Everything that
comes from data reaches the page as JSON in which no character can end the script element.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import polars as pl

from tasks.failures import behind
from tasks.layout import Layout
from tasks.leaks.lint import lint_features
from tasks.report.cross_corpus import curves_across, thinned
from tasks.report.page.corpus import clips
from tasks.report.page.dialogues import Budget, dialogues
from tasks.report.page.filling import embed, whole_page
from tasks.report.page.provenance import provenance
from tasks.report.page.results import results
from tasks.report.page.story import kinds, story
from tasks.report.shared_columns import comparisons
from tasks.report.tested import Loaded
from tasks.score_files import Board
from tasks.selection import encoders_of
from tasks.tables.parquet import read_table
from tasks.tables.splits import SPLIT

_SCRIPTS = (
    "core.js",
    "leaderboard.js",
    "charts.js",
    "groups.js",
    "unions.js",
    "dialogues.js",
    "corpus.js",
    "start.js",
)
#: Of each curve of errors on another corpus.
_POINTS = 60
_VENDOR = ("d3.min.js", "plot.min.js")


def render(
    layout: Layout,
    raw: Mapping[str, Any],
    board: Board,
    loaded: Mapping[str, Loaded],
    overviews: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Mapping[str, Any]],
    unions: Mapping[str, Any],
) -> str:
    """The whole page as HTML.

    Args:
        layout: where the tables lie.
        raw: all of params.yaml.
        board: the leaderboard; corpora that it lacks are not shown.
        loaded: corpus to what was evaluated.
        overviews: corpus to ``page.corpus.overview``.
        groups: corpus to ``report.groups.by_group``.
        unions: union to ``report.union_scores.union_scores``.
    """
    corpora = [corpus for corpus in raw.get("corpora") or {} if corpus in board.corpora]
    budget = Budget(corpora=len(corpora))
    content = {
        "corpora": {
            corpus: _corpus(layout, corpus, raw, board, loaded[corpus], budget)
            | {"overview": overviews[corpus], "groups": groups[corpus]}
            | ({"union": unions[corpus]} if corpus in unions else {})
            for corpus in corpora
        },
        "unready": {
            c: behind(layout, c) for c in raw.get("corpora") or {} if c not in board.corpora
        },
        "provenance": provenance(raw, board.provenance),
        "cross_corpus": board.provenance.get("cross_corpus", []),
        "curves_across": thinned(curves_across(layout, raw), _POINTS),
    }
    assets = files("tasks.report.page") / "page_assets"
    page = (assets / "page.html").read_text(encoding="utf-8")
    parts = {
        "VENDOR": "\n".join(
            (assets / "vendor" / name).read_text(encoding="utf-8") for name in _VENDOR
        ),
        "SCRIPT": "\n".join((assets / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "DATA": embed(content),
    }
    return whole_page("affectloom report", page, parts, policy=("script-src 'unsafe-inline'",))


def _corpus(
    layout: Layout,
    corpus: str,
    raw: Mapping[str, Any],
    board: Board,
    loaded: Loaded,
    budget: Budget,
) -> dict[str, Any]:
    tested, failed = loaded
    entries, shared = board.corpora[corpus], comparisons(tested)
    splits = read_table(SPLIT, layout.splits(corpus))
    test = splits.filter(pl.col("split") == "test")
    return {
        "targets": {
            target: results(*shared.get(target, (target, tested)), failed, entries[target])
            | {"story": story(entries[target], kinds(raw, corpus))}
            for target in entries
        },
        "failed": failed,
        "dialogues": dialogues(layout, corpus, tested, test, _may_show_faces(corpus, raw), budget),
        "clips": clips(layout, corpus, board.provenance["clips"].get(corpus, {})),
        "agreement": json.loads(layout.agreement(corpus).read_text(encoding="utf-8")),
        "leaks": _leaks(layout, corpus, encoders_of(raw, corpus)),
    }


def _leaks(layout: Layout, corpus: str, encoders: list[str]) -> dict[str, Any]:
    """What was found when the corpus was split, and what its features show since."""
    found = json.loads(layout.leaks(corpus).read_text(encoding="utf-8"))
    return found | {"findings": [*found["findings"], *lint_features(layout, corpus, encoders)]}


def _may_show_faces(corpus: str, raw: Mapping[str, Any]) -> bool:
    """Faces of people leave the data folder only when asked for; drawn ones may."""
    adapter = (raw["corpora"][corpus] or {}).get("adapter", corpus)
    return adapter == "sample" or bool((raw.get("report") or {}).get("allow_faces"))
