"""The command ``affectloom``."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.data import fetch, lint, store_app
from flows.cli.imports import EPILOG, import_files
from flows.cli.look import dag, show_dry_run, status
from flows.cli.planning import plan
from flows.cli.predict import EPILOG as PREDICT_EPILOG
from flows.cli.predict import EXPORT_EPILOG, export, predict
from flows.cli.reports import compare, report
from flows.cli.ui import serve, ui
from flows.sentences import told
from models.errors import UserError
from tasks.layout import find_root

app = typer.Typer(
    name="affectloom",
    help="From raw conversations, video, speech and text to reproducible emotion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

log = logging.getLogger("affectloom")

#: Commands that need no project.
_ANYWHERE = ("predict",)
_STOPPED = "stopped; run the same command again to go on from here"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"affectloom {version('affectloom')}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all lines.")] = False,
) -> None:
    """Settle in the repository's root; errors are one sentence unless --debug is given."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "dvc", "asyncio", "urllib3", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if debug:
        log.setLevel(logging.DEBUG)  # the lines of all stages, not those of every library
        os.environ["AFFECTLOOM_DEBUG"] = "1"
    if {"-h", "--help"} & set(sys.argv):  # help is for every folder
        return
    _note_folder()
    try:
        os.chdir(find_root())
    except UserError:
        if ctx.invoked_subcommand not in _ANYWHERE:
            raise


def _note_folder() -> None:
    """Have ``PWD`` name this folder; who starts a program in another one leaves his own there."""
    told = os.environ.get("PWD", "")
    if not (os.path.isabs(told) and os.path.isdir(told) and os.path.samefile(told, ".")):
        os.environ["PWD"] = os.getcwd()


@app.command(epilog="Example: affectloom run features --jobs 2")
def run(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages or instances; default: everything.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Stages side by side.", min=1)] = None,
    pull: Annotated[
        bool, typer.Option("--pull", help="Fetch missing data from the DVC remote.")
    ] = False,
    force: Annotated[
        list[str] | None,
        typer.Option(help="Run this stage or instance although it is up to date; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be looked at, in order.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each event.")
    ] = False,
) -> None:
    """Bring the pipeline up to date: stale stages and what follows from them."""
    if dry_run:
        show_dry_run(stages or (), force or (), as_json)
        return
    from flows.pipeline import run_pipeline, stop_on_signal
    from flows.telling import has_failed

    stop_on_signal()
    tell = (lambda event: print(json.dumps(event), flush=True)) if as_json else None
    outcomes = run_pipeline(Path.cwd(), stages or (), jobs, pull, force=force or (), tell=tell)
    if has_failed(outcomes):
        raise typer.Exit(1)


@app.command(epilog="Example: affectloom stage train --corpus sample --method early_fusion")
def stage(
    name: Annotated[str, typer.Argument(help="Name of the stage.")],
    corpus: Annotated[str | None, typer.Option(help="Only of this corpus.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Only of this encoder.")] = None,
    method: Annotated[str | None, typer.Option(help="Only of this method.")] = None,
    onto: Annotated[
        str | None, typer.Option(help="Stage transfer: the corpus whose test rows are predicted.")
    ] = None,
) -> None:
    """Run one stage now, whether it is stale or not, outside DVC (for development)."""
    from flows.settings import read_params
    from flows.stage import execute
    from tasks.stages import STAGES

    if name not in STAGES:
        raise UserError(f"there is no stage '{name}'; stages: {', '.join(STAGES)}")
    row = STAGES[name]
    given = {"corpus": corpus, "encoder": encoder, "method": method, "onto": onto}
    wanted = {key: value for key, value in given.items() if value is not None}
    known = row.instances_of(read_params(Path()).raw)
    found = [ids for ids in known if all(ids.get(key) == value for key, value in wanted.items())]
    if not found:
        asked = " ".join(f"--{key} {value}" for key, value in wanted.items())
        there_is = ", ".join(row.address(ids) for ids in known) or "none"
        raise UserError(f"params.yaml has no {name} {asked}".rstrip() + f"; there is: {there_is}")
    for ids in found:
        execute(name, ids)


@app.command(epilog="Example: affectloom sync")
def sync() -> None:
    """Bring dvc.yaml in step with params.yaml and the imports of the code."""
    from flows import graph
    from flows.settings import read_whole

    params = read_whole(Path())
    params.check_everything()
    print("dvc.yaml written" if graph.sync(params.raw, Path()) else "dvc.yaml was in step")


@app.command(epilog="Example: affectloom doctor --fix")
def doctor(
    fix: Annotated[bool, typer.Option(help="Mend what can be mended.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine and this clone; exit status 1 when something is wrong."""
    from flows.doctor import examine

    findings = examine(Path.cwd(), fix)
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = "ok  " if finding.is_ok else "MEND"
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{mark} {finding.what}: {finding.detail}{remedy}")
    if not all(finding.is_ok for finding in findings):
        raise typer.Exit(1)


app.command(epilog="Example: affectloom status")(status)
app.command(epilog="Example: affectloom plan train")(plan)
app.command(epilog="Example: affectloom dag --mermaid")(dag)
app.command("import", epilog=EPILOG)(import_files)
app.command(epilog=PREDICT_EPILOG)(predict)
app.command(epilog=EXPORT_EPILOG)(export)
app.command(epilog="Example: affectloom lint --strict")(lint)
app.command(epilog="Example: affectloom fetch wav2vec2_base")(fetch)
app.command(epilog="Example: affectloom report --markdown")(report)
app.command(epilog="Example: affectloom compare early_fusion late_fusion")(compare)
app.command(epilog="Example: affectloom ui --port 4201")(ui)
app.command(epilog="Example: affectloom serve --cron '0 3 * * *'")(serve)
app.add_typer(store_app)


def _check_locale() -> None:
    """Names and texts that are read in another encoding than they were written in are none."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise UserError(
            f"this shell's locale has file names and texts read as {encoding}; set PYTHONUTF8=1"
        )


def main() -> None:
    """Entry point: exit 0 only on success, one clear sentence on an error."""
    try:
        _check_locale()
        app()
    except SystemExit as error:
        if error.code == 130:  # typer makes this of Ctrl-C, in silence
            print(_STOPPED, file=sys.stderr)
        raise
    except Exception as error:
        if os.environ.get("AFFECTLOOM_DEBUG"):
            raise
        unexpected = (
            f"unexpected {type(error).__name__}: {error}; run again with --debug and report it"
        )
        print(f"error: {told(error) or unexpected}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(_STOPPED, file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
