"""Boxes in pixels become regions of the upright picture."""

import math

import polars as pl
import pytest
from PIL import Image
from PIL.Image import Transpose

from tasks.corpora.boxes import add_regions
from tasks.media.decoding import FrameSampling, Region, Span, decode

CORNERS = ("x0_px", "y0_px", "x1_px", "y1_px")
WIDTH, HEIGHT = 80, 40
#: By EXIF orientation: how an upright picture comes to lie in the file.
STORED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def regions(root, *boxes, media="a.jpg") -> pl.DataFrame:
    rows = [{"media": media, **dict(zip(CORNERS, box, strict=True))} for box in boxes]
    schema = {"media": pl.String, **dict.fromkeys(CORNERS, pl.Float64)}
    return add_regions(pl.DataFrame(rows, schema=schema), root, "toy")


@pytest.mark.parametrize("corner", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None], ids=str)
def test_a_box_with_a_corner_that_is_no_number_is_set_aside(tmp_path, corner, value):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg")
    box = [10.0, 5.0, 30.0, 25.0]
    broken = [value if place == corner else number for place, number in enumerate(box)]
    found = regions(tmp_path, box, broken)
    assert found["reason"].to_list() == [None, "bad_box"]
    assert found["region"].to_list() == [[0.125, 0.125, 0.375, 0.625], None]
    assert "is none or lies" in found["detail"][1]


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_lies_where_it_is_seen_in_a_turned_picture(tmp_path, orientation, kind):
    is_turned = orientation >= 5
    seen = Image.new("RGB", (HEIGHT, WIDTH) if is_turned else (WIDTH, HEIGHT))
    box = (8, 48, 16, 72) if is_turned else (48, 8, 72, 16)
    seen.paste("white", box)
    stored = seen.transpose(STORED[orientation]) if orientation in STORED else seen
    assert stored.size == (WIDTH, HEIGHT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{kind}", exif=exif)
    region = Region(*regions(tmp_path, box, media=f"a.{kind}")["region"][0])
    sampling = FrameSampling(rate_hz=1.0)
    span = Span(str(tmp_path / f"a.{kind}"), region=region)
    clip = decode(span, audio_rate_hz=None, frame_times=sampling)
    assert clip.frames[0].shape == ((24, 8, 3) if is_turned else (8, 24, 3))
    assert clip.frames[0].min() > 200
