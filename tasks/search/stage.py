"""Stage ``search``: good options of a method for a corpus, by training and validation rows alone.

``data/search/<corpus>/<method>/`` gets ``history.jsonl`` with a line for every candidate,
``population_<g>.json`` with every generation, ``best.json`` with what the stage ``train`` then
uses. Same parameters, data and code give the same bytes. Candidates are remembered in the cache
(see ``tasks.search.candidate``), with the seconds they took.

Rows that validate in one fold are test rows of another, so options found in one fold must not be
used in another: with several folds each is searched for itself, on its own training and validation
rows and with a budget of its own. The files of fold j then lie in ``fold<j>/``, and ``best.json``
has the options of every fold.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from models import registry
from models.errors import UserError
from tasks.atomic import write_json
from tasks.batches.held import Reader
from tasks.context import Context, ForMethod, Progress
from tasks.layout import Layout
from tasks.params.recipes import Recipe, resolve
from tasks.search.candidate import Job, Outcome, Trainer, evaluate_all, train
from tasks.search.params import GenomeSearch, SearchParams
from tasks.search.samplers import Candidate, make_proposer
from tasks.train.fingerprints import fingerprint_inputs
from tasks.train.runs import parts


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
    """What is the same for all candidates of a fold; ``is_only`` where there is no other fold."""

    reader: Reader
    method: str
    entry: Mapping[str, Any]
    groups: tuple[tuple[str, ...], ...]
    params: SearchParams
    data: Mapping[str, str]
    code: str
    fold: int
    is_only: bool
    trainer: Trainer

    @property
    def corpus(self) -> str:
        """Whose rows."""
        return self.reader.corpus

    @property
    def folder(self) -> str:
        """Where the files of this fold lie in the folder of the search."""
        return "" if self.is_only else f"fold{self.fold}"

    @property
    def place(self) -> str:
        """What messages begin with."""
        return "" if self.is_only else f"fold {self.fold}, "

    def job(self, candidate: Candidate, seed: int | None = None, deadline: float = 0.0) -> Job:
        """A short training of ``candidate``; with ``seed``, one in full."""
        params, is_full = self.params, seed is not None
        return Job(
            corpus=self.corpus,
            method=self.method,
            entry={**self.entry, **candidate.options},
            inputs=dict(self.reader.inputs),
            groups=self.groups,
            fold=self.fold,
            seed=candidate.seed if seed is None else seed,
            epochs=0 if is_full else params.proxy_epochs,
            share=1.0 if is_full else params.proxy_share,
            min_rows=0 if is_full else params.min_rows,
            subset_seed=params.seed,
            scenario=params.scenario if isinstance(params, GenomeSearch) else None,
            max_parameters=params.max_parameters,
            token=self.reader.token,
            deadline=deadline,
        ).keyed(self.data, self.code)


@dataclass
class _Tally:
    """Counts the candidates of all folds for the progress line."""

    ctx: Context
    folds_left: int
    done: int = 0
    total: int = 0

    def begin(self, most: int) -> None:
        """A fold begins, in which ``most`` candidates are tried at most, as in those after it."""
        self.total = self.done + most * self.folds_left
        self.folds_left -= 1
        self._show()

    def count(self) -> None:
        """One more candidate is done."""
        self.done += 1
        self._show()

    def end(self) -> None:
        """A fold has ended, perhaps early."""
        if not self.folds_left and self.done < self.total:  # this is all there is
            self.total = self.done
            self._show()

    def _show(self) -> None:
        self.ctx.progress(Progress(self.done, self.total, "candidates"))


def run(
    asked: ForMethod[SearchParams],
    layout: Layout,
    ctx: Context,
    corpus: str,
    method: str,
    trainer: Trainer = train,
) -> None:
    """Search the options of ``method`` on ``corpus``, for each fold of its own.

    Args:
        asked: the entry's ``search``, checked, its budget being that of each fold; the entry, the
            encoders, and ``train.targets``.
        layout: where the tables lie.
        ctx: trains candidates side by side.
        corpus: whose training and validation rows.
        method: key under ``methods`` in params.yaml.
        trainer: what a candidate comes to.
    """
    params, inputs = asked.own, asked.inputs
    entry = {key: value for key, value in asked.entry.items() if key != "search"}
    recipe = resolve(method, entry)
    reader = Reader(layout, corpus, dict(inputs))
    source = reader.source(recipe)
    for note in [*recipe.notes(inputs, source.pooled_only), *source.notes()]:
        ctx.log(note)
    groups = recipe.target_groups(source.targets, asked.targets, corpus)
    names = tuple(tuple(target.name for target in group) for group in groups)
    for fold in source.folds:  # before hours of work: the last may be what cannot be learnt
        for group in names:
            parts(layout, source, recipe, corpus, fold, group)
    data = fingerprint_inputs(layout, corpus, recipe, inputs)
    is_only = len(source.folds) == 1
    plans = [
        _Plan(reader, method, entry, names, params, data, ctx.code, fold, is_only, trainer)
        for fold in source.folds
    ]
    out = layout.search(corpus, method)
    work = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        tally = _Tally(ctx, len(plans))
        found = [
            _generations(layout, plan, recipe, work / plan.folder, ctx, tally) for plan in plans
        ]
        finals = _finals(layout, plans, [_ranked(tried) for tried, _ in found], ctx)
        chosen = {}
        for plan, (tried, generations), final in zip(plans, found, finals, strict=True):
            file = work / plan.folder / "best.json"
            chosen[str(plan.fold)] = _write_best(file, tried, generations, final, params)
        if not is_only:
            write_json(work / "best.json", {"folds": chosen})
        if out.exists():
            shutil.rmtree(out)
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _generations(
    layout: Layout, plan: _Plan, recipe: Recipe, folder: Path, ctx: Context, tally: _Tally
) -> tuple[dict[str, _Tried], int]:
    """Try candidates until the search is over; writes history and populations into ``folder``."""
    limit_s = plan.params.max_seconds
    deadline = time.time() + limit_s if limit_s else 0.0
    folder.mkdir(exist_ok=True)
    name = registry.name_of(recipe.method.__module__)
    proposer = make_proposer(name, recipe.method, plan.params)
    tried: dict[str, _Tried] = {}
    generation = 0
    tally.begin(proposer.most)
    with (folder / "history.jsonl").open("w", encoding="utf-8") as history:
        while not proposer.is_done:
            asked = proposer.ask()
            jobs = [plan.job(candidate, deadline=deadline) for candidate in asked]
            what = f"{plan.place}generation {generation}"
            outcomes = evaluate_all(layout, ctx, plan.trainer, jobs, what)
            is_late = False
            for candidate, outcome in zip(asked, outcomes, strict=True):
                tally.count()
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
            write_json(folder / f"population_{generation}.json", population)
            best = _ranked(tried)[0]
            seconds = sum(tried[c.text].outcome.seconds for c in asked if c.text in tried)
            ctx.log(
                f"{plan.place}generation {generation}: best {best.outcome.fitness:.4f} of "
                f"{len(tried)} tried, {seconds:.0f} s of training in it"
            )
            generation += 1
            if is_late:
                ctx.log(f"{plan.place}stopped after max_seconds ({limit_s:g} s)")
                break
            proposer.tell(
                {
                    c.text: one.outcome.fitness if one.outcome.status == "ok" else None
                    for c in asked
                    for one in [tried[c.text]]
                }
            )
    tally.end()
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
            f"search of {plan.method} on {plan.corpus}: {plan.place}none of the first {len(tried)} "
            f"candidates could be trained; the first, {first.candidate.text}, ended with: "
            f"{first.outcome.error}"
        )


def _ranked(tried: Mapping[str, _Tried]) -> list[_Tried]:
    """Candidates that could be trained, best first; equals in the order of their options."""
    worked = [one for one in tried.values() if one.outcome.status == "ok"]
    return sorted(worked, key=lambda one: (-one.outcome.fitness, _order(one.candidate)))


def _order(candidate: Candidate) -> tuple[Any, ...]:
    genome = candidate.options.get("genome")
    return tuple(genome) if genome is not None else (candidate.text,)


def _finals(
    layout: Layout, plans: Sequence[_Plan], rankings: Sequence[Sequence[_Tried]], ctx: Context
) -> list[list[dict[str, Any]]]:
    """The best candidates of each fold trained in full with several seeds, best mean first."""
    finalists = [
        ranked[: plan.params.finalists] for plan, ranked in zip(plans, rankings, strict=True)
    ]
    finalists = [some if len(some) > 1 else [] for some in finalists]
    jobs = [
        plan.job(one.candidate, seed)
        for plan, some in zip(plans, finalists, strict=True)
        for one in some
        for seed in range(plan.params.final_seeds)
    ]
    outcomes: list[Outcome] = []
    for outcome in evaluate_all(layout, ctx, plans[0].trainer, jobs, "finals"):
        outcomes.append(outcome)
        ctx.progress(Progress(len(outcomes), len(jobs), "full trainings"))
    left = iter(outcomes)
    return [
        _compared(plan, some, [[*islice(left, plan.params.final_seeds)] for _ in some])
        for plan, some in zip(plans, finalists, strict=True)
    ]


def _compared(
    plan: _Plan, finalists: Sequence[_Tried], outcomes: Sequence[Sequence[Outcome]]
) -> list[dict[str, Any]]:
    """Records of the finalists of a fold, best mean first."""
    found = []
    for one, mine in zip(finalists, outcomes, strict=True):
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
    if finalists and not found:
        raise UserError(
            f"search of {plan.method} on {plan.corpus}: {plan.place}none of the {len(finalists)} "
            "best candidates could be trained in full; the first ended with: "
            f"{outcomes[0][0].error}"
        )
    # a candidate that only sometimes trains comes after all that always do
    return sorted(found, key=lambda final: (set(final["status"]) != {"ok"}, -final["mean"]))


def _write_best(
    path: Path,
    tried: Mapping[str, _Tried],
    generations: int,
    finals: Sequence[Mapping[str, Any]],
    params: SearchParams,
) -> dict[str, Any]:
    """Write what was chosen and why; returns the part that training uses."""
    best = _ranked(tried)[0]
    chosen = finals[0] if finals else best.record
    write_json(
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
    return {"options": chosen["options"]}


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
