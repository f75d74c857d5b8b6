"""What a run has before it: how much data, what the store already has, how long it will take here.

Nothing is computed for it. Times are those of this machine: what a clip cost an encoder, as the
store notes it, what each stage took last time, or what a calibration found.
"""

import heapq
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from flows.calibration import Cost, longest_training, read_costs
from flows.plan import Plan
from flows.times import read_times
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.selection import seen_corpora
from tasks.stages import STAGES
from tasks.store.segments import Store
from tasks.tables.parquet import files_of, read_metadata, read_table
from tasks.tables.utterances import UTTERANCES

#: Seconds that an encoder's stage takes to start and to write its table.
_START_S = 10.0
#: Seconds that the process of a stage takes, and DVC around it, beside what was tried.
_PROCESS_S = 3.0


@dataclass(frozen=True)
class Amount:
    """How much there is of a corpus.

    Attributes:
        corpus: its name.
        gigabytes: of its folder; None where it is not there.
        utterances: of the table; None before `ingest`.
        hours: of the utterances whose span is known.
        texts: utterances with words.
        frames: that faces are looked for in; 0 where nothing sees the corpus.
    """

    corpus: str
    gigabytes: float | None
    utterances: int | None = None
    hours: float = 0.0
    texts: int = 0
    frames: int = 0


@dataclass(frozen=True)
class Work:
    """A stage that will be looked at.

    Attributes:
        address: DVC's name of it.
        seconds: that it will take; None where nothing like it ran here.
        told_by: where the estimate is from.
        clips: of an encoder: clips that the store lacks, and all; None: not known yet.
        is_guess: the estimate is of other instances of the stage, so that a try says more.
    """

    address: str
    seconds: float | None
    told_by: str
    clips: tuple[int, int] | None = None
    is_guess: bool = False


def amounts(params: Params, layout: Layout) -> list[Amount]:
    """What there is of every corpus."""
    return [_amount(params, layout, corpus) for corpus in params.raw.get("corpora") or {}]


def works(params: Params, layout: Layout, plan: Plan) -> list[Work]:
    """What is before a run, in order."""
    times, costs = read_times(layout), read_costs(params, layout, plan)
    return [_work(params, layout, plan, address, times, costs) for address in plan.maybe]


def side_by_side_s(ahead: Sequence[Work], plan: Plan, jobs: int) -> float:
    """Seconds of ``ahead``, ``jobs`` at a time and each after what it needs; unknown ones are 0."""
    waiting = {one.address: one.seconds or 0.0 for one in ahead}
    needs = {address: plan.nodes[address].needs & set(waiting) for address in waiting}
    running: list[tuple[float, str]] = []
    done: set[str] = set()
    now = 0.0
    while waiting or running:
        for address in list(waiting):
            if len(running) < jobs and needs[address] <= done:
                heapq.heappush(running, (now + waiting.pop(address), address))
        now, ended = heapq.heappop(running)
        done.add(ended)
    return now


def _amount(params: Params, layout: Layout, corpus: str) -> Amount:
    gigabytes = _gigabytes(layout.raw(corpus))
    file = layout.utterances(corpus)
    if not file.exists():
        return Amount(corpus, gigabytes)
    table = read_table(UTTERANCES, file, ["utterance_id", "start_s", "end_s", "text"])
    seconds = table.select((pl.col("end_s") - pl.col("start_s")).sum()).item() or 0.0
    is_seen = {"corpus": corpus} in seen_corpora(params.raw)
    rate_hz = params.section("faces", corpus).rate_hz if is_seen else 0.0
    return Amount(
        corpus,
        gigabytes,
        table.height,
        seconds / 3600,
        table.height - table.get_column("text").null_count(),
        round(seconds * rate_hz),
    )


def _gigabytes(folder: Path) -> float | None:
    if not folder.exists():
        return None
    sizes = (
        os.stat(os.path.join(here, name)).st_size
        for here, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.exists(os.path.join(here, name))
    )
    return sum(sizes) / 1e9


def _work(
    params: Params,
    layout: Layout,
    plan: Plan,
    address: str,
    times: Mapping[str, float],
    costs: Mapping[str, Cost],
) -> Work:
    stage, _, rest = address.partition("@")
    if stage == "features":
        corpus = next(c for c in params.raw["corpora"] if rest.startswith(f"{c}-"))
        found = _encoding(params, layout, plan, address, corpus, rest[len(corpus) + 1 :])
        if found is not None:
            return found
    if address in times:
        return Work(address, times[address], "its last run here")
    if address in costs:
        return _tried(params, layout, address, costs[address])
    alike = [seconds for other, seconds in times.items() if other.partition("@")[0] == stage]
    if alike:
        return Work(address, mean(alike), f"{len(alike)} runs of {stage} here", is_guess=True)
    return Work(address, None, "nothing like it ran here yet")


def _tried(params: Params, layout: Layout, address: str, cost: Cost) -> Work:
    """What a calibration found, for all clips of the corpus or all runs of the method."""
    stage, _, rest = address.partition("@")
    ids = next(i for i in STAGES[stage].instances_of(params.raw) if "-".join(i.values()) == rest)
    start_s = _PROCESS_S + cost.start_s
    if stage == "train":
        runs, epochs = longest_training(params, layout, ids)
        seconds = start_s + runs * epochs * cost.unit_s
        told_by = f"at most {runs} runs of {epochs} epochs, each {cost.unit_s:.2g} s when tried"
        return Work(address, seconds, told_by)
    files = files_of(layout.utterances(ids["corpus"]))
    clips = sum(pq.read_metadata(file).num_rows for file in files)
    seconds = start_s + clips * cost.unit_s
    return Work(address, seconds, f"{clips:,} clips, each {cost.unit_s:.2g} s when tried")


def _encoding(
    params: Params, layout: Layout, plan: Plan, address: str, corpus: str, encoder: str
) -> Work | None:
    """What an encoder has before it, by what a clip cost it here; None where it never ran."""
    from tasks.features import inputs
    from tasks.features.families import family_constants

    table = layout.features(corpus, encoder)
    if not any(table.glob("*.parquet")) or not layout.utterances(corpus).exists():
        return None
    about = _about(layout, read_metadata(table).get("fingerprint", ""))
    if about is None:
        return None
    store = Store(layout.store, about)
    entry = params.encoder(encoder)
    modality = family_constants(entry.family).modality
    if modality == "video" and not layout.faces(corpus).exists():
        return None
    utterances = inputs.read_utterances(layout, corpus)
    items = inputs.plan(modality, utterances, layout.faces(corpus), entry.context, entry.cut_s)
    keys = [item.key for item in items if item.key is not None]
    is_other = any(r.startswith(f"encoders.{encoder}") for r in plan.nodes[address].reasons)
    lacking = len(keys) if is_other else len(store.missing(keys))
    cost_s = store.noted("cost_s")
    if cost_s is None:
        return None
    seconds = _START_S + lacking * cost_s
    return Work(address, seconds, f"{cost_s:.2g} s a clip here", (lacking, len(keys)))


def _about(layout: Layout, fingerprint: str) -> Any:
    file = layout.store / fingerprint[:32] / "about.json"
    if not fingerprint or not file.exists():
        return None
    return json.loads(file.read_text(encoding="utf-8"))
