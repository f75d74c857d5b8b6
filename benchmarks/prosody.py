"""Pitch and syllables of ``prosody`` against librosa: error and time.

Run ``python -m benchmarks.prosody`` in the root of the repository. First pitch of voices that are
made: harmonics with formants that glide over an octave, in noise. Then, with the real data beside
the project, how far the trackers are apart on speech, and syllables of sentences that have seven.
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
    """How often two trackers are more than half an octave apart where both hear a voice."""
    clips = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet", columns=["audio_flac"])
    found: dict[str, list[np.ndarray]] = {name: [] for name in tried}
    for clip in clips["audio_flac"].gather_every(60):
        samples = soundfile.read(io.BytesIO(clip))[0]
        tracks = {name: track(samples - samples.mean()) for name, track in tried.items()}
        frames = min(map(len, tracks.values()))
        for name, hz in tracks.items():
            found[name].append(hz[:frames])
    hz = {name: np.concatenate(parts) for name, parts in found.items()}
    is_voiced = (hz["prosody"] > 0) & (hz["librosa.pyin"] > 0)
    names = list(hz)
    print("\n| RAVDESS, 12 clips | half an octave apart or more |\n| --- | --- |")
    for left, right in [(0, 1), (0, 2), (2, 1)]:
        apart = _cents(hz[names[left]][is_voiced], hz[names[right]][is_voiced]) > 600
        print(f"| {names[left]}, {names[right]} | {100 * apart.mean():.1f} % |")


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
