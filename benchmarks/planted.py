"""Dialogues in which it is known what context and fusion can gain.

The sample's hidden process draws them: no modality carries everything, moods last and speakers move
each other. Features are the outward cues of each modality, turned into more dimensions.

In the lopsided ones text also says the category outright, loudly, and is right in ``TOLD`` of the
utterances: a network learns that first, and what the other modalities add comes late or never. That
is what balancing plug-ins are to mend.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks.sample.process import CATEGORIES, CUES, SampleParams, categorise, draw_factors
from tasks.targets import VAD

FILE = "planted.parquet"
LOPSIDED = "lopsided.parquet"
#: How often, and how much louder than cues, lopsided text says the category.
TOLD, LOUD = 0.6, 3.0
#: Seeds of the hidden process; the last one is tested on: other people, other dialogues.
SEEDS = (31, 32, 33, 34)
WIDTH = 16


def planted(root: Path) -> None:
    """Dialogues of the sample's process with their outward cues turned into features."""
    _draw(root, FILE, is_lopsided=False)


def lopsided(root: Path) -> None:
    """The same dialogues, in which text is much easier to learn from than the rest."""
    _draw(root, LOPSIDED, is_lopsided=True)


def _draw(root: Path, file: str, is_lopsided: bool) -> None:
    random = np.random.default_rng(SEEDS[0])
    lifts = {name: random.normal(size=(len(CUES[name]), WIDTH)) for name in CUES}
    parts = []
    for seed in SEEDS:
        size = SampleParams(seed=seed, dialogues=60, mean_turns=15, speakers=48, sessions=8)
        parts.append(
            draw_factors(size).with_columns(
                pl.format("{}_{}", pl.lit(seed), name).alias(name)
                for name in ("utterance", "dialogue", "speaker")
            ).with_columns(split=pl.lit("test" if seed == SEEDS[-1] else "train"))
        )  # fmt: skip
    table = pl.concat(parts)
    cues = {name: table.select(columns).to_numpy() for name, columns in CUES.items()}
    truth = categorise(table.select(VAD).to_numpy())
    labels = [CATEGORIES[i] for i in truth]
    features = {name: found @ lifts[name] for name, found in cues.items()}
    if is_lopsided:
        said = _hearsay(random, np.asarray(truth))
        features["text"] = np.concatenate([features["text"], LOUD * said], 1)
        cues["text"] = np.concatenate([cues["text"], said], 1)
    table.select(
        "dialogue", "speaker", "split",
        utterance_id="utterance", turn=pl.col("turn"), label=pl.Series(labels),
        **{name: pl.Series(values.tolist()) for name, values in features.items()},
    ).write_parquet(root / file)  # fmt: skip
    is_train = (table["split"] == "train").to_numpy()
    alone = np.concatenate(list(cues.values()), 1)
    around = _neighbours(alone, table["dialogue"].rle_id().to_numpy(), 3)
    reference = {
        **{
            f"logistic regression on {name} alone": _logistic(found, labels, is_train)
            for name, found in cues.items()
            if is_lopsided
        },
        "logistic regression on the cues": _logistic(alone, labels, is_train),
        "with those of 3 utterances on each side": _logistic(around, labels, is_train),
    }
    (root / "reference.json").write_text(json.dumps(reference) + "\n")


def _hearsay(random: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """(N, C) one-hot: the category in ``TOLD`` of the rows, one of the others in the rest."""
    count = len(CATEGORIES)
    wrong = (truth + random.integers(1, count, len(truth))) % count
    said = np.where(random.random(len(truth)) < TOLD, truth, wrong)
    return np.eye(count)[said]


def _neighbours(rows: np.ndarray, dialogue: np.ndarray, reach: int) -> np.ndarray:
    """Rows (N, D) beside those up to ``reach`` before and after in the dialogue, else 0."""
    parts = []
    for lag in range(-reach, reach + 1):
        inside = (np.roll(dialogue, lag) == dialogue)[:, None]
        parts.append(np.where(inside, np.roll(rows, lag, axis=0), 0.0))
    return np.concatenate(parts, 1)


def _logistic(features: np.ndarray, labels: list[str], is_train: np.ndarray) -> float:
    """Weighted F1 on the others."""
    truth = np.array(labels)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    fitted.fit(features[is_train], truth[is_train])
    return float(
        f1_score(truth[~is_train], fitted.predict(features[~is_train]), average="weighted")
    )
