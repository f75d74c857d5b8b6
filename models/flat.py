"""A method as a function of plain tensors, for runtimes that know no batches.

B dialogues   U utterances   T frames in an utterance   D features   C classes or values
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.batch import Batch, Frames
from models.method import Method

Value = TypeVar("Value")


class Flat(nn.Module):
    """The outputs of a method, by target, out of tensors in a fixed order.

    Args:
        method: in evaluation mode.
        names: what the tensors are called, see ``tensors_of``.
    """

    def __init__(self, method: Method, names: Sequence[str]) -> None:
        super().__init__()
        self.method = method
        self.names = tuple(names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """(B, U, C) of each target; rows of padded utterances may hold anything."""
        given = dict(zip(self.names, tensors, strict=True))
        if "images" in given and len(given) == 1:
            with _AllSeen():
                found = self.method.predict(_pictures(given["images"]))
        else:
            found = self.method.predict(batch_of(given))
        return tuple(found[target.name] for target in self.method.spec.targets)


class _AllSeen(TorchFunctionMode):
    """Every picture is there, so choosing those that are there chooses all, in a fixed graph too.

    Methods that look at pictures leave out rows without one: ``values[seen]``. How many those are
    is a matter of data, which a graph of another runtime cannot ask.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        if func is Tensor.__getitem__ and _is_choice(args[1]):
            return args[0].flatten(0, args[1].ndim - 1)
        if func is Tensor.__setitem__ and _is_choice(args[1]):
            return args[0].copy_(args[2].unflatten(0, args[1].shape))
        if func is Tensor.index_put and _is_choice(args[1][0]):
            return args[2].unflatten(0, args[1][0].shape)
        if func is Tensor.any and len(args) == 1:
            return True
        if func is Tensor.__len__:  # asked whether there are any; the true answer would be fixed
            return 1
        return func(*args, **(kwargs or {}))


def _is_choice(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


def _pictures(images: Tensor) -> Batch:
    """(B, 3, H, W) as utterances of one picture each."""
    there = torch.ones(images.shape[0], 1, dtype=torch.bool)
    zeros = torch.zeros(images.shape[0], 1, dtype=torch.long)
    return Batch(
        mask=there,
        speakers=zeros,
        features={},
        present={"video": there},
        targets={},
        index=zeros,
        images=images.unsqueeze(1),
    ).without_labels()


def tensors_of(batch: Batch, method: Method) -> dict[str, Tensor]:
    """Name to tensor of everything that a method may look at.

    A method of pictures alone gets those that are there, (B, 3, H, W), and nothing else.
    """
    if method.needs == {"images"}:
        images = batch.images
        assert images is not None
        return {"images": images[batch.mask & batch.present["video"]]}
    found = {"mask": batch.mask, "speakers": batch.speakers}
    if batch.people is not None:
        found["people"] = batch.people
    found |= batch.features
    found |= {f"{name}_present": there for name, there in batch.present.items()}
    for name, frames in (batch.frames or {}).items():
        found |= {f"{name}_frames": frames.values, f"{name}_frames_mask": frames.mask}
    if batch.images is not None:
        found["images"] = batch.images
    return found | {f"{name}_extra": values for name, values in (batch.extra or {}).items()}


def batch_of(tensors: Mapping[str, Tensor]) -> Batch:
    """``tensors_of`` backwards, without labels."""
    mask = tensors["mask"]
    names = _ending(tensors, "_present", lambda name, value: value)
    frames = _ending(
        tensors, "_frames_mask", lambda name, value: Frames(tensors[f"{name}_frames"], value)
    )
    extra = _ending(tensors, "_extra", lambda name, value: value)
    index = torch.zeros_like(tensors["speakers"])
    return Batch(
        mask=mask,
        speakers=tensors["speakers"],
        features={name: tensors[name] for name in names if name in tensors},
        present=names,
        targets={},
        index=index,
        frames=frames or None,
        images=tensors.get("images"),
        extra=extra or None,
        people=tensors.get("people"),
    ).without_labels()


def _ending(
    tensors: Mapping[str, Tensor], end: str, make: Callable[[str, Tensor], Value]
) -> dict[str, Value]:
    """What is made of the tensors whose names end so, by the name before it."""
    return {
        name.removesuffix(end): make(name.removesuffix(end), value)
        for name, value in tensors.items()
        if name.endswith(end)
    }
