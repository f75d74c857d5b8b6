import contextlib
import gc
import pickle
import weakref

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.faces.windows import Window
from tasks.media.plain import BrokenAnswer, pack, unpack
from tasks.media.types import Clip, Media, Problem


def crossed(value):
    head, arrays = pack(value)
    return unpack(head, [bytearray(array) for array in arrays])


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", "?", ">i4", "f2"])
@pytest.mark.parametrize("shape", [(0, 0, 0, 3), (), (2, 3, 4), (5,)])
def test_arrays_cross_whole(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)) % 7).astype(dtype).reshape(shape)
    there = crossed(array)
    assert (there.dtype, there.shape) == (array.dtype, shape)
    assert there.tobytes() == array.tobytes()
    assert there.flags.writeable


def test_an_array_that_does_not_lie_in_one_piece_crosses():
    array = np.arange(24).reshape(4, 6)[::2, ::-1]
    assert (crossed(array) == array).all()


def test_nothing_holds_an_array_that_has_crossed():
    array = np.zeros(1000)
    gone = weakref.ref(array)
    gc.disable()  # arrays are few objects, so it would come only after many of them
    try:
        head, arrays = pack(["value", Clip(np.zeros((1, 2, 2, 3), np.uint8), array)])
        assert len(arrays) == 2
        del head, arrays, array
        assert gone() is None
    finally:
        gc.enable()


def test_what_decoders_answer_crosses():
    problems = (Problem("truncated", "ä ends"), Problem("no_audio", ""))
    clip = Clip(np.ones((1, 2, 2, 3), np.uint8), np.zeros(1), kind="video", problems=problems)
    there = crossed(clip)
    assert (there.kind, there.problems, there.audio) == ("video", problems, None)
    assert there.frames.tobytes() == clip.frames.tobytes()
    media = Media("audio", "wav", duration_s=float("inf"), problems=problems)
    assert crossed(media) == media
    window = Window(clip.frames, clip.times_s, np.zeros(3, np.float32), 0.5, True, problems)
    assert crossed(window).problems == problems


def test_what_may_not_cross_is_said_where_it_is_written():
    with pytest.raises(TypeError, match="set cannot cross from a decoder"):
        pack({1})
    with pytest.raises(TypeError, match="array of object cannot cross"):
        pack(np.array([None]))


def _record(name, held):
    return msgpack.packb(msgpack.ExtType(2, msgpack.packb([name, held])))


@pytest.mark.parametrize(
    "head",
    [
        pickle.dumps(print),
        b"",
        _record("Popen", ["id"]),
        _record("Problem", ["of this kind there is none", "x"]),
        _record("Problem", ["missing"]),
        _record("Clip", ["frames", [], None, None, None, 0, None, []]),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(["O", [1]]))),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(["u1", [9]]))),
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(["u1", [1 << 62, 1 << 62]]))),
        msgpack.packb(msgpack.ExtType(9, b"")),
        b"\x91" * 5000,
    ],
)
def test_an_answer_that_no_decoder_gives_is_broken(head):
    with pytest.raises(BrokenAnswer):
        unpack(head, [bytearray(8)])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_broken_answer(head):
    with contextlib.suppress(BrokenAnswer):
        unpack(head, [])
