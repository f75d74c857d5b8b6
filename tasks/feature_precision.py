"""What reduced precision costs: an encoder's features against those of the same one in float32."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.encoders.encoder import Encoded, Input, Settings, Sound

#: So many clips are encoded once more, and no more sound than this.
_CLIPS, _SOUND_S = 4, 30.0


@dataclass(frozen=True)
class PrecisionError:
    """Relative error of pooled vectors, ``|reduced - float32| / |float32|``, over some clips."""

    clips: int
    median: float
    largest: float

    def sentence(self, dtype: str) -> str:
        """For a person."""
        return (
            f"computed in {dtype}: pooled vectors differ from those in float32 by "
            f"{100 * self.median:.2g} % (median of {self.clips} clips, {100 * self.largest:.2g} % "
            "at most)"
        )


def measure(
    family: str, settings: Settings, contents: Sequence[Input], encoded: Sequence[Encoded]
) -> PrecisionError | None:
    """Encode the first few contents in float32 and compare.

    Args:
        family: of the encoder.
        settings: of the encoder in reduced precision.
        contents: inputs.
        encoded: what it made of each.

    Returns:
        None where none of the first contents has features.
    """
    pairs = [(c, e) for c, e in zip(contents, encoded, strict=True) if e.pooled is not None]
    pairs = pairs[: max(1, _affordable([content for content, _ in pairs]))]
    if not pairs:
        return None
    module = importlib.import_module(f"models.encoders.{family}")
    exact = module.ENCODER(replace(settings, dtype="float32"))
    errors = []
    for (_, reduced), true in zip(pairs, exact.encode([c for c, _ in pairs]), strict=True):
        if true.pooled is not None and reduced.pooled is not None:
            norm = float(np.linalg.norm(true.pooled))
            off = float(np.linalg.norm(reduced.pooled - true.pooled))
            errors.append(off / norm if norm > 0 else off)
    return PrecisionError(len(errors), float(np.median(errors)), max(errors)) if errors else None


def _affordable(contents: Sequence[Input]) -> int:
    """How many of the first contents are few enough, and short enough together."""
    seconds = np.cumsum([_seconds(content) for content in contents[:_CLIPS]])
    return int((seconds <= _SOUND_S).sum())


def _seconds(content: Input) -> float:
    return len(content.samples) / content.rate_hz if isinstance(content, Sound) else 0.0
