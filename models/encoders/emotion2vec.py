"""emotion2vec and emotion2vec+: speech networks trained to hear emotion.

Ma et al. 2024, "emotion2vec: Self-supervised pre-training for speech emotion representation" (ACL
Findings). A convolution over the waveform, relative positions by grouped convolutions, ten learned
tokens before the frames, and blocks whose attention falls with the distance (ALiBi), the first four
of which are the context encoder. Layer 0 is what comes out of that, layers 1 to 8 are the others.

The published file holds a classifier on the mean of the last layer too. Its classes are not read
here: a method learns its own. Written from the paper and from the published code (FunASR, MIT,
commit 3c58cb5), against which it is checked; nothing of that is needed.

S samples   T frames   N tokens, the learned ones first   D width   H heads
"""

import json

import numpy as np
from safetensors.torch import load_file
from torch import nn

from models.encoders.hf_audio import HfAudio
from models.encoders.hidden import checkpoint_folder, prepare
from models.errors import UserError
from models.layers.emotion2vec import NAME, Emotion2vecNetwork

MODALITY = "audio"
FEATURE_VERSION = 1
LIBRARIES = ("torch",)
POOLINGS = ("mean", "mean_std", "max")
RATE_HZ = 16000
CHUNK = 16

#: As in the published preprocessing, which normalises a sound like a layer.
_EPSILON = 1e-5


class Emotion2vec(HfAudio):
    """A frozen emotion2vec."""

    def read_network(self) -> nn.Module:
        """See ``HfAudio``."""
        folder = checkpoint_folder(self.settings)
        file = folder / "config.json"
        sizes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if sizes.pop("network", None) != NAME:
            raise UserError(
                f"checkpoint {folder} holds no emotion2vec; name another family or checkpoint in "
                "params.yaml"
            )
        sizes.pop("trained_on", None)
        network = Emotion2vecNetwork(**sizes)
        try:
            network.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"checkpoint {folder} does not hold every weight of its emotion2vec; fetch it "
                "again with `affectloom fetch`"
            ) from error
        return prepare(network, self.settings.dtype)

    def normalized(self, samples: np.ndarray) -> np.ndarray:
        """(S,) with mean 0 and variance 1, nearly; silence stays silence."""
        return (samples - samples.mean()) / np.sqrt(samples.var() + _EPSILON)


ENCODER = Emotion2vec
