"""Whose voice it is: the speaker network of Resemblyzer, trained with the GE2E loss.

Wan et al. 2018, "Generalized end-to-end loss for speaker verification". Three LSTM layers over
1.6 s of a mel spectrogram; the last state becomes a vector of length 1 with no negative number. A
voice is the mean over windows that overlap by about half, scaled to length 1 again. Quiet sounds
are made as loud as those of the training; silence is not cut out.

S samples   T windows   D = 256
"""

from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from models.encoders.encoder import Encoded, Settings, Sound
from models.encoders.hidden import checkpoint_folder, pick_device, place, precision, to_numpy
from models.errors import UserError

MODALITY = "audio"
FEATURE_VERSION = 1
LIBRARIES = ("torch", "torchaudio")
POOLINGS = ("mean",)
RATE_HZ = 16000
CHUNK = 32

NAME = "ge2e"
#: A tensor that only the published weights have.
SIGN = "model_state/lstm.weight_ih_l2"
_MELS, _WIDTH, _LAYERS = 40, 256, 3
_FFT, _HOP = 400, 160
#: Frames of a window, frames from window to window, and the share of the last that must be sound.
_WINDOW, _STEP, _COVERED = 160, 77, 0.75
#: Quieter sounds are raised to this, in decibels below full scale.
_LOUDNESS_DB = -30.0
_MIN_S = 0.1


class SpeakerNetwork(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_MELS, _WIDTH, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, mels: Tensor) -> Tensor:
        """(T, 160, 40) to (T, 256), each of length 1."""
        _, (state, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(state[-1]).relu(), dim=-1)


class Ge2e:
    """A frozen speaker network; pooled is the voice, a frame is a window."""

    pooled_dim = frame_dim = _WIDTH

    def __init__(self, settings: Settings) -> None:
        if settings.layer != "last" or settings.dtype != "float32":
            raise UserError(
                "an encoder of ge2e has one vector and computes in float32; write "
                "`dtype: float32` and leave `layer` out"
            )
        self.device = pick_device(settings.device)
        folder = checkpoint_folder(settings)
        self.model = SpeakerNetwork()
        try:
            self.model.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"checkpoint {folder} holds no speaker network of the family ge2e; name another "
                "in params.yaml"
            ) from error
        self.model.eval().requires_grad_(False)
        place(self.model, self.device)
        self.bands = melscale_fbanks(
            _FFT // 2 + 1, 0.0, RATE_HZ / 2, _MELS, RATE_HZ, norm="slaney", mel_scale="slaney"
        )
        self.taper = torch.hann_window(_FFT)

    def encode(self, inputs: Sequence[Sound]) -> list[Encoded]:
        """See ``Encoder``."""
        return [self._encode(sound) for sound in inputs]

    def windows(self, samples: np.ndarray) -> Tensor:
        """(S,) to (T, 256): each window's vector."""
        starts = _starts(len(samples))
        end = (starts[-1] + _WINDOW) * _HOP
        padded = np.pad(samples, (0, max(0, end - len(samples))))
        mels = self._mels(torch.from_numpy(padded.astype(np.float32)))
        parts = torch.stack([mels[start : start + _WINDOW] for start in starts])
        with precision(self.device, "float32"):
            return self.model(parts.to(self.device))

    def _encode(self, sound: Sound) -> Encoded:
        if sound.rate_hz != RATE_HZ:
            raise ValueError(f"ge2e needs {RATE_HZ} Hz, got {sound.rate_hz}")
        if len(sound.samples) < _MIN_S * RATE_HZ:
            return Encoded(None, reason="too_short")
        vectors = self.windows(louder(sound.samples))
        pooled = nn.functional.normalize(vectors.mean(0), dim=-1)
        return Encoded(to_numpy(pooled), to_numpy(vectors), _STEP * _HOP / RATE_HZ)

    def _mels(self, samples: Tensor) -> Tensor:
        """(S,) to (frames, 40): power in mel bands, not its logarithm."""
        spectrum = torch.stft(
            samples,
            _FFT,
            _HOP,
            window=self.taper,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return (spectrum.abs() ** 2).T @ self.bands


def louder(samples: np.ndarray) -> np.ndarray:
    """(S,) raised to the loudness of the training where it is quieter; silence stays silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    if power <= 0:
        return samples
    gain_db = _LOUDNESS_DB - 10 * np.log10(power)
    return samples if gain_db <= 0 else (samples * 10 ** (gain_db / 20)).astype(np.float32)


def _starts(samples: int) -> list[int]:
    """First frame of every window; the last is left out where too little of it is sound."""
    frames = -(-(samples + 1) // _HOP)
    starts = list(range(0, max(1, frames - _WINDOW + _STEP + 1), _STEP))
    covered = (samples - starts[-1] * _HOP) / (_WINDOW * _HOP)
    return starts[:-1] if covered < _COVERED and len(starts) > 1 else starts


def from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names, from the names of the published weights."""
    return {name: tensors[f"model_state/{name}"] for name in SpeakerNetwork().state_dict()}


ENCODER = Ge2e
