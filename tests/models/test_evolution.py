"""The search engine: reproducible, within its budget, better than chance."""

from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evolution import EvolutionConfig, GenomeSpace, Search
from models.methods.haemsa.genome import DEFAULT, SPACE


def at_last_index(genome) -> float:
    """Genes that equal their last index: a fitness without training."""
    return float(sum(gene == size - 1 for gene, size in zip(genome, SPACE.sizes, strict=True)))


def run(sampler="evolution", space=SPACE, fitness=at_last_index, **options) -> tuple[Search, list]:
    search = Search(space, EvolutionConfig(**options), sampler)
    asked = []
    while not search.is_done:
        asked.append(search.ask())
        search.tell({genome: fitness(genome) for genome in asked[-1]})
    return search, asked


@pytest.mark.parametrize("seed", range(10))
def test_evolution_finds_what_random_search_does_not(seed):
    budget = {"generations": 20, "max_evaluations": 282, "patience": 0, "seed": seed}
    evolved, _ = run(**budget)
    drawn, _ = run("random", **budget)
    assert len(drawn.fitness) == 282
    assert len(evolved.fitness) <= 282
    assert evolved.best_so_far[-1] >= 18
    assert drawn.best_so_far[-1] <= 17
    assert all(b >= a for a, b in pairwise(evolved.best_so_far))
    assert at_last_index(evolved.ranking()[0]) == evolved.best_so_far[-1]


def test_over_many_seeds_both_samplers_end_at_the_means_of_the_design():
    budget = {"generations": 20, "max_evaluations": 282, "patience": 0}
    found = {
        sampler: [run(sampler, seed=seed, **budget)[0].best_so_far[-1] for seed in range(200)]
        for sampler in ("evolution", "random")
    }
    assert fmean(found["evolution"]) == pytest.approx(21.6, abs=0.05)
    assert fmean(found["random"]) == pytest.approx(14.6, abs=0.05)
    assert min(found["evolution"]) == 19
    assert max(found["random"]) == 17


@pytest.mark.parametrize("seed", range(5))
def test_both_samplers_spend_the_same_number_of_evaluations(seed):
    budget = {"generations": 40, "max_evaluations": 100, "seed": seed}  # and the usual patience
    evolved, _ = run(**budget)
    drawn, _ = run("random", **budget)
    assert len(evolved.fitness) == len(drawn.fitness) == 100
    whole, _ = run(seed=seed)  # evolution that ends early tells random search how far to go
    drawn, _ = run("random", seed=seed, max_evaluations=len(whole.fitness))
    assert len(drawn.fitness) == len(whole.fitness)


def test_random_search_spends_its_whole_budget_however_still_it_stands():
    drawn, asked = run("random", fitness=lambda genome: 0.0)
    assert len(drawn.fitness) == 16 + 9 * 14
    assert len(asked) == 10


def test_the_same_seed_asks_the_same_in_the_same_order():
    _, first = run(seed=3)
    _, again = run(seed=3)
    _, other = run(seed=4)
    assert first == again
    assert first != other


def test_the_first_population_is_the_default_and_distinct_legal_genomes():
    _, asked = run(generations=1)
    assert asked[0][0] == DEFAULT
    assert len(set(asked[0])) == 16
    assert all(any(genome[14:18]) for genome in asked[0])


def test_elites_survive_and_cost_nothing():
    search, asked = run(generations=2, patience=0)
    best = sorted(asked[0], key=lambda g: (-at_last_index(g), g))[:2]
    again = Search(SPACE, EvolutionConfig(generations=3, patience=0))
    again.tell({g: at_last_index(g) for g in again.ask()})
    assert again.population[:2] == best
    assert not {*again.ask()} & {*best}
    assert len(again.population) == len(set(again.population)) == 16
    assert set(search.fitness) == {g for part in asked for g in part}


@given(st.integers(0, 1000), st.integers(16, 60))
def test_no_search_evaluates_more_than_its_budget(seed, limit):
    for sampler in ("evolution", "random"):
        search, asked = run(sampler, seed=seed, max_evaluations=limit, patience=0)
        told = [genome for part in asked for genome in part]
        assert len(told) == len(set(told)) == len(search.fitness) <= limit


def test_a_search_that_stands_still_ends():
    search, asked = run(fitness=lambda genome: 0.0, patience=3)
    assert len(asked) == 4  # the first and three without gain
    assert search.ranking() == sorted(search.fitness)
    _, asked = run(fitness=lambda genome: 0.0, patience=0, generations=7, max_evaluations=0)
    assert len(asked) == 7


def test_small_gains_do_not_count_as_progress():
    seen: dict = {}
    _, asked = run(fitness=lambda g: 1e-6 * seen.setdefault(g, len(seen)), patience=2)
    assert len(asked) == 3


def test_genomes_left_out_for_want_of_time_leave_the_population():
    search = Search(SPACE, EvolutionConfig(patience=0))
    kept = search.ask()[:5]
    search.tell({g: at_last_index(g) for g in kept})
    assert set(search.fitness) == set(kept)
    assert len(search.population) == 16


def test_a_space_smaller_than_the_population_is_no_trap():
    space = GenomeSpace((2, 2), (0, 0))
    search, _ = run(space=space, fitness=sum, patience=0, generations=5)
    assert search.ranking()[0] == (1, 1)
    drawn, _ = run("random", space=space, fitness=sum, patience=0, generations=5)
    assert len(drawn.fitness) == 4


def test_fitness_that_is_no_number_is_refused():
    search = Search(SPACE, EvolutionConfig())
    with pytest.raises(ValueError, match="not a number"):
        search.tell({search.ask()[0]: float("nan")})


def test_a_population_too_small_to_select_from_is_refused():
    with pytest.raises(ValueError, match="too small"):
        Search(SPACE, EvolutionConfig(population=2))
