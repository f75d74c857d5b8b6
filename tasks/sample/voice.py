"""Voices of the sample corpus: a source-filter formant synthesiser in numpy.

Letters become phones (vowels with formants, nasals, liquids, hisses and bursts), glottal pulses
with jitter and shimmer become a voice by passing through moving resonances, noise becomes the
consonants. Arousal raises pitch, loudness and tempo, dominance deepens and presses the voice and
lets the pitch fall at the end, valence makes the melody livelier. Speakers differ in base pitch and
length of the vocal tract.
"""

import re
from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

Floats = np.ndarray

_HOP_S = 0.008  # formants move in steps of this length
_BANDWIDTHS_HZ = np.array([70.0, 100.0, 160.0, 250.0])
_FOURTH_HZ = 3500.0
_EDGE_S = 0.08  # silence before and after the words

#: Vowel letters -> first three formants in Hz of an adult of middle size.
_VOWELS = {
    "a": (750.0, 1300.0, 2500.0),
    "e": (530.0, 1850.0, 2500.0),
    "i": (310.0, 2200.0, 2900.0),
    "o": (500.0, 900.0, 2500.0),
    "u": (340.0, 900.0, 2300.0),
    "y": (320.0, 2100.0, 2800.0),
    "ee": (280.0, 2300.0, 3000.0),
    "oo": (310.0, 870.0, 2250.0),
    "ou": (620.0, 1100.0, 2400.0),
}


@dataclass(frozen=True)
class _Manner:
    """How a group of consonants sounds: length in vowels, voicing, hiss, formants or None."""

    letters: str
    length: float
    voicing: float
    hiss: float
    formants_hz: tuple[float, float, float]


_MANNERS = (
    _Manner("szcxj", 0.60, 0.00, 0.55, (350.0, 1800.0, 2600.0)),
    _Manner("fhvt", 0.45, 0.05, 0.25, (400.0, 1500.0, 2500.0)),
    _Manner("pkqbdg", 0.40, 0.00, 0.12, (350.0, 1400.0, 2500.0)),
    _Manner("mn", 0.50, 0.40, 0.00, (270.0, 1100.0, 2300.0)),
    _Manner("lrw", 0.45, 0.55, 0.00, (370.0, 1200.0, 2400.0)),
)
_PAUSE = _Manner(" ", 0.20, 0.00, 0.00, (450.0, 1500.0, 2500.0))
_BY_LETTER = {letter: manner for manner in _MANNERS for letter in manner.letters}


@dataclass(frozen=True)
class Speaker:
    """What makes a voice somebody's.

    Attributes:
        pitch_hz: base pitch.
        tract: factor on the formants; above 1 for a shorter vocal tract.
        gain_db: how loud this person speaks by habit.
    """

    pitch_hz: float
    tract: float
    gain_db: float


@dataclass(frozen=True)
class Speech:
    """A spoken sentence: ``samples`` (N,) in [-1, 1] and ``opening`` (N / hop,) of the mouth."""

    samples: Floats
    opening: Floats


def draw_speaker(rng: np.random.Generator) -> Speaker:
    """A voice from low to high."""
    depth = rng.random()
    pitch = 105.0 * 2 ** (depth + rng.normal(0, 0.05))
    return Speaker(pitch, 0.94 + 0.16 * depth + rng.normal(0, 0.01), rng.normal(0, 1.0))


def syllables(text: str) -> int:
    """Number of vowel groups."""
    return max(1, len(re.findall(r"[aeiouy]+", text.lower())))


def natural_duration_s(text: str, arousal: float) -> float:
    """How long a sentence takes at the tempo of this arousal."""
    return 2 * _EDGE_S + syllables(text) / (5.6 * 2 ** (0.35 * arousal))


