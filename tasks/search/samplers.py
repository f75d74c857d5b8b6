"""What proposes candidates: the evolution of a genome, or optuna's samplers over a space.

A proposer hands out candidates together (``ask``) and hears their fitness (``tell``); how many are
trained side by side changes nothing.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from models.evolution import EvolutionConfig, Genome, GenomeSpace, Search, candidate_seed
from models.method import Method
from tasks.search.params import GenomeSearch, Range, SpaceSearch, genome_space

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Candidate:
    """Options to try.

    Attributes:
        options: keys and values that take the place of the entry's.
        settings: the same in words, where the options are not.
        seed: of its training; follows from the base seed and the options alone.
    """

    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int

    @property
    def text(self) -> str:
        """The options as canonical JSON; equal options have equal texts."""
        return json.dumps(self.options, sort_keys=True, separators=(",", ":"))


class Proposer(Protocol):
    """A search, seen from outside."""

    @property
    def is_done(self) -> bool:
        """Nothing more will be proposed."""
        ...

    @property
    def most(self) -> int:
        """Candidates that will be proposed at most."""
        ...

    def ask(self) -> list[Candidate]:
        """The next candidates."""
        ...

    def population(self) -> list[Candidate]:
        """All candidates of the generation, those that survived from earlier ones included."""
        ...

    def tell(self, found: Mapping[str, float | None]) -> None:
        """Fitness of what was asked, by ``Candidate.text``; None for one that failed.

        Candidates that were never begun are left out.
        """
        ...


def make_proposer(name: str, method: type[Method], params: GenomeSearch | SpaceSearch) -> Proposer:
    """The proposer that ``params`` asks for.

    Args:
        name: of the method's file; part of the seeds.
        method: whose genome there may be.
        params: the search.
    """
    if isinstance(params, SpaceSearch):
        return _Trials(name, params)
    space = genome_space(method)
    if space is None:
        raise TypeError(f"{method.__name__} has no genome; search_params.check() lets none through")
    return _Generations(name, space, params)


class _Generations:
    """Genomes, by evolution or at random."""

    def __init__(self, name: str, space: GenomeSpace, params: GenomeSearch) -> None:
        config = EvolutionConfig(
            population=params.population,
            generations=params.generations,
            max_evaluations=params.max_evaluations,
            seed=params.seed,
            patience=params.patience,
        )
        self._name, self._space, self._seed = name, space, params.seed
        self._failed = -1.0
        self._search = Search(space, config, params.sampler)
        later = (params.generations - 1) * (params.population - config.elites)
        self.most = min(params.population + later, params.max_evaluations or 10**9)

    @property
    def is_done(self) -> bool:
        return self._search.is_done

    def ask(self) -> list[Candidate]:
        return [self._candidate(genome) for genome in self._search.ask()]

    def population(self) -> list[Candidate]:
        return [self._candidate(genome) for genome in self._search.population]

    def tell(self, found: Mapping[str, float | None]) -> None:
        by_text = {self._candidate(genome).text: genome for genome in self._search.ask()}
        self._search.tell(
            {by_text[text]: self._failed if f is None else f for text, f in found.items()}
        )

    def _candidate(self, genome: Genome) -> Candidate:
        text = json.dumps(list(genome), separators=(",", ":"))
        seed = candidate_seed(self._name, self._seed, text)
        return Candidate({"genome": list(genome)}, self._space.settings(genome), seed)


class _Trials:
    """Options out of a space, proposed by optuna a few at a time."""

    def __init__(self, name: str, params: SpaceSearch) -> None:
        import optuna  # a second that stages without a search save

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._name, self._params = name, params
        self._grid = _combinations(params.space) if params.sampler == "grid" else None
        self.most = params.trials if self._grid is None else min(params.trials, len(self._grid))
        sampler = (
            optuna.samplers.TPESampler(seed=params.seed, constant_liar=True)
            if params.sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=params.seed)
        )
        # in memory: the search is repeated from the cache of its candidates, not from a file
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._open: list[tuple[optuna.Trial, Candidate]] = []
        self._asked = 0

    @property
    def is_done(self) -> bool:
        return self._asked >= self.most and not self._open

    def ask(self) -> list[Candidate]:
        if not self._open:
            count = min(self._params.batch, self.most - self._asked)
            for _ in range(count):
                trial = self._study.ask()
                self._open.append((trial, self._candidate(self._options(trial))))
            self._asked += count
        return self.population()

    def population(self) -> list[Candidate]:
        return [candidate for _, candidate in self._open]

    def tell(self, found: Mapping[str, float | None]) -> None:
        for trial, candidate in self._open:
            fitness = found.get(candidate.text)
            if fitness is None:
                self._study.tell(trial, state=self._failed)
            else:
                self._study.tell(trial, fitness)
        self._open = []

    def _candidate(self, options: Mapping[str, Any]) -> Candidate:
        text = json.dumps(options, sort_keys=True, separators=(",", ":"))
        return Candidate(options, {}, candidate_seed(self._name, self._params.seed, text))

    def _options(self, trial: "optuna.Trial") -> dict[str, Any]:
        if self._grid is not None:
            return self._grid[trial.number]
        return {key: _suggested(trial, key, how) for key, how in self._params.space.items()}


def _suggested(trial: "optuna.Trial", key: str, how: Sequence[Any] | Range) -> Any:
    if not isinstance(how, Range):  # by place: a choice may be a list, which optuna has not
        return how[trial.suggest_categorical(key, range(len(how)))]
    if how.is_whole:
        return trial.suggest_int(
            key, int(how.low), int(how.high), step=int(how.step or 1), log=how.log
        )
    return trial.suggest_float(key, how.low, how.high, step=how.step, log=how.log)


def _combinations(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
