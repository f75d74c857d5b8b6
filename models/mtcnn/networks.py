"""MTCNN's three networks, and their weights from the package that carries them."""

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import UserError

NETS = ("pnet", "rnet", "onet")


def _conv(channels_in: int, channels_out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel), nn.PReLU(channels_out)]


def _pool(kernel: int) -> nn.Module:
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)


class PNet(nn.Module):
    """Proposals, fully convolutional: one candidate for every cell of 12 x 12 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3))
        self.is_face, self.shift = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] -> probability (N, h, w), box shift (N, 4, h, w)."""
        x = self.body(x)
        return self.is_face(x).softmax(1)[:, 1], self.shift(x)


class RNet(nn.Module):
    """Refinement: rejects most candidates."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2)
        )
        self.dense = nn.Sequential(nn.Linear(576, 128), nn.PReLU(128))
        self.is_face, self.shift = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(K, 3, 24, 24) in [-1, 1] -> (K, 5): probability, box shift."""
        x = self.dense(_flat(self.body(x)))
        return torch.cat([self.is_face(x).softmax(1)[:, 1:], self.shift(x)], dim=1)


class ONet(nn.Module):
    """Output: the final probability, box and five landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(3, 32, 3),
            _pool(3),
            *_conv(32, 64, 3),
            _pool(3),
            *_conv(64, 64, 3),
            _pool(2),
            *_conv(64, 128, 2),
        )
        self.dense = nn.Sequential(nn.Linear(1152, 256), nn.PReLU(256))
        self.is_face, self.shift = nn.Linear(256, 2), nn.Linear(256, 4)
        self.landmarks = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(K, 3, 48, 48) in [-1, 1] -> (K, 15): probability, box shift, five x, five y."""
        x = self.dense(_flat(self.body(x)))
        heads = [self.is_face(x).softmax(1)[:, 1:], self.shift(x), self.landmarks(x)]
        return torch.cat(heads, dim=1)


def _flat(x: Tensor) -> Tensor:
    # the weights were trained in Caffe's port of MATLAB: width before height before channel
    return x.permute(0, 3, 2, 1).flatten(1)


@cache
def weights_sha256() -> str:
    """SHA-256 over the three weight files, in the order P, R, O."""
    digest = hashlib.sha256()
    for name in NETS:
        digest.update(_weights_file(name).read_bytes())
    return digest.hexdigest()


def _weights_file(name: str) -> Path:
    # found without importing the package, whose import pulls in much that is not needed here
    spec = importlib.util.find_spec("facenet_pytorch")
    folders: Sequence[str] = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        file = Path(folder) / "data" / f"{name}.pt"
        if file.exists():
            return file
    raise UserError(
        f"the MTCNN weights {name}.pt are not installed; "
        "install facenet-pytorch==2.5.3, which carries them"
    )


def load(net: nn.Module, name: str) -> None:
    """Fill ``net`` from the weights file, whose layers stand in the same order as ours."""
    stored = torch.load(_weights_file(name), map_location="cpu", weights_only=True)
    ours = net.state_dict()
    if [tuple(v.shape) for v in stored.values()] != [tuple(v.shape) for v in ours.values()]:
        raise UserError(
            f"the MTCNN weights {_weights_file(name)} have other layers than expected; "
            "install facenet-pytorch==2.5.3"
        )
    net.load_state_dict(dict(zip(ours, stored.values(), strict=True)))
