"""Small methods that read frames, pictures or further inputs, for tests of the data layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from models.batch import Batch
from models.method import Method, Spec, find_method
from tasks.params import recipes as methods


@dataclass(frozen=True)
class FrameConfig:
    max_frames: int = 0


class FrameToy(Method):
    """Means of frames into a linear layer, one network a target."""

    level = "utterance"
    needs = frozenset({"pooled", "frames"})
    extra_inputs = ("teacher",)
    config_type = FrameConfig
    recipe: ClassVar = {"epochs": 3, "patience": 0, "lr": 0.01}

    def __init__(self, spec: Spec, config: FrameConfig) -> None:
        super().__init__(spec, config)
        (self.target,) = spec.targets
        self.layers = nn.ModuleDict(
            {name: nn.Linear(dim, self.target.width) for name, dim in spec.frame_dims.items()}
        )

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.frames is not None
        found = []
        for name, layer in self.layers.items():
            frames = batch.frames[name]
            count = frames.mask.sum(-1, keepdim=True).clamp(min=1)
            found.append(layer(frames.values.sum(-2) / count))
        return {self.target.name: torch.stack(found).sum(0)}


@dataclass(frozen=True)
class ImageConfig:
    side_px: int = 8


class ImageToy(Method):
    """The colours of a small picture into one linear layer for each target, all together."""

    level = "image"
    needs = frozenset({"images"})
    can_use = frozenset({"video"})
    is_joint = True
    config_type = ImageConfig
    recipe: ClassVar = {"epochs": 30, "patience": 0, "lr": 0.05, "batch_size": 8}

    def __init__(self, spec: Spec, config: ImageConfig) -> None:
        super().__init__(spec, config)
        self.heads = nn.ModuleDict({t.name: nn.Linear(3, t.width) for t in spec.targets})

    def view(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        rows = np.linspace(0, len(image) - 1, self.config.side_px).round().astype(int)
        columns = np.linspace(0, image.shape[1] - 1, self.config.side_px).round().astype(int)
        small = image[rows][:, columns].transpose(2, 0, 1).astype(np.float32) / 255 - 0.5
        return small if rng is None else small + rng.normal(0, 0.01, small.shape).astype("f4")

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.images is not None
        colour = batch.images.mean((-2, -1)) * 4
        return {name: head(colour) for name, head in self.heads.items()}


class WarmToy(ImageToy):
    """The same, able to begin from another's weights."""

    def warm_start(self, state: Mapping[str, Tensor]) -> None:
        known = self.state_dict()
        self.load_state_dict({name: state[name] for name in known})


TOYS = {"frame_toy": FrameToy, "image_toy": ImageToy, "warm_toy": WarmToy}


def add_toys(patch) -> None:
    """Let entries of params.yaml name the methods of this file."""
    patch.setattr(methods, "find_method", lambda name: TOYS.get(name) or find_method(name))
