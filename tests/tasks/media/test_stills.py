import numpy as np
import pytest
from PIL import Image

from tasks.media.decoding import FrameSampling, Region, Span, decode, probe
from tasks.media.pictures import EXIF_ORIENTATIONS
from tests.tasks.heif_factory import write_heif
from tests.tasks.media_factory import corner_names, corners

EVERY = FrameSampling()


def pictures(path, start_s=None, end_s=None, sampling=EVERY, region=None):
    return decode(Span(str(path), start_s, end_s, region), audio_rate_hz=None, frame_times=sampling)


def reasons(thing):
    return [problem.reason for problem in thing.problems]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff", "avif", "jp2"])
def test_every_picture_format_is_read(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    Image.fromarray(corners()).save(path)
    clip, media = pictures(path), probe(path)
    assert (clip.status, clip.kind, media.kind) == ("ok", "image", "image")
    assert clip.frames.shape == (1, 48, 64, 3)
    assert corner_names(clip.frames[0]) == "rgbw"
    assert clip.times_s.tolist() == [0.0]
    assert (media.has_video, media.has_audio, media.duration_s) == (True, False, None)


# How the upright picture (rg / bw) is stored for each value of the EXIF tag, by its definition:
# where row 0 and column 0 of the stored picture lie in the upright one.
STORED = {1: "rgbw", 2: "grwb", 3: "wbgr", 4: "bwrg", 5: "rbgw", 6: "gwrb", 7: "wgbr", 8: "brwg"}
COLOURS = {"r": (250, 0, 0), "g": (0, 250, 0), "b": (0, 0, 250), "w": (250, 250, 250)}


def quarters(names: str, half: tuple[int, int]) -> np.ndarray:
    """A picture of four one-coloured quarters of (height, width), named in reading order."""
    colours = np.array([COLOURS[name] for name in names], np.uint8).reshape(2, 2, 3)
    return colours.repeat(half[0], axis=0).repeat(half[1], axis=1)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation_is_honoured(tmp_path, value, suffix):
    exif = Image.Exif()
    exif[0x0112] = value
    half = (32, 24) if value >= 5 else (24, 32)
    path = tmp_path / f"o.{suffix}"
    Image.fromarray(quarters(STORED[value], half)).save(path, exif=exif)
    clip, media = pictures(path), probe(path)
    assert clip.frames.shape == (1, 48, 64, 3)
    assert corner_names(clip.frames[0]) == "rgbw"
    assert (media.width_px, media.height_px) == (64, 48)
    assert media.rotation_deg == {3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}.get(value, 0)
    assert media.is_mirrored == (value in (2, 4, 5, 7))


def test_orientations_agree_with_pillow(tmp_path):
    from PIL import ImageOps

    picture = np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8)
    for value, orientation in EXIF_ORIENTATIONS.items():
        image = Image.fromarray(picture)
        image.getexif()[0x0112] = value
        expected = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(orientation.apply(picture), expected)


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path):
    path = tmp_path / "e.jpg"
    Image.fromarray(corners()).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0")
    assert corner_names(pictures(path).frames[0]) == "rgbw"


def test_transparent_parts_lie_on_black(tmp_path):
    layers = np.dstack([np.full((8, 8, 3), 200, np.uint8), np.full((8, 8), 255, np.uint8)])
    layers[:, 4:, 3] = 0
    layers[4:, :4, 3] = 128
    Image.fromarray(layers, "RGBA").save(tmp_path / "a.png")
    frame = pictures(tmp_path / "a.png").frames[0]
    assert (frame[:4, :4] == 200).all()
    assert (frame[:, 4:] == 0).all()
    assert (np.abs(frame[4:, :4].astype(int) - 100) <= 1).all()


