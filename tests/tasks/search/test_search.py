"""Stage ``search``: repeatable, resumable, honest about failures, blind to test rows."""

import io
import json
from itertools import product

import numpy as np
import pytest
import torch

from models.batch import Target
from models.errors import MetricInputError, UserError
from models.methods.haemsa.genome import DEFAULT
from models.metrics.fitness import genome_fitness, sentiment_fitness
from models.training import NotFinite, fit
from tasks.batches.source import source_for
from tasks.context import ForMethod
from tasks.evaluate import stage as evaluate
from tasks.params.recipes import resolve
from tasks.plain_context import PlainContext
from tasks.search import stage as search
from tasks.search.candidate import FAILED, Outcome, thinned
from tasks.search.candidate import train as trained
from tasks.search.params import GenomeSearch, SpaceSearch
from tasks.search.result import searched
from tasks.train import stage as train
from tasks.train.runs import fitness
from tests.places import here
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus, write_found

GENOMES = {
    "population": 3, "generations": 2, "proxy_epochs": 1, "proxy_share": 0.5, "min_rows": 4,
    "finalists": 0,
}  # fmt: skip
SPACE = {"hidden": [2, 8], "lr": {"low": 1e-4, "high": 1e-1, "log": True}}
ENTRY = {"epochs": 1, "patience": 0, "targets": ["category"]}


@pytest.fixture
def folded(corpus):
    """The corpus with a second fold, which tests on what the first validates on."""
    quarters = ("train", "train", "validation", "test")
    for row in corpus.splits[:]:
        dialogue = int(row["utterance_id"].split("/")[1][1:])
        split = quarters[(dialogue + 3) % 12 // 3]
        corpus.splits.append({**row, "fold": 1, "split": split})
    return corpus.write()


def run(params, method="haemsa", entry=ENTRY, trainer=trained, **context):
    ctx = PlainContext("search", stream=io.StringIO(), **context)
    search.run(ForMethod(params, entry, INPUTS), here(), ctx, CORPUS, method, trainer)
    folder = here().search(CORPUS, method)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def lines(found, folder=""):
    return [json.loads(line) for line in found[f"{folder}history.jsonl"].splitlines()]


def best(found, folder=""):
    return json.loads(found[f"{folder}best.json"])


def of_fold(found, fold):
    """The files of one fold."""
    return {name: text for name, text in found.items() if name.startswith(f"fold{fold}/")}


class Toy:
    """Trains no candidate: remembers it and answers with a rule."""

    def __init__(self, rule):
        self.rule, self.seen = rule, []

    def __call__(self, layout, job):
        self.seen.append(job)
        return Outcome("ok", self.rule(job), {"full": self.rule(job)}, 10)


def of_genome(job) -> float:
    return sum(job.entry["genome"]) / 100


# what a search leaves behind --------------------------------------------------------------------


def test_a_search_writes_the_same_bytes_from_any_number_of_workers_and_from_its_cache(
    corpus, tmp_path, monkeypatch
):
    first = run(GenomeSearch(**GENOMES))
    assert set(first) == {"history.jsonl", "best.json", "population_0.json", "population_1.json"}
    again = run(GenomeSearch(**GENOMES))
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "other"))
    cold = run(GenomeSearch(**GENOMES), runner="threads", workers=2)
    assert first == again == cold


def test_the_history_tells_what_every_candidate_was_and_came_to(corpus):
    found = run(GenomeSearch(**GENOMES))
    history = lines(found)
    assert [one["generation"] for one in history] == sorted(one["generation"] for one in history)
    start = history[0]
    assert start["options"] == {"genome": list(DEFAULT)}
    assert start["settings"]["width"] == 128
    assert start["seed"] == 41895182
    assert start["status"] == "ok"
    parts = {name.rpartition("/")[2]: value for name, value in start["parts"].items()}
    assert {"audio", "video", "text", "audio+text", "audio+video+text"} <= set(parts)
    subsets = [v for k, v in parts.items() if k not in ("epoch", "selection", "audio+video+text")]
    assert len(subsets) == 6
    expected = genome_fitness(parts["audio+video+text"], subsets, start["parameters"])
    assert start["fitness"] == pytest.approx(expected)
    assert "seconds" not in found["history.jsonl"].decode()
    population = json.loads(found["population_1.json"])
    assert len(population) == 3
    top = sorted(history, key=lambda one: (-one["fitness"], one["options"]["genome"]))
    assert best(found)["options"] == top[0]["options"]
    assert best(found)["evaluations"] == len(history) <= 3 + 1


