"""How something is said: pitch, energy, rhythm, voice quality and spectrum; needs no weights.

Every 10 ms one frame of 44 descriptors, then statistics over the utterance. Pitch is the strongest
peak of the autocorrelation, divided by that of the window itself so that long periods are not
disfavoured (Boersma 1993). Descriptors of pitch and voice quality are summarised over voiced frames
only; where there are none they are 0, and ``voiced_share`` = 0 says so. ``NAMES`` names all pooled
values in order. Everything runs on one thread: the same sound gives the same bits.

Spectral shape, MFCC and onsets are librosa's, the mel filters torchaudio's. Pitch and syllables are
neither's (``python -m benchmarks.prosody``): ``librosa.yin`` does not say which frames are voiced,
``librosa.pyin`` does and takes 40 to 80 times as long. Both are better in heavy noise, and half an
octave or more from this pitch on 7 % of the voiced frames of speech: 5 % in silence at the ends,
which ``trim_db`` cuts, and 2 % where the frames around say that this pitch is wrong.
Peaks of the envelope count the seven syllables of RAVDESS' sentences as 7.3 ± 1.0, the onsets of
``librosa.onset.onset_detect`` as 8.2 ± 1.6.

S samples   T frames   W samples of a window
"""

from collections.abc import Callable, Sequence
from typing import cast

import librosa  # itself lazy: its parts are imported by the first sound
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft
from scipy.signal import medfilt
from torchaudio.functional import melscale_fbanks

from models.encoders.encoder import Encoded, Settings, Sound
from models.errors import UserError

MODALITY = "audio"
FEATURE_VERSION = 2
LIBRARIES = ("librosa", "numpy", "scipy", "torchaudio")
POOLINGS = ("mean_std",)
RATE_HZ = 16000
CHUNK = 64
CHECKPOINT = None

# scipy's stubs tell what its dispatcher sees inside; what comes out are arrays
_Transform = Callable[..., np.ndarray]
_rfft, _irfft = (cast(_Transform, each) for each in (fft.rfft, fft.irfft))

_HOP = 160
_WINDOW = 400
_PITCH_WINDOW = 640
_FFT = 512
_MELS, _COEFFICIENTS, _BANDS = 40, 13, 16
_F0_MIN_HZ, _F0_MAX_HZ = 60.0, 500.0
#: A frame is voiced where the autocorrelation reaches this, and is no quieter than that.
_VOICED_FROM, _VOICED_BELOW_PEAK_DB = 0.45, 35.0
_FLOOR = 1e-10
#: Lags of the autocorrelation are this much finer than samples.
_FINE = 2
_FINE_HZ = _FINE * RATE_HZ
#: What a peak must be higher by to count in spite of a period twice as long.
_PER_OCTAVE = 0.03
#: Frames of pitch and envelope are computed in stretches of this many: memory stays flat.
_STRETCH = 500

_FRAME_NAMES = (
    "energy_db",
    "centroid_khz",
    "rolloff_khz",
    "flatness_db",
    "slope_db_per_khz",
    "alpha_ratio_db",
    "hammarberg_db",
    "crossings",
    *(f"mfcc_{index}" for index in range(1, _COEFFICIENTS)),
    *(f"band_{index}_db" for index in range(_BANDS)),
    "onset",
)
_VOICED_NAMES = ("f0_semitones", "harmonicity_db", "voicing")
_MELODY_NAMES = (
    "f0_low",
    "f0_high",
    "f0_range",
    "f0_slope",
    "f0_change",
    "jitter",
    "shimmer_db",
)
_RHYTHM_NAMES = (
    "energy_low_db",
    "energy_high_db",
    "energy_slope",
    "voiced_share",
    "voiced_per_s",
    "voiced_length_s",
    "pause_share",
    "syllables_per_s",
    "modulation_hz",
    "modulation_strength",
    "log_duration",
)
_FRAME_DIM = len(_FRAME_NAMES) + len(_VOICED_NAMES) + 4
NAMES = (
    *(f"{name}_mean" for name in (*_FRAME_NAMES, *_VOICED_NAMES)),
    *(f"{name}_std" for name in (*_FRAME_NAMES, *_VOICED_NAMES)),
    *_MELODY_NAMES,
    *_RHYTHM_NAMES,
)


