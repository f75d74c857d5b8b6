"""How pictures are varied in training: lists of small random changes, drawn from one generator.

Every function takes and gives pictures (H, W, 3) uint8, RGB, and never changes its input. Numbers
come only from the ``numpy`` generator that is passed in, so a picture and a generator's state give
one result on every machine, in whatever worker it is made. Amounts follow torchvision's
conventions, so that lists published for its transforms mean the same here.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import cv2
import numpy as np

from models.errors import UserError

ListName = Literal["paper", "code_discrete", "light", "none"]
#: How pixels become numbers around 0; see ``view``.
STANDARDS = ("imagenet", "code_emotic", "tensorflow")
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

#: Mean and standard deviation of ImageNet's channels, R, G, B, of pixels in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: What networks out of TensorFlow are used to: (pixel - 127) / 128.
_TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)
#: The same of EMOTIC's persons, by which the EMOTIC script divides a second time.
EMOTIC_MEAN = (0.43832874, 0.3964344, 0.3706214)
EMOTIC_STD = (0.24784276, 0.23621225, 0.2323653)

#: How bright red, green and blue are to the eye, by ITU-R 601.
LUMA = (0.299, 0.587, 0.114)
_ERASING_TRIES = 10


# single changes -------------------------------------------------------------------------------


def resize(image: np.ndarray, size_px: int) -> np.ndarray:
    """The picture as a square of ``size_px``; its proportions are not kept."""
    height, width = image.shape[:2]
    if (height, width) == (size_px, size_px):
        return image
    # averaging avoids the moiré that interpolation makes of a picture that shrinks
    method = cv2.INTER_AREA if max(height, width) > size_px else cv2.INTER_LINEAR
    return cv2.resize(image, (size_px, size_px), interpolation=method)


def flip(
    image: np.ndarray, rng: np.random.Generator, axis: Literal[0, 1], chance: float
) -> np.ndarray:
    """Mirror left and right (``axis`` 1) or up and down (0)."""
    return np.flip(image, axis).copy() if rng.random() < chance else image


def grey(image: np.ndarray, rng: np.random.Generator, chance: float) -> np.ndarray:
    """Take the colours out; the picture keeps three equal channels."""
    if rng.random() >= chance:
        return image
    return np.repeat(_to_pixels(_luma(image))[..., None], 3, -1)


def move(
    image: np.ndarray,
    rng: np.random.Generator,
    degrees: float,
    shift: float = 0.0,
    zoom: float = 0.0,
    replicates_edge: bool = False,
) -> np.ndarray:
    """Rotate, shift and zoom around the centre, in one interpolation.

    Args:
        image: the picture.
        rng: source of the amounts.
        degrees: largest angle either way.
        shift: largest shift either way, as a share of the side.
        zoom: the factor lies between 1 - zoom and 1 + zoom.
        replicates_edge: fill what comes into view with the edge's pixels; black otherwise.
    """
    height, width = image.shape[:2]
    angle = rng.uniform(-degrees, degrees)
    across, down = rng.uniform(-shift, shift, 2) if shift else (0.0, 0.0)
    factor = 1 + rng.uniform(-zoom, zoom) if zoom else 1.0
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, factor)
    matrix[:, 2] += across * width, down * height
    border = cv2.BORDER_REPLICATE if replicates_edge else cv2.BORDER_CONSTANT
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def tilt(
    image: np.ndarray, rng: np.random.Generator, distortion: float, chance: float
) -> np.ndarray:
    """Look at the picture from aside: each corner moves inwards by up to ``distortion``/2 sides."""
    if rng.random() >= chance:
        return image
    height, width = image.shape[:2]
    reach = np.asarray([distortion * (width // 2), distortion * (height // 2)]).astype(int)
    inwards = rng.integers(0, reach + 1, (4, 2))
    corners = np.asarray([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
    signs = np.asarray([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    moved = corners + signs * inwards
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    return cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


def jitter(
    image: np.ndarray,
    rng: np.random.Generator,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> np.ndarray:
    """Change brightness, contrast, saturation and hue in random order.

    Args:
        image: the picture.
        rng: source of the order and the amounts.
        brightness: the factor lies between 1 - brightness and 1 + brightness.
        contrast: likewise.
        saturation: likewise.
        hue: largest turn of the colour circle either way, as a share of it.
    """
    changes: tuple[tuple[float, float, Callable[[np.ndarray, float], np.ndarray]], ...] = (
        (brightness, 1.0, lambda x, by: x * by),
        (contrast, 1.0, lambda x, by: _blend(x, _luma(x).mean(), by)),
        (saturation, 1.0, lambda x, by: _blend(x, _luma(x)[..., None], by)),
        (hue, 0.0, _turn_hue),
    )
    pixels = image.astype(np.float32)
    for i in rng.permutation(len(changes)):
        amount, centre, change = changes[i]
        if amount:
            pixels = change(pixels, centre + rng.uniform(-amount, amount)).clip(0, 255)
    return _to_pixels(pixels)


def autocontrast(image: np.ndarray, rng: np.random.Generator, chance: float) -> np.ndarray:
    """Stretch each channel to the full range; a constant channel stays."""
    if rng.random() >= chance:
        return image
    low = image.min((0, 1)).astype(np.float32)
    span = image.max((0, 1)) - low
    stretched = (image - low) * (255 / np.where(span > 0, span, 1))
    return _to_pixels(np.where(span > 0, stretched, image))


def blur(
    image: np.ndarray, rng: np.random.Generator, kernel: tuple[int, int], low: float, high: float
) -> np.ndarray:
    """Blur with a Gaussian ``kernel`` (width, height) of sigma between ``low`` and ``high`` px."""
    sigma = rng.uniform(low, high)
    return cv2.GaussianBlur(image, kernel, sigma, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101)


def elastic(image: np.ndarray, rng: np.random.Generator, alpha: float, sigma: float) -> np.ndarray:
    """Shift each pixel by smoothed noise: uniform in alpha/2 px, blurred with ``sigma`` px."""
    height, width = image.shape[:2]
    noise = rng.uniform(-alpha / 2, alpha / 2, (height, width, 2)).astype(np.float32)
    size = int(8 * sigma + 1) | 1
    shift = cv2.GaussianBlur(noise, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(image, columns + shift[..., 0], rows + shift[..., 1], cv2.INTER_LINEAR)


def _blend(pixels: np.ndarray, other: np.ndarray | float, share: float) -> np.ndarray:
    return share * pixels + (1 - share) * other


def _luma(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W) float32, weights of ITU-R 601."""
    return pixels.astype(np.float32) @ np.asarray(LUMA, np.float32)


