"""The commands ``affectloom report`` and ``affectloom compare``."""

import json
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from models.errors import UserError


def report(
    latex: Annotated[
        bool, typer.Option("--latex", help="Print the papers' tables as LaTeX.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the papers' tables as Markdown.")
    ] = False,
    times: Annotated[
        bool, typer.Option("--times", help="Print how long each stage took on this machine.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the leaderboard as JSON for other programs.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Draw index.html again from the tracked files, or print tables for a paper."""
    from flows import graph
    from tasks.layout import Layout
    from tasks.params.model import Params
    from tasks.report.stage import draw_page

    if times:
        _print_times()
        return
    if latex + markdown + as_json > 1:
        raise UserError("--latex, --markdown and --json exclude each other; give one")
    raw = graph.read_raw_params(Path())
    settings = Params(raw).section("report")
    if latex or markdown:
        from tasks.report.paper_tables import paper_tables, scales_of
        from tasks.report.table_text import render_tables
        from tasks.selection import methods_of

        corpora = {corpus: methods_of(raw, corpus) for corpus in raw.get("corpora") or {}}
        tables = paper_tables(
            Layout(),
            corpora,
            resamples=settings.resamples,
            seed=settings.seed,
            scales={
                corpus: scales_of(Layout(), corpus, Params(raw).section("labels", corpus))
                for corpus in corpora
            },
        )
        print(render_tables(tables, "latex" if latex else "markdown"))
        if not open_page:
            return
    file, is_current = draw_page(Layout(), settings, raw)
    if as_json:
        board = Layout().leaderboard("json")
        found = json.loads(board.read_text(encoding="utf-8")) if board.exists() else None
        print(json.dumps({"page": str(file), "is_current": is_current, "leaderboard": found}))
    elif not latex and not markdown:
        print(file)
    if not is_current:
        print(
            "note: leaderboard.json does not cover what is here now, so the page was judged "
            "afresh; `affectloom run` brings everything up to date",
            file=sys.stderr,
        )
    if open_page:
        webbrowser.open(file.resolve().as_uri())


def _print_times() -> None:
    from flows.times import read_times
    from tasks.layout import Layout

    found = read_times(Layout())
    for stage, seconds in found.items():
        print(f"{seconds:9.1f} s  {stage}")
    print(f"{sum(found.values()):9.1f} s  in all, of the last run of each stage here")


def compare(
    first: Annotated[
        str, typer.Argument(help="Method, corpus/method, run folder, REVISION or REVISION:method.")
    ],
    second: Annotated[str, typer.Argument(help="What to compare it with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Test whether two methods, runs or revisions differ, and say what differs between them."""
    from flows import graph
    from tasks.layout import Layout
    from tasks.params.model import Params
    from tasks.report.compare import compare_refs, to_json, to_text

    settings = Params(graph.read_raw_params(Path())).section("report")
    found = compare_refs(Layout(), first, second, resamples=settings.resamples, seed=settings.seed)
    if as_json:
        print(json.dumps(to_json(found), indent=1, allow_nan=False))
    else:
        print(to_text(found), end="")