def test_the_full_scenario_judges_by_all_modalities_alone(corpus):
    one = lines(run(GenomeSearch(**GENOMES | {"scenario": "full", "generations": 1})))[0]
    parts = {name.rpartition("/")[2]: value for name, value in one["parts"].items()}
    assert set(parts) == {"epoch", "selection", "audio+video+text"}
    full = genome_fitness(parts["audio+video+text"], [], one["parameters"])
    assert one["fitness"] == pytest.approx(full)


def test_second_tasks_choose_no_epoch_of_a_candidate(corpus, monkeypatch, tmp_path):
    params = GenomeSearch(**GENOMES | {"generations": 1, "proxy_epochs": 2})
    entry = ENTRY | {"targets": ["category", "vad"]}
    before = run(params, entry=entry)
    for name in corpus.ids("validation"):
        corpus.label(name).update(valence=-0.9, arousal=0.9)
    corpus.write()
    assert run(params, entry=entry) == before
    files = [*(tmp_path / "cache" / "search").iterdir()]
    assert len(files) == 2 * 3  # other labels: all were trained again


def test_labels_of_test_rows_change_nothing(corpus, monkeypatch, tmp_path):
    params = GenomeSearch(**GENOMES | {"generations": 1})
    before = run(params)
    for name in corpus.ids("test"):
        if "category" in (row := next(r for r in corpus.labels if r["utterance_id"] == name)):
            row["category"] = "angry"
    corpus.write()
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "other"))
    assert run(params) == before


# going on, failing, stopping --------------------------------------------------------------------


def test_a_killed_search_goes_on_without_computing_anything_twice(corpus):
    toy = Toy(of_genome)
    seen = toy.seen
    params = GenomeSearch(**GENOMES | {"population": 4, "generations": 4})

    def killed(layout, job):
        if len(seen) == 5:
            raise KeyboardInterrupt
        return toy(layout, job)

    with pytest.raises(KeyboardInterrupt):
        run(params, trainer=killed)
    assert not here().search(CORPUS, "haemsa").exists()
    found = run(params, trainer=toy)
    assert len(seen) == len(lines(found)) > 5
    assert len({job.key for job in seen}) == len(seen)
    longer = GenomeSearch(**GENOMES | {"population": 4, "generations": 5})
    run(longer, trainer=toy)  # begins where this ended
    assert len(seen) <= len(lines(found)) + 2


def test_other_data_options_and_code_are_computed_anew(corpus):
    toy = Toy(of_genome)
    params = GenomeSearch(**GENOMES | {"generations": 1})
    run(params, trainer=toy)
    run(params, entry=ENTRY | {"lr": 0.5}, trainer=toy)
    run(params, trainer=toy, code="other")
    corpus.label(corpus.ids("train")[0])["valence"] = 0.123
    corpus.write()
    run(params, trainer=toy)
    assert len(toy.seen) == 4 * 3


def test_a_candidate_that_diverges_is_recorded_and_the_search_goes_on(corpus):
    toy = Toy(of_genome)

    def sometimes(layout, job):
        if job.entry["genome"] == list(DEFAULT):
            raise NotFinite("the training loss became nan")
        if job.entry["genome"][0] == 0:
            raise RuntimeError("out of memory\nby far")
        return toy(layout, job)

    params = GenomeSearch(**GENOMES | {"population": 8, "generations": 3})
    found = run(params, trainer=sometimes)
    history = lines(found)
    assert (history[0]["status"], history[0]["fitness"]) == ("diverged", FAILED)
    assert "became nan" in history[0]["error"]
    others = [one for one in history if one["options"]["genome"][0] == 0]
    assert others
    assert {one["error"] for one in others} == {"RuntimeError: out of memory by far"}
    assert best(found)["searched_best"]["status"] == "ok"


