"""An encoder family for tests of the features stage: counts its work in a file, can be slow."""

import os
import time
from collections.abc import Sequence

import numpy as np

from models.encoders.encoder import Encoded, Settings, Sound, Text

MODALITY = "audio"
FEATURE_VERSION = 1
LIBRARIES = ("numpy",)
POOLINGS = ("mean",)
RATE_HZ = 8000
CHUNK = 4
CHECKPOINT = None


class Fake:
    """Twelve bands of the spectrum in frames of 100 ms."""

    pooled_dim = frame_dim = 12

    def __init__(self, settings: Settings) -> None:
        self.delay_s = float(os.environ.get("FAKE_DELAY_S", "0"))

    def encode(self, inputs: Sequence[Sound | Text]) -> list[Encoded]:
        with open(os.environ["FAKE_COUNT"], "a") as stream:
            stream.write(f"{len(inputs)}\n")
        time.sleep(self.delay_s)
        return [self.one(sound.samples) for sound in inputs]

    def one(self, samples: np.ndarray) -> Encoded:
        """What is made of one sound; tests of odd values put something else here."""
        whole = samples[: len(samples) // 800 * 800].reshape(-1, 800)
        if not len(whole):
            return Encoded(None, reason="too_short")
        bands = np.abs(np.fft.rfft(whole))[:, :396].reshape(len(whole), 12, 33).mean(2)
        frames = bands.astype(np.float32)
        return Encoded(frames.mean(0), frames, 0.1)


ENCODER = Fake
