"""Pitch and syllables of ``prosody`` against librosa: error and time.

Run ``python -m benchmarks.prosody`` in the root of the repository. First pitch of voices that are
made: harmonics with formants that glide over an octave, in noise. Then, with the real data beside
the project, where the trackers are apart on speech and who is right there, and syllables of
sentences that have seven.
"""

import io
import time
from collections.abc import Callable

import librosa
import numpy as np
import polars as pl
import soundfile

from benchmarks.project import SHARED
from models.encoders.encoder import Settings, Sound
from models.encoders.prosody import NAMES, RATE_HZ, Prosody

#: As prosody has them; windows of librosa must hold two periods of the lowest pitch.
_HOP, _LOW_HZ, _HIGH_HZ, _FRAME = 160, 60.0, 500.0, 1024
#: So far below the loudest moment of a clip nobody speaks, and so many frames are around one.
_QUIET_DB, _NEAR = -40, 15


def glide(f0_hz: float, snr_db: float, seed: int) -> tuple[np.ndarray, Callable]:
    """A voice of 2 s that rises an octave, and its pitch at a time."""
    times_s = np.arange(2 * RATE_HZ) / RATE_HZ
    pitch_hz = f0_hz * 2 ** (times_s / 2)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    voice = np.zeros(len(times_s))
    for harmonic in range(1, 40):
        hz = harmonic * pitch_hz
        formants = sum(1 / (1 + ((hz - f) / 120) ** 2) for f in (600, 1300, 2500))
        voice += np.where(hz < 7000, (formants + 0.05) / harmonic**0.5, 0) * np.sin(
            harmonic * phase
        )
    noise = np.random.default_rng(seed).standard_normal(len(voice))
    voice += noise * voice.std() * 10 ** (-snr_db / 20)
    return 0.2 * voice / np.abs(voice).max(), lambda t: np.interp(t, times_s, pitch_hz)


