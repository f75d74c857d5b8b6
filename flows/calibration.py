"""A short calibration: what nothing is known of here is tried on a little of the project's data.

Stages that go clip by clip get a few utterances, then a few more; a method is trained on one fold
for an epoch, then for some. The difference is what a clip or an epoch costs, the rest is what it
takes to begin. All of it happens in a folder of its own, with the stages' own functions.
"""

import hashlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import polars as pl

from flows.plan import Plan
from flows.stage import run_stage
from models.errors import UserError
from tasks.atomic import write_json
from tasks.context import Progress
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.params.recipes import resolve
from tasks.params.unions import parts_of
from tasks.plain_context import PlainContext
from tasks.stages import STAGES, outs_of
from tasks.tables.parquet import read_table, write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

#: Stages that go through the utterances one by one.
_BY_CLIP = ("transcribe", "faces", "features")
#: How many clips or epochs are tried at a time, and the seconds after which that is enough.
_CLIPS, _EPOCHS, _ENOUGH_S = (1, 4, 16, 64), (1, 4, 16), 5.0
#: What a try reads of the project's cache and data: of them clips have tables of their own.
_OF_CACHE = ("weights", "models", "hashes", "media_hashes")
_OF_DATA = ("checkpoints", "corpora", "labels", "transcripts", "faces", "features")


@dataclass(frozen=True)
class Cost:
    """What a stage takes here.

    Attributes:
        asked: hash of its parameters when it was tried.
        start_s: seconds to begin.
        unit_s: seconds for each clip, or for each epoch on one fold.
    """

    asked: str
    start_s: float
    unit_s: float


