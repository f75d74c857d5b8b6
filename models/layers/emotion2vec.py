"""emotion2vec as a network, and its weights by the names that its authors publish.

The first blocks belong to the context encoder, what comes out of it is layer 0. A classifier on the
mean of the last layer is left out: a method learns its own.

S samples   T frames   N tokens, the learned ones first   D width   H heads
"""

import math
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "emotion2vec"
_OWNER, _AUDIO = "model/d2v_model.", "modality_encoders.AUDIO."
#: A tensor that only the published weights have.
SIGN = f"{_OWNER}{_AUDIO}alibi_scale"
#: Of every published size; the weights do not say it.
_STRIDES = (5, 2, 2, 2, 2, 2, 2)
#: By our names, in order: what the published weights call a part.
_NAMES = (
    (r"local_encoder\.conv_layers\.(\d+)\.0\.", r"waves.\1.conv."),
    (r"local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"waves.\1.norm."),
    (r"project_features\.1\.", "wave_norm."),
    (r"project_features\.2\.", "project."),
    (r"context_encoder\.blocks\.", "context."),
    (r"context_encoder\.norm\.", "context_norm."),
)
_POSITIONS = re.compile(r"relative_positional_encoder\.(\d+)\.0\.")


class States(NamedTuple):
    """What the network gives out, by transformers' names: each (B, T, D)."""

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...]


class _Wave(nn.Module):
    """One convolution over time, normed over channels."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel, stride, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S) -> (B, C', S')."""
        return functional.gelu(self.norm(self.conv(x).transpose(1, 2))).transpose(1, 2)


class _Attention(nn.Module):
    """Attention that falls with the distance."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, N, D) and (H, N, N) -> (B, N, D)."""
        shape = (*x.shape[:2], 3, self.heads, x.shape[2] // self.heads)
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)  # (B, H, N, D / H)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        weights = (scores.float() + bias).softmax(-1).to(v.dtype)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    """Wider and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class _Block(nn.Module):
    """A transformer block, normed after each part."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = _Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, N, D) and (H, N, N) -> (B, N, D)."""
        x = self.norm1(x + self.attn(x, bias))
        return self.norm2(x + self.mlp(x))


