"""Do the intervals cover what they promise, and how often does the test cry wolf?

Simulates experiments: dialogues of 5 to 19 turns that share a difficulty, methods that share item
difficulty, and seeds of different quality; and corpora of speakers with 5 to 19 clips each, every
clip a dialogue of its own. Prints, per scenario, how often the 95 % interval holds the true score,
and how often two equal methods are called different at 5 %, next to the plain percentile bootstrap
over the same groups and the permutation test, which both ignore the seeds; where speakers have
effects, also what an interval over single dialogues covers.

    python -m benchmarks.interval_coverage [--experiments 1000] [--resamples 1000]
"""

import argparse
import time
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.statistics.bootstrap import compare, confidence_interval, resample
from models.statistics.permutation import permutation_test
from models.statistics.resampling import resamplable
from tasks.clusters import clusters_of

CLASSES = ("neutral", "happy", "sad", "angry", "fear")
CLASS_PRIOR = (4.0, 2.0, 1.0, 1.0, 0.6)


@dataclass(frozen=True)
class Scenario:
    """One kind of experiment: a metric, its test split and its seeds."""

    metric: str
    kind: str
    dialogues: int
    seeds: int
    seed_sd: float  # spread of quality between trainings, on the latent scale
    has_speakers: bool = False  # ``dialogues`` are speakers then, and each clip is a dialogue


SCENARIOS = (
    *(
        Scenario(metric, kind, speakers, seeds, seed_sd, has_speakers=True)
        for metric, kind in (("weighted_f1", "category"), ("ccc", "values"))
        for speakers, seeds, seed_sd in ((12, 3, 0.1), (24, 3, 0.1), (24, 1, 0.0))
    ),
    *(
        Scenario(metric, kind, dialogues, seeds, seed_sd)
        for metric, kind in (
            ("weighted_f1", "category"),
            ("macro_f1", "category"),
            ("ccc", "values"),
            ("mae", "values"),
        )
        for dialogues, seeds, seed_sd in ((12, 3, 0.1), (30, 5, 0.1), (100, 5, 0.1), (30, 1, 0.0))
    ),
)


def draw(
    scenario: Scenario, methods: int, rng: np.random.Generator
) -> tuple[NDArray, dict[str, NDArray], NDArray]:
    """One experiment of equally good methods: truth (n,), runs (seeds, n), group of each row."""
    lengths = rng.integers(5, 20, size=scenario.dialogues)
    dialogue = np.repeat(np.arange(scenario.dialogues), lengths)
    n, count = len(dialogue), scenario.seeds
    runs: dict[str, NDArray] = {}
    if scenario.kind == "category":
        prior = np.cumsum(rng.dirichlet(CLASS_PRIOR, size=scenario.dialogues), axis=1)
        truth = (rng.random((n, 1)) > prior[dialogue]).sum(axis=1).clip(0, len(CLASSES) - 1)
        ease = 0.8 + rng.normal(0, 0.6, scenario.dialogues)[dialogue] + rng.normal(0, 1, n)
        for method in range(methods):
            taste = rng.normal(0, 0.3, scenario.dialogues)[dialogue]
            quality = rng.normal(0, scenario.seed_sd, (count, 1))
            right = ease + taste + quality + rng.normal(0, 0.5, (count, n)) > 0
            wrong = (truth + rng.integers(1, len(CLASSES), (count, n))) % len(CLASSES)
            runs[f"method{method}"] = np.where(right, truth, wrong)
        return truth, runs, dialogue
    values = rng.normal(0, 0.25, scenario.dialogues)[dialogue] + rng.normal(0, 0.35, n)
    shared = rng.normal(0, 0.12, scenario.dialogues)[dialogue] + rng.normal(0, 0.2, n)
    for method in range(methods):
        taste = rng.normal(0, 0.1, scenario.dialogues)[dialogue]
        slope = 0.55 + rng.normal(0, scenario.seed_sd, (count, 1))
        runs[f"method{method}"] = slope * values + shared + taste + rng.normal(0, 0.12, (count, n))
    return values, runs, dialogue


def true_score(scenario: Scenario, rng: np.random.Generator) -> float:
    """Expected score over trainings on endless dialogues, by a large simulation."""
    large = replace(scenario, dialogues=600, seeds=20)
    metric = _metric(scenario)
    scores: list[float] = []
    for _ in range(50):
        truth, runs, dialogue = draw(large, 1, rng)
        weights = np.ones((1, large.dialogues))
        scores += [
            float(metric.weighted(truth, run, dialogue, weights)[0]) for run in runs["method0"]
        ]
    return float(np.mean(scores))


