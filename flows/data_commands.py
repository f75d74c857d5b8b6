"""Commands about data: `lint`, `fetch` and `store`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import UserError
from tasks import paths
from tasks.selection import encoders_of

Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]

store_app = typer.Typer(
    name="store",
    help="The content-addressed store of features; deleting it only costs time.",
    no_args_is_help=True,
)


def lint(
    corpora: Annotated[
        list[str] | None, typer.Argument(help="Corpora of params.yaml; default: all.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 on an error or a warning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look for leaks between splits and for columns that give the label away."""
    from flows.settings import read_params

    raw = read_params(Path()).raw
    known = list(raw.get("corpora") or {})
    for name in corpora or ():
        if name not in known:
            raise UserError(f"params.yaml has no corpus '{name}'; it has: {', '.join(known)}")
    found = {name: lint_corpus(name, encoders_of(raw, name)) for name in corpora or known}
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for corpus, findings in found.items():
            print(f"{corpus}: {len(findings)} findings")
            for finding in findings:
                print(f"  {finding['severity']:7} {finding['kind']}: {finding['sentence']}")
    severities = {finding["severity"] for findings in found.values() for finding in findings}
    if strict and severities & {"error", "warning"}:
        raise typer.Exit(1)


def lint_corpus(corpus: str, encoders: list[str]) -> list[dict[str, Any]]:
    """Findings in the tables of a corpus and in the features that exist, as JSON has them."""
    import polars as pl

    from tasks.batches import read_pooled
    from tasks.leaks import feature_leaks, find_leaks
    from tasks.tables import LABELS, SPLIT, UTTERANCES, read_table

    utterances = read_table(UTTERANCES, paths.utterances(corpus))
    labels = read_table(LABELS, paths.labels(corpus))
    splits = read_table(SPLIT, paths.splits(corpus))
    found = [dict(finding) for finding in find_leaks(utterances, labels, splits)]
    first = splits.filter(pl.col("fold") == splits.get_column("fold").min())
    rows = first.join(labels, on="utterance_id", how="inner").sort("utterance_id")
    target = "category" if rows.get_column("category").count() else "valence"
    rows = rows.filter(pl.col(target).is_not_null())
    for encoder in encoders:
        folder = paths.features(corpus, encoder)
        if not any(folder.glob("*.parquet")) or not rows.height:
            continue
        values, present = read_pooled(rows.get_column("utterance_id"), folder)
        names = [f"{encoder}[{i}]" for i in range(values.shape[1])]
        kept = rows.filter(pl.Series(present))
        found += [
            dict(finding)
            for finding in feature_leaks(
                values[present],
                names,
                kept.get_column(target).to_list(),
                kept.get_column("split").to_list(),
            )
        ]
    return found


def fetch(
    encoders: Annotated[
        list[str] | None, typer.Argument(help="Encoders of params.yaml; default: all.")
    ] = None,
) -> None:
    """Download the checkpoints that encoders name, with checksums, for work without a hub."""
    from flows.settings import read_params
    from models.encoders.weights import fetch as fetch_one
    from models.encoders.weights import hash_weights

    params = read_params(Path())
    for name in encoders or params.raw.get("encoders") or {}:
        entry = params.encoder(name)
        if not entry.checkpoint or is_local(entry.checkpoint):
            print(f"{name}: nothing to download")
            continue
        folder = fetch_one(entry.checkpoint, entry.revision, paths.cache())
        print(f"{name}: {entry.checkpoint} sha256 {hash_weights(folder, paths.cache())[:16]}...")


def is_local(checkpoint: str) -> bool:
    """True for what needs no hub: a folder here, weights in a package, random weights."""
    return checkpoint.startswith(("package:", "random:")) or checkpoint.startswith("data/")


@store_app.command(epilog="Example: affectloom store stats")
def stats(as_json: Json = False) -> None:
    """What each encoder keeps in the store."""
    from tasks import store

    usages = store.stats(_root())
    if as_json:
        print(json.dumps([vars(usage) for usage in usages], indent=1, default=str))
        return
    for usage in usages:
        what = usage.about.get("encoder") or usage.about.get("stage") or "?"
        print(
            f"{usage.fingerprint[:12]} {what}: {usage.entries} clips, "
            f"{usage.size_bytes / 1e6:.1f} MB, {usage.bad_segments} damaged segments"
        )
    print(f"{sum(usage.size_bytes for usage in usages) / 1e6:.1f} MB in all")


@store_app.command(epilog="Example: affectloom store verify")
def verify() -> None:
    """Check every checksum; damaged segments are set aside and computed again when needed."""
    from tasks import store

    problems = store.verify(_root())
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} damaged segments set aside" if problems else "the store is sound")
    if problems:
        raise typer.Exit(1)


@store_app.command(epilog="Example: affectloom store prune --unused-days 30")
def prune(
    unused_days: Annotated[
        float, typer.Option(help="Delete only what was not used for so many days.", min=0)
    ] = 0.0,
) -> None:
    """Delete what no present features or faces table was made from."""
    from flows.settings import read_params
    from tasks import store
    from tasks.tables import read_metadata

    raw = read_params(Path()).raw
    keep = []
    for corpus in raw.get("corpora") or {}:
        tables = [paths.features(corpus, name) for name in encoders_of(raw, corpus)]
        for table in (*tables, paths.faces(corpus)):
            if table.is_file() or any(table.glob("*.parquet")):
                keep.append(read_metadata(table).get("fingerprint", ""))
    freed = store.prune(_root(), [name for name in keep if name], unused_days or None)
    print(f"{freed / 1e6:.1f} MB freed")


def _root() -> Path:
    return paths.cache() / "features"
