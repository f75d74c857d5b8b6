"""Commands that look at the pipeline and run nothing: `status` and `dag`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.noting import Note
    from flows.plan import Plan

Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]

_UNSYNCED = "dvc.yaml is not in step with params.yaml; `affectloom run` or `sync` mends that"


def status(as_json: Json = False) -> None:
    """Show which stages are stale and why, and how far a run is; nothing is run."""
    from flows.noting import current

    plan, is_unsynced = look(Path())
    note = current(Path())
    maybe = set(plan.maybe)
    if as_json:
        stages = {
            address: {"state": _state(address, node.reasons, maybe, note)}
            | {"reasons": list(node.reasons)}
            for address, node in plan.nodes.items()
        }
        found: dict[str, Any] = {"dvc_yaml_out_of_step": is_unsynced, "stages": stages}
        if note:
            found["run"] = {"process": note.pid, "began": note.began, "done": note.done} | {
                "running": {address: vars(at) for address, at in note.running.items()},
                "waiting": note.waiting,
            }
        print(json.dumps(found, indent=1))
        return
    if is_unsynced:
        print(_UNSYNCED)
    if note:
        _tell_run(note)
    for address in plan.maybe:
        if note and address in note.running:
            continue
        print(f"{address}: {_why(plan.nodes[address].reasons)}")
    print(f"{len(plan.nodes) - len(maybe)} of {len(plan.nodes)} stages are up to date")


def dag(
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="As text that Mermaid draws, e.g. in a README.")
    ] = False,
) -> None:
    """Draw the graph with each stage once, however many corpora, encoders and methods there are."""
    from flows.drawing import as_mermaid, as_text, collapse

    plan, is_unsynced = look(Path(), with_status=False)
    stages = collapse(plan)
    print(as_mermaid(stages) if mermaid else as_text(stages))
    if is_unsynced and not mermaid:
        print(_UNSYNCED)


def show_dry_run(stages: Sequence[str], force: Sequence[str], as_json: bool) -> None:
    """Tell what `run` would look at, in the order in which it would."""
    plan, _ = look(Path())
    plan.force(force)
    if stages:
        plan = plan.upstream_of(plan.match([*stages, *force]))
    for address in plan.maybe:
        reasons = plan.nodes[address].reasons
        if as_json:
            print(json.dumps({"event": "would run", "stage": address, "reasons": list(reasons)}))
        else:
            print(f"{address}: {_why(reasons)}")
    if not as_json:
        print(f"{len(plan.maybe)} of {len(plan.nodes)} stages would be looked at")


def look(root: Path, with_status: bool = True) -> "tuple[Plan, bool]":
    """The plan as it will be once dvc.yaml is in step, and whether it is not yet."""
    from flows import graph, remembered
    from flows.plan import read_plan
    from flows.settings import check_before_graph, check_whole, read_params

    params = read_params(root)
    check_whole(params.raw, root)
    text = None
    if not remembered.is_right(root, "dvc.yaml"):
        check_before_graph(params)
        text = graph.render(params.raw, root)
        if not graph.out_of_step(text, root):
            text = None
            remembered.remember(root, "dvc.yaml")
    plan = read_plan(root, text, with_status=with_status)
    if with_status and (text or plan.maybe) and not remembered.is_right(root, "params.yaml"):
        params.check_everything()  # imports every method: seconds
        remembered.remember(root, "params.yaml")
    return plan, text is not None


def _why(reasons: Sequence[str]) -> str:
    rest = f"; {len(reasons) - 4} more" if len(reasons) > 4 else ""
    return "; ".join(reasons[:4]) + rest or "follows from a stale stage"


def _state(address: str, reasons: tuple[str, ...], maybe: set[str], note: "Note | None") -> str:
    if note and address in note.running:
        return "running"
    return "stale" if reasons else "follows" if address in maybe else "fresh"


def _tell_run(note: "Note") -> None:
    now = time.time()
    print(
        f"`affectloom run` (process {note.pid}) is at work for {_span(now - note.began)}: "
        f"{len(note.done)} stages done, {len(note.running)} running, {len(note.waiting)} to come"
    )
    for address, at in note.running.items():
        said = f": {at.said}" if at.said else ""
        print(f"  {address} is running for {_span(now - at.since)}{said}")
    for address, state in note.done.items():
        if state not in ("cached", "reproduced", "restored"):
            print(f"  {address}: {state}")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
