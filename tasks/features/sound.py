"""What the decoding process of the stage ``features`` runs; it imports little and starts fast."""

from tasks.media.decoding import Clip, Span, decode


def decode_sound(span: Span, rate_hz: int) -> Clip:
    """The sound of a span."""
    return decode(span, audio_rate_hz=rate_hz, frame_times=None)
