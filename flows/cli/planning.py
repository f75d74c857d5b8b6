"""The command `plan`: what a run has before it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.look import Json, look

if TYPE_CHECKING:
    from flows.forecast import Amount, Work


def plan(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages or instances; default: everything.")
    ] = None,
    try_first: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="First try on a little what nothing is known of: seconds for each."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell how much data there is, what the store has, and how long a run will take here."""
    from flows.calibration import calibrate
    from flows.execution import execution, worker_count
    from flows.forecast import amounts, side_by_side_s, works
    from flows.settings import read_whole
    from tasks.layout import Layout

    params, layout = read_whole(Path()), Layout()
    found, _ = look(Path())
    if stages:
        found = found.upstream_of(found.match(stages))
    there, ahead = amounts(params, layout), works(params, layout, found)
    if try_first:
        known = {one.address for one in ahead if one.seconds is not None and not one.is_guess}
        calibrate(params, layout, found, known, lambda line: print(line, file=sys.stderr))
        ahead = works(params, layout, found)
    jobs = worker_count(execution(params.raw))
    seconds = side_by_side_s(ahead, found, jobs)
    if as_json:
        rows = {"corpora": [vars(one) for one in there], "stages": [vars(one) for one in ahead]}
        print(json.dumps({**rows, "jobs": jobs, "seconds": seconds}, indent=1))
        return
    for one in there:
        print(_corpus(one))
    for one in ahead:
        print(f"{_minutes(one.seconds):>10}  {one.address}: {_because(one)}")
    known = [one.seconds for one in ahead if one.seconds is not None]
    unknown = len(ahead) - len(known)
    alone = _minutes(sum(known))
    print(
        f"{_minutes(seconds):>10}  in all, {jobs} stages at a time; {alone} one by one"
        + (f", and {unknown} stages that nothing is known of" if unknown else "")
    )
    if unknown and not try_first:
        more = "`affectloom plan --calibrate` tries encoders and methods on a little of the data"
        print(more, file=sys.stderr)


def _corpus(one: "Amount") -> str:
    size = "no folder in data/raw" if one.gigabytes is None else f"{one.gigabytes:.3g} GB"
    if one.utterances is None:
        return f"{one.corpus}: {size}; `affectloom run ingest@{one.corpus}` counts what is in it"
    frames = f", {one.frames:,} frames to look for faces in" if one.frames else ""
    return (
        f"{one.corpus}: {size}, {one.utterances:,} utterances, {one.hours:.2f} hours, "
        f"{one.texts:,} texts{frames}"
    )


def _because(one: "Work") -> str:
    if one.clips is None:
        return one.told_by
    return f"{one.clips[0]:,} of {one.clips[1]:,} clips are not in the store; {one.told_by}"


def _minutes(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds / 60:.1f} min"
