"""All of `shared/data/awkward`, file by file, against the oracle in its manifest."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.media.decoding import REASONS, Clip, FrameSampling, Span, decode, media_sha256, probe
from tasks.media.worker import Decoders
from tests.awkward_oracle import expectations

AWKWARD = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")) / "data" / "awkward"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not AWKWARD.exists(), reason="shared/data/awkward is not beside the project"
    ),
]


#: Empty where the files are absent, for the skip to be reported.
EXPECTED = expectations(AWKWARD) if AWKWARD.exists() else []


def whole(path: Path) -> tuple[tuple[int, ...], Clip]:
    """Shape of all frames of a file, and its clip with one pixel of each."""
    clip = decode(path, audio_rate_hz=16000, frame_times=FrameSampling())
    return clip.frames.shape, replace(clip, frames=clip.frames[:, :1, :1].copy())


@pytest.fixture(scope="module")
def clips():
    """Every file decoded whole, in worker processes with a time limit."""
    names = [expected.file for expected in EXPECTED]
    with Decoders(2, timeout_s=60) as decoders:
        outcomes = list(decoders.map(whole, [AWKWARD.resolve() / name for name in names]))
    assert [outcome.problem for outcome in outcomes] == [None] * len(names)
    return {name: outcome.value for name, outcome in zip(names, outcomes, strict=True)}


def test_there_are_46_files():
    assert len(EXPECTED) == 46


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.file)
def test_content_or_reason_is_right(clips, expected):
    shape, clip = clips[expected.file]
    media = probe(AWKWARD / expected.file)
    reasons = {problem.reason for problem in clip.problems}
    assert clip.status == expected.status
    assert reasons <= set(REASONS)
    if expected.status == "failed":
        assert (media.status, media.kind) == ("failed", None)
        assert {clip.problems[0].reason} == {media.problems[0].reason} == expected.reasons
        return
    assert reasons == expected.reasons
    assert media_sha256(AWKWARD / expected.file) == expected.sha256
    assert shape[0] == expected.frames
    if expected.size_px is not None:
        assert (shape[2], shape[1]) == expected.size_px
        assert (media.width_px, media.height_px) == expected.size_px
        assert media.rotation_deg == expected.turn_deg
        steps = np.diff(clip.times_s)
        assert (steps > 0).all()
        if expected.step_s is not None:
            assert (steps.min(), steps.max()) == pytest.approx(expected.step_s, abs=2e-3)
    if expected.sound:
        end_s = clip.audio_start_s + len(clip.audio) / 16000
        if expected.end_s is not None:
            assert end_s == pytest.approx(expected.end_s, abs=0.06)
        assert clip.audio.dtype == np.float32
        assert np.abs(clip.audio).max() <= 1.0
        if expected.file != "nasa_two_video_streams.mp4":
            assert f"{media.audio_rate_hz}Hz {media.channels}ch" in expected.sound


def test_the_portrait_face_equals_the_original_when_turned_back():
    original = AWKWARD.parent / "av_clips" / "single_face.mp4"
    turned = AWKWARD / "derived_portrait_face_rot90.mp4"
    sampling = FrameSampling(count=5)
    first, second = (
        decode(path, audio_rate_hz=None, frame_times=sampling).frames.astype(int)
        for path in (original, turned)
    )
    assert first.shape == second.shape
    assert np.abs(first - second).mean() < 4  # it was encoded once more


def test_a_span_in_the_middle_of_every_long_file_equals_the_whole():
    wanted = FrameSampling(rate_hz=4)
    for expected in EXPECTED:
        path = AWKWARD / expected.file
        media = probe(path)
        if media.kind not in ("video", "audio") or (media.duration_s or 0) < 3.5:
            continue
        if expected.file in ("corrupted.mp4", "derived_truncated_60pct.mkv"):
            continue
        rate = 16000 if media.has_audio else None
        whole = decode(path, audio_rate_hz=rate, frame_times=FrameSampling())
        part = decode(Span(str(path), 2.9, 3.4), audio_rate_hz=rate, frame_times=wanted)
        for frame, time_s in zip(part.frames, part.times_s, strict=True):
            at = int(np.argmin(np.abs(whole.times_s - time_s)))
            assert whole.times_s[at] == pytest.approx(time_s, abs=1e-6)
            assert np.array_equal(frame, whole.frames[at]), path
        if part.audio is not None:
            first = round((part.audio_start_s - whole.audio_start_s) * 16000)
            same = whole.audio[first : first + len(part.audio)]
            assert np.abs(part.audio - same).max() < 1e-3, path
