"""Speech networks with a head for arousal, dominance and valence: a teacher of the voice's VAD.

They are wav2vec2 networks fine-tuned on rated speech (MSP-Podcast), with a dense layer, tanh and a
linear layer on the mean of their last hidden states. What the head calls its outputs, on about
[0, 1], stands in ``config.json``; here they come as valence, arousal, dominance on about [-1, 1].
Values beyond are kept, and those far beyond are flagged.

Pooled are the three numbers. The sequence holds the hidden states, so that one pass over a corpus
makes the frames of the voice and the teacher's opinion.

S samples   T frames   D width of a frame
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from models.encoders.encoder import Encoded, Settings, Sound
from models.encoders.hf_audio import HfAudio
from models.encoders.hidden import checkpoint_folder
from models.errors import UserError

MODALITY = "audio"
FEATURE_VERSION = 1
LIBRARIES = ("torch", "transformers")
POOLINGS = ("mean",)
RATE_HZ = 16000
CHUNK = 16

NAMES = ("valence", "arousal", "dominance")
#: Beyond this a value says more about the network than about the voice.
_PLAUSIBLE = 1.5
_TRUNK, _HEAD = "wav2vec2.", "classifier."
_PARTS = ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")


class AudioVad(HfAudio):
    """A frozen speech network and its head for dimensions.

    Args:
        settings: which checkpoint; its last layer is read.
        batch: see ``HfAudio``.
    """

    def __init__(self, settings: Settings, batch: int | None = None) -> None:
        if settings.layer != "last" or settings.unit_norm:
            raise UserError(
                "params.yaml: an encoder of audio_vad reads the last layer as it is; leave "
                "`layer` and `unit_norm` out"
            )
        folder = checkpoint_folder(settings)
        head = read_head(folder)
        super().__init__(replace(settings, pooling="mean"), batch)
        if self.config.model_type != "wav2vec2":
            raise UserError(
                f"checkpoint {folder} is a {self.config.model_type} network; audio_vad takes "
                "wav2vec2 networks with a head for arousal, dominance and valence"
            )
        labels = cast(Mapping[int, str], self.config.id2label or {})
        self.order = output_order(labels, folder)
        width = self.config.hidden_size
        shapes = [tuple(head[name].shape) for name in _PARTS]
        inner = shapes[0][0]
        if shapes != [(inner, width), (inner,), (3, inner), (3,)]:
            raise UserError(
                f"checkpoint {folder}: the head's tensors have shapes {shapes}; expected 3 outputs "
                f"on {width} hidden units"
            )
        self.head = {name: value.float() for name, value in head.items()}

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return len(NAMES)

    def encode(self, inputs: Sequence[Sound]) -> list[Encoded]:
        """See ``Encoder``; pooled are valence, arousal, dominance."""
        return [self.judged(found) for found in super().encode(inputs)]

    def judged(self, found: Encoded) -> Encoded:
        """The same with the head's opinion on the mean frame in place of that frame."""
        if found.pooled is None:
            return found
        vad = to_vad(self.raw(torch.from_numpy(found.pooled)).numpy()[self.order])
        is_odd = bool((np.abs(vad) > _PLAUSIBLE).any())
        return replace(found, pooled=vad, reason="vad_implausible" if is_odd else found.reason)

    def raw(self, mean_frame: Tensor) -> Tensor:
        """(D,) to the head's three outputs, in its own order, on about [0, 1]."""
        dense, dense_bias, out, out_bias = (self.head[name] for name in _PARTS)
        # row by row on the CPU, so that no batch can change a bit
        return out @ torch.tanh(dense @ mean_frame + dense_bias) + out_bias


def to_vad(unit: np.ndarray) -> np.ndarray:
    """(3,) on about [0, 1] to about [-1, 1], float32; nothing is clipped."""
    return (2 * unit - 1).astype(np.float32)


def output_order(labels: Mapping[int, str], folder: Path) -> list[int]:
    """Places of valence, arousal and dominance among the head's outputs, by their names."""
    places = {str(name).lower(): int(place) for place, name in labels.items()}
    if set(places) != set(NAMES):
        raise UserError(
            f"checkpoint {folder}: `id2label` in config.json names the outputs "
            f"{sorted(places)}; it must name arousal, dominance and valence, because their order "
            "cannot be guessed"
        )
    return [places[name] for name in NAMES]


def read_head(folder: Path) -> dict[str, Tensor]:
    """The head's tensors by name, of a checkpoint that also holds its network."""
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.is_file():
        with safe_open(safe, "pt") as file:
            keys = list(file.keys())
            found = {key: file.get_tensor(key) for key in keys if key.startswith(_HEAD)}
    elif pickled.is_file():
        state = cast(
            Mapping[str, Tensor],
            torch.load(pickled, map_location="cpu", weights_only=True, mmap=True),
        )
        keys = list(state)
        found = {key: state[key].clone() for key in keys if key.startswith(_HEAD)}
    else:
        raise UserError(
            f"checkpoint {folder} has neither model.safetensors nor pytorch_model.bin; audio_vad "
            "needs one file with network and head"
        )
    missing = [_HEAD + name for name in _PARTS if _HEAD + name not in found]
    # transformers would draw a network at random that the file lacks
    if not any(key.startswith(_TRUNK) for key in keys):
        missing.insert(0, f"{_TRUNK}*")
    if missing:
        raise UserError(
            f"checkpoint {folder} lacks {', '.join(missing)}; audio_vad needs a wav2vec2 network "
            "fine-tuned for arousal, dominance and valence"
        )
    return {name: found[_HEAD + name] for name in _PARTS}


ENCODER = AudioVad
