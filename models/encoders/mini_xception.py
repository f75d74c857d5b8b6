"""Mini-Xception as Keras keeps it: names and axes, and what the family ``cnn`` needs to know."""

from collections.abc import Iterator

from models.encoders.containers import Tensors
from models.layers.mini_xception import CLASSES, NAME

#: What the family ``cnn`` needs to know.
CONFIG = {
    "network": NAME,
    "size_px": 64,
    "grey": True,
    "mean": [0.5],
    "std": [0.5],
    "classes": list(CLASSES),
    "trained_on": ["fer2013"],
}
SIGN = "model_weights/separable_conv2d_8/separable_conv2d_8_1/pointwise_kernel:0"


def from_keras(tensors: Tensors) -> Tensors:
    """By our names and axes, from Keras's names; places and channels change their order there."""
    found: Tensors = {}
    for ours, layer, parameter in _names():
        kernel = tensors[f"model_weights/{layer}/{layer}_1/{parameter}:0"]
        if parameter == "depthwise_kernel":  # (H, W, C, 1) to (C, 1, H, W)
            kernel = kernel.permute(2, 3, 0, 1)
        elif kernel.ndim == 4:  # (H, W, C, D) to (D, C, H, W)
            kernel = kernel.permute(3, 2, 0, 1)
        found[ours] = kernel.contiguous()
    return found


def _names() -> Iterator[tuple[str, str, str]]:
    """Our name, Keras's layer and what it calls the tensor there."""
    yield from _conv("stem.0", 1)
    yield from _norm("stem.1", 1)
    yield from _conv("stem.3", 2)
    yield from _norm("stem.4", 2)
    for block in range(1, 5):
        ours = f"blocks.{block - 1}"
        yield from _conv(f"{ours}.skip.0", block + 2)
        yield from _norm(f"{ours}.skip.1", 3 * block)
        for place, part in enumerate(("first", "second")):
            layer = f"separable_conv2d_{2 * block - 1 + place}"
            yield f"{ours}.{part}.0.weight", layer, "depthwise_kernel"
            yield f"{ours}.{part}.1.weight", layer, "pointwise_kernel"
            yield from _norm(f"{ours}.{part}.2", 3 * block + 1 + place)
    yield from _conv("head", 7)
    yield "head.bias", "conv2d_7", "bias"


def _conv(ours: str, number: int) -> Iterator[tuple[str, str, str]]:
    yield f"{ours}.weight", f"conv2d_{number}", "kernel"


def _norm(ours: str, number: int) -> Iterator[tuple[str, str, str]]:
    layer = f"batch_normalization_{number}"
    yield f"{ours}.weight", layer, "gamma"
    yield f"{ours}.bias", layer, "beta"
    yield f"{ours}.running_mean", layer, "moving_mean"
    yield f"{ours}.running_var", layer, "moving_variance"
