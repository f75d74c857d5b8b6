"""Streams without a container, which state neither times nor a length."""

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