def read_costs(params: Params, layout: Layout, plan: Plan) -> dict[str, Cost]:
    """What was found out about stages of the plan that are asked the same now."""
    try:
        found = json.loads(_file(layout).read_text(encoding="utf-8"))
        kept = {address: Cost(**cost) for address, cost in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # never tried, or damaged: try again
        return {}
    return {
        address: kept[address]
        for address, name, ids in _tried(params, plan)
        if address in kept and kept[address].asked == _asked(params, name, ids)
    }


def calibrate(
    params: Params,
    layout: Layout,
    plan: Plan,
    known: Collection[str],
    tell: Callable[[str], None],
) -> None:
    """Try each stage of ``plan`` that is not among ``known``, and keep what it took.

    Args:
        params: of the project.
        layout: where its tables lie.
        plan: what is before a run.
        known: stages that there is an estimate of already.
        tell: hears a line for each stage.
    """
    found = {address: vars(cost) for address, cost in read_costs(params, layout, plan).items()}
    waiting: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        of_clips = _beside(layout, Path(folder) / "clips", _OF_DATA[:1])
        of_epochs = _beside(layout, Path(folder) / "epochs", _OF_DATA)
        for address, name, ids in _tried(params, plan):
            if address in known:
                continue
            if lacking := _lacking(params, layout, plan, address):
                waiting[lacking].append(address)
                continue
            tries = _clips if name in _BY_CLIP else _epochs
            try:
                start_s, unit_s = _timed(
                    tries(params, layout, of_clips if tries is _clips else of_epochs, name, ids)
                )
            except UserError as error:
                tell(f"{address} was not tried: {error}")
                continue
            found[address] = vars(Cost(_asked(params, name, ids), start_s, unit_s))
            each = "clip" if tries is _clips else "epoch of a fold"
            tell(f"{address} was tried: {start_s:.2g} s to begin, {unit_s:.2g} s for each {each}")
            write_json(_file(layout), found)
    for lacking, addresses in waiting.items():
        rest = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
        tell(f"{addresses[0]}{rest}: not tried before `affectloom run {lacking}`")


def longest_training(params: Params, layout: Layout, ids: Mapping[str, str]) -> tuple[int, int]:
    """Runs of a method, a fold and seed each, and the most epochs that one may take."""
    folds = read_table(SPLIT, layout.splits(ids["corpus"]), ["fold"])["fold"].n_unique()
    recipe = resolve(ids["method"], params.method(ids["method"]))
    return folds * len(params.section("train").seeds), int(recipe.train.epochs)


def _file(layout: Layout) -> Path:
    return layout.cache / "calibration.json"


def _tried(params: Params, plan: Plan) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Address, stage and ids of all that can be tried, in the order of the pipeline."""
    for name in (*_BY_CLIP, "train"):
        for ids in STAGES[name].instances_of(params.raw):
            address = STAGES[name].address(ids)
            if address in plan.maybe and not _is_only_read(params, name, ids):
                yield address, name, ids


def _is_only_read(params: Params, name: str, ids: Mapping[str, str]) -> bool:
    """Whether nothing is computed: features of somebody else, or parts put side by side."""
    if name == "train":
        return False
    is_foreign = name == "features" and params.encoder(ids["encoder"]).family == "imported"
    return is_foreign or bool(parts_of(params.raw, ids["corpus"]))


def _lacking(params: Params, layout: Layout, plan: Plan, address: str) -> str:
    """Names of stages that have to run before this one can be tried."""
    outs = outs_of(layout, params.raw)
    names = {
        need.partition("@")[0]
        for need in plan.nodes[address].needs
        if not all(out.exists() for out in outs[need])
    }
    made = {"search", "train", *(() if address.startswith("train@") else _BY_CLIP)}
    return " ".join(name for name in STAGES if name in names - made)


def _asked(params: Params, name: str, ids: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(STAGES[name].asked(params, **ids)).encode()).hexdigest()


def _beside(layout: Layout, folder: Path, borrowed: Sequence[str]) -> Layout:
    """An empty layout that reads the project's media, weights and some of its tables."""
    inside = Layout(folder / "data", layout.media_root.resolve(), folder / "cache", layout.project)
    for name in _OF_CACHE:  # what a try fetches is kept
        (layout.cache / name).mkdir(parents=True, exist_ok=True)
        _borrow(layout.cache / name, inside.cache / name)
    for name in borrowed:
        _borrow(layout.root / name, inside.root / name)
    return inside


def _borrow(there: Path, here: Path) -> None:
    """Link to what the project has and a try has not made."""
    if there.exists() and not here.exists():
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(there.resolve())


def _timed(tries: Iterator[tuple[int, Callable[[], None]]]) -> tuple[float, float]:
    """Seconds to begin, and for each clip or epoch, of tries that grow until they take long."""
    took: list[tuple[int, float]] = []
    while sum(seconds for _, seconds in took) < _ENOUGH_S and (found := next(tries, None)):
        units, run = found
        began = time.monotonic()
        run()
        took.append((units, time.monotonic() - began))
    if not took:
        raise UserError("there are no utterances")
    (first, first_s), (last, last_s) = took[0], took[-1]
    if len(took) == 1:  # what it is to begin cannot be told apart
        return 0.0, first_s / first
    unit_s = last_s / last
    return max(first_s - first * unit_s, 0.0), unit_s


def _clips(
    params: Params, layout: Layout, inside: Layout, name: str, ids: Mapping[str, str]
) -> Iterator[tuple[int, Callable[[], None]]]:
    """More and more utterances from all over the corpus; those of tries before cost nothing."""
    corpus = ids["corpus"]
    whole = read_table(UTTERANCES, layout.utterances(corpus))
    drawn = whole.sample(min(sum(_CLIPS), whole.height), shuffle=True, seed=0)
    _borrow(layout.transcripts(corpus), inside.transcripts(corpus))
    _borrow(layout.faces(corpus), inside.faces(corpus))
    ends = [min(end, drawn.height) for end in accumulate(_CLIPS, initial=0)]
    for before, end in pairwise(ends):
        if before < end:
            write_table(UTTERANCES, drawn.head(end), inside.utterances(corpus))
            yield end - before, partial(run_stage, name, ids, params, inside, _Unheard())


def _epochs(
    params: Params, layout: Layout, inside: Layout, name: str, ids: Mapping[str, str]
) -> Iterator[tuple[int, Callable[[], None]]]:
    """The first fold and seed for more and more epochs, never more than a run may have."""
    corpus, method = ids["corpus"], ids["method"]
    splits = read_table(SPLIT, layout.splits(corpus))
    first = splits.filter(pl.col("fold") == pl.col("fold").min())
    write_table(SPLIT, first, inside.splits(corpus))
    entry = {k: v for k, v in params.method(method).items() if k not in ("search", "init_from")}
    shared = {**(params.raw.get("train") or {}), "seeds": params.section("train").seeds[:1]}
    _, most = longest_training(params, layout, ids)
    for epochs in _EPOCHS:
        if epochs <= most:
            methods = {**params.raw["methods"], method: {**entry, "epochs": epochs}}
            tried = Params({**params.raw, "methods": methods, "train": shared})
            yield epochs, partial(run_stage, name, ids, tried, inside, _Unheard())


class _Unheard(PlainContext):
    """Says nothing of what a try does."""

    def log(self, message: str) -> None:
        """See ``Context.log``."""

    def progress(self, progress: Progress) -> None:
        """See ``Context.progress``."""

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """See ``Context.table``."""