class Prosody:
    """A fixed computation; of the settings only ``layer`` and ``pooling`` are looked at."""

    def __init__(self, settings: Settings) -> None:
        if settings.layer != "last" or settings.checkpoint is not None or settings.unit_norm:
            raise UserError("prosody takes no checkpoint, layer or unit_norm; leave them out")
        hann = np.hanning(_PITCH_WINDOW + 2)[1:-1]
        self._pitch_window = hann
        norm = _autocorrelation(hann[None])[0]
        self._pitch_norm = norm / norm[0]
        self._window = np.hanning(_WINDOW + 2)[1:-1]
        self._mel = melscale_fbanks(
            _FFT // 2 + 1, 50.0, RATE_HZ / 2, _MELS, RATE_HZ, norm="slaney", mel_scale="slaney"
        ).numpy()
        bands = np.array_split(np.arange(_MELS), _BANDS)
        self._bands = np.stack([np.isin(np.arange(_MELS), band) / len(band) for band in bands])

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return len(NAMES)

    @property
    def frame_dim(self) -> int:
        """See ``Encoder``."""
        return _FRAME_DIM

    def encode(self, inputs: Sequence[Sound]) -> list[Encoded]:
        """See ``Encoder``."""
        return [self._encode(sound) for sound in inputs]

    def _encode(self, sound: Sound) -> Encoded:
        if sound.rate_hz != RATE_HZ:
            raise ValueError(f"prosody needs {RATE_HZ} Hz, got {sound.rate_hz}")
        if not len(sound.samples):
            return Encoded(None, reason="too_short")
        samples = sound.samples.astype(np.float64)
        samples = samples - samples.mean()
        spectral = self._spectral(samples)
        f0_hz, strength = self._pitch(samples)
        energy_db = spectral[:, 0]
        is_voiced = (f0_hz > 0) & (energy_db > energy_db.max() - _VOICED_BELOW_PEAK_DB)
        # a single frame is more often noise than voice
        is_voiced = medfilt(is_voiced.astype(float), 3) > 0.5 if len(f0_hz) > 2 else is_voiced
        is_voiced &= f0_hz > 0
        semitones = np.where(is_voiced, 12 * np.log2(np.maximum(f0_hz, 1.0) / 100.0), 0.0)
        harmonicity = 10 * np.log10(strength / (1 - strength))
        voice = np.stack([semitones, np.where(is_voiced, harmonicity, 0.0), strength], axis=1)
        pooled = np.concatenate(
            [
                spectral.mean(0),
                _over(voice, is_voiced, np.mean),
                spectral.std(0),
                _over(voice, is_voiced, np.std),
                _melody(semitones, f0_hz, energy_db, is_voiced),
                _rhythm(energy_db, is_voiced, len(samples)),
            ]
        ).astype(np.float32)
        change = np.gradient(np.stack([energy_db, semitones], 1), axis=0) if len(voice) > 1 else 0
        frames = np.concatenate(
            [
                spectral,
                voice,
                is_voiced[:, None],
                np.broadcast_to(change, (len(voice), 2)),
                np.arange(len(voice))[:, None] / len(voice),
            ],
            axis=1,
        ).astype(np.float32)
        return Encoded(pooled, frames, _HOP / RATE_HZ)

    def _spectral(self, samples: np.ndarray) -> np.ndarray:
        """(T, len(_FRAME_NAMES)): descriptors of the spectrum."""
        parts, mels = [], []
        khz = np.fft.rfftfreq(_FFT, 1 / RATE_HZ) / 1000
        for block in _frames(samples, _WINDOW, _WINDOW):
            energy_db = 10 * np.log10((block**2).mean(1) + _FLOOR)
            power = np.abs(_rfft(block * self._window, _FFT, axis=1)) ** 2 / _WINDOW + _FLOOR
            level_db = 10 * np.log10(power)
            low, high = (khz >= 0.05) & (khz < 1), (khz >= 1) & (khz < 5)
            peak_low, peak_high = khz < 2, (khz >= 2) & (khz < 5)
            mel_db = 10 * np.log10(power @ self._mel + _FLOOR)
            mels.append(mel_db)
            shape = {"S": power.T, "sr": RATE_HZ, "n_fft": _FFT}
            flatness = librosa.feature.spectral_flatness(S=power.T, power=1.0, amin=_FLOOR)[0]
            centered = khz - khz.mean()
            parts.append(
                np.column_stack(
                    [
                        energy_db,
                        librosa.feature.spectral_centroid(**shape)[0] / 1000,
                        librosa.feature.spectral_rolloff(**shape, roll_percent=0.85)[0] / 1000,
                        10 * np.log10(flatness),
                        (level_db - level_db.mean(1, keepdims=True))
                        @ centered
                        / (centered**2).sum(),
                        10 * np.log10(power[:, low].sum(1) / power[:, high].sum(1)),
                        level_db[:, peak_low].max(1) - level_db[:, peak_high].max(1),
                        librosa.zero_crossings(block, axis=1, pad=False).mean(1),
                        librosa.feature.mfcc(S=mel_db.T, n_mfcc=_COEFFICIENTS)[1:].T,
                        mel_db @ self._bands.T,
                    ]
                )
            )
        onset = librosa.onset.onset_strength(S=np.concatenate(mels).T, center=False)
        return np.column_stack([np.concatenate(parts), onset])

    def _pitch(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pitch in Hz, 0 where there is none, and the peak's height in (0, 1); both (T,)."""
        pitches, strengths = [], []
        shortest, longest = int(_FINE_HZ / _F0_MAX_HZ), int(_FINE_HZ / _F0_MIN_HZ)
        lags = np.arange(shortest, longest + 1)
        for block in _frames(samples, _PITCH_WINDOW, _WINDOW):
            block = block - block.mean(1, keepdims=True)
            correlation = _autocorrelation(block * self._pitch_window)
            correlation = correlation / np.maximum(correlation[:, :1], _FLOOR) / self._pitch_norm
            inner = correlation[:, shortest - 1 : longest + 2]
            here, left, right = inner[:, 1:-1], inner[:, :-2], inner[:, 2:]
            # peaks lie between lags: short periods would look weaker than they are
            bend = np.minimum(left - 2 * here + right, -_FLOOR)
            shift = (0.5 * (left - right) / bend).clip(-0.5, 0.5)
            # louder in the middle than at its ends, a sound seems to repeat better than perfectly
            height = np.minimum(here - 0.25 * (left - right) * shift, 1.0)
            is_peak = (here > left) & (here >= right)
            # of peaks alike the shortest period counts: the others are its multiples
            score = np.where(is_peak, height - _PER_OCTAVE * np.log2(lags / shortest), -np.inf)
            best = score.argmax(1)
            rows = np.arange(len(block))
            strength = np.where(is_peak[rows, best], height[rows, best], 0.0)
            strength = strength.clip(1e-3, 1 - 1e-3)
            period = lags[best] + shift[rows, best]
            is_voiced = strength >= _VOICED_FROM
            pitches.append(np.where(is_voiced, _FINE_HZ / period, 0.0))
            strengths.append(strength)
        return np.concatenate(pitches), np.concatenate(strengths)


def _frames(samples: np.ndarray, width: int, step_width: int):
    """Blocks (T', width) of windows every 10 ms; window t is centred on that of ``step_width``.

    The count depends on ``step_width`` alone, so that wide and narrow windows line up. What lies
    beyond the ends is silence.
    """
    count = max(1, 1 + (len(samples) - step_width) // _HOP)
    before = (width - step_width) // 2
    after = max(0, (count - 1) * _HOP + width - before - len(samples))
    padded = np.pad(samples, (before, after))
    windows = sliding_window_view(padded, width)[::_HOP][:count]
    for start in range(0, count, _STRETCH):
        yield windows[start : start + _STRETCH]


def _autocorrelation(blocks: np.ndarray) -> np.ndarray:
    """(T, W) to (T, lags): lags of 1 / _FINE_HZ up to a little more than the longest period."""
    size = 1024
    power = np.abs(_rfft(blocks, size, axis=1)) ** 2
    power[:, -1] /= 2  # the highest frequency stands for two once there are higher ones
    return _irfft(power, size * _FINE, axis=1)[:, : int(_FINE_HZ / _F0_MIN_HZ) + 3]


def _over(voice: np.ndarray, is_voiced: np.ndarray, statistic) -> np.ndarray:
    """A statistic of pitch and harmonicity over voiced frames, of voicing over all."""
    some = voice[is_voiced, :2]
    inner = statistic(some, axis=0) if len(some) else np.zeros(2)
    return np.append(inner, statistic(voice[:, 2]))


def _melody(
    semitones: np.ndarray, f0_hz: np.ndarray, energy_db: np.ndarray, is_voiced: np.ndarray
) -> np.ndarray:
    """The values of ``_MELODY_NAMES``."""
    voiced = semitones[is_voiced]
    if len(voiced) < 2:
        level = voiced[0] if len(voiced) else 0.0
        return np.array([level, level, 0.0, 0.0, 0.0, 0.0, 0.0])
    low, high = np.percentile(voiced, [5, 95])
    neighbours = is_voiced[1:] & is_voiced[:-1]
    steps = np.diff(semitones)[neighbours]
    change = np.abs(steps).mean() if len(steps) else 0.0
    periods = np.diff(1 / np.where(is_voiced, f0_hz, 1.0))[neighbours]
    jitter = np.abs(periods).mean() * f0_hz[is_voiced].mean() if len(periods) else 0.0
    loudness = np.diff(energy_db)[neighbours]
    shimmer = np.abs(loudness).mean() if len(loudness) else 0.0
    slope = _slope(np.flatnonzero(is_voiced) * _HOP / RATE_HZ, voiced)
    return np.array([low, high, high - low, slope, change, jitter, shimmer])


def _rhythm(energy_db: np.ndarray, is_voiced: np.ndarray, samples: int) -> np.ndarray:
    """The values of ``_RHYTHM_NAMES``."""
    hop_s = _HOP / RATE_HZ
    duration_s = max(samples / RATE_HZ, hop_s)
    low, high = np.percentile(energy_db, [5, 95])
    starts = int((np.diff(is_voiced.astype(int), prepend=0) == 1).sum())
    length_s = is_voiced.sum() * hop_s / starts if starts else 0.0
    is_pause = energy_db < energy_db.max() - 30.0
    syllables, modulation_hz, strength = _modulation(energy_db, is_voiced, hop_s)
    return np.array(
        [
            low,
            high,
            _slope(np.arange(len(energy_db)) * hop_s, energy_db),
            is_voiced.mean(),
            starts / duration_s,
            length_s,
            is_pause.mean(),
            syllables / duration_s,
            modulation_hz,
            strength,
            np.log(duration_s),
        ]
    )


def _modulation(
    energy_db: np.ndarray, is_voiced: np.ndarray, hop_s: float
) -> tuple[int, float, float]:
    """Syllables, the envelope's strongest rate in 1 to 10 Hz, and the power share of that band."""
    if len(energy_db) < 20:
        return int(is_voiced.any()), 0.0, 0.0
    smooth = np.convolve(np.pad(energy_db, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    padded = np.pad(smooth, 1, mode="edge")
    is_top = (smooth > padded[:-2]) & (smooth >= padded[2:]) & is_voiced
    tops = np.flatnonzero(is_top)
    # a syllable rises at least 2 dB out of the valley before it
    syllables, valley, last = 0, 0, -np.inf
    for top in tops:
        dip = smooth[valley : top + 1].min()
        if smooth[top] - dip >= 2.0 and top - last >= 8:
            syllables, last = syllables + 1, top
            valley = top
    size = max(512, len(smooth))
    power = np.abs(_rfft((smooth - smooth.mean()) * np.hanning(len(smooth)), size)) ** 2
    rates_hz = np.fft.rfftfreq(size, hop_s)
    band = (rates_hz >= 1) & (rates_hz <= 10)
    best = power[band].argmax()
    return syllables, float(rates_hz[band][best]), float(power[band].sum() / (power.sum() + _FLOOR))


def _slope(times_s: np.ndarray, values: np.ndarray) -> float:
    """Change per second of the straight line through the values; 0 for fewer than three."""
    if len(values) < 3:
        return 0.0
    centered = times_s - times_s.mean()
    return float(centered @ (values - values.mean()) / (centered**2).sum())


ENCODER = Prosody
