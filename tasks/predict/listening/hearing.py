"""Where somebody speaks in a medium: stretches no longer than about ten seconds.

The sound is decoded in pieces, so memory does not grow with its length, and what was heard is kept
by content: the second look at the same medium decodes nothing.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from models.speech_activity import FRAME, RATE_HZ, load, probabilities, stretches
from tasks.atomic import write_json
from tasks.context import Context, Progress
from tasks.features.sound import decode_sound
from tasks.media.decoding import Clip
from tasks.media.hashes import hash_file
from tasks.media.spans import Span
from tasks.media.worker import thread_decoders

#: Raised when the same sound gives other stretches.
_VERSION = 1
_HOP_S = FRAME / RATE_HZ
#: Frames of a piece, and those before it that only let the network settle.
_PIECE, _LEAD = 3750, 62
#: Shorter pauses end no utterance; longer utterances are cut where they are quietest, but never so
#: that a part is shorter than the last of these.
JOIN_S, LONGEST_S, SHORTEST_S = 0.3, 10.0, 2.0
#: Frames over which loudness is averaged in the search for a quiet place.
_CALM = 7
#: Of a long medium so much is heard first, or so much where nobody spoke till then; what ends so
#: shortly before may go on.
_EARLY_S, _SURE_S = (20.0, 100.0), 1.0
#: Sound that is nowhere louder than this, in decibels below full scale, is silence.
_SILENCE_DB = -60.0


@dataclass(frozen=True)
class Heard:
    """What was heard in a medium.

    Attributes:
        speech: start and end of every utterance, in seconds, in order, apart from each other.
        is_silent: nothing at all can be heard.
    """

    speech: tuple[tuple[float, float], ...]
    is_silent: bool


def hear(
    path: Path, sha256: str, length_s: float, weights: Path, cache: Path, ctx: Context
) -> Heard:
    """Where somebody speaks.

    Args:
        path: the medium.
        sha256: of its bytes.
        length_s: how long it lasts.
        weights: folder of the network for speech activity.
        cache: folder where what was heard is kept.
        ctx: hears of the progress.
    """
    file = _kept(sha256, length_s, weights, cache)
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Heard(tuple((low, high) for low, high in kept["speech"]), kept["is_silent"])
    certainty, level_db = _listen(path, length_s, weights, ctx)
    speech = _utterances(joined(stretches(certainty, length_s)), level_db)
    found = Heard(speech, bool(level_db.max(initial=-np.inf) < _SILENCE_DB))
    write_json(file, asdict(found))
    return found


def hear_beginning(
    path: Path, sha256: str, length_s: float, weights: Path, cache: Path, ctx: Context
) -> tuple[tuple[float, float], ...]:
    """The first utterances of a long medium, as ``hear`` will find them; none where it is no gain.

    Hours take minutes to listen to; the first words need not wait for the last.
    """
    if _kept(sha256, length_s, weights, cache).exists():
        return ()
    for until_s in _EARLY_S:
        if until_s > length_s / 2:
            break
        certainty, level_db = _listen(path, until_s, weights, ctx)
        spoken = joined(stretches(certainty, until_s))
        ended = [(low, high) for low, high in spoken if high < until_s - _SURE_S]
        if ended:
            return _utterances(ended, level_db)
    return ()


def _kept(sha256: str, length_s: float, weights: Path, cache: Path) -> Path:
    about = [_VERSION, sha256, hash_file(weights / "model.safetensors"), length_s]
    return cache / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()}.json"


def _utterances(
    spoken: Sequence[tuple[float, float]], level_db: np.ndarray
) -> tuple[tuple[float, float], ...]:
    return tuple(part for low, high in spoken for part in cut_at_quiet_places(low, high, level_db))


def _listen(
    path: Path, length_s: float, weights: Path, ctx: Context
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) certainty of speech and (T,) loudness in decibels of every frame."""
    network = load(weights)
    count = max(1, int(np.ceil(length_s / _HOP_S / _PIECE)))
    firsts = [max(0, piece * _PIECE - _LEAD) for piece in range(count)]
    spans = [
        Span(str(path), first * _HOP_S, min((piece + 1) * _PIECE * _HOP_S, length_s))
        for piece, first in enumerate(firsts)
    ]
    heard, levels = [], []
    clips = thread_decoders().clips(partial(decode_sound, rate_hz=RATE_HZ), spans)
    for piece, samples in enumerate(_samples(clips, spans)):
        lead = piece * _PIECE - firsts[piece]
        heard.append(probabilities(network, samples)[lead:])
        whole = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
        power = np.square(whole, dtype=np.float64).mean(axis=1)
        levels.append(10 * np.log10(np.maximum(power, 1e-12))[lead:])
        ctx.progress(Progress(piece + 1, count, "pieces of sound"))
    return np.concatenate(heard), np.concatenate(levels)


def _samples(clips: Iterator[Clip], spans: Sequence[Span]) -> Iterator[np.ndarray]:
    """(S,) of each piece from its very beginning; nothing where no sound could be decoded."""
    for clip, span in zip(clips, spans, strict=True):
        if clip.audio is None:
            yield np.zeros(round(((span.end_s or 0) - (span.start_s or 0)) * RATE_HZ), np.float32)
            continue
        late = round(((clip.audio_start_s or 0.0) - (span.start_s or 0.0)) * RATE_HZ)
        yield np.pad(clip.audio, (max(0, late), 0))


def joined(parts: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same stretches, with those in one that only a short pause keeps apart."""
    found: list[tuple[float, float]] = []
    for low, high in parts:
        if found and low - found[-1][1] < JOIN_S:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found


def cut_at_quiet_places(
    low: float, high: float, level_db: np.ndarray
) -> Iterator[tuple[float, float]]:
    """Parts of at most ``LONGEST_S``, one after the other.

    Args:
        low: start in seconds.
        high: end in seconds.
        level_db: (T,) loudness of every frame of the medium.
    """
    if high - low <= LONGEST_S:
        yield low, high
        return
    first, last = int((low + SHORTEST_S) / _HOP_S), int((high - SHORTEST_S) / _HOP_S)
    calm = np.convolve(level_db, np.full(_CALM, 1 / _CALM), "same")[first:last]
    at_s = round((first + int(calm.argmin()) + 0.5) * _HOP_S, 3)
    yield from cut_at_quiet_places(low, at_s, level_db)
    yield from cut_at_quiet_places(at_s, high, level_db)