@pytest.mark.parametrize(
    ("error", "status", "trained_again"),
    [
        (NotFinite("the loss became nan"), "diverged", False),
        (ValueError("Expected more than 1 value per channel"), "failed", False),
        (ZeroDivisionError("division by zero"), "failed", False),
        (MetricInputError("row 3 is not finite"), "failed", False),
        (UserError("weights are missing; run affectloom fetch"), "failed", True),
        (RuntimeError("out of memory"), "failed", True),
        (MemoryError(), "failed", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_failure_is_remembered_where_it_would_only_repeat(corpus, error, status, trained_again):
    toy, tries = Toy(of_genome), []

    def failing(layout, job):
        if job.entry["genome"] != list(DEFAULT):
            return toy(layout, job)
        tries.append(job)
        raise error

    first = run(GenomeSearch(**GENOMES), trainer=failing)
    failed = lines(first)[0]
    assert (failed["status"], failed["fitness"]) == (status, FAILED)
    assert str(error) in failed["error"]
    assert run(GenomeSearch(**GENOMES), trainer=failing) == first
    assert len(tries) == 1 + trained_again


def test_a_candidate_larger_than_asked_for_is_not_trained(corpus, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "tasks.search.candidate.fit",
        lambda method, *rest, **options: (
            sizes.append(sum(p.numel() for p in method.parameters()))
            or fit(method, *rest, **options)
        ),
    )
    asked = SpaceSearch(sampler="grid", space={"hidden": [2, 64]}, finalists=0, max_parameters=500)
    small, large = lines(run(asked, method="early_fusion"))
    assert small["status"] == "ok"
    assert large["status"] == "failed"
    assert large["fitness"] == FAILED
    assert "parameters are more than max_parameters, 500" in large["error"]
    assert sizes == [small["parameters"]]


def test_a_search_in_which_nothing_can_be_trained_says_why(corpus):
    def never(layout, job):
        raise NotFinite("the training loss became nan")

    with pytest.raises(UserError, match=r"none of the first 3 candidates.*became nan"):
        run(GenomeSearch(**GENOMES), trainer=never)
    assert not here().search(CORPUS, "haemsa").exists()


def test_mistakes_in_the_code_are_no_failed_candidates(corpus):
    def broken(layout, job):
        raise TypeError("a defect")

    with pytest.raises(TypeError, match="a defect"):
        run(GenomeSearch(**GENOMES), trainer=broken)


def test_a_search_stops_when_its_time_is_over(corpus, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])

    def slow(job):
        clock[0] += 10
        return of_genome(job)

    params = GenomeSearch(**GENOMES | {"generations": 9, "max_seconds": 55})
    found = run(params, trainer=Toy(slow))
    spent = len(lines(found))
    assert 2 <= spent <= 6  # each call of the rule costs ten seconds, two a candidate
    assert best(found)["evaluations"] == spent
    monkeypatch.setattr("time.time", iter(range(10**6)).__next__)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(here().cache / "empty"))
    with pytest.raises(UserError, match="no time for a single candidate"):
        run(GenomeSearch(**GENOMES | {"max_seconds": 0.5}), trainer=Toy(slow))


def test_random_search_spends_its_whole_budget_where_evolution_stops(corpus):
    toy = Toy(lambda job: 0.5)
    params = GENOMES | {"population": 4, "generations": 6, "patience": 1}
    assert len(lines(run(GenomeSearch(**params), trainer=toy))) <= 4 + 2
    drawn = run(GenomeSearch(**params, sampler="random"), trainer=toy)
    assert len(lines(drawn)) == best(drawn)["evaluations"] == 4 + 5 * 2


# the best of the best ---------------------------------------------------------------------------


def test_finalists_are_trained_in_full_and_the_best_mean_wins(corpus):
    def rule(job):
        if job.epochs == 1:
            return of_genome(job)
        return -of_genome(job) + job.seed  # in full, what looked best is worst

    toy = Toy(rule)
    params = GENOMES | {"population": 4, "finalists": 3, "final_seeds": 2}
    found = run(GenomeSearch(**params), trainer=toy)
    full = [job for job in toy.seen if job.epochs == 0]
    assert len(full) == 3 * 2
    assert {(job.seed, job.share, job.min_rows) for job in full} == {(0, 1.0, 0), (1, 1.0, 0)}
    short = sorted(lines(found), key=lambda one: -one["fitness"])[:3]
    third = short[2]["options"]
    assert best(found)["options"] == third
    assert best(found)["chosen_by"] == "mean of full trainings"
    assert best(found)["searched_best"]["options"] == short[0]["options"]
    finals = best(found)["finals"]
    assert [one["mean"] for one in finals] == sorted([o["mean"] for o in finals], reverse=True)
    assert searched(here(), CORPUS, "haemsa") == {None: third}


def test_before_a_search_the_stage_to_run_is_named(corpus):
    with pytest.raises(UserError, match="run stage search for tiny-haemsa first"):
        searched(here(), CORPUS, "haemsa")


# folds ------------------------------------------------------------------------------------------

GRID = SpaceSearch(
    sampler="grid", space={"hidden": [2, 8], "lr": [0.001, 0.1]}, finalists=2, final_seeds=1
)


@pytest.mark.parametrize("what", ["labels", "features"])
def test_rows_that_a_fold_tests_on_never_reach_its_search(folded, monkeypatch, tmp_path, what):
    entry = ENTRY | {"epochs": 3}
    before = run(GRID, "early_fusion", entry)
    tested = folded.ids("test", fold=1)
    assert tested == folded.ids("validation", fold=0)  # the same rows choose in the other fold
    for name in tested:
        if what == "features":
            for values in folded.features.values():
                if values[name] is not None:
                    values[name] = [1000.0 for _ in values[name]]
        elif any(row["utterance_id"] == name and row["category"] for row in folded.labels):
            folded.label(name)["category"] = "angry"
    folded.write()
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "other"))
    after = run(GRID, "early_fusion", entry)
    assert of_fold(after, 1) == of_fold(before, 1)
    assert of_fold(after, 0) != of_fold(before, 0)


