"""What an encoder family is: inputs of one utterance in, features of that utterance out.

A family is one file ``models/encoders/<family>.py`` that exports plain constants, which are read
without running the file (``MODALITY``, ``FEATURE_VERSION``, ``LIBRARIES``, ``POOLINGS``, ``CHUNK``,
``RATE_HZ``, ``CHECKPOINT``), and the class as ``ENCODER``.

The one law: the features of an utterance depend on that utterance alone. Never on what else is in
the batch, on the order, or on padding. On a CPU they do not even differ in the last bit, so that
tables made clip by clip equal tables made at once.

T frames in an utterance   D width of a frame   K layers, the input embedding counted as layer 0
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

Dtype = Literal["float32", "bfloat16"]
Pooling = Literal["mean", "mean_std", "max", "cls"]
Layer = int | tuple[int, ...] | Literal["last", "mean", "weighted", "all"]
Tokens = Literal["cls", "mean"]


@dataclass(frozen=True)
class Settings:
    """Everything about an encoder that changes its features, and the device, which does not.

    Attributes:
        checkpoint: folder or file of weights; None for a family that needs none.
        seed: draw the weights at random from this seed instead.
        layer: ``last``: what the network itself gives out; a number: that hidden layer, 0 = input
            embedding, negative from the end; several: those side by side, a frame has so many
            times D; ``mean`` over all hidden layers; ``weighted`` by
            ``layer_weights``; ``all``: mean and standard deviation over time of every hidden
            layer, layer by layer, so that weights can be learnt later.
        layer_weights: one number of at least 0 per layer; scaled to sum to 1.
        pooling: how T frames become one vector. ``mean_std`` has width 2D.
        tokens: a face is its classification token (``cls``) or the ``mean`` of its patches.
        dtype: in which precision the network computes; features come out in float32.
        max_s: longest stretch of sound that is encoded at once.
        overlap_s: how much neighbouring stretches share.
        max_faces: most faces of one utterance that are encoded, spread evenly in time.
        max_tokens: longest text; None: what the network allows.
        trim_db: before and after a sound, what is so much quieter than its loudest moment is cut
            off; None: nothing is.
        unit_norm: scale pooled vectors to length 1.
        device: ``cpu``, ``cuda`` or ``auto``.
    """

    checkpoint: Path | None = None
    seed: int | None = None
    layer: Layer = "last"
    layer_weights: tuple[float, ...] = ()
    pooling: Pooling = "mean"
    tokens: Tokens = "cls"
    dtype: Dtype = "float32"
    max_s: float = 30.0
    overlap_s: float = 2.0
    max_faces: int = 16
    max_tokens: int | None = None
    unit_norm: bool = False
    trim_db: float | None = None
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class Sound:
    """Voice of an utterance: (S,) float32 mono in [-1, 1] at ``rate_hz``."""

    samples: np.ndarray
    rate_hz: int


@dataclass(frozen=True, eq=False)
class Faces:
    """Face crops of an utterance in time order: each (H, W, 3) uint8 RGB, with times in seconds."""

    images: tuple[np.ndarray, ...]
    times_s: tuple[float, ...]


@dataclass(frozen=True)
class Text:
    """What is said, and what was said before it, oldest first."""

    text: str
    context: tuple[str, ...] = ()


Input = Sound | Faces | Text


@dataclass(frozen=True, eq=False)
class Encoded:
    """Features of one utterance.

    Attributes:
        pooled: (P,) float32; None where the input cannot be encoded.
        sequence: (T, D) float32; None where there is none.
        hop_s: seconds from one frame to the next; None where frames are not in even time.
        reason: why there are no features, or what is less than perfect about them.
    """

    pooled: np.ndarray | None
    sequence: np.ndarray | None = None
    hop_s: float | None = None
    reason: str | None = None


class Encoder(Protocol):
    """A frozen network or a fixed computation."""

    @property
    def pooled_dim(self) -> int:
        """P, the width of the pooled vector."""
        ...

    @property
    def frame_dim(self) -> int:
        """D, the width of one frame of the sequence."""
        ...

    def encode(self, inputs: Sequence[Input]) -> list[Encoded]:
        """Features of each input, in order."""
        ...
