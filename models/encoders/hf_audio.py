"""Speech encoders from transformers: wav2vec2, HuBERT, WavLM, data2vec-audio, Whisper's encoder.

Padding a batch changes the features of group-norm wav2vec2 and HuBERT by 18 to 51 %, mask or not,
because the norm runs over time. On a CPU every stretch of sound therefore runs alone at its exact
length, which costs nothing there. On a GPU stretches of equal length share a batch, and those
networks whose mask is exact take unequal ones as well.

S samples   T frames   D width of a frame
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel

from models.encoders.encoder import Encoded, Settings, Sound
from models.encoders.hidden import (
    Layers,
    Output,
    checkpoint_folder,
    load_model,
    pick_device,
    place,
    precision,
    runs,
)
from models.encoders.whisper import WhisperEar
from models.errors import UserError

MODALITY = "audio"
FEATURE_VERSION = 1
#: Of networks that give other features where the rest of the family gives the same.
NETWORK_VERSIONS = {"whisper": 2}
LIBRARIES = ("torch", "transformers")
POOLINGS = ("mean", "mean_std", "max")
RATE_HZ = 16000
CHUNK = 16

#: Their attention and positional convolution see nothing of masked frames, provided that the norms
#: of the waveform layers run over channels only. data2vec-audio's stacked convolutions do.
_MASK_IS_EXACT = {"wav2vec2", "hubert", "wavlm"}
#: A window is cut where all of it is known; the least overlap hides the edges' missing context.
_MIN_OVERLAP_S = 0.2


@dataclass(frozen=True)
class _Window:
    """Samples ``start`` to ``stop`` of a sound; frames ``first`` to ``last`` of it are kept."""

    sound: int
    start: int
    stop: int
    first: int
    last: int


class HfAudio:
    """A frozen speech network.

    Args:
        settings: which checkpoint and what of it.
        batch: windows computed at once; default 1 on a CPU, 16 on a GPU.
    """

    def __init__(self, settings: Settings, batch: int | None = None) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.batch = batch or (16 if self.device.type == "cuda" else 1)
        model: Any = self.read_network()
        self.config = model.config
        self.is_whisper = self.config.model_type == "whisper"
        self.model: nn.Module = model
        if self.is_whisper:
            self.model = ear = WhisperEar(model.get_encoder(), checkpoint_folder(settings))
            self.hop = self.receptive = ear.hop
            blocks, width = self.config.encoder_layers, self.config.d_model
            max_s = min(settings.max_s, ear.longest_s)
        elif hasattr(self.config, "conv_stride"):
            self.hop, self.receptive = _convolution(
                self.config.conv_kernel, self.config.conv_stride
            )
            blocks, width = self.config.num_hidden_layers, self.config.hidden_size
            max_s = settings.max_s
        else:
            raise UserError(
                f"checkpoint {settings.checkpoint} is a {self.config.model_type} network, which "
                "hf_audio cannot feed: it takes wav2vec2, HuBERT, WavLM, data2vec-audio or Whisper"
            )
        self.layers = Layers(settings, blocks, width)
        self.layers.shorten(self.model)
        place(self.model, self.device)
        self.normalizes = self._reads_normalization()
        self.mask_is_exact = (
            self.config.model_type in _MASK_IS_EXACT and self.config.feat_extract_norm == "layer"
        )
        self.window = int(max_s * RATE_HZ) // self.hop * self.hop
        self.overlap = int(settings.overlap_s * RATE_HZ / self.hop)
        if not _MIN_OVERLAP_S <= settings.overlap_s <= max_s / 2:
            raise UserError(
                f"an encoder's overlap_s is {settings.overlap_s:g}; it must lie between "
                f"{_MIN_OVERLAP_S:g} s and half of max_s ({max_s / 2:g} s)"
            )

    def read_network(self) -> nn.Module:
        """The network, ready to compute; its ``config`` says its sizes."""
        return load_model(AutoModel, self.settings)

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return self.layers.pooled_dim

    @property
    def frame_dim(self) -> int:
        """See ``Encoder``."""
        return self.layers.frame_dim

    def encode(self, inputs: Sequence[Sound]) -> list[Encoded]:
        """See ``Encoder``."""
        results: list[Encoded | None] = [None] * len(inputs)
        whole: list[int] = []
        for index, sound in enumerate(inputs):
            if sound.rate_hz != RATE_HZ:
                raise ValueError(f"hf_audio needs {RATE_HZ} Hz, got {sound.rate_hz}")
            windows = self.windows(index, len(sound.samples))
            if not windows:
                results[index] = Encoded(None, reason="too_short")
            elif len(windows) == 1:
                whole.append(index)
            else:
                samples = self.normalized(sound.samples)
                frames = self.forward([samples], windows, lambda window: 0)
                results[index] = self.layers.encoded(
                    (part for _, part in frames), hop_s=self.hop / RATE_HZ
                )
        # short sounds of like length share a batch; which ones does not matter for the result
        whole.sort(key=lambda index: len(inputs[index].samples))
        samples = {index: self.normalized(inputs[index].samples) for index in whole}
        windows = [self.windows(index, len(samples[index]))[0] for index in whole]
        for window, part in self.forward(samples, windows, lambda window: window.sound):
            results[window.sound] = self.layers.encoded([part], hop_s=self.hop / RATE_HZ)
        return [result for result in results if result is not None]

    def windows(self, sound: int, samples: int) -> list[_Window]:
        """How a sound is cut: one window where it fits, else equal ones that overlap.

        Neighbours share ``overlap`` frames, and each gives the half of them that is nearer to its
        own middle, so that no frame is taken from the edge of a window inside the sound.
        """
        total = self.frame_count(samples)
        if total < 1:
            return []
        if samples <= self.window:
            return [_Window(sound, 0, samples, 0, total)]
        fit = self.frame_count(self.window)
        step = fit - self.overlap
        starts = [*range(0, total - fit, step), total - fit]  # the last one ends with the sound
        bounds = [0]
        bounds += [(left + fit + right) // 2 for left, right in pairwise(starts)]
        bounds.append(total)
        windows = []
        for start, (low, high) in zip(starts, pairwise(bounds), strict=True):
            first = start * self.hop
            stop = samples if high == total else first + (fit - 1) * self.hop + self.receptive
            windows.append(_Window(sound, first, stop, low - start, high - start))
        return windows

    def frame_count(self, samples: int) -> int:
        """T for S samples."""
        if self.is_whisper:
            return -(-samples // self.hop) if samples >= self.receptive else 0
        return max(0, (samples - self.receptive) // self.hop + 1)

    def normalized(self, samples: np.ndarray) -> np.ndarray:
        """(S,) with mean 0 and variance 1 over the whole utterance, where the checkpoint wants it.

        Digital silence stays silence: the small term under the root keeps it at 0.
        """
        if not self.normalizes:
            return samples
        return (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)

    def forward(self, samples, windows: Sequence[_Window], which) -> Iterator[tuple]:
        """Each window with its kept frames, (T, D) or (T, K, D).

        Args:
            samples: (S,) arrays.
            windows: what to compute; neighbours should be of like length.
            which: from a window to its place in ``samples``.
        """
        for group in self._batches(windows):
            parts = [samples[which(window)][window.start : window.stop] for window in group]
            with precision(self.device, self.settings.dtype):
                frames = self.layers.frames(self._run(parts))
                for window, row in zip(group, frames, strict=True):
                    yield window, row[window.first : window.last]

    def _batches(self, windows: Sequence[_Window]) -> Iterator[Sequence[_Window]]:
        if self.batch == 1 or self.mask_is_exact:
            yield from runs(windows, self.batch)
            return
        by_length: dict[int, list[_Window]] = {}
        for window in windows:
            by_length.setdefault(window.stop - window.start, []).append(window)
        for same in by_length.values():
            yield from runs(same, self.batch)

    def _run(self, parts: Sequence[np.ndarray]) -> Output:
        states = self.layers.needs_states
        longest = max(map(len, parts))
        values = torch.zeros(len(parts), longest)
        mask: Tensor | None = None
        for row, part in enumerate(parts):
            values[row, : len(part)] = torch.from_numpy(part)
        if any(len(part) < longest for part in parts):
            lengths = torch.tensor([len(part) for part in parts])
            mask = (torch.arange(longest) < lengths[:, None]).long().to(self.device)
        return self.model(values.to(self.device), attention_mask=mask, output_hidden_states=states)

    def _reads_normalization(self) -> bool:
        """Whether the network was trained on normalised waveforms: its own preprocessor says."""
        if self.is_whisper:
            return False
        file = checkpoint_folder(self.settings) / "preprocessor_config.json"
        if not file.exists():
            return True
        preprocessor = json.loads(file.read_text(encoding="utf-8"))
        rate_hz = preprocessor.get("sampling_rate", RATE_HZ)
        if rate_hz != RATE_HZ:
            raise UserError(
                f"checkpoint {self.settings.checkpoint} wants {rate_hz} Hz; hf_audio works at "
                f"{RATE_HZ} Hz"
            )
        return bool(preprocessor.get("do_normalize", True))


def _convolution(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Samples from frame to frame, and samples that one frame sees."""
    hop, receptive = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        receptive += (kernel - 1) * hop
        hop *= stride
    return hop, receptive


ENCODER = HfAudio