def _turn_hue(pixels: np.ndarray, by: float) -> np.ndarray:
    hsv = cv2.cvtColor(pixels / np.float32(255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * by)) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255


def _to_pixels(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


# lists ----------------------------------------------------------------------------------------


def _paper(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = flip(image, rng, axis=1, chance=0.5)
    image = grey(image, rng, 0.01)
    image = move(image, rng, degrees=10)
    image = jitter(image, rng, 0.2, 0.2, 0.2, 0.1)
    return tilt(image, rng, distortion=0.2, chance=0.5)


def _code_discrete(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = elastic(image, rng, alpha=5, sigma=5)
    image = blur(image, rng, (5, 9), 0.1, 5)
    image = grey(image, rng, 0.1)
    image = move(image, rng, degrees=15)
    image = flip(image, rng, axis=0, chance=0.5)
    image = jitter(image, rng, 0.15, 0.15, 0.15, 0.0)
    return autocontrast(image, rng, 0.4)


def _light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = flip(image, rng, axis=1, chance=0.5)
    image = move(image, rng, degrees=12, shift=0.08, zoom=0.12, replicates_edge=True)
    return _scale_and_offset(image, rng)


def _scale_and_offset(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast and brightness alone: cheap, and right for grey pictures too."""
    scale, offset = 1 + rng.uniform(-0.2, 0.2), rng.uniform(-25, 25)
    return cv2.convertScaleAbs(np.maximum(image * np.float32(scale) + np.float32(offset), 0))


#: Changes before normalisation, by the name of the list.
_LISTS: Mapping[str, Change] = {
    "paper": _paper,
    "code_discrete": _code_discrete,
    "light": _light,
    "none": lambda image, rng: image,
}
#: Lists that end with random erasing.
_ERASING = frozenset({"paper", "light"})
LISTS = tuple(_LISTS)


def augment(image: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """The picture after the list ``name``, without erasing.

    ``paper``: flip, grey, rotation, colours, perspective. ``code_discrete``: the list of the
    discrete scripts, which turns faces upside down. ``light``: for small pictures and little time:
    flip, one affine move, contrast. ``none``: as it is.
    """
    return _LISTS[name](image, rng)


# from pixels to input -------------------------------------------------------------------------


def normalise(
    image: np.ndarray,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> np.ndarray:
    """(H, W, 3) uint8 -> (3, H, W) float32 with ImageNet's mean and standard deviation."""
    scale = 1 / (255 * np.asarray(std, np.float32))
    offset = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return np.ascontiguousarray((image * scale - offset).transpose(2, 0, 1), np.float32)


def erase(
    pixels: np.ndarray,
    rng: np.random.Generator,
    chance: float = 0.5,
    scale: tuple[float, float] = (0.02, 0.2),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> np.ndarray:
    """Fill one random rectangle with normal noise.

    Args:
        pixels: (3, H, W) float32, normalised.
        rng: source of place, size and noise.
        chance: of erasing at all.
        scale: smallest and largest area as a share of the picture.
        ratio: smallest and largest height over width.
    """
    if rng.random() >= chance:
        return pixels
    _, height, width = pixels.shape
    for _ in range(_ERASING_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            erased = pixels.copy()
            erased[:, top : top + h, left : left + w] = rng.standard_normal((3, h, w), np.float32)
            return erased
    return pixels


def view(
    image: np.ndarray,
    size_px: int,
    name: str,
    rng: np.random.Generator | None,
    standard: str = "imagenet",
) -> np.ndarray:
    """One picture as a network reads it: resized, varied if there is ``rng``, normalised.

    Args:
        image: (H, W, 3) uint8, RGB, of any size.
        size_px: height and width of the result.
        name: list of changes.
        rng: None at evaluation: nothing is varied.
        standard: ``imagenet``: by its mean and deviation; ``code_emotic``: the result, with what is
            erased, once more by those of EMOTIC's persons; ``tensorflow``: to -1 to 1.

    Returns:
        (3, size_px, size_px) float32.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(
            f"a picture came as {image.dtype} of shape {image.shape}, expected uint8 of shape "
            "(height, width, 3); convert grey, 16-bit or transparent pictures to 8-bit RGB"
        )
    small = resize(image, size_px)
    scale = _TENSORFLOW if standard == "tensorflow" else (IMAGENET_MEAN, IMAGENET_STD)
    if rng is None:
        pixels = normalise(small, *scale)
    else:
        pixels = normalise(augment(small, name, rng), *scale)
        pixels = erase(pixels, rng) if name in _ERASING else pixels
    return _normalise_again(pixels) if standard == "code_emotic" else pixels


def _normalise_again(pixels: np.ndarray) -> np.ndarray:
    """(3, H, W) as if they still lay in [0, 1]."""
    mean, std = (
        np.asarray(numbers, np.float32)[:, None, None] for numbers in (EMOTIC_MEAN, EMOTIC_STD)
    )
    return (pixels - mean) / std
