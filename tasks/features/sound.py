"""What the decoding process of the stage ``features`` runs; it imports little and starts fast."""

import threading

from tasks.media.decoding import Clip, Span, decode
from tasks.media.worker import Decoders

#: Seconds within which a clip must be decoded.
_LIMIT_S = 120.0

_local = threading.local()


def decode_sound(span: Span, rate_hz: int) -> Clip:
    """The sound of a span."""
    return decode(span, audio_rate_hz=rate_hz, frame_times=None)


def thread_decoders() -> Decoders:
    """This thread's decoding process, kept from shard to shard; it ends with the thread."""
    if not hasattr(_local, "decoders"):
        _local.decoders = Decoders(1, _LIMIT_S)
    return _local.decoders
