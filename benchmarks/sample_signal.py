"""Does every modality of the sample corpus carry part of the signal, and does fusion help?

Generates the corpus, then predicts VAD (ridge) and category (logistic regression) of speakers of
a session from the other sessions, once from the true outward cues in ``factors.csv`` and once from
plain features taken from the media: pixels of the face that MTCNN finds, pitch and energy
statistics of the voice, sentence embeddings of the text.

    python -m benchmarks.sample_signal            # generates into a temporary folder
    python -m benchmarks.sample_signal --factors  # true cues only, no media, a second
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the numbers must not depend on the core count

import numpy as np
import polars as pl
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import f1_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks.sample.process import CUES, draw_factors, judge
from tasks.sample.stage import SampleParams, make
from tasks.targets import VAD

SINGLE = ("video", "audio", "text")
COMPONENTS = 20  # of each modality
STRENGTHS = np.logspace(-3, 0.5, 8)
PENALTIES = np.logspace(0, 4, 13)


def merged_targets(
    utterances: list[str], annotations: pl.DataFrame
) -> tuple[np.ndarray, list[str]]:
    """The raters' mean VAD in [-1, 1], (N, 3), and their most frequent category."""
    order = pl.DataFrame({"utterance": utterances})
    vad = (
        annotations.filter(pl.col("target").is_in(VAD))
        .group_by("utterance", "target")
        .agg(((pl.col("value").mean() - 3) / 2).alias("value"))
        .pivot("target", index="utterance", values="value")
    )
    category = (
        annotations.filter(pl.col("target") == "category")
        .group_by("utterance", "label")
        .len()
        .sort("utterance", "len", "label", descending=[False, True, False])
        .unique("utterance", keep="first", maintain_order=True)
    )
    joined = order.join(vad, on="utterance", how="left").join(category, on="utterance", how="left")
    return joined.select(VAD).to_numpy(), joined["label"].to_list()


def with_context(features: np.ndarray, turns: np.ndarray, back: int = 2) -> np.ndarray:
    """Features (N, D) beside those of the previous turns of the dialogue, zeros before its start.

    Rows are in order of dialogue and turn; each lag also gets a column that says it exists.
    """
    parts = [features]
    for lag in range(1, back + 1):
        exists = (turns >= lag)[:, None]
        parts += [np.where(exists, np.roll(features, lag, axis=0), 0.0), exists.astype(float)]
    return np.concatenate(parts, axis=1)


def ccc(truth: np.ndarray, guess: np.ndarray) -> float:
    """Concordance correlation with population variances."""
    shift = (truth.mean() - guess.mean()) ** 2
    covariance = ((truth - truth.mean()) * (guess - guess.mean())).mean()
    return float(2 * covariance / (truth.var() + guess.var() + shift))