class Emotion2vecNetwork(nn.Module):
    """The network without its classifier.

    Args:
        width: D.
        heads: H.
        blocks: after the context encoder.
        context: blocks of the context encoder.
        tokens: learned ones before the frames.
        channels: of the convolutions over the waveform.
        kernels: theirs.
        positions: kernels of the convolutions for positions, odd.
        groups: of those.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        blocks: int,
        context: int,
        tokens: int,
        channels: int,
        kernels: tuple[int, ...],
        positions: tuple[int, ...],
        groups: int,
    ) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            model_type=NAME, hidden_size=width, num_hidden_layers=blocks,
            conv_kernel=kernels, conv_stride=_STRIDES[: len(kernels)], feat_extract_norm="layer",
        )  # fmt: skip
        inner = [1] + [channels] * (len(kernels) - 1)
        self.waves = nn.ModuleList(
            _Wave(width_in, channels, kernel, stride)
            for width_in, kernel, stride in zip(inner, kernels, _STRIDES, strict=True)
        )
        self.wave_norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, width)
        self.positions = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
            for kernel in positions
        )
        self.extra_tokens = nn.Parameter(torch.zeros(1, tokens, width))
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, heads, 1, 1))
        self.context_norm = nn.LayerNorm(width)
        self.context = nn.ModuleList(_Block(width, heads) for _ in range(context))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))

    def forward(
        self, samples: Tensor, attention_mask: None = None, output_hidden_states: bool = False
    ) -> States:
        """(B, S) of one length to the states of T frames.

        Args:
            samples: normalised over the whole sound.
            attention_mask: there is none, because lengths are equal.
            output_hidden_states: hand out every layer.
        """
        x = samples.unsqueeze(1)
        for wave in self.waves:
            x = wave(x)
        x = self.project(self.wave_norm(x.transpose(1, 2)))  # (B, T, D)
        x = x + self._places(x)
        bias = self._bias(x.shape[1])
        x = self.context_norm(torch.cat([self.extra_tokens.expand(len(x), -1, -1), x], 1))
        for block in self.context:
            x = block(x, bias)
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1], bias))
        kept = [state[:, self.extra_tokens.shape[1] :] for state in states]
        return States(kept[-1], tuple(kept) if output_hidden_states else ())

    def _places(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for conv in self.positions:
            there = conv(x).transpose(1, 2)
            x = functional.gelu(functional.layer_norm(there, there.shape[-1:])).transpose(1, 2)
        return x.transpose(1, 2)

    def _bias(self, frames: int) -> Tensor:
        """(H, N, N) float32: what distance takes from attention; the learned tokens are near."""
        scale = self.alibi_scale.float().clamp(min=0).flatten()
        place = torch.arange(frames, device=scale.device)
        distance = (place - place[:, None]).abs().float()
        slopes = torch.tensor(_slopes(len(scale)), device=scale.device) * scale
        tokens = self.extra_tokens.shape[1]
        return functional.pad(-slopes[:, None, None] * distance, (tokens, 0, tokens, 0))


def _slopes(heads: int) -> list[float]:
    """Of ALiBi: powers of 2 that fall evenly, those between where heads are no power of 2."""
    whole = 2 ** math.floor(math.log2(heads))
    even = [2 ** (-8 * (place + 1) / whole) for place in range(whole)]
    between = [2 ** (-8 * (place + 0.5) / whole) for place in range(whole)]
    return even + between[: heads - whole]


def from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names, from the names of the published weights; the classifier is left out."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.startswith(_OWNER):
            found[_ours(name.removeprefix(_OWNER).removeprefix(_AUDIO))] = value
    expected = Emotion2vecNetwork(**_sizes(found)).state_dict()
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise ValueError(f"its {name} has shape {tuple(found[name].shape)}")
    return {name: found[name] for name in expected}


def _ours(name: str) -> str:
    if found := _POSITIONS.match(name):  # the first and last of that row only turn axes
        return f"positions.{int(found[1]) - 1}.{name[found.end() :]}"
    for theirs, ours in _NAMES:
        name = re.sub(rf"^{theirs}", ours, name)
    return name


def files(tensors: dict[str, Tensor]) -> Mapping[str, Mapping[str, object]]:
    """What the checkpoint needs beside its weights."""
    found = {
        _ours(name.removeprefix(_OWNER).removeprefix(_AUDIO)): value
        for name, value in tensors.items()
    }
    # of the pre-training and fine-tuning of emotion2vec+, what this project can read
    trained_on = ["iemocap", "meld", "ravdess", "crema_d", "emodb"]
    return {"config.json": {"network": NAME, "trained_on": trained_on, **_sizes(found)}}


def _sizes(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Of a network, from the shapes of its weights by our names."""
    kernels = [tensors[f"waves.{i}.conv.weight"] for i in range(len(_STRIDES))]
    count = sum(name.startswith("positions.") and name.endswith(".weight") for name in tensors)
    positions = [tensors[f"positions.{i}.weight"] for i in range(count)]
    width = tensors["project.weight"].shape[0]
    return {
        "width": width,
        "heads": tensors["alibi_scale"].numel(),
        "blocks": _count(tensors, "blocks"),
        "context": _count(tensors, "context"),
        "tokens": tensors["extra_tokens"].shape[1],
        "channels": kernels[0].shape[0],
        "kernels": [weight.shape[2] for weight in kernels],
        "positions": [weight.shape[2] for weight in positions],
        "groups": width // positions[0].shape[1] if positions else 1,
    }


def _count(tensors: dict[str, Tensor], part: str) -> int:
    return sum(bool(re.fullmatch(rf"{part}\.\d+\.norm1\.weight", name)) for name in tensors)
