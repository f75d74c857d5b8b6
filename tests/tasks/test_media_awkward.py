"""All of `shared/data/awkward`, file by file, against the oracle in its manifest."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.media import REASONS, Clip, FrameSampling, decode, media_sha256, probe
from tasks.media_worker import Decoders

AWKWARD = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")) / "data" / "awkward"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not AWKWARD.exists(), reason="shared/data/awkward is not beside the project"
    ),
]


def rows() -> list[dict[str, str]]:
    """Rows of the manifest; one empty row where it is absent, for the skip to be reported."""
    if not AWKWARD.exists():
        return [{"file": "absent"}]
    with open(AWKWARD / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


# What is wrong with a file beyond a track that the manifest says is not there.
WRONG = {
    "vfr_hevc_face_noface.mov": ["audio_gap"],  # its sound begins 2.43 s after its picture
    "five_frames_1080p.mp4": ["silent_audio"],
    "corrupted.mp4": ["corrupt"],
    "no_duration.webm": ["silent_audio"],
    "transparent.webm": ["silent_audio"],
    "empty.webm": ["empty_file"],
    "mp3_with_cover_art.mp3": ["silent_audio"],
    "audio_only.mp4": ["silent_audio"],
    "no_streams.mp4": ["no_content"],
    "header_only.flv": ["no_content"],
    "one_pixel.avi": ["no_content"],
    "header_only.wav": ["no_content"],
    "broken.webp": ["unreadable"],
    "truncated.png": ["truncated"],
    "derived_truncated_60pct.mp4": ["truncated"],
    "derived_truncated_60pct.mkv": ["truncated"],
    "silence_400hz.wav": ["silent_audio"],
}
# The manifest counts the first track; the best one is the second, 390 frames of 480x270.
FRAMES = {"nasa_two_video_streams.mp4": 390, "mp3_with_cover_art.mp3": 0}
# Upright size, where it is not the stored one: the second track, or pixels that are not square.
SIZES = {
    "nasa_two_video_streams.mp4": (480, 270),
    "surround_5_1.mp4": (427, 240),
    "face_heavy_compression.mp4": (193, 144),
}
BROKEN = {name for name, found in WRONG.items() if found[0] in ("empty_file", "no_content")} | {
    "broken.webp",
    "truncated.png",
    "derived_truncated_60pct.mp4",
}


def whole(path: Path) -> tuple[tuple[int, ...], Clip]:
    """Shape of all frames of a file, and its clip with one pixel of each."""
    clip = decode(path, audio_rate_hz=16000, frame_times=FrameSampling())
    return clip.frames.shape, replace(clip, frames=clip.frames[:, :1, :1].copy())


@pytest.fixture(scope="module")
def clips():
    """Every file decoded whole, in worker processes with a time limit."""
    names = [row["file"] for row in rows()]
    with Decoders(2, timeout_s=60) as decoders:
        outcomes = list(decoders.map(whole, [AWKWARD.resolve() / name for name in names]))
    assert [outcome.problem for outcome in outcomes] == [None] * len(names)
    return {name: outcome.value for name, outcome in zip(names, outcomes, strict=True)}


def test_there_are_46_files():
    assert len(rows()) == 46


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_content_or_reason_is_right(clips, row):
    name = row["file"]
    shape, clip = clips[name]
    media = probe(AWKWARD / name)
    reasons = {problem.reason for problem in clip.problems}
    has_picture = bool(row["video"]) and name != "mp3_with_cover_art.mp3"
    expected = set(WRONG.get(name, []))
    if name in BROKEN:
        assert (clip.status, media.status, media.kind) == ("failed", "failed", None)
        assert clip.problems[0].reason == media.problems[0].reason == WRONG[name][0]
        return
    expected |= set() if has_picture else {"no_video"}
    expected |= set() if row["audio"] else {"no_audio"}
    assert reasons == expected
    assert reasons <= set(REASONS)
    assert clip.status == ("degraded" if expected else "ok")
    assert media_sha256(AWKWARD / name) == row["sha256"]

    if has_picture:
        stored = row["video"].split()[1].split("x")
        width, height = SIZES.get(name, (int(stored[0]), int(stored[1])))
        turn = -int(row["rotation"] or 0) % 360
        size = (height, width) if turn in (90, 270) else (width, height)
        assert shape[0] == FRAMES.get(name, int(row["decoded_frames"]))
        assert (shape[2], shape[1]) == size
        assert (media.width_px, media.height_px, media.rotation_deg) == (*size, turn)
        assert (np.diff(clip.times_s) > 0).all()
        if row["dt_min"] and name not in FRAMES:
            steps = np.diff(clip.times_s)
            assert steps.min() == pytest.approx(float(row["dt_min"]), abs=2e-3)
            assert steps.max() == pytest.approx(float(row["dt_max"]), abs=2e-3)
    else:
        assert len(clip.frames) == 0
    if row["audio"]:
        end_s = clip.audio_start_s + len(clip.audio) / 16000
        if row["duration_s"] and "truncated" not in reasons:
            assert end_s == pytest.approx(float(row["duration_s"]), abs=0.06)
        assert clip.audio.dtype == np.float32
        assert np.abs(clip.audio).max() <= 1.0
        if name != "nasa_two_video_streams.mp4":
            assert f"{media.audio_rate_hz}Hz {media.channels}ch" in row["audio"]


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
    for row in rows():
        path = AWKWARD / row["file"]
        media = probe(path)
        if media.kind not in ("video", "audio") or (media.duration_s or 0) < 3.5:
            continue
        if row["file"] in ("corrupted.mp4", "derived_truncated_60pct.mkv"):
            continue
        rate = 16000 if media.has_audio else None
        whole = decode(path, audio_rate_hz=rate, frame_times=FrameSampling())
        part = decode(path, 2.9, 3.4, audio_rate_hz=rate, frame_times=wanted)
        for frame, time_s in zip(part.frames, part.times_s, strict=True):
            at = int(np.argmin(np.abs(whole.times_s - time_s)))
            assert whole.times_s[at] == pytest.approx(time_s, abs=1e-6)
            assert np.array_equal(frame, whole.frames[at]), path
        if part.audio is not None:
            first = round((part.audio_start_s - whole.audio_start_s) * 16000)
            same = whole.audio[first : first + len(part.audio)]
            assert np.abs(part.audio - same).max() < 1e-3, path