def compress(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Standardise (N, D) and keep at most ``COMPONENTS`` principal components, fitted on ``train``.

    Rows of NaN (the modality does not exist) become the training mean.
    """
    mean = np.nanmean(features[train], axis=0)
    filled = (
        StandardScaler()
        .fit(features[train])
        .transform(np.where(np.isnan(features), mean, features))
    )
    if features.shape[1] <= COMPONENTS:
        return filled
    return PCA(COMPONENTS, svd_solver="full").fit(filled[train]).transform(filled)


def leave_one_session_out(
    blocks: list[np.ndarray],
    vad: np.ndarray,
    category: list[str],
    sessions: np.ndarray,
    turns: np.ndarray | None,
) -> tuple[float, float]:
    """Mean CCC over VAD and weighted F1, predictions of all held-out sessions pooled.

    Args:
        blocks: features (N, D) of each modality used.
        vad: targets (N, 3).
        category: targets, N names.
        sessions: names (N,); each is held out once.
        turns: position in the dialogue (N,) adds the features of the previous turns; None does not.
    """
    labels = np.array(category)
    guess_vad, guess_category = np.zeros_like(vad), np.empty_like(labels)
    for session in np.unique(sessions):
        test = sessions == session
        features = np.concatenate([compress(block, ~test) for block in blocks], axis=1)
        if turns is not None:
            features = with_context(features, turns)
        for dim in range(3):
            ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
            ridge.fit(features[~test], vad[~test, dim])
            guess_vad[test, dim] = ridge.predict(features[test])
        # the penalty is chosen on the training sessions alone
        inner = list(LeaveOneGroupOut().split(features[~test], groups=sessions[~test]))
        logistic = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(Cs=STRENGTHS, cv=inner, scoring="f1_weighted", max_iter=1000),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn announces names it will change
            logistic.fit(features[~test], labels[~test])
        guess_category[test] = logistic.predict(features[test])
    mean_ccc = float(np.mean([ccc(vad[:, dim], guess_vad[:, dim]) for dim in range(3)]))
    return mean_ccc, float(f1_score(labels, guess_category, average="weighted"))


def constant_baseline(category: list[str], sessions: np.ndarray) -> tuple[float, float]:
    """What always answering the training mean or the most frequent category scores."""
    labels = np.array(category)
    guess = np.empty_like(labels)
    for session in np.unique(sessions):
        names, counts = np.unique(labels[sessions != session], return_counts=True)
        guess[sessions == session] = names[counts.argmax()]
    return 0.0, float(f1_score(labels, guess, average="weighted"))


def compare(
    by_modality: dict[str, np.ndarray],
    vad: np.ndarray,
    category: list[str],
    sessions: np.ndarray,
    turns: np.ndarray,
) -> dict[str, tuple[float, float]]:
    """(mean CCC, weighted F1) of each row of the table, the constant baseline first."""
    every = [by_modality[name] for name in SINGLE]
    scores = {"constant": constant_baseline(category, sessions)}
    for name in SINGLE:
        scores[name] = leave_one_session_out([by_modality[name]], vad, category, sessions, None)
    scores["all"] = leave_one_session_out(every, vad, category, sessions, None)
    scores["all + context"] = leave_one_session_out(every, vad, category, sessions, turns)
    return scores


def factor_scores(params: SampleParams) -> dict[str, tuple[float, float]]:
    """The table on the true outward cues; needs no media."""
    factors = draw_factors(params)
    vad, category = merged_targets(factors["utterance"].to_list(), judge(params, factors))
    cues = {name: factors.select(columns).to_numpy() for name, columns in CUES.items()}
    return compare(cues, vad, category, factors["session"].to_numpy(), factors["turn"].to_numpy())


def media_scores(folder: Path) -> dict[str, tuple[float, float]]:
    """The table on plain features of the media of a generated corpus."""
    from benchmarks.sample_features import media_features  # heavy: torch and librosa

    utterances = pl.read_csv(folder / "utterances.csv", infer_schema_length=None)
    annotations = pl.read_csv(folder / "annotations.csv", infer_schema_length=None)
    vad, category = merged_targets(utterances["utterance"].to_list(), annotations)
    sessions, turns = utterances["session"].to_numpy(), utterances["turn"].to_numpy()
    return compare(media_features(folder, utterances), vad, category, sessions, turns)


def print_table(title: str, scores: dict[str, tuple[float, float]]) -> None:
    print(f"\n{title}\n{'':16}{'VAD mean CCC':>14}{'weighted F1':>14}")
    for name, (concordance, f1) in scores.items():
        print(f"{name:16}{concordance:14.3f}{f1:14.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factors", action="store_true", help="true cues only, no media")
    parser.add_argument("--seed", type=int, default=SampleParams().seed)
    arguments = parser.parse_args()
    params = SampleParams(seed=arguments.seed)
    print_table("true outward cues", factor_scores(params))
    if arguments.factors:
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "sample"
        start = time.process_time()
        make(params, folder)
        seconds = time.process_time() - start
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"\ngenerated in {seconds:.1f} s of one core, {size / 2**20:.1f} MB")
        print_table("plain features of the media", media_scores(folder))


if __name__ == "__main__":
    main()
