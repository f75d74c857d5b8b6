"""Where somebody speaks: the network of silero-vad, and stretches of speech out of its judgements.

The magnitudes of a short Fourier transform, four convolutions, an LSTM that runs over the whole
sound, and one number for every 32 ms. All frames pass the convolutions together; only the LSTM goes
frame by frame.

S samples   T frames
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from models.errors import UserError

NAME = "silero_vad"
RATE_HZ = 16000
#: Samples of a frame, and those before it that it sees as well.
FRAME, CONTEXT = 512, 64
#: A tensor that only the published weights have.
SIGN = "lstm_cell.weight_ih"

_BINS, _WINDOW, _HOP = 129, 256, 128
_WIDTH = 128


class SpeechActivity(nn.Module):
    """The network; weights of silero-vad 6 for 16 kHz fit it."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * _BINS, _WINDOW, _HOP, bias=False)
        self.conv1 = nn.Conv1d(_BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, 2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, 2, padding=1)
        self.conv4 = nn.Conv1d(64, _WIDTH, 3, padding=1)
        self.lstm = nn.LSTM(_WIDTH, _WIDTH)
        self.final_conv = nn.Conv1d(_WIDTH, 1, 1)

    def forward(self, samples: Tensor) -> Tensor:
        """(S,) at 16 kHz to (T,): how certain it is that somebody speaks in each frame."""
        frames = -(-len(samples) // FRAME)
        if not frames:
            return samples.new_zeros(0)
        padded = functional.pad(samples, (CONTEXT, frames * FRAME - len(samples)))
        x = padded.unfold(0, CONTEXT + FRAME, FRAME)[:, None]  # (T, 1, 576)
        x = self.stft_conv(functional.pad(x, (0, 64), "reflect"))
        x = (x[:, :_BINS] ** 2 + x[:, _BINS:] ** 2).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = convolution(x).relu()  # (T, 128, 1) in the end
        h, _ = self.lstm(x.squeeze(-1))
        return self.final_conv(h.relu()[:, :, None]).sigmoid().flatten()


def from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names, from the names of the published weights."""
    found = {}
    for name in SpeechActivity().state_dict():
        published = name.replace("lstm.", "lstm_cell.").replace("_l0", "")
        found[name] = tensors[published]
    return found


def load(folder: Path) -> SpeechActivity:
    """The network of a checkpoint, frozen."""
    model = SpeechActivity()
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {folder} holds no network for speech activity; run the stage checkpoints "
            "(`dvc repro checkpoints`)"
        ) from error
    return model.eval().requires_grad_(False)


def probabilities(model: SpeechActivity, samples: np.ndarray) -> np.ndarray:
    """(S,) float32 at 16 kHz to (T,): of speech in each frame of 32 ms."""
    with torch.inference_mode():
        return model(torch.from_numpy(np.ascontiguousarray(samples, np.float32))).numpy()


@dataclass(frozen=True)
class Hearing:
    """What counts as a stretch of speech; the defaults are those of silero-vad.

    Attributes:
        threshold: speech begins where it is this certain.
        hysteresis: it ends where certainty is lower than the threshold by so much.
        min_speech_s: shorter stretches are dropped.
        min_silence_s: shorter silences end nothing.
        pad_s: is added at both ends, as far as there is silence.
    """

    threshold: float = 0.5
    hysteresis: float = 0.15
    min_speech_s: float = 0.25
    min_silence_s: float = 0.1
    pad_s: float = 0.03


def stretches(
    certainty: Sequence[float] | np.ndarray, length_s: float, hearing: Hearing | None = None
) -> list[tuple[float, float]]:
    """Start and end of every stretch of speech, in seconds, in order, apart from each other.

    Args:
        certainty: of each frame.
        length_s: of the sound.
        hearing: what counts.
    """
    how = hearing or Hearing()
    hop_s = FRAME / RATE_HZ
    found: list[tuple[float, float]] = []
    start: float | None = None
    silent_from: float | None = None
    for index, value in enumerate(certainty):
        now_s = index * hop_s
        if value >= how.threshold:
            start, silent_from = now_s if start is None else start, None
        elif start is not None and value < how.threshold - how.hysteresis:
            silent_from = now_s if silent_from is None else silent_from
            if now_s - silent_from >= how.min_silence_s:
                found.append((start, silent_from))
                start = silent_from = None
    if start is not None:
        found.append((start, length_s))
    kept = [(low, high) for low, high in found if high - low > how.min_speech_s]
    return _padded(kept, length_s, how.pad_s)


def _padded(
    stretches: Sequence[tuple[float, float]], length_s: float, pad_s: float
) -> list[tuple[float, float]]:
    """Each longer at both ends; neighbours share the silence between them."""
    found = []
    for index, (low, high) in enumerate(stretches):
        before = stretches[index - 1][1] if index else -pad_s
        after = stretches[index + 1][0] if index + 1 < len(stretches) else length_s + pad_s
        low -= min(pad_s, (low - before) / 2) if index else min(pad_s, low)
        high += min(pad_s, (after - high) / 2)
        found.append((round(low, 3), round(min(high, length_s), 3)))
    return found
