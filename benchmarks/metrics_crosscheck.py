"""Our metrics beside scikit-learn's, torchmetrics' and scipy's on the same seeded predictions.

    python -m benchmarks.metrics_crosscheck [--rows 1000] [--seed 0]

Prints metric, ours, library and the difference; ends with status 1 if one differs by more than
1e-6 for the float32 library (torchmetrics) or 1e-10 for the others.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import sklearn.metrics as sk
import torch
import torchmetrics as tm
from scipy import stats

from models.metrics.scoring import score_target

TOLERANCE = {"scikit-learn": 1e-10, "scipy": 1e-10, "numpy": 1e-10, "torchmetrics": 1e-6}
CLASSES = ("angry", "happy", "neutral", "sad", "excited", "frustrated")
DIMENSIONS = ("valence", "arousal", "dominance")
N_LABELS = 26

Row = tuple[str, float, str, float]


def classification_rows(n: int, rng: np.random.Generator) -> Iterator[Row]:
    n_classes = len(CLASSES)
    truth = rng.choice(n_classes, n, p=(0.1, 0.09, 0.24, 0.15, 0.18, 0.24))
    logits = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    prediction = probabilities.argmax(axis=1)
    ours = score_target("category", CLASSES, truth, prediction, probabilities)
    yield "accuracy", ours["accuracy"], "scikit-learn", sk.accuracy_score(truth, prediction)
    for name, function in {
        "precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score
    }.items():  # fmt: skip
        weighted = function(truth, prediction, average="weighted")
        yield f"weighted_{name}", ours[f"weighted_{name}"], "scikit-learn", weighted
        by_class = function(truth, prediction, average=None)
        for index, class_name in enumerate(CLASSES):
            key = f"{name}/{class_name}"
            yield key, ours[key], "scikit-learn", by_class[index]
    macro = sk.f1_score(truth, prediction, average="macro")
    yield "macro_f1", ours["macro_f1"], "scikit-learn", macro
    yield "uar", ours["uar"], "scikit-learn", sk.balanced_accuracy_score(truth, prediction)
    top = sk.top_k_accuracy_score(truth, probabilities, k=3)
    yield "top3_accuracy", ours["top3_accuracy"], "scikit-learn", top
    yield "log_loss", ours["log_loss"], "scikit-learn", sk.log_loss(truth, probabilities)
    brier = np.mean(((probabilities - np.eye(n_classes)[truth]) ** 2).sum(axis=1))
    yield "brier", ours["brier"], "numpy", float(brier)
    t, p = torch.from_numpy(truth), torch.from_numpy(probabilities)
    for name, metric in {
        "accuracy": tm.classification.MulticlassAccuracy(n_classes, average="micro"),
        "weighted_f1": tm.classification.MulticlassF1Score(n_classes, average="weighted"),
        "macro_f1": tm.classification.MulticlassF1Score(n_classes, average="macro"),
        "uar": tm.classification.MulticlassRecall(n_classes, average="macro"),
        "top3_accuracy": tm.classification.MulticlassAccuracy(n_classes, top_k=3, average="micro"),
        "ece": tm.classification.MulticlassCalibrationError(n_classes, n_bins=15),
    }.items():
        yield name, ours[name], "torchmetrics", float(metric(p, t))


def population_ccc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Lin's formula spelt with numpy's covariance matrix, ddof 0."""
    (var_t, cov), (_, var_p) = np.cov(truth, prediction, ddof=0)
    return float(2 * cov / (var_t + var_p + (truth.mean() - prediction.mean()) ** 2))


