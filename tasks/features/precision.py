"""What reduced precision costs: an encoder's features against those of the same in float32."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models import registry
from models.encoders.encoder import Encoded, Faces, Input, Settings, Sound

#: One clip of so many is encoded once more, but one at least and this many at most: the precise
#: network takes twice as long.
_SHARE, _MOST = 100, 4
#: Relative error from which reduced precision is no rounding but a fault of the processor's code:
#: trained networks lose .6 %, untrained ones up to 3.
_TOO_LARGE = 0.05


@dataclass(frozen=True)
class PrecisionError:
    """Relative error of pooled vectors, ``|reduced - float32| / |float32|``, over some clips."""

    clips: int
    median: float
    largest: float

    @property
    def is_too_large(self) -> bool:
        """Whether features of this precision are wrong."""
        return is_too_large(self.median)

    def sentence(self, dtype: str) -> str:
        """For a person."""
        percent, largest = 100 * self.median, 100 * self.largest
        of = f"shortest {self.clips} clips of a chunk" if self.clips > 1 else "shortest clip"
        return (
            f"computed in {dtype}: pooled vectors differ from those in float32 by {percent:.2g} % "
            f"(median; {largest:.2g} % at most; {of})"
        )


def is_too_large(error: float | None) -> bool:
    """Whether a relative error, where one is known, is no rounding any more."""
    return error is not None and not error <= _TOO_LARGE  # NaN is too large


def processor() -> str:
    """Short name of what computes here: a shared store may serve processors that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        lines = []
    about = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    about += registry.part("models.encoders.hidden").devices()
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:8]


def measure(
    family: str,
    settings: Settings,
    contents: Sequence[Input],
    encoded: Sequence[Encoded],
    clips: int,
) -> PrecisionError | None:
    """Encode the shortest contents in float32 and compare.

    Args:
        family: of the encoder.
        settings: of the encoder in reduced precision.
        contents: inputs.
        encoded: what it made of each.
        clips: how many there are in all to encode; more are compared where there are more.

    Returns:
        None where none of the contents has features.
    """
    pairs = [(c, e) for c, e in zip(contents, encoded, strict=True) if e.pooled is not None]
    pairs.sort(key=lambda pair: _length(pair[0]))
    pairs = pairs[: min(_MOST, max(1, clips // _SHARE))]
    if not pairs:
        return None
    module = registry.load("encoders", family)
    exact = module.ENCODER(replace(settings, dtype="float32"))
    errors = []
    for (_, reduced), true in zip(pairs, exact.encode([c for c, _ in pairs]), strict=True):
        if true.pooled is not None and reduced.pooled is not None:
            norm = float(np.linalg.norm(true.pooled))
            off = float(np.linalg.norm(reduced.pooled - true.pooled))
            errors.append(off / norm if norm > 0 else off)
    return PrecisionError(len(errors), float(np.median(errors)), max(errors)) if errors else None


def _length(content: Input) -> int:
    """Samples, faces or letters."""
    if isinstance(content, Sound):
        return len(content.samples)
    return len(content.images) if isinstance(content, Faces) else len(content.text)
