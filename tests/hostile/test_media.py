"""Damaged media in decoders' processes: problems with reasons, and the run goes on."""

import random
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tasks.media.decoding import FrameSampling, decode
from tasks.media.types import REASONS
from tasks.media.worker import Decoders
from tests.tally import trial
from tests.tasks.media_factory import corners, tone, write

pytestmark = pytest.mark.hostile

SEED = 20
COPIES = 12


@pytest.fixture(scope="module")
def pool():
    with Decoders(2, timeout_s=60) as decoders:
        yield decoders


def made(folder, kind):
    path = folder / f"good.{kind}"
    if kind in ("png", "jpg", "gif", "webp", "tiff", "bmp"):
        Image.fromarray(corners()).save(path)
    else:
        write(path, times_s=np.arange(20) / 25, sound=tone(0.8, 16000))
    return path


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut out, repeated or cut off, anywhere."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 3, 30))):
        if len(found) < 2:
            break
        at = chance.randrange(len(found))
        match chance.randrange(4):
            case 0:
                found[at] ^= 1 << chance.randrange(8)
            case 1:
                found[at : at + chance.randrange(1, 64)] = b""
            case 2:
                found[at:at] = found[at : at + 200]
            case 3 if chance.random() < 0.3:
                found = found[: max(1, at)]
    return bytes(found)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "png", "jpg", "gif", "webp", "tiff", "bmp"])
def test_damage_costs_a_file_at_most(pool, tmp_path, kind):
    content, chance = made(tmp_path, kind).read_bytes(), random.Random(SEED)
    paths = []
    for number in range(COPIES):
        paths.append(tmp_path / f"{number}.{kind}")
        paths[-1].write_bytes(damaged(content, chance))
    function = partial(decode, audio_rate_hz=8000, frame_times=FrameSampling(rate_hz=5))
    clips = list(pool.clips(function, paths))
    assert len(clips) == COPIES
    for clip in clips:
        with trial("damaged media") as one:
            assert clip.status in ("ok", "degraded") or clip.problems
            assert all(problem.reason in REASONS for problem in clip.problems)
            assert not {problem.reason for problem in clip.problems} & {"timeout"}
            if clip.problems:
                one.refused()