def wide_in_fold_0(job) -> float:
    return job.entry["hidden"] if job.fold == 0 else -job.entry["hidden"]


def test_every_fold_is_trained_and_scored_with_what_its_own_search_found(folded):
    found = run(GRID, "early_fusion", trainer=Toy(wide_in_fold_0))
    names = {name for name in found if "/" in name}
    assert {name.partition("/")[2] for name in names} == {
        "history.jsonl", "best.json", "population_0.json",
    }  # fmt: skip
    assert set(found) - names == {"best.json"}
    winners = searched(here(), CORPUS, "early_fusion")
    assert {fold: options["hidden"] for fold, options in winners.items()} == {0: 8, 1: 2}
    for fold, options in winners.items():
        assert best(found, f"fold{fold}/")["options"] == options
    ctx = PlainContext(stream=io.StringIO())
    entry = ENTRY | {"search": {}}
    params = train.TrainParams(seeds=[0])
    train.run(ForMethod(params, entry, INPUTS), here(), ctx, CORPUS, "early_fusion")
    for fold, options in winners.items():
        folder = train.run_folder(here(), CORPUS, "early_fusion", 0, fold, ["category"])
        config = json.loads((folder / "config.json").read_text())
        assert config["entry"] == ENTRY | options
    evaluate.run(
        ForMethod(evaluate.EvaluateParams(), {}, INPUTS), here(), ctx, CORPUS, "early_fusion"
    )
    details = json.loads(here().details(CORPUS, "early_fusion").read_text())
    wide, narrow = (one["parameters"] for one in details["runs"])
    assert wide > narrow


def test_what_was_found_for_other_folds_is_never_trained_with(folded):
    ctx, params = PlainContext(stream=io.StringIO()), train.TrainParams(seeds=[0])
    asked = ForMethod(params, ENTRY | {"search": {}}, INPUTS)
    for found in ({None: {"hidden": 2}}, {0: {"hidden": 2}}):
        write_found("early_fusion", found)
        with pytest.raises(UserError, match=r"splits have \(0, 1\); run stage search for tiny-e"):
            train.run(asked, here(), ctx, CORPUS, "early_fusion")


def test_folds_of_a_search_are_the_same_from_any_number_of_workers(folded, tmp_path, monkeypatch):
    first = run(GRID, "early_fusion")
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "other"))
    assert run(GRID, "early_fusion", runner="threads", workers=2) == first


