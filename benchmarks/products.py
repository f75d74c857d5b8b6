"""What a piece of code would cost if it did nothing but its matrix products."""

import time
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
#: Products of matrices, and what is made of nothing else; sparse ones and sums by index are none.
_PRODUCTS = frozenset(
    {
        _ATEN.mm, _ATEN.addmm, _ATEN.addmm_, _ATEN.bmm, _ATEN.baddbmm, _ATEN.baddbmm_, _ATEN.mv,
        _ATEN.addmv, _ATEN.convolution, _ATEN.convolution_backward,
        _ATEN._scaled_dot_product_flash_attention_for_cpu,
        _ATEN._scaled_dot_product_flash_attention_for_cpu_backward,
    }
)  # fmt: skip


class _Outline(NamedTuple):
    """A tensor without its numbers."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    def filled(self) -> Tensor:
        reach = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        numbers = torch.empty(1 + reach if 0 not in self.shape else 0, dtype=self.dtype).normal_()
        return numbers.as_strided(self.shape, self.stride)  # a number may stand in many places


class Products(TorchDispatchMode):
    """Within this context, counts every product, forward and backward, by its shapes.

    Attributes:
        counts: how often each was asked for: what, its arguments in outline, and their structure.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[Any, tuple[Any, ...], pytree.TreeSpec]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Count ``func`` if it is a product, and do it."""
        if func.overloadpacket in _PRODUCTS:
            leaves, structure = pytree.tree_flatten((args, kwargs or {}))
            if all(x.layout is torch.strided for x in leaves if isinstance(x, Tensor)):
                self.counts[func, tuple(map(_outline, leaves)), structure] += 1
        return func(*args, **(kwargs or {}))

    def seconds(self) -> float:
        """Processor seconds of all of them alone, on numbers of the same shapes and strides."""
        spent = 0.0
        for (product, outlines, structure), count in self.counts.items():
            leaves = [x.filled() if isinstance(x, _Outline) else x for x in outlines]
            args, kwargs = pytree.tree_unflatten(leaves, structure)
            product(*args, **kwargs)  # what libraries do once for new shapes
            started = time.process_time()
            for _ in range(count):
                product(*args, **kwargs)
            spent += time.process_time() - started
        return spent


def _outline(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return _Outline(argument.shape, argument.stride(), argument.dtype)
    return argument
