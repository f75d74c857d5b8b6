"""Interlaced video: every row of a picture from one time; as many pictures, at their times."""

from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest
from av.codec.context import Flags

from tasks.media.decoding import FrameSampling, Span, decode
from tasks.media.worker import Decoders
from tests.tasks.media_factory import numbers, write

SIZE, FRAMES = (128, 96), 25


def bar(left: int) -> np.ndarray:
    picture = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    picture[:, left : left + 8] = 255
    return picture


def moving(path, codec="libx264", is_interlaced=True):
    """A bar that moves on between the two fields of each frame."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        if codec == "libx264" and is_interlaced:
            video.options = {"x264-params": "tff=1"}
        elif is_interlaced:
            video.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        for number in range(FRAMES):
            rows = bar(4 * number)
            rows[1::2] = bar(4 * number + 2)[1::2]
            picture = np.repeat(rows[..., None], 3, axis=2)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def comb(frames: np.ndarray) -> float:
    """How much neighbouring rows differ: by nothing, for a bar that stands upright."""
    return float(np.abs(np.diff(frames[..., 0].astype(int), axis=1)).mean())


@pytest.mark.parametrize("kind", ["mkv", "mp4", "h264"])
def test_rows_of_two_times_become_those_of_one(tmp_path, kind):
    path = moving(tmp_path / f"i.{kind}")
    clip = decode(path, audio_rate_hz=None, frame_times=FrameSampling())
    assert (len(clip.frames), clip.problems) == (FRAMES, ())
    assert clip.times_s == pytest.approx(np.arange(FRAMES) / 25, abs=1e-3)
    assert comb(clip.frames) < 0.5
    at = clip.frames[10, 40, :, 0].astype(float)
    middle = float(np.average(np.arange(SIZE[0]), weights=at))
    # of which of the two fields the encoder says that it comes first is its affair
    assert min(abs(middle - 43.5), abs(middle - 45.5)) < 0.6


def test_a_span_gives_the_frames_of_the_whole(tmp_path):
    path = moving(tmp_path / "i.mkv")
    whole = decode(path, audio_rate_hz=None, frame_times=FrameSampling())
    part = decode(Span(str(path), 0.4, 0.6), audio_rate_hz=None, frame_times=FrameSampling())
    assert part.times_s == pytest.approx(whole.times_s[10:15])
    assert np.array_equal(part.frames, whole.frames[10:15])


def test_what_is_marked_progressive_stays_as_it_is(tmp_path):
    path = moving(tmp_path / "p.mkv", is_interlaced=False)
    clip = decode(path, audio_rate_hz=None, frame_times=FrameSampling())
    assert comb(clip.frames) > 5


def test_progressive_frames_meet_no_filter(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.media.interlace.deinterlacer", lambda frame: pytest.fail("filtered"))
    path = write(tmp_path / "p.mp4", times_s=np.arange(10) / 25)
    clip = decode(path, audio_rate_hz=None, frame_times=FrameSampling())
    assert numbers(clip.frames) == list(range(10))


def test_damage_among_interlaced_frames_costs_what_depends_on_it(tmp_path):
    path = moving(tmp_path / "i.avi", "mpeg4")
    content = bytearray(path.read_bytes())
    at = content.index(b"00dc", content.index(b"movi") + 2000)
    content[at + 8 : at + 60] = bytes(52)
    path.write_bytes(content)
    clip = decode(path, audio_rate_hz=None, frame_times=FrameSampling())
    assert 0 < len(clip.frames) <= FRAMES
    assert (np.diff(clip.times_s) > 0).all()


def test_a_confined_decoder_has_what_it_takes(tmp_path):
    path = moving(tmp_path / "i.mkv")
    function = partial(decode, audio_rate_hz=None, frame_times=FrameSampling())
    with Decoders(1) as decoders:
        clip = next(iter(decoders.clips(function, [path])))
    assert (len(clip.frames), clip.problems) == (FRAMES, ())
    assert comb(clip.frames) < 0.5