def test_grey_pictures_of_8_and_16_bits_look_the_same(tmp_path):
    grey = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    narrow, wide = (pictures(tmp_path / name).frames[0] for name in ("8.png", "16.png"))
    assert np.array_equal(narrow, wide)
    assert np.array_equal(narrow, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "1", "LA"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("m.jpg" if mode == "CMYK" else "m.png")
    Image.fromarray(corners()).convert(mode).save(path)
    frame = pictures(path).frames[0]
    assert frame.shape == (48, 64, 3)
    assert frame[36, 48].min() > 200  # white stays white


def test_32_bit_grey_is_refused_with_a_reason(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tiff")
    assert reasons(pictures(tmp_path / "f.tiff")) == ["unsupported"]


def test_region_and_height_bound_work_on_stills(tmp_path):
    Image.fromarray(corners(640, 480)).save(tmp_path / "big.png")
    sampling = FrameSampling(max_height_px=48)
    clip = pictures(tmp_path / "big.png", sampling=sampling, region=Region(x0=0.5))
    assert clip.frames.shape == (1, 48, 32, 3)
    assert corner_names(clip.frames[0]) == "ggww"


def test_a_still_has_no_times_and_no_sound(tmp_path):
    Image.fromarray(corners()).save(tmp_path / "s.png")
    clip = decode(Span(str(tmp_path / "s.png"), 3.0, 4.0), audio_rate_hz=16000, frame_times=EVERY)
    assert (clip.status, reasons(clip), len(clip.frames)) == ("degraded", ["no_audio"], 1)
    only = decode(tmp_path / "s.png", audio_rate_hz=16000, frame_times=None)
    assert (only.status, reasons(only)) == ("failed", ["no_audio"])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations_have_times(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    greys = [Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)) for i in range(5)]
    delays = [100, 100, 300, 100, 100]
    greys[0].save(path, save_all=True, append_images=greys[1:], duration=delays, lossless=True)
    media = probe(path)
    assert (media.kind, media.duration_s) == ("animation", pytest.approx(0.7))
    clip = pictures(path)
    assert clip.times_s.tolist() == pytest.approx([0, 0.1, 0.2, 0.5, 0.6])
    assert (clip.frames[:, 0, 0, 0] // 40).tolist() == [0, 1, 2, 3, 4]
    some = pictures(path, 0.15, 0.65, FrameSampling(rate_hz=10))
    assert (some.frames[:, 0, 0, 0] // 40).tolist() == [1, 2, 3]
    assert reasons(pictures(path, 0.7, 1.0)) == ["span_beyond_end"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_pictures_fail_with_a_reason(tmp_path, suffix, share):
    whole, cut = tmp_path / f"w.{suffix}", tmp_path / f"c.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(whole)
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    for thing in (pictures(cut), probe(cut)):
        assert thing.status == "failed"
        assert reasons(thing)[0] in ("truncated", "unreadable")


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
@pytest.mark.parametrize("suffix", ["gif", "avif", "webp", "png", "jpg", "tiff", "jp2"])
def test_a_picture_damaged_anywhere_is_read_or_fails_with_a_reason(tmp_path, suffix, byte):
    path = tmp_path / f"p.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (3, 24, 32, 3), np.uint8)
    first, *more = [Image.fromarray(frame) for frame in noise]
    moves = {"save_all": True, "append_images": more} if suffix in ("gif", "avif", "webp") else {}
    first.save(path, **moves)
    whole = path.read_bytes()
    failed = 0
    for start in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:start] + byte * 4 + whole[start + 4 :])
        failed += pictures(path).status == "failed"
        assert probe(path).status in ("ok", "degraded", "failed")
    assert failed


def test_a_picture_of_absurd_size_is_refused(tmp_path):
    import struct
    import zlib

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    assert reasons(pictures(path)) == ["too_large"]


def test_an_animation_of_more_pixels_than_are_drawn_is_too_large_before_any_is(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (100, 80), (40 * n, 0, 0)) for n in range(6)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    assert probe(path).status == "ok"
    monkeypatch.setattr("tasks.media.stills._MAX_ANIMATION_PIXELS", 6 * 8000 - 1)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("drawn"))
    found = probe(path).problems
    assert [problem.reason for problem in found] == ["too_large"]
    assert found[0].detail.endswith(
        "a.gif has 6 frames of 100x80 pixels, more than 47,999 pixels together; make it a video"
    )
    assert reasons(pictures(path)) == ["too_large"]


def test_the_limit_of_pictures_is_the_one_that_is_said():
    assert Image.MAX_IMAGE_PIXELS * 2 == 200_000_000


def test_a_heif_picture_of_one_frame_is_read(tmp_path):
    path = tmp_path / "p.heic"
    write_heif(path, corners())
    clip, media = pictures(path), probe(path)
    assert (clip.status, clip.kind, media.kind) == ("ok", "image", "image")
    assert clip.frames.shape == (1, 48, 64, 3)
    assert corner_names(clip.frames[0]) == "rgbw"


def test_a_heif_picture_of_tiles_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "p.heic"
    write_heif(path, corners(), tiles=2)
    found = pictures(path).problems
    assert reasons(pictures(path)) == reasons(probe(path)) == ["unsupported"]
    assert found[0].detail == f"{path} is a HEIF picture made of tiles; convert it to JPEG"


def test_a_heif_picture_that_is_cut_is_not_shown_in_grey(tmp_path):
    path = tmp_path / "p.heic"
    write_heif(path, corners())
    path.write_bytes(path.read_bytes()[:-10])
    assert reasons(pictures(path)) == reasons(probe(path)) == ["truncated"]
