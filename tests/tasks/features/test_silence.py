"""Silence at the ends of a sound: cut as librosa cuts it."""

import numpy as np
import pytest

from tasks.features.silence import trimmed


def sound(before: int, loud: int, after: int, quiet: float = 1e-4) -> np.ndarray:
    rng = np.random.default_rng(before + loud)
    parts = [quiet * rng.standard_normal(before), 0.1 * rng.standard_normal(loud)]
    return np.concatenate([*parts, quiet * rng.standard_normal(after)]).astype(np.float32)


def test_what_is_loud_stays_whole():
    samples = sound(16000, 8000, 12000)
    kept = trimmed(samples, 30.0)
    assert 8000 <= len(kept) <= 8000 + 2 * 2048
    start = int(np.flatnonzero(samples == kept[0])[0])
    assert 16000 - 2048 <= start <= 16000
    np.testing.assert_array_equal(samples[start : start + len(kept)], kept)


def test_a_pause_inside_stays():
    samples = np.concatenate([sound(0, 8000, 9000), sound(0, 8000, 0)])
    assert len(trimmed(samples, 30.0)) == len(samples)


@pytest.mark.parametrize("length", [1, 5, 511, 3000])
def test_nothing_is_cut_where_nothing_is_louder(length):
    for samples in (np.zeros(length, np.float32), np.full(length, 0.1, np.float32)):
        np.testing.assert_array_equal(trimmed(samples, 10.0), samples)


@pytest.mark.slow  # librosa compiles in its first call
@pytest.mark.parametrize(
    "parts", [(16000, 8000, 12000), (0, 5000, 7001), (3333, 20000, 0), (9, 9, 9)]
)
@pytest.mark.parametrize("below_db", [20.0, 30.0, 60.0])
def test_librosa_cuts_the_same(parts, below_db):
    import librosa

    samples = sound(*parts, quiet=1e-3)
    expected, _ = librosa.effects.trim(samples, top_db=below_db)
    np.testing.assert_array_equal(trimmed(samples, below_db), expected)
