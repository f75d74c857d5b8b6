"""Streams and containers that state no times of frames, nor a length."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tasks.media.decoding import FrameSampling, Span, decode, probe
from tests.tasks.media_factory import numbers, write

KINDS = [("h264", "libx264"), ("hevc", "libx265")]


@pytest.fixture(params=KINDS, ids=lambda kind: kind[0])
def bare(request, tmp_path):
    kind, codec = request.param
    times_s = np.arange(100) / 25
    pictures = [np.full((48, 64, 3), 20 + 2 * n, np.uint8) for n in range(100)]
    return write(
        tmp_path / f"a.{kind}",
        times_s=times_s,
        pictures=pictures,
        video_codec=codec,
        format=kind,
    )


def test_frames_are_counted_to_find_the_length(bare):
    media = probe(bare)
    assert (media.kind, media.fps, media.problems) == ("video", 25.0, ())
    assert media.duration_s == pytest.approx(4.0)


def test_every_frame_has_its_time(bare):
    clip = decode(bare, audio_rate_hz=None, frame_times=FrameSampling())
    assert (len(clip.frames), clip.problems) == (100, ())
    assert clip.times_s == pytest.approx(np.arange(100) / 25)


def test_a_span_is_counted_from_the_beginning(bare):
    whole = decode(bare, audio_rate_hz=None, frame_times=FrameSampling())
    part = decode(Span(str(bare), 3.0, 3.2), audio_rate_hz=None, frame_times=FrameSampling())
    assert part.times_s == pytest.approx([3.0, 3.04, 3.08, 3.12, 3.16])
    assert numbers(part.frames) == numbers(whole.frames[75:80])


def test_a_span_beyond_the_end_is_told(bare):
    clip = decode(Span(str(bare), 3.5, 6.0), audio_rate_hz=None, frame_times=FrameSampling())
    assert [problem.reason for problem in clip.problems] == ["span_beyond_end"]
    assert len(clip.frames) == 13


@pytest.mark.parametrize("b_frames", [0, 2])
def test_frames_out_of_order_in_avi_are_all_there_at_their_times(tmp_path, b_frames):
    pictures = [np.full((48, 64, 3), 20 + 2 * n, np.uint8) for n in range(100)]
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"bf": str(b_frames)})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    clip = decode(path, audio_rate_hz=None, frame_times=FrameSampling())
    means = clip.frames.reshape(len(clip.frames), -1).mean(axis=1)
    assert len(means) >= 98  # a first or last frame may lie beyond the length that AVI states
    assert (np.diff(means) > 0).all()
    assert np.diff(clip.times_s) == pytest.approx(np.full(len(means) - 1, 0.04))
    part = decode(Span(str(path), 3.0, 3.2), audio_rate_hz=None, frame_times=FrameSampling())
    at = int(np.argmin(np.abs(clip.times_s - 3.0)))
    assert np.array_equal(part.frames, clip.frames[at : at + len(part.frames)])
    assert len(part.frames) >= 5