def test_every_fold_has_the_whole_budget_and_progress_counts_over_all(folded, monkeypatch):
    shown = []
    monkeypatch.setattr(PlainContext, "progress", lambda _, progress: shown.append(progress))
    params = GenomeSearch(**GENOMES | {"population": 4, "max_evaluations": 5})
    found = run(params, trainer=Toy(of_genome))
    assert [len(lines(found, f"fold{fold}/")) for fold in (0, 1)] == [5, 5]
    assert [one.done for one in shown] == [*range(6), *range(5, 11)]
    assert {(one.total, one.unit) for one in shown} == {(10, "candidates")}
    monkeypatch.setattr("time.time", iter(range(0, 10**6, 10)).__next__)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(here().cache / "empty"))
    shown.clear()
    params = GenomeSearch(**GENOMES | {"generations": 9, "max_seconds": 25})
    found = run(params, trainer=Toy(of_genome))
    spent = [len(lines(found, f"fold{fold}/")) for fold in (0, 1)]
    assert spent[0] == spent[1] > 0  # the clock of fold 1 begins with fold 1
    assert shown[-1].done == shown[-1].total == len(shown) - 3


def test_a_search_that_was_killed_in_its_second_fold_goes_on_there(folded):
    toy = Toy(of_genome)
    seen = toy.seen

    def killed(layout, job):
        if job.fold == 1 and len([one for one in seen if one.fold == 1]) == 2:
            raise KeyboardInterrupt
        return toy(layout, job)

    with pytest.raises(KeyboardInterrupt):
        run(GenomeSearch(**GENOMES), trainer=killed)
    found = run(GenomeSearch(**GENOMES), trainer=toy)
    assert len(seen) == sum(len(lines(found, f"fold{fold}/")) for fold in (0, 1))


def test_a_fold_in_which_nothing_can_be_trained_is_named(folded):
    def only_in_fold_0(layout, job):
        if job.fold == 1:
            raise NotFinite("the training loss became nan")
        return Outcome("ok", 1.0, {})

    with pytest.raises(UserError, match=r"on tiny: fold 1, none of the first 3.*became nan"):
        run(GenomeSearch(**GENOMES), trainer=only_in_fold_0)
    assert not here().search(CORPUS, "haemsa").exists()


# options out of a space -------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_sampled_options_repeat_with_the_seed_and_stay_in_their_space(corpus, sampler):
    toy = Toy(lambda job: -abs(job.entry["lr"] - 0.01))
    params = SpaceSearch(sampler=sampler, space=SPACE, trials=10, min_rows=0, finalists=0)
    found = run(params, "early_fusion", trainer=toy)
    assert found == run(params, "early_fusion", trainer=toy)
    history = lines(found)
    assert len(history) == 10
    assert {one["options"]["hidden"] for one in history} <= {2, 8}
    assert all(1e-4 <= one["options"]["lr"] <= 1e-1 for one in history)
    assert best(found)["fitness"] == max(one["fitness"] for one in history)
    other = run(params.model_copy(update={"seed": 1}), "early_fusion", trainer=toy)
    assert lines(other)[0]["options"] != history[0]["options"]


def test_tpe_learns_from_what_it_saw(corpus):
    toy = Toy(lambda job: -abs(np.log10(job.entry["lr"]) + 2))
    space = {"lr": {"low": 1e-6, "high": 1e-1, "log": True}}

    def mean(sampler):
        params = SpaceSearch(sampler=sampler, space=space, trials=40, finalists=0)
        found = run(params, "early_fusion", trainer=toy)
        return np.mean([one["fitness"] for one in lines(found)[20:]])

    assert mean("tpe") > mean("random")


def test_a_grid_is_tried_in_the_order_of_its_lists(corpus):
    toy = Toy(lambda job: job.entry["hidden"] + job.entry["lr"])
    space = {"hidden": [2, 8, 4], "lr": [0.1, 0.2]}
    params = SpaceSearch(sampler="grid", space=space, trials=100, finalists=0)
    found = run(params, "early_fusion", trainer=toy)
    tried = [(one["options"]["hidden"], one["options"]["lr"]) for one in lines(found)]
    assert tried == [*product([2, 8, 4], [0.1, 0.2])]
    assert best(found)["options"] == {"hidden": 8, "lr": 0.2}
    fewer = params.model_copy(update={"trials": 3})
    assert len(lines(run(fewer, "early_fusion", trainer=toy))) == 3