def value_rows(n: int, rng: np.random.Generator) -> Iterator[Row]:
    truth = np.tanh(rng.normal(0, 0.5, (n, 3)))
    prediction = 0.6 * truth + 0.1 + rng.normal(0, 0.2, (n, 3))
    ours = score_target("values", DIMENSIONS, truth, prediction)
    t, p = torch.from_numpy(truth), torch.from_numpy(prediction)
    # torchmetrics takes sample variances (ddof 1), we and the papers population variances; the two
    # agree where the means do, so its comparison is on predictions moved to the mean of the truth.
    centred = prediction - prediction.mean(axis=0) + truth.mean(axis=0)
    concordance = tm.ConcordanceCorrCoef(num_outputs=3)(torch.from_numpy(centred), t)
    ours_centred = score_target("values", DIMENSIONS, truth, centred)
    correlation = tm.PearsonCorrCoef(num_outputs=3)(p, t)
    for index, name in enumerate(DIMENSIONS):
        a, b = truth[:, index], prediction[:, index]
        yield f"mse/{name}", ours[f"mse/{name}"], "scikit-learn", sk.mean_squared_error(a, b)
        root = sk.root_mean_squared_error(a, b)
        yield f"rmse/{name}", ours[f"rmse/{name}"], "scikit-learn", root
        yield f"mae/{name}", ours[f"mae/{name}"], "scikit-learn", sk.mean_absolute_error(a, b)
        yield f"pearson/{name}", ours[f"pearson/{name}"], "scipy", stats.pearsonr(a, b).statistic
        key = f"pearson/{name}"
        yield key, ours[key], "torchmetrics", float(correlation[index])
        yield f"ccc/{name}", ours[f"ccc/{name}"], "numpy", population_ccc(a, b)
        key = f"ccc/{name}"
        yield f"{key}, centred", ours_centred[key], "torchmetrics", float(concordance[index])
    pooled = population_ccc(truth.ravel(), prediction.ravel())
    yield "pooled_ccc", ours["pooled_ccc"], "numpy", pooled
    sentiment = np.round(np.clip(rng.normal(0, 1.6, n), -3, 3) * 5) / 5
    guess = 0.8 * sentiment + rng.normal(0, 0.9, n)
    ours = score_target("values", ["sentiment"], sentiment, guess)
    classes = (np.round(np.clip(x, -3, 3)).astype(int) for x in (sentiment, guess))
    yield "acc7", ours["acc7"], "scikit-learn", sk.accuracy_score(*classes)
    polar = (sentiment >= 0, guess >= 0)
    yield "acc2_has0", ours["acc2_has0"], "scikit-learn", sk.accuracy_score(*polar)
    weighted = sk.f1_score(*polar, average="weighted")
    yield "f1_has0", ours["f1_has0"], "scikit-learn", weighted
    kept = sentiment != 0
    polar = (sentiment[kept] > 0, guess[kept] > 0)
    yield "acc2_non0", ours["acc2_non0"], "scikit-learn", sk.accuracy_score(*polar)
    weighted = sk.f1_score(*polar, average="weighted")
    yield "f1_non0", ours["f1_non0"], "scikit-learn", weighted


def label_rows(n: int, rng: np.random.Generator) -> Iterator[Row]:
    names = [f"label{index}" for index in range(N_LABELS)]
    truth = rng.random((n, N_LABELS)) < rng.uniform(0.03, 0.4, N_LABELS)
    scores = 1 / (1 + np.exp(-rng.normal(-1, 1, truth.shape) - 1.2 * truth))
    ours = score_target("labels", names, truth, scores)
    mean = sk.average_precision_score(truth, scores, average="macro")
    yield "map", ours["map"], "scikit-learn", float(mean)
    metric = tm.classification.MultilabelAveragePrecision(N_LABELS)
    library = float(metric(torch.from_numpy(scores), torch.from_numpy(truth).long()))
    yield "map", ours["map"], "torchmetrics", library
    predicted = scores >= 0.5
    micro = sk.f1_score(truth, predicted, average="micro")
    yield "micro_f1", ours["micro_f1"], "scikit-learn", micro
    macro = sk.f1_score(truth, predicted, average="macro")
    yield "macro_f1 (labels)", ours["macro_f1"], "scikit-learn", macro
    balanced = [sk.balanced_accuracy_score(t, p) for t, p in zip(truth.T, predicted.T, strict=True)]
    yield "wa", ours["wa"], "scikit-learn", float(np.mean(balanced))
    exact = sk.accuracy_score(truth, predicted)
    yield "exact_match", ours["exact_match"], "scikit-learn", exact
    kept = truth.any(axis=1)
    top = np.zeros_like(truth)
    np.put_along_axis(top, np.argsort(-scores, axis=1)[:, :3], True, axis=1)
    for name, function in {"recall": sk.recall_score, "precision": sk.precision_score}.items():
        library = function(truth[kept], top[kept], average="samples")
        yield f"{name}_top3", ours[f"{name}_top3"], "scikit-learn", library
    yield (
        "hamming_top3",
        ours["hamming_top3"],
        "scikit-learn",
        1 - sk.hamming_loss(truth[kept], top[kept]),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{'metric':<24}{'ours':>14}{'library':>14}{'difference':>13}  library")
    worst = 0
    for rows in (classification_rows, value_rows, label_rows):
        for name, ours, library, theirs in rows(options.rows, rng):
            gap = float(ours) - theirs
            wrong = not abs(gap) <= TOLERANCE[library]
            worst += wrong
            mark = "  DIFFERS" if wrong else ""
            print(f"{name:<24}{ours:>14.8f}{theirs:>14.8f}{gap:>13.1e}  {library}{mark}")
    print("all agree" if not worst else f"{worst} differ")
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
