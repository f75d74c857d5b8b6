"""Face embeddings: InceptionResnetV1 of facenet-pytorch on the faces of an utterance.

Weights: ``facenet:vggface2`` or ``facenet:casia-webface`` (fetched), a local file or folder, or
``random:<seed>``. Faces are resized whole to 160 x 160 and scaled as in training: (value - 127.5) /
128. An embedding has length 1.

N faces   D = 512
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from models.encoders.encoder import Encoded, Faces, Settings
from models.encoders.faces_in_time import hop_s, spread
from models.encoders.hidden import pick_device, pool, precision, prepare, to_numpy
from models.errors import UserError

MODALITY = "video"
FEATURE_VERSION = 1
LIBRARIES = ("torch", "facenet-pytorch", "pillow")
POOLINGS = ("mean", "mean_std", "max")
CHUNK = 32
#: Without a checkpoint the weights are drawn at random, and every table says so.
CHECKPOINT = "random:0"

_SIZE_PX = 160
_WIDTH = 512


class FaceNet:
    """A frozen face recognition network."""

    def __init__(self, settings: Settings) -> None:
        if settings.layer != "last":
            raise UserError("facenet has one embedding only; leave `layer` out or write `last`")
        self.settings = settings
        self.device = pick_device(settings.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed or 0)
            self.model = InceptionResnetV1(pretrained=None, classify=False)
        if settings.checkpoint is not None:
            self._load(settings.checkpoint)
        elif settings.seed is None:
            raise UserError(
                "facenet needs a checkpoint: facenet:vggface2, a local file, or random:<seed>"
            )
        prepare(self.model, settings.dtype).to(self.device)

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return 2 * _WIDTH if self.settings.pooling == "mean_std" else _WIDTH

    @property
    def frame_dim(self) -> int:
        """See ``Encoder``."""
        return _WIDTH

    def encode(self, inputs: Sequence[Faces]) -> list[Encoded]:
        """See ``Encoder``."""
        return [self._encode(faces) for faces in inputs]

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """(N, 3, 160, 160) float32, from (H, W, 3) uint8 images."""
        size = (_SIZE_PX, _SIZE_PX)
        resized = [
            np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            for image in images
        ]
        values = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()
        return (values - 127.5) / 128.0

    def _encode(self, faces: Faces) -> Encoded:
        if not faces.images:
            return Encoded(None, reason="no_face")
        chosen = spread(len(faces.images), self.settings.max_faces)
        pixels = self.pixels([faces.images[index] for index in chosen]).to(self.device)
        with precision(self.device, self.settings.dtype):
            vectors = self.model(pixels).float()
            pooled = pool(vectors, self.settings.pooling)
            if self.settings.unit_norm:
                pooled = torch.nn.functional.normalize(pooled, dim=-1)
        times_s = [faces.times_s[index] for index in chosen]
        return Encoded(to_numpy(pooled), to_numpy(vectors), hop_s(times_s))

    def _load(self, path: Path) -> None:
        file = path / "model.safetensors" if path.is_dir() else path
        if not file.exists():
            raise UserError(f"checkpoint {path} holds no model.safetensors")
        weights: Mapping[str, Tensor] = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
        kept = {name: value for name, value in weights.items() if not name.startswith("logits.")}
        missing, unknown = self.model.load_state_dict(kept, strict=False)
        missing = [name for name in missing if not name.startswith("logits.")]
        if missing or unknown:
            raise UserError(
                f"checkpoint {file} is no InceptionResnetV1: it lacks {len(missing)} tensors and "
                f"has {len(unknown)} unknown ones"
            )


ENCODER = FaceNet