def speak(
    text: str,
    cues: tuple[float, float, float],
    speaker: Speaker,
    samples: int,
    rate_hz: int,
    rng: np.random.Generator,
) -> Speech:
    """A sentence as sound.

    Args:
        text: what to say.
        cues: valence, arousal, dominance that the voice shows, each about -1 to 1.
        speaker: whose voice.
        samples: length of the result.
        rate_hz: sampling rate.
        rng: draws jitter, shimmer and noise.
    """
    valence, arousal, dominance = cues
    hop = round(_HOP_S * rate_hz)
    frames = -(-samples // hop)
    formants, voicing, hiss, opening = _tracks(text, frames, speaker.tract * (1 - 0.04 * dominance))
    pitch = _melody(frames, cues, speaker, rng)
    at = np.arange(samples) / hop
    grid = np.arange(frames)
    voicing_fine, hiss_fine = (np.interp(at, grid, track) for track in (voicing, hiss))
    source = _glottis(
        np.interp(at, grid, pitch), rate_hz, pressed=0.8 * dominance + 0.3 * arousal, rng=rng
    )
    breath = rng.normal(0, 0.02, samples)
    voiced = _resonate((source + breath) * voicing_fine, formants, hop, rate_hz)
    sharp = butter(2, [2800.0, 7000.0], "bandpass", fs=rate_hz, output="sos")
    noise = sosfilt(sharp, rng.normal(0, 0.5, samples)) * hiss_fine
    sound = voiced / (voiced.std() + 1e-9) + 0.6 * noise
    level_db = -25.0 + 6.5 * arousal + 2.5 * dominance + 1.0 * valence + speaker.gain_db
    sound *= 10 ** (level_db / 20) / (sound.std() + 1e-9)
    sound += rng.normal(0, 10 ** (-58 / 20), samples)  # the room
    # a soft limiter, as a recorder has: loud voices are rounded, never cut off
    return Speech(np.tanh(sound).astype(np.float32), opening)


def _tracks(text: str, frames: int, tract: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Formants (frames, 3) in Hz, voicing, hiss and mouth opening (frames,) of a sentence."""
    phones = _phones(text)
    lengths = np.array([length for length, *_ in phones])
    speech = frames - 2 * round(_EDGE_S / _HOP_S)
    ends = np.cumsum(lengths) / lengths.sum() * speech
    which = np.searchsorted(ends, np.arange(speech), side="right").clip(max=len(phones) - 1)
    pad = (frames - speech) // 2, frames - speech - (frames - speech) // 2
    values = np.array([[voice, noise, *formants] for _, voice, noise, formants in phones])[which]
    values = np.pad(values, (pad, (0, 0)), mode="edge")
    values[: pad[0], :2] = 0
    values[frames - pad[1] :, :2] = 0
    # articulators are heavy: targets are approached within about 40 ms
    kernel = np.hanning(7)[1:-1]
    kernel /= kernel.sum()
    smooth = np.stack(
        [np.convolve(np.pad(v, 2, mode="edge"), kernel, "valid") for v in values.T], axis=1
    )
    voicing, hiss, formants = smooth[:, 0], smooth[:, 1], smooth[:, 2:] * tract
    wide = np.clip((smooth[:, 2] - 250) / 450, 0.15, 1.0)  # open vowels have a high first formant
    return formants, voicing, hiss, voicing * wide


def _phones(text: str) -> list[tuple[float, float, float, tuple[float, float, float]]]:
    """(relative length, voicing, hiss, formants) of each phone of a sentence."""
    phones = []
    for group in re.findall(r"[aeiouy]+|[b-df-hj-np-tv-xz]|\s+", text.lower()):
        if group[0] in "aeiouy":
            formants = _VOWELS.get(group, _VOWELS[group[0]])
            phones.append((1.0 if len(group) == 1 else 1.3, 1.0, 0.0, formants))
        else:
            manner = _BY_LETTER.get(group[0], _PAUSE)
            phones.append((manner.length, manner.voicing, manner.hiss, manner.formants_hz))
    return phones or [(1.0, 1.0, 0.0, _VOWELS["e"])]


def _melody(
    frames: int, cues: tuple[float, float, float], speaker: Speaker, rng: np.random.Generator
) -> Floats:
    """Pitch in Hz at each frame: a falling line, waves for the accents, slow drift."""
    valence, arousal, dominance = cues
    t = np.linspace(0, 1, frames)
    semitones = 3.5 * arousal - 1.5 * dominance + 0.5 * valence
    fall = (-1.5 - 3.0 * dominance) * t**2
    swing = max(0.4, 1.4 + 0.9 * valence + 0.7 * arousal)
    accents = swing * np.sin(2 * np.pi * (2.2 * t + rng.random()))
    drift = np.cumsum(rng.normal(0, 0.05, frames))
    return speaker.pitch_hz * 2 ** ((semitones + fall + accents + drift - drift.mean()) / 12)


def _glottis(pitch_hz: Floats, rate_hz: int, pressed: float, rng: np.random.Generator) -> Floats:
    """Derivative of the glottal flow, (N,): one pulse for each cycle of ``pitch_hz`` (N,).

    ``pressed`` (about -1 to 1) shortens the open phase and keeps more of the high harmonics.
    """
    cycles = np.cumsum(pitch_hz / rate_hz)
    number = cycles.astype(int)
    jitter = rng.normal(0, 0.008, number[-1] + 2)  # each cycle starts a little early or late
    shimmer = 1 + rng.normal(0, 0.04, number[-1] + 2)
    within = cycles - number
    offset = jitter[number] * (1 - within) + jitter[number + 1] * within
    phase = np.clip(within + offset, 0, 1)
    open_part = np.clip(0.62 - 0.14 * pressed, 0.4, 0.8)
    x = phase / open_part
    # flow x^2 (1 - x) while open, its slope jumps to zero when the folds close
    slope = np.where(x < 1, 2 * x - 3 * x**2, 0.0) * shimmer[number]
    pole = np.clip(0.72 - 0.22 * pressed, 0.3, 0.92)
    return np.asarray(lfilter([1 - pole], [1, -pole], slope))


def _resonate(source: Floats, formants_hz: Floats, hop: int, rate_hz: int) -> Floats:
    """``source`` (N,) through four resonances in a row that move every ``hop`` samples."""
    frames = len(formants_hz)
    hertz = np.column_stack([formants_hz, np.full(frames, _FOURTH_HZ)]).clip(max=0.45 * rate_hz)
    radius = np.exp(-np.pi * _BANDWIDTHS_HZ / rate_hz)
    a1 = -2 * radius * np.cos(2 * np.pi * hertz / rate_hz)  # (frames, 4)
    a2 = np.broadcast_to(radius**2, a1.shape)
    gain = 1 + a1 + a2  # unit gain at 0 Hz
    zeros = np.zeros_like(a1)
    sections = np.stack([gain, zeros, zeros, np.ones_like(a1), a1, a2], axis=2)
    state = np.zeros((4, 2))
    out = np.empty_like(source)
    for frame in range(frames):  # the filter changes from frame to frame, its memory stays
        part = slice(frame * hop, min((frame + 1) * hop, len(source)))
        out[part], state = sosfilt(sections[frame], source[part], zi=state)
    return out