def test_options_are_judged_by_the_validation_score_of_all_targets(corpus):
    params = SpaceSearch(sampler="grid", space={"hidden": [4]}, finalists=0)
    entry = {"epochs": 2, "patience": 0}
    (one,) = lines(run(params, "early_fusion", entry))
    selections = {k: v for k, v in one["parts"].items() if k.endswith("/selection")}
    assert {name.split("/")[0] for name in selections} == {"fold0"}
    assert {name.split("/")[1] for name in selections} == {"category", "vad"}
    assert one["fitness"] == pytest.approx(np.mean([*selections.values()]))


# parts ------------------------------------------------------------------------------------------


def test_fitness_is_that_of_the_design():
    full = sentiment_fitness(0.48, 0.80, 0.70, 0.85)
    part = sentiment_fitness(0.30, 0.40, 1.2, 0.70)
    assert full == pytest.approx(0.707333, abs=1e-6)
    assert part == pytest.approx(0.47)
    assert genome_fitness(full, [part] * 6, 900_000) == pytest.approx(0.588667, abs=1e-6)
    assert genome_fitness(full, [part] * 6, 2_500_000) == pytest.approx(0.580708, abs=1e-6)
    assert genome_fitness(full, [], 1) == full
    assert sentiment_fitness(0.5, float("nan"), 9.0, 0.5) == sentiment_fitness(0.5, 0, 3.0, 0.5)


def test_fitness_of_outputs_leaves_out_unlabelled_rows():
    sentiment = Target("sentiment", "values", ("sentiment",), -3.0, 3.0)
    truth = np.array([[1.0], [-2.0], [np.nan], [3.0]], np.float32)
    perfect = {"sentiment": torch.tensor([[1.0], [-2.0], [9.0], [3.0]])}
    assert fitness(sentiment, truth, perfect) == pytest.approx(1.0)
    constant = {"sentiment": torch.zeros(4, 1)}
    assert 0 <= fitness(sentiment, truth, constant) < 0.3  # no correlation, yet a number
    category = Target("category", "category", ("a", "b"))
    logits = {"category": torch.tensor([[1.0, 0], [0, 1.0], [1.0, 0]])}
    assert fitness(category, np.array([0, 1, -1]), logits) == 1.0


def test_a_thinned_set_is_fixed_and_keeps_the_proportions(corpus):
    recipe = resolve("haemsa", ENTRY)
    source = source_for(here(), recipe, CORPUS, INPUTS)
    (target,) = [t for t in source.targets if t.name == "category"]
    data = source.part(0, "train", "utterance", [target], labelled=True)
    half = thinned(data, 0.5, 0, seed=3, target=target)
    assert len(half) == -(-len(data) // 2)
    rows = [half.batch([i]).targets["category"].item() for i in range(len(half))]
    share = np.bincount(rows, minlength=3) / np.bincount(data.truth(target).numpy(), minlength=3)
    assert np.all(np.abs(share - 0.5) < 0.15)
    again = thinned(data, 0.5, 0, seed=3, target=target)
    other = thinned(data, 0.5, 0, seed=4, target=target)
    assert half._items == again._items != other._items
    assert thinned(data, 0.5, 512, seed=3, target=target) is data


@pytest.mark.parametrize("level", ["utterance", "dialogue"])
def test_a_thinned_set_knows_the_labels_of_its_own_rows(corpus, level):
    source = source_for(here(), resolve("haemsa", ENTRY), CORPUS, INPUTS)
    (target,) = [t for t in source.targets if t.name == "category"]
    half = thinned(source.part(0, "train", level, [target], labelled=True), 0.5, 0, 3, target)
    batch = half.batch(range(len(half)))
    assert half.truth(target).tolist() == batch.targets["category"][batch.mask].tolist()


@pytest.mark.slow
def test_evolution_beats_random_search_on_a_planted_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    make_corpus(dialogues=36, turns=8, folds=1).write()
    # 32 candidates each: 0.855 against 0.851 on the mean of four seeds, better on three; so
    # small a corpus is flat near its top, and one training tells little
    budget = {"population": 8, "generations": 5, "proxy_epochs": 2, "finalists": 0, "patience": 0}

    def mean(sampler):
        found = [
            best(run(GenomeSearch(**budget, sampler=sampler, seed=seed)))["fitness"]
            for seed in range(4)
        ]
        return np.mean(found)

    assert mean("evolution") > mean("random")
    torch.use_deterministic_algorithms(False)
