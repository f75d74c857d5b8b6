"""Image encoders from transformers on faces: ViT, DINOv2, the vision parts of CLIP and SigLIP.

The faces of one utterance are one batch, so their features depend on that utterance alone. Resizing
and normalising are done here, explicitly, with the numbers of the checkpoint's own preprocessor:
a face crop is resized whole (it is square already), never cropped again.

N faces   H, W pixels   D width
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModel

from models.encoders.encoder import Encoded, Faces, Settings
from models.encoders.faces_in_time import hop_s, spread
from models.encoders.hidden import (
    Layers,
    checkpoint_folder,
    load_model,
    pick_device,
    place,
    precision,
)
from models.errors import UserError

MODALITY = "video"
FEATURE_VERSION = 2
LIBRARIES = ("torch", "transformers", "pillow")
POOLINGS = ("mean", "mean_std", "max", "cls")
CHUNK = 32

#: Networks without a classification token.
_NO_CLS = {"siglip_vision_model"}


class HfVision:
    """A frozen image network. Pooling ``cls`` is the mean of the faces' classification tokens."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        model = load_model(AutoModel, settings)
        self.model = getattr(model, "vision_model", model)
        config = self.model.config
        if not hasattr(config, "image_size"):
            raise UserError(
                f"checkpoint {settings.checkpoint} is a {config.model_type} network, which "
                "hf_vision cannot feed: it takes ViT, DINOv2, CLIP or SigLIP"
            )
        has_cls = config.model_type not in _NO_CLS
        if settings.tokens == "cls" and not has_cls:
            raise UserError(
                f"checkpoint {settings.checkpoint} has no classification token; write "
                "`tokens: mean` at its encoder in params.yaml"
            )
        self.prefix = has_cls + (getattr(config, "num_register_tokens", 0) or 0)
        self.layers = Layers(settings, config.num_hidden_layers, config.hidden_size)
        if self.layers.pooling == "cls":
            self.layers.pooling = "mean"
        self.layers.shorten(self.model)
        place(self.model, self.device)
        self._read_preprocessor(config.image_size)

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return self.layers.pooled_dim

    @property
    def frame_dim(self) -> int:
        """See ``Encoder``."""
        return self.layers.frame_dim

    def encode(self, inputs: Sequence[Faces]) -> list[Encoded]:
        """See ``Encoder``."""
        return [self._encode(faces) for faces in inputs]

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """(N, 3, H, W) float32 as the network wants it, from (H, W, 3) uint8 images."""
        resized = [
            np.asarray(Image.fromarray(image).resize(self.size_px, self.resample))
            for image in images
        ]
        values = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()
        return (values * self.scale - self.mean) / self.std

    def _encode(self, faces: Faces) -> Encoded:
        if not faces.images:
            return Encoded(None, reason="no_face")
        chosen = spread(len(faces.images), self.settings.max_faces)
        pixels = self.pixels([faces.images[index] for index in chosen]).to(self.device)
        with precision(self.device, self.settings.dtype):
            tokens = self.layers.frames(
                self.model(pixels, output_hidden_states=self.layers.needs_states)
            )
            is_cls = self.settings.tokens == "cls"
            vectors = tokens[:, 0] if is_cls else tokens[:, self.prefix :].mean(1)
            times_s = [faces.times_s[index] for index in chosen]
            return self.layers.encoded([vectors], hop_s=hop_s(times_s))

    def _read_preprocessor(self, image_size: int | Sequence[int]) -> None:
        file = checkpoint_folder(self.settings) / "preprocessor_config.json"
        if not file.exists():
            raise UserError(
                f"checkpoint {self.settings.checkpoint} lacks preprocessor_config.json, so nobody "
                "knows how to scale its images; fetch it again with `affectloom fetch`"
            )
        found = json.loads(file.read_text(encoding="utf-8"))
        self.size_px = _seen_px(found, image_size)
        self.resample = Image.Resampling(found.get("resample", Image.Resampling.BILINEAR))
        self.scale = found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 1.0
        normalizes = found.get("do_normalize", True)
        mean = found.get("image_mean", (0.5, 0.5, 0.5)) if normalizes else (0.0, 0.0, 0.0)
        std = found.get("image_std", (0.5, 0.5, 0.5)) if normalizes else (1.0, 1.0, 1.0)
        self.mean = torch.tensor(mean).view(1, 3, 1, 1)
        self.std = torch.tensor(std).view(1, 3, 1, 1)


def _seen_px(preprocessor: Mapping[str, Any], image_size: int | Sequence[int]) -> tuple[int, int]:
    """Width and height of what the network sees: of the crop where there is one.

    The network's own ``image_size`` may be another: DINOv2 says 518 and is fed 224.
    """
    size = preprocessor.get("size") or {}
    if preprocessor.get("do_center_crop") and preprocessor.get("crop_size"):
        size = preprocessor["crop_size"]
    if isinstance(size, Mapping):
        side = size.get("shortest_edge")
        size = (size.get("height", side), size.get("width", side))
    height, width = (size, size) if isinstance(size, int) else size
    if not height or not width:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        height, width = size
    return int(width), int(height)


ENCODER = HfVision