def trackers() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name: samples to Hz every 10 ms from the middle of the first 25 ms on; 0 is unvoiced."""
    own = Prosody(Settings(pooling="mean_std"))
    limits = {"fmin": _LOW_HZ, "fmax": _HIGH_HZ, "sr": RATE_HZ, "hop_length": _HOP}
    limits |= {"frame_length": _FRAME, "center": False}

    def wide(samples: np.ndarray) -> np.ndarray:
        before = (_FRAME - 400) // 2  # their windows are wider: centred on the same moments
        return np.pad(samples, (before, before))

    return {
        "prosody": lambda samples: own._pitch(samples)[0],
        "librosa.yin": lambda samples: librosa.yin(wide(samples), **limits),
        "librosa.pyin": lambda samples: np.nan_to_num(librosa.pyin(wide(samples), **limits)[0]),
    }


def _cents(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.abs(1200 * np.log2(found / true))


def main() -> None:
    """Print both tables as Markdown."""
    tried = trackers()
    print("| made voices | noise | median cents | off by > 50 cents | missed | ms per s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for snr_db in (30, 10, 0):
        voices = [glide(f0_hz, snr_db, seed) for seed, f0_hz in enumerate((80, 120, 180, 240))]
        for name, track in tried.items():
            track(voices[0][0])
            started = time.process_time()
            found = [track(voice) for voice, _ in voices]
            ms = 1e3 * (time.process_time() - started) / (2 * len(voices))
            errors, missed = [], []
            for (_, pitch), hz in zip(voices, found, strict=True):
                times_s = np.arange(len(hz)) * _HOP / RATE_HZ + 0.0125
                missed.append(hz <= 0)
                errors.append(_cents(hz[hz > 0], pitch(times_s[hz > 0])))
            off = np.concatenate(errors)
            cells = [f"{np.median(off):.1f}", f"{100 * (off > 50).mean():.1f} %"]
            cells += [f"{100 * np.concatenate(missed).mean():.1f} %", f"{ms:.1f}"]
            print(f"| {name} | {snr_db} dB | {' | '.join(cells)} |", flush=True)
    if SHARED.is_dir():
        _speech(tried)
        _syllables()


def _speech(tried: dict[str, Callable[[np.ndarray], np.ndarray]]) -> None:
    """Where trackers are more than half an octave apart on speech, and who is right there."""
    clips = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet", columns=["audio_flac"])
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*tried, "level_db", "around")}
    for clip in clips["audio_flac"].gather_every(60):
        samples = soundfile.read(io.BytesIO(clip))[0]
        tracks = {name: track(samples - samples.mean()) for name, track in tried.items()}
        frames = min(map(len, tracks.values()))
        tracks = {name: hz[:frames] for name, hz in tracks.items()}
        tracks |= {"level_db": _levels(samples, frames), "around": _around(tracks)}
        for name, values in tracks.items():
            found[name].append(values)
    tell_speech({name: np.concatenate(parts) for name, parts in found.items()})


def tell_speech(hz: dict[str, np.ndarray]) -> None:
    """Print both tables of speech.

    Args:
        hz: of every frame what each tracker says, its level below the loudest of its clip, and the
            pitch that trackers agree on around it.
    """
    own, other = hz["prosody"], hz["librosa.pyin"]
    is_voiced = (own > 0) & (other > 0)
    names = list(hz)[:3]
    print("\n| RAVDESS, 12 clips | half an octave apart or more |\n| --- | --- |")
    for left, right in [(0, 1), (0, 2), (2, 1)]:
        apart = _cents(hz[names[left]][is_voiced], hz[names[right]][is_voiced]) > 600
        print(f"| {names[left]}, {names[right]} | {100 * apart.mean():.1f} % |")
    apart = is_voiced & (_cents(np.where(is_voiced, own, 1), np.where(is_voiced, other, 1)) > 600)
    is_quiet = hz["level_db"] < _QUIET_DB
    known = apart & ~is_quiet & (hz["around"] > 0)
    nearer = _cents(own[known], hz["around"][known]) < _cents(other[known], hz["around"][known])
    print("\n| prosody and librosa.pyin apart | frames |\n| --- | --- |")
    print(f"| voiced by both | {is_voiced.sum()} |\n| apart | {apart.sum()} |")
    print(f"| of these {-_QUIET_DB} dB or more below the loudest | {(apart & is_quiet).sum()} |")
    print(f"| of the others with frames around on which all agree | {known.sum()} |")
    print(f"| of these prosody nearer to what they agree on | {nearer.sum()} |")


def _levels(samples: np.ndarray, frames: int) -> np.ndarray:
    """Of every 25 ms the level in decibels below the loudest."""
    blocks = np.lib.stride_tricks.sliding_window_view(samples, 400)[::_HOP][:frames]
    level_db = 20 * np.log10(blocks.std(1) + 1e-9)
    return level_db - level_db.max()


def _around(tracks: dict[str, np.ndarray]) -> np.ndarray:
    """Median of the pitches within 150 ms on which all trackers agree to 100 cents; 0: too few."""
    said = np.stack(list(tracks.values()))
    low, high = said.min(0), said.max(0)
    agrees = (low > 0) & (high < low * 2 ** (100 / 1200))
    result = np.zeros(len(low))
    for frame in range(len(low)):
        near = slice(max(0, frame - _NEAR), frame + _NEAR + 1)
        pitches = tracks["prosody"][near][agrees[near]]
        if len(pitches) >= 3:
            result[frame] = np.median(pitches)
    return result


def _syllables() -> None:
    """Both sentences of RAVDESS have seven."""
    clips = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet", columns=["audio_flac"])
    place, own = NAMES.index("syllables_per_s"), Prosody(Settings(pooling="mean_std"))
    counts: dict[str, list[float]] = {"prosody": [], "librosa.onset.onset_detect": []}
    for clip in clips["audio_flac"].gather_every(15):
        samples = soundfile.read(io.BytesIO(clip), dtype="float32")[0]
        pooled = own.encode([Sound(samples, RATE_HZ)])[0].pooled
        if pooled is None:
            raise ValueError("a clip of RAVDESS has no prosody")
        counts["prosody"].append(float(pooled[place]) * len(samples) / RATE_HZ)
        onsets = librosa.onset.onset_detect(y=samples, sr=RATE_HZ, hop_length=_HOP)
        counts["librosa.onset.onset_detect"].append(len(onsets))
    print("\n| RAVDESS, 48 clips | syllables | off by |\n| --- | --- | --- |")
    for name, found in counts.items():
        error = np.abs(np.array(found) - 7).mean()
        print(f"| {name} | {np.mean(found):.2f} ± {np.std(found):.2f} | {error:.2f} |")


if __name__ == "__main__":
    main()