def _metric(scenario: Scenario):
    names = CLASSES if scenario.kind == "category" else ("valence",)
    return resamplable(scenario.metric, scenario.kind, names)


@dataclass(frozen=True)
class Rates:
    """Shares of simulated experiments."""

    coverage: float
    false_positives: float
    percentile_coverage: float
    percentile_false_positives: float
    permutation_false_positives: float
    coverage_by_dialogue: float


def groups(scenario: Scenario, dialogue: NDArray) -> NDArray:
    """What the report would draw together, from speakers and dialogues as a corpus names them."""
    if not scenario.has_speakers:
        rows = pl.DataFrame({"dialogue_id": dialogue, "speaker": np.arange(len(dialogue))})
    else:
        rows = pl.DataFrame({"dialogue_id": np.arange(len(dialogue)), "speaker": dialogue})
    return clusters_of(rows).codes


def simulate(
    scenario: Scenario, experiments: int, resamples: int, seed: int = 0, permutations: int = 0
) -> Rates:
    """Coverage of one method's interval, and rejections among two equal methods."""
    rng = np.random.default_rng(seed)
    target, metric = true_score(scenario, rng), _metric(scenario)
    hits = np.zeros(6)
    for _ in range(experiments):
        truth, runs, dialogue = draw(scenario, 2, rng)
        codes, draws = groups(scenario, dialogue), int(rng.integers(2**31))
        drawn = resample(
            scenario.metric, metric, truth, runs, codes, n_resamples=resamples, seed=draws
        )
        interval = apart = confidence_interval(drawn, "method0")
        if scenario.has_speakers:
            one = {"method0": runs["method0"]}
            singly = resample(
                scenario.metric, metric, truth, one, np.arange(len(truth)),
                n_resamples=resamples, seed=draws,
            )  # fmt: skip
            apart = confidence_interval(singly, "method0")
        means = {name: values.mean(axis=1) for name, values in drawn.bootstrap.items()}
        low, high = np.quantile(means["method0"], [0.025, 0.975])
        gap_low, gap_high = np.quantile(means["method0"] - means["method1"], [0.025, 0.975])
        p_permutation = 1.0
        if permutations:
            p_permutation = permutation_test(
                metric, truth, runs["method0"], runs["method1"], codes,
                n_permutations=permutations, seed=int(rng.integers(2**31)),
            )  # fmt: skip
        hits += [
            interval.low <= target <= interval.high,
            compare(drawn, "method0", "method1").is_significant(),
            low <= target <= high,
            not gap_low <= 0 <= gap_high,
            p_permutation < 0.05,
            apart.low <= target <= apart.high,
        ]
    return Rates(*(hits / experiments))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--permutations", type=int, default=400)
    options = parser.parse_args()
    start_s = time.perf_counter()
    header = ("metric", "groups", "seeds", "seed sd", "coverage", "false pos.")
    print(("{:<12}" + "{:>11}" * 5).format(*header), "| percentile: cov., f. pos. | permutation")
    rates: list[Rates] = []
    for scenario in SCENARIOS:
        rate = simulate(
            scenario, options.experiments, options.resamples, permutations=options.permutations
        )
        rates.append(rate)
        print(
            f"{scenario.metric:<12}{scenario.dialogues:>11}{scenario.seeds:>11}"
            f"{scenario.seed_sd:>11.2f}{100 * rate.coverage:>9.1f} %"
            f"{100 * rate.false_positives:>9.1f} %"
            f" | {100 * rate.percentile_coverage:>15.1f}, "
            f"{100 * rate.percentile_false_positives:.1f}"
            f" | {100 * rate.permutation_false_positives:.1f}"
            + (
                f" | speakers' clips, drawn singly: {100 * rate.coverage_by_dialogue:.1f} %"
                if scenario.has_speakers
                else ""
            ),
            flush=True,
        )
    covered = [rate.coverage for rate in rates]
    false = [rate.false_positives for rate in rates]
    print(
        f"coverage of 95 % intervals: mean {100 * np.mean(covered):.1f} %, "
        f"{100 * min(covered):.1f} to {100 * max(covered):.1f} % over {len(rates)} scenarios of "
        f"{options.experiments} experiments"
    )
    print(
        f"false positives at 5 %: mean {100 * np.mean(false):.1f} %, at most "
        f"{100 * max(false):.1f} %  ({time.perf_counter() - start_s:.0f} s)"
    )


if __name__ == "__main__":
    main()
