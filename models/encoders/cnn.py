"""Image networks on the faces of an utterance: an expression network, or one trained on ImageNet.

What a network is and how its pictures are scaled stands in the checkpoint's ``config.json``. A face
crop is resized whole. The faces of one utterance are one batch, so their features depend on that
utterance alone.

N faces   H, W pixels   D width
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from models.encoders.encoder import Encoded, Faces, Settings
from models.encoders.faces_in_time import hop_s, spread
from models.encoders.hidden import (
    checkpoint_folder,
    pick_device,
    place,
    pool,
    precision,
    prepare,
    to_numpy,
)
from models.errors import UserError
from models.layers import efficientnet_b0, efficientnet_lite, mini_xception

MODALITY = "video"
FEATURE_VERSION = 1
LIBRARIES = ("torch", "pillow")
POOLINGS = ("mean", "mean_std", "max")
CHUNK = 32

_NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    mini_xception.NAME: mini_xception.MiniXception,
    efficientnet_lite.NAME: efficientnet_lite.EfficientNetLite0,
    efficientnet_b0.NAME: efficientnet_b0.EfficientNetB0,
}


class Cnn:
    """A frozen image network; its vector of a face is a frame."""

    def __init__(self, settings: Settings) -> None:
        if settings.layer != "last":
            raise UserError(
                "an encoder of cnn has one vector a face; leave `layer` out or write `last`"
            )
        self.settings = settings
        self.device = pick_device(settings.device)
        folder = checkpoint_folder(settings)
        config = _read_config(folder)
        self.model = _load(_NETWORKS[config["network"]](), folder)
        self.frame_dim: int = self.model.frame_dim
        prepare(self.model, settings.dtype)
        place(self.model, self.device)
        self.size_px: int = config["size_px"]
        self.mode = "L" if config["grey"] else "RGB"
        self.mean = torch.tensor(config["mean"]).view(1, -1, 1, 1)
        self.std = torch.tensor(config["std"]).view(1, -1, 1, 1)

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return (2 if self.settings.pooling == "mean_std" else 1) * self.frame_dim

    def encode(self, inputs: Sequence[Faces]) -> list[Encoded]:
        """See ``Encoder``."""
        return [self._encode(faces) for faces in inputs]

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """(N, 1 or 3, H, W) float32 as the network wants it, from (H, W, 3) uint8 images."""
        size = (self.size_px, self.size_px)
        resized = [
            np.asarray(
                Image.fromarray(image).convert(self.mode).resize(size, Image.Resampling.BILINEAR)
            )
            for image in images
        ]
        values = torch.from_numpy(np.stack(resized)).float() / 255
        values = values.permute(0, 3, 1, 2) if values.ndim == 4 else values[:, None]
        return (values - self.mean) / self.std

    def _encode(self, faces: Faces) -> Encoded:
        if not faces.images:
            return Encoded(None, reason="no_face")
        chosen = spread(len(faces.images), self.settings.max_faces)
        pixels = self.pixels([faces.images[index] for index in chosen]).to(self.device)
        with precision(self.device, self.settings.dtype):
            vectors = self.model.means(pixels).float()
            pooled = pool(vectors, self.settings.pooling)
            if self.settings.unit_norm:
                pooled = nn.functional.normalize(pooled, dim=-1)
        times_s = [faces.times_s[index] for index in chosen]
        return Encoded(to_numpy(pooled), to_numpy(vectors), hop_s(times_s))


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if config.get("network") not in _NETWORKS:
        raise UserError(
            f"checkpoint {folder} holds no network of the family cnn, which has "
            f"{', '.join(_NETWORKS)}; name another checkpoint in params.yaml"
        )
    return config


def _load(model: nn.Module, folder: Path) -> Any:
    weights = load_file(folder / "model.safetensors")
    missing, unknown = model.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        raise UserError(
            f"checkpoint {folder} does not fit its network: it lacks {len(missing)} tensors and "
            f"has {len(unknown)} unknown ones"
        )
    return model


ENCODER = Cnn
