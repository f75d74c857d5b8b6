"""Stage ``search``: good options of a method for a corpus, by training and validation rows alone.

``data/search/<corpus>/<method>/`` gets ``history.jsonl`` with a line for every candidate,
``population_<g>.json`` with every generation, ``best.json`` with what the stage ``train`` then
uses. Same parameters, data and code give the same bytes. Test rows are never read. Candidates are
remembered in the cache (see ``tasks.search_candidate``), with the seconds they took.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import UserError
from tasks import paths
from tasks.batches import Source, source_for
from tasks.context import Context, Progress
from tasks.methods import Recipe, resolve
from tasks.search_candidate import Job, Outcome, evaluate
from tasks.search_params import GenomeSearch, SearchParams
from tasks.search_samplers import Candidate, make_proposer
from tasks.train import fingerprint_inputs, parts


@dataclass(frozen=True)
class _Tried:
    """A candidate and what came of it."""

    candidate: Candidate
    outcome: Outcome
    generation: int

    @property
    def record(self) -> dict[str, Any]:
        """Its line in the history: nothing in it depends on time or machine."""
        outcome, candidate = self.outcome, self.candidate
        found = {
            "generation": self.generation,
            "options": candidate.options,
            "settings": candidate.settings,
            "seed": candidate.seed,
            "status": outcome.status,
            "fitness": outcome.fitness,
            "parts": outcome.parts,
            "parameters": outcome.parameters,
        }
        return {**found, "error": outcome.error} if outcome.error else found


@dataclass(frozen=True)
class _Plan:
    """What is the same for all candidates."""

    corpus: str
    method: str
    entry: Mapping[str, Any]
    inputs: Mapping[str, str]
    groups: tuple[tuple[str, ...], ...]
    params: SearchParams
    data: Mapping[str, str]
    code: str
    deadline: float

    def job(self, candidate: Candidate, seed: int | None = None) -> Job:
        """A short training of ``candidate``; with ``seed``, one in full."""
        params, is_full = self.params, seed is not None
        return Job(
            corpus=self.corpus,
            method=self.method,
            entry={**self.entry, **candidate.options},
            inputs=dict(self.inputs),
            groups=self.groups,
            folds=tuple(params.folds),
            seed=candidate.seed if seed is None else seed,
            epochs=0 if is_full else params.proxy_epochs,
            share=1.0 if is_full else params.proxy_share,
            min_rows=0 if is_full else params.min_rows,
            subset_seed=params.seed,
            scenario=params.scenario if isinstance(params, GenomeSearch) else None,
            deadline=0.0 if is_full else self.deadline,
        ).keyed(self.data, self.code)


def run(
    params: SearchParams,
    corpus: str,
    method: str,
    entry: Mapping[str, Any],
    inputs: Mapping[str, str],
    ctx: Context,
    targets: Sequence[str] | None = None,
    code: str = "",
) -> None:
    """Search the options of ``method`` on ``corpus``.

    Args:
        params: the entry's ``search``, checked.
        corpus: whose training and validation rows.
        method: key under ``methods`` in params.yaml.
        entry: what stands there.
        inputs: modality or further input to encoder.
        ctx: trains candidates side by side.
        targets: ``train.targets``: search for these only.
        code: fingerprint of the code; outcomes of other code are not reused.
    """
    entry = {key: value for key, value in entry.items() if key != "search"}
    recipe = resolve(method, entry)
    source = source_for(recipe, corpus, inputs)
    groups = recipe.target_groups(source.targets, targets, corpus)
    names = tuple(tuple(target.name for target in group) for group in groups)
    _check_folds(params, corpus, method, source, recipe, names)
    plan = _Plan(
        corpus, method, entry, dict(inputs), names, params,
        fingerprint_inputs(corpus, recipe, inputs), code,
        time.time() + params.max_seconds if params.max_seconds else 0.0,
    )  # fmt: skip
    out = paths.search(corpus, method)
    work = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        tried, generations = _generations(plan, recipe, work, ctx)
        finals = _finals(plan, _ranked(tried), ctx)
        _write_best(work / "best.json", tried, generations, finals, params)
        if out.exists():
            shutil.rmtree(out)
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_folds(
    params: SearchParams,
    corpus: str,
    method: str,
    source: Source,
    recipe: Recipe,
    groups: Sequence[Sequence[str]],
) -> None:
    """Before hours of work: every fold is there and can be learnt."""
    for fold in params.folds:
        if fold not in source.folds:
            raise UserError(
                f"params.yaml: methods.{method}.search.folds names fold {fold}, but the splits of "
                f"{corpus} have: {', '.join(map(str, source.folds))}"
            )
        for names in groups:
            parts(source, recipe, corpus, fold, names)


def _generations(
    plan: _Plan, recipe: Recipe, folder: Path, ctx: Context
) -> tuple[dict[str, _Tried], int]:
    """Try candidates until the search is over; writes history and populations into ``folder``."""
    name = recipe.method.__module__.rpartition(".")[2]
    proposer = make_proposer(name, recipe.method, plan.params)
    tried: dict[str, _Tried] = {}
    generation = done = 0
    ctx.progress(Progress(0, proposer.most, "candidates"))
    with (folder / "history.jsonl").open("w", encoding="utf-8") as history:
        while not proposer.is_done:
            asked = proposer.ask()
            outcomes = ctx.map(evaluate, [plan.job(c) for c in asked], f"generation {generation}")
            is_late = False
            for candidate, outcome in zip(asked, outcomes, strict=True):
                done += 1
                ctx.progress(Progress(done, proposer.most, "candidates"))
                if outcome.status == "late":
                    is_late = True
                    continue
                one = _Tried(candidate, outcome, generation)
                tried[candidate.text] = one
                history.write(_line(one.record))
            _check_some_worked(tried, plan)
            here = [tried[c.text] for c in proposer.population() if c.text in tried]
            population = [
                {"options": one.candidate.options, "fitness": one.outcome.fitness} for one in here
            ]
            _write_json(folder / f"population_{generation}.json", population)
            best = _ranked(tried)[0]
            ctx.log(
                f"generation {generation}: best {best.outcome.fitness:.4f} of {len(tried)} tried, "
                f"{sum(tried[c.text].outcome.seconds for c in asked if c.text in tried):.0f} s of "
                "training in it"
            )
            generation += 1
            if is_late:
                ctx.log(f"stopped after max_seconds ({plan.params.max_seconds:g} s)")
                break
            proposer.tell(
                {
                    c.text: one.outcome.fitness if one.outcome.status == "ok" else None
                    for c in asked
                    for one in [tried[c.text]]
                }
            )
    if done < proposer.most:  # it ended early: this is all there is
        ctx.progress(Progress(done, done, "candidates"))
    return tried, generation


def _check_some_worked(tried: Mapping[str, _Tried], plan: _Plan) -> None:
    """A search without any candidate that could be trained has nothing to go on from."""
    if not tried:
        raise UserError(
            f"params.yaml: methods.{plan.method}.search.max_seconds is "
            f"{plan.params.max_seconds:g}, which leaves no time for a single candidate; raise it"
        )
    if not any(one.outcome.status == "ok" for one in tried.values()):
        first = next(iter(tried.values()))
        raise UserError(
            f"search of {plan.method} on {plan.corpus}: none of the first {len(tried)} candidates "
            f"could be trained; the first, {first.candidate.text}, ended with: "
            f"{first.outcome.error}"
        )


def _ranked(tried: Mapping[str, _Tried]) -> list[_Tried]:
    """Candidates that could be trained, best first; equals in the order of their options."""
    worked = [one for one in tried.values() if one.outcome.status == "ok"]
    return sorted(worked, key=lambda one: (-one.outcome.fitness, _order(one.candidate)))


def _order(candidate: Candidate) -> tuple[Any, ...]:
    genome = candidate.options.get("genome")
    return tuple(genome) if genome is not None else (candidate.text,)


def _finals(plan: _Plan, ranked: Sequence[_Tried], ctx: Context) -> list[dict[str, Any]]:
    """The best candidates trained in full with several seeds, best mean first."""
    finalists = list(ranked[: plan.params.finalists])
    if len(finalists) < 2:
        return []
    seeds = range(plan.params.final_seeds)
    jobs = [plan.job(one.candidate, seed) for one in finalists for seed in seeds]
    outcomes: list[Outcome] = []
    for outcome in ctx.map(evaluate, jobs, "finals"):
        outcomes.append(outcome)
        ctx.progress(Progress(len(outcomes), len(jobs), "full trainings"))
    found = []
    for place, one in enumerate(finalists):
        mine = outcomes[place * len(seeds) : (place + 1) * len(seeds)]
        if any(outcome.status == "ok" for outcome in mine):
            found.append(
                {
                    "options": one.candidate.options,
                    "settings": one.candidate.settings,
                    "searched_fitness": one.outcome.fitness,
                    "fitness": [outcome.fitness for outcome in mine],
                    "mean": sum(outcome.fitness for outcome in mine) / len(mine),
                    "status": [outcome.status for outcome in mine],
                    "parts": [outcome.parts for outcome in mine],
                    "parameters": max(outcome.parameters for outcome in mine),
                }
            )
    if not found:
        raise UserError(
            f"search of {plan.method} on {plan.corpus}: none of the {len(finalists)} best "
            f"candidates could be trained in full; the first ended with: {outcomes[0].error}"
        )
    # a candidate that only sometimes trains comes after all that always do
    return sorted(found, key=lambda final: (set(final["status"]) != {"ok"}, -final["mean"]))


def _write_best(
    path: Path,
    tried: Mapping[str, _Tried],
    generations: int,
    finals: Sequence[Mapping[str, Any]],
    params: SearchParams,
) -> None:
    best = _ranked(tried)[0]
    chosen = finals[0] if finals else best.record
    _write_json(
        path,
        {
            "options": chosen["options"],
            "settings": chosen["settings"],
            "chosen_by": "mean of full trainings" if finals else "fitness of the search",
            "fitness": finals[0]["mean"] if finals else best.outcome.fitness,
            "searched_best": best.record,
            "finals": finals,
            "evaluations": len(tried),
            "generations": generations,
            "search": params.model_dump(mode="json"),
        },
    )


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False) + "\n"


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
