"""How fast a million judgements are merged, and 100,000 texts searched for near-duplicates.

    python -m benchmarks.labels                 # both, in processes of their own
    python -m benchmarks.labels --only labels   # one of them

Prints seconds (on a busy machine look at the processor's) and the peak of resident memory.
Targets on two cores: labels under 20 s, texts under 60 s, both under 2 GB.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl

from tasks.labels.stage import Card, LabelsParams, merge
from tasks.leaks.texts import text_leaks
from tasks.targets import VAD

RATERS_PER_ITEM, RATERS = 5, 40


def judgements(rows: int, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """About ``rows`` judgements: VAD in whole numbers 1 to 5 and a category, a few unusable."""
    rng = np.random.default_rng(seed)
    items = rows // (RATERS_PER_ITEM * 4)
    ids = np.array([f"bench/d{n // 20:05d}/u{n:06d}" for n in range(items)])
    rater = (rng.integers(0, RATERS, items)[:, None] + np.arange(RATERS_PER_ITEM)) % RATERS
    raters = np.array([f"rater{n:02d}" for n in range(RATERS)])
    truth = rng.normal(3, 1, (items, 3))
    frames = []
    for i, target in enumerate(VAD):
        noisy = truth[:, i, None] + rng.normal(0, 0.7, rater.shape)
        value = np.clip(np.rint(noisy), 1, 5).ravel()
        value[rng.random(value.size) < 1e-4] = 6.0  # out of range, to exercise the quarantine
        frames.append({"target": target, "value": value, "label": None})
    names = np.array(["angry", "happy", "neutral", "sad"])
    category = (truth[:, 0, None] + rng.normal(0, 1, rater.shape)).astype(int) % 4
    frames.append({"target": "category", "value": None, "label": names[category].ravel()})
    columns = {
        "utterance_id": np.repeat(ids, RATERS_PER_ITEM),
        "rater": raters[rater].ravel(),
    }
    types = {"value": pl.Float64, "label": pl.String, "position": pl.Int32}
    annotations = pl.concat(
        pl.DataFrame(columns).with_columns(
            pl.lit(frame["target"]).alias("target"),
            *(
                pl.Series(n, frame[n], dtype=t)
                if frame.get(n) is not None
                else pl.lit(None, t).alias(n)
                for n, t in types.items()
            ),
            scale_min=pl.lit(1.0),
            scale_max=pl.lit(5.0),
            source=pl.lit("bench"),
        )
        for frame in frames
    )
    utterances = pl.DataFrame({"utterance_id": ids}).with_columns(
        published_split=pl.lit(None, pl.String)
    )
    return utterances, annotations.sample(fraction=1.0, shuffle=True, seed=seed)


def sentences(count: int, seed: int = 0) -> pl.DataFrame:
    """Sentences of 4 to 20 words with the word frequencies of a language; one in ten is altered."""
    rng = np.random.default_rng(seed)
    words = np.array(
        ["".join(rng.choice(list("abdeghiklmnorstu"), rng.integers(2, 9))) for _ in range(20_000)]
    )
    chance = 1 / np.arange(1, len(words) + 1)
    drawn = rng.choice(len(words), count * 20, p=chance / chance.sum()).reshape(count, 20)
    length = rng.integers(4, 21, count)
    altered = rng.random(count) < 0.1
    source = rng.integers(0, count, count)
    texts = []
    for n in range(count):
        row = n if not altered[n] else source[n]
        chosen = words[drawn[row, : length[row]]].copy()
        if altered[n]:
            chosen[rng.integers(len(chosen))] = words[rng.integers(len(words))]
        texts.append(" ".join(chosen))
    split = np.where(np.arange(count) % 5 == 0, "test", "train")
    return pl.DataFrame(
        {
            "utterance_id": [f"bench/d{n // 20}/u{n}" for n in range(count)],
            "dialogue_id": [f"bench/d{n // 20}" for n in range(count)],
            "text": texts,
            "fold": pl.Series([0] * count, dtype=pl.Int32),
            "split": split,
        }
    )


def measure(what: str, rows: int) -> None:
    if what == "labels":
        utterances, annotations = judgements(rows)
        rules = LabelsParams(merge="ewe", weights_from="all")
        started, used = time.perf_counter(), time.process_time()
        result = merge(rules, utterances["utterance_id"], annotations, Card({}, {}))
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - used
        found = f"{result.labels.height:,} utterances, {result.quarantine.height:,} quarantined"
        size = annotations.height
    else:
        table = sentences(rows // 10)
        started, used = time.perf_counter(), time.process_time()
        repeats = text_leaks(table).repeats
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - used
        found = f"{repeats.height:,} repeats found"
        size = table.height
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cost = f"{wall_s:.1f} s ({cpu_s:.1f} s of processor), peak {peak_gb:.2f} GB"
    print(f"{what}: {size:,} rows in {cost}, {found}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=["labels", "texts"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    chosen = parser.parse_args()
    if chosen.only:
        measure(chosen.only, chosen.rows)
        return
    for what in ("labels", "texts"):  # apart, so that one's memory does not count for the other
        subprocess.run(
            [sys.executable, __file__, "--only", what, "--rows", str(chosen.rows)], check=True
        )


if __name__ == "__main__":
    main()
