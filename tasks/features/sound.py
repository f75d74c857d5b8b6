"""What the decoding process of the stage ``features`` runs; it imports little and starts fast."""

import threading
from dataclasses import dataclass

from tasks.media.decoding import Clip, decode
from tasks.media.worker import Decoders

#: Seconds within which a clip must be decoded.
_LIMIT_S = 120.0

_local = threading.local()


@dataclass(frozen=True)
class SoundSpan:
    """A span of a file and the rate at which its sound is wanted; its name stands in messages."""

    path: str
    start_s: float | None
    end_s: float | None
    rate_hz: int

    def __str__(self) -> str:
        return self.path


def decode_sound(span: SoundSpan) -> Clip:
    """The sound of a span."""
    return decode(span.path, span.start_s, span.end_s, audio_rate_hz=span.rate_hz, frame_times=None)


def thread_decoders() -> Decoders:
    """This thread's decoding process, kept from shard to shard; it ends with the thread."""
    if not hasattr(_local, "decoders"):
        _local.decoders = Decoders(1, _LIMIT_S)
    return _local.decoders
