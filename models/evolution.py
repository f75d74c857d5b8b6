"""Evolutionary search over tuples of small integers: pure, by generations, reproducible.

Nothing is trained here. A search hands out the genomes of a generation (``ask``), is told their
fitness (``tell``) and goes on until its budget is spent or nothing improves. All chance comes from
one PCG64 generator in a fixed order, so the same seed and the same fitness give the same search,
however and wherever the genomes are evaluated.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

Genome = tuple[int, ...]
Sampler = Literal["evolution", "random"]


@dataclass(frozen=True)
class GenomeSpace:
    """What there is to search.

    Attributes:
        sizes: number of choices of each gene; a gene is an index below it.
        default: where the search starts, and what is used without one.
        repair: makes any genome a legal one; legal ones stay as they are.
        settings: what a genome stands for, by name, for people.
    """

    sizes: tuple[int, ...]
    default: Genome
    repair: Callable[[Genome], Genome] = lambda genome: genome
    settings: Callable[[Genome], Mapping[str, Any]] = lambda genome: {}

    @property
    def count(self) -> int:
        """Genomes before repair."""
        return math.prod(self.sizes)


@dataclass(frozen=True)
class EvolutionConfig:
    """How a population changes.

    Attributes:
        population: genomes in a generation.
        generations: at most this many, the first population included.
        max_evaluations: at most this many different genomes; 0 = no limit.
        seed: of all chance.
        elites: best genomes that stay as they are.
        tournament: genomes drawn for each parent; the best of them becomes it.
        crossover: chance that a child mixes two parents; otherwise it begins as the first.
        mutations: expected number of changed genes in a child.
        patience: generations without ``min_gain`` after which evolution stops; 0 = never.
        min_gain: smallest growth of the best fitness that counts.
    """

    population: int = 16
    generations: int = 10
    max_evaluations: int = 160
    seed: int = 0
    elites: int = 2
    tournament: int = 3
    crossover: float = 0.9
    mutations: float = 1.5
    patience: int = 3
    min_gain: float = 1e-4


def candidate_seed(name: str, base_seed: int, text: str) -> int:
    """Seed of a candidate's training; order and company of the others cannot change it.

    Args:
        name: of the method.
        base_seed: of the search.
        text: the candidate as canonical JSON.
    """
    digest = hashlib.sha256(f"{name}|{base_seed}|{text}".encode()).hexdigest()
    return int(digest[:16], 16) % (2**31 - 1)


class Search:
    """A search by generations; ``sampler`` chooses how the next one comes about.

    ``random`` draws new genomes that were never seen before, as many as evolution would at most
    evaluate in that generation: the same budget without selection. It is spent in full, for chance
    has no reason to stop: a generation without gain says nothing about the next.
    """

    def __init__(
        self, space: GenomeSpace, config: EvolutionConfig, sampler: Sampler = "evolution"
    ) -> None:
        if config.population <= config.elites or config.population < config.tournament:
            raise ValueError(
                f"a population of {config.population} is too small for {config.elites} elites and "
                f"tournaments of {config.tournament}"
            )
        self.space, self.config, self.sampler = space, config, sampler
        self.rng = np.random.Generator(np.random.PCG64(config.seed))
        self.fitness: dict[Genome, float] = {}
        self.generation = 0
        self.best_so_far: list[float] = []
        self.population = self._first()

    @property
    def is_done(self) -> bool:
        """The budget is spent, evolution stands still, or nothing is left to draw."""
        limit = self.config.max_evaluations
        return (
            self.generation >= self.config.generations
            or not self.population
            or (limit > 0 and len(self.fitness) >= limit)
            or self._stands_still()
        )

    def ask(self) -> list[Genome]:
        """Genomes of this generation that have no fitness yet, within the budget, in order."""
        new = [genome for genome in self.population if genome not in self.fitness]
        limit = self.config.max_evaluations
        return new[: max(0, limit - len(self.fitness))] if limit else new

    def tell(self, found: Mapping[Genome, float]) -> None:
        """Take the fitness of what was asked for and move on to the next generation.

        Genomes that the caller left out (it ran out of time) leave the population.
        """
        for genome, value in found.items():
            if math.isnan(value):
                raise ValueError(f"the fitness of {genome} is not a number")
            self.fitness[genome] = value
        self.population = [genome for genome in self.population if genome in self.fitness]
        if not self.population:
            raise ValueError("no genome of this generation has a fitness")
        self.best_so_far.append(max(self.fitness.values()))
        self.generation += 1
        if not self.is_done:
            self.population = self._next()

    def ranking(self) -> list[Genome]:
        """Every genome with a fitness, best first; equals in lexicographic order."""
        return sorted(self.fitness, key=self._rank)

    # the generations --------------------------------------------------------------------------

    def _first(self) -> list[Genome]:
        return self._fresh(self.config.population, [self.space.repair(self.space.default)])

    def _next(self) -> list[Genome]:
        children = self.config.population - self.config.elites
        if self.sampler == "random":
            return self._fresh(children, [])
        ranked = sorted(self.population, key=self._rank)
        coming = ranked[: self.config.elites]
        while len(coming) < self.config.population:
            coming.append(self._distinct(self._child(), coming))
        return coming

    def _fresh(self, count: int, population: list[Genome]) -> list[Genome]:
        """``population`` filled to ``count`` with uniformly drawn genomes that are new."""
        seen = {*population, *self.fitness}
        tries = 0
        while len(population) < count and tries < 1000 * count:  # a tiny space may be exhausted
            tries += 1
            genome = self.space.repair(
                tuple(int(gene) for gene in self.rng.integers(0, self.space.sizes))
            )
            if genome not in seen:
                seen.add(genome)
                population.append(genome)
        return population

    def _child(self) -> Genome:
        first, second = self._parent(), self._parent()
        child = first
        if self.rng.random() < self.config.crossover:
            takes_first = self.rng.random(len(first)) < 0.5
            child = tuple(
                a if takes else b for a, b, takes in zip(first, second, takes_first, strict=True)
            )
        changes = self.rng.random(len(child)) < self.config.mutations / len(child)
        return self.space.repair(self._mutated(child, np.flatnonzero(changes)))

    def _parent(self) -> Genome:
        drawn = self.rng.choice(
            len(self.population),
            min(self.config.tournament, len(self.population)),
            replace=False,
        )
        return min((self.population[i] for i in drawn), key=self._rank)

    def _mutated(self, genome: Genome, places: Sequence[int] | np.ndarray) -> Genome:
        """``genome`` with another value, drawn uniformly, at each of ``places``."""
        genes = list(genome)
        for place in places:
            size = self.space.sizes[place]
            if size > 1:
                step = int(self.rng.integers(1, size))
                genes[place] = (genes[place] + step) % size
        return tuple(genes)

    def _distinct(self, child: Genome, coming: Sequence[Genome]) -> Genome:
        """``child``, mutated once or more (at most 20 times) while it is in ``coming``."""
        for _ in range(20):
            if child not in coming:
                break
            place = int(self.rng.integers(len(child)))
            child = self.space.repair(self._mutated(child, [place]))
        return child

    def _rank(self, genome: Genome) -> tuple[float, Genome]:
        return -self.fitness[genome], genome

    def _stands_still(self) -> bool:
        patience = self.config.patience
        if self.sampler == "random" or not patience or len(self.best_so_far) <= patience:
            return False
        recent = self.best_so_far[-patience - 1 :]
        return all(b - a < self.config.min_gain for a, b in pairwise(recent))
