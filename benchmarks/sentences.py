"""EmoBank's valence, arousal and dominance from TF-IDF: what a sentence encoder is set beside.

``python -m benchmarks.sentences`` in the root of the repository, with the real data beside it
(``../shared/data``, or ``AFFECTLOOM_SHARED``). Ridge regression of scikit-learn on words, alone or
with pairs of words, fitted on the published training split. Validation chooses reader and penalty
for each dimension: once by CCC, as the project's ``ridge`` on MiniLM is chosen (``python -m
benchmarks.starter``, whose figures stand in ``models/starter/README.md``), and once by r. Prints r
and CCC on the test split.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from benchmarks.project import SHARED
from models.metrics.regression import ccc, pearson

VAD = ("valence", "arousal", "dominance")
PENALTIES = np.geomspace(0.1, 1000, 9)


def main() -> None:
    """Print the table as Markdown."""
    table = pl.read_parquet(SHARED / "emobank_vad.parquet").with_columns(
        pl.col("text").fill_null("")
    )
    train, chosen_on, test = (
        table.filter(pl.col("split") == name) for name in ("train", "val", "test")
    )
    tried = []  # of each reader and penalty what is said of validation and test
    for words in (1, 2):
        reader = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, words), min_df=2)
        known = reader.fit_transform(train["text"].to_list())
        asked = [reader.transform(rows["text"].to_list()) for rows in (chosen_on, test)]
        for penalty in PENALTIES:
            model = Ridge(penalty).fit(known, train.select(VAD).to_numpy())
            tried.append([model.predict(x) for x in asked])
    print("| TF-IDF, ridge | chosen by | r | CCC |\n| --- | --- | --- | --- |")
    for place, name in enumerate(VAD):
        for chosen_by, score in (("CCC", ccc), ("r", pearson)):
            best = max(tried, key=_judge(score, chosen_on[name], place))
            found = best[1][:, place]
            r, agreed = pearson(test[name], found), ccc(test[name], found)
            print(f"| {name} | {chosen_by} | {r:.3f} | {agreed:.3f} |")


def _judge(score: Callable, truth: pl.Series, place: int) -> Callable[[list[np.ndarray]], float]:
    return lambda said: float(score(truth, said[0][:, place]))


if __name__ == "__main__":
    main()
