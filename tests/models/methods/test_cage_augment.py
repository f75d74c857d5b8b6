"""Random changes of pictures: drawn from one generator, in the right range, of the right kind."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from models.methods.cage import augment


def picture(height: int = 40, width: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth colours, different everywhere, that nobody may write to."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 4, 3), np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    image.flags.writeable = False
    return image


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=40)
@given(
    name=st.sampled_from(augment.LISTS),
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
)
def test_every_list_is_a_function_of_picture_and_seed(name, seed, height, width):
    image = picture(height, width, seed)
    np.random.seed(1)
    first = augment.view(image, 24, name, generator(seed))
    np.random.seed(2)
    second = augment.view(image, 24, name, generator(seed))
    assert first.shape == (3, 24, 24)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", [name for name in augment.LISTS if name != "none"])
def test_other_seeds_give_other_pictures(name):
    views = {augment.view(picture(), 24, name, generator(seed)).tobytes() for seed in range(8)}
    assert len(views) == 8


def test_evaluation_varies_nothing_whatever_the_list():
    plain = augment.view(picture(), 24, "none", generator())
    for name in augment.LISTS:
        assert np.array_equal(augment.view(picture(), 24, name, None), plain)


def test_normalisation_is_that_of_imagenet():
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 1] = 255
    expected = [-0.485 / 0.229, (1 - 0.456) / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(augment.normalise(image)[:, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("seed", [None, 3, 4])
def test_the_emotic_script_normalises_a_second_time_after_erasing(seed):
    def seen(standard):
        rng = None if seed is None else generator(seed)
        return augment.view(picture(), 24, "paper", rng, standard)

    once, twice = seen("imagenet"), seen("code_emotic")
    for channel, (mean, std) in enumerate([
        (0.43832874, 0.24784276), (0.3964344, 0.23621225), (0.3706214, 0.2323653)
    ]):  # fmt: skip
        expected = (once[channel] - mean) / std
        np.testing.assert_allclose(twice[channel], expected, rtol=1e-5, atol=1e-5)


def test_resizing_makes_a_square_and_keeps_the_mean():
    image = picture(90, 60)
    small = augment.resize(image, 30)
    assert small.shape == (30, 30, 3)
    np.testing.assert_allclose(small.mean((0, 1)), image.mean((0, 1)), atol=1)
    assert augment.resize(small, 30) is small


def test_flips_mirror_the_axis_they_name():
    image = picture()
    assert np.array_equal(augment.flip(image, generator(), 1, 1.0), image[:, ::-1])
    assert np.array_equal(augment.flip(image, generator(), 0, 1.0), image[::-1])
    assert augment.flip(image, generator(), 1, 0.0) is image


def test_grey_pictures_have_equal_channels_of_the_same_brightness():
    image = np.full((3, 3, 3), (200, 100, 50), np.uint8)
    found = augment.grey(image, generator(), 1.0)
    assert (found == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_moving_by_nothing_changes_nothing():
    assert np.array_equal(augment.move(picture(), generator(), degrees=0), picture())


def test_rotation_stays_within_its_angle_and_fills_with_black():
    image = np.full((101, 101, 3), 255, np.uint8)
    for seed in range(10):
        turned = augment.move(image, generator(seed), degrees=10)
        angle = np.deg2rad(abs(generator(seed).uniform(-10, 10)))
        seen = 2 / (1 + np.sin(angle) + np.cos(angle))  # of a square behind a square window
        assert turned.mean() / 255 == pytest.approx(seen, abs=0.01)
        assert (turned[35:65, 35:65] == 255).all()
        kept = augment.move(image, generator(seed), degrees=10, replicates_edge=True)
        assert (kept == 255).all()


def test_shift_moves_the_content_by_a_share_of_the_side():
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 50] = 255
    places = []
    for seed in range(20):
        moved = augment.move(image, generator(seed), degrees=0, shift=0.1)[..., 0].astype(float)
        rows, columns = np.mgrid[:101, :101]
        places.append([(moved * rows).sum() / moved.sum(), (moved * columns).sum() / moved.sum()])
    away = np.abs(np.asarray(places) - 50)
    assert away.max() < 10.2
    assert away.max() > 7


def test_tilting_pulls_corners_in_by_at_most_half_the_distortion():
    image = np.full((100, 100, 3), 255, np.uint8)
    for seed in range(10):
        tilted = augment.tilt(image, generator(seed), 0.2, 1.0)
        assert (tilted[11:89, 11:89] == 255).all()
    assert np.array_equal(augment.tilt(image, generator(), 0.0, 1.0), image)
    assert any((augment.tilt(image, generator(s), 0.2, 1.0) == 0).any() for s in range(3))


def test_jitter_of_nothing_keeps_the_picture():
    assert np.array_equal(augment.jitter(picture(), generator(), 0, 0, 0, 0), picture())


@pytest.mark.parametrize("seed", range(5))
def test_brightness_multiplies_and_saturation_keeps_brightness(seed):
    image = np.full((4, 4, 3), (120, 90, 60), np.uint8)
    bright = augment.jitter(image, generator(seed), 0.2, 0, 0, 0).astype(float)
    factor = bright[0, 0] / image[0, 0]
    assert (abs(factor - factor[0]) < 0.02).all()
    assert 0.79 < factor[0] < 1.21
    vivid = augment.jitter(image, generator(seed), 0, 0, 0.5, 0)
    assert vivid[0, 0] @ [0.299, 0.587, 0.114] == pytest.approx(95.55, abs=1)


def test_hue_turns_the_colour_circle_and_leaves_grey_alone():
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    turned = augment._turn_hue(red.astype(np.float32), 1 / 3)
    np.testing.assert_allclose(turned[0, 0], [0, 200, 0], atol=0.5)
    grey = np.full((2, 2, 3), 99, np.uint8)
    assert np.array_equal(augment.jitter(grey, generator(), 0, 0, 0, 0.1), grey)


def test_autocontrast_fills_the_range_and_keeps_a_constant_channel():
    image = np.full((2, 2, 3), 50, np.uint8)
    image[0, 0, :2] = 100
    found = augment.autocontrast(image, generator(), 1.0)
    assert found[0, 0].tolist() == [255, 255, 50]
    assert found[1, 1].tolist() == [0, 0, 50]


def test_blur_and_elastic_keep_a_constant_picture_inside():
    image = np.full((60, 60, 3), 80, np.uint8)
    assert (augment.blur(image, generator(), (5, 9), 0.1, 5) == 80).all()
    assert (augment.elastic(image, generator(), 5, 5)[3:-3, 3:-3] == 80).all()


def test_elastic_shifts_smoothly_and_little():
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    found = augment.elastic(ramp, generator(), 5, 5)[5:-5, 5:-5, 0].astype(float)
    shift_px = (found - ramp[5:-5, 5:-5, 0]) / 4
    assert 0 < np.abs(shift_px).max() <= 2.5
    assert np.abs(np.diff(shift_px, axis=0)).max() < 0.3


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(16, 64))
def test_erasing_fills_one_rectangle_of_the_right_area(seed, side):
    pixels = np.full((3, side, side), 7.0, np.float32)
    erased = augment.erase(pixels, generator(seed), chance=1.0)
    hit = (erased != 7).all(0)
    rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
    assert hit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    height, width = len(rows), len(columns)
    assert np.array_equal(rows, np.arange(rows[0], rows[0] + height))
    slack = (height + width) / 2 + 1  # sides are whole pixels
    assert 0.02 * side**2 - slack < hit.sum() < 0.2 * side**2 + slack
    assert (pixels == 7).all()
    assert np.array_equal(augment.erase(pixels, generator(seed), chance=0.0), pixels)


def test_erasing_comes_after_normalisation_and_only_where_the_list_has_it():
    image = np.zeros((64, 64, 3), np.uint8)  # no change but erasing makes it brighter than black
    darkest = augment.normalise(image).max()

    def has_noise(name, seed):
        return (augment.view(image, 64, name, generator(seed)) > darkest + 0.5).any()

    assert sum(has_noise("paper", seed) for seed in range(100)) in range(30, 71)
    assert not any(has_noise("code_discrete", seed) for seed in range(30))


def test_the_discrete_scripts_turn_faces_upside_down_and_the_paper_does_not():
    image = np.zeros((48, 48, 3), np.uint8)
    image[:24] = 255  # bright above

    def share_upside_down(name):
        views = [augment.augment(image, name, generator(seed)) for seed in range(60)]
        return np.mean([view[:24].mean() < view[24:].mean() for view in views])

    assert 0.3 < share_upside_down("code_discrete") < 0.7
    assert share_upside_down("paper") == 0
    assert share_upside_down("light") == 0


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_pictures_are_refused_in_so_many_words(image):
    with pytest.raises(UserError, match="expected uint8 of shape"):
        augment.view(image, 16, "none", None)
