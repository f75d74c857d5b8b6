"""Shared by the transformer families: device and precision, choice of layers, pooling over time.

T frames in an utterance   D width of a frame   K hidden layers, the input embedding as layer 0
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers.utils import logging as hf_logging

from models.encoders.encoder import Dtype, Encoded, Pooling, Settings
from models.errors import UserError

if TYPE_CHECKING:  # slow to import, and `best_dtype` needs none of it
    from transformers import PreTrainedModel

#: Weights that no feature depends on: what follows the last hidden layer, and training's masks.
_UNUSED = re.compile(r"(^|\.)(pooler\.|masked_spec_embed$|mask_token$|position_ids$)")

#: Layers whose weights autocast would round in each pass.
_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
#: Channels of a group below which a convolution stays in float32.
_NARROW = 16

Network = TypeVar("Network", bound=nn.Module)
Item = TypeVar("Item")


class Output(Protocol):
    """What a network of transformers gives out.

    Attributes:
        last_hidden_state: (B, T, D).
        hidden_states: K of (B, T, D); there only where ``Layers.needs_states`` asked for them.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...]


def pick_device(wanted: str) -> torch.device:
    """``auto`` takes the first GPU where there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def devices() -> list[str]:
    """Names of the GPUs that are there."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def best_dtype() -> Dtype:
    """bfloat16 where the default device multiplies it in hardware, else float32.

    Not int8: on a processor with both (EPYC, avx512_bf16 and avx512_vnni, one thread), int8 took
    1.23 times the time of bfloat16 for wav2vec2-base and 0.6 times for ViT-base and BERT-base, but
    moved the pooled vectors of the trained all-MiniLM-L6-v2 by 9 % (scales by row and channel) or
    40 % (torch's dynamic quantisation, by tensor) where bfloat16 moves them by 0.6 %. Scales by
    tensor would also make an utterance's features depend on the others in its batch.
    """
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split())
    except OSError:
        return "float32"
    return "bfloat16" if flags & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"


@contextmanager
def precision(device: torch.device, dtype: Dtype) -> Iterator[None]:
    """No gradients, and matrix products in ``dtype``; sums and normalisations stay in float32."""
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"),
    ):
        yield


def checkpoint_folder(settings: Settings) -> Path:
    """Folder of the checkpoint, which every family of transformers needs."""
    if settings.checkpoint is None:
        raise UserError("params.yaml: an encoder of transformers needs a `checkpoint`; name one")
    return settings.checkpoint


def load_model(automodel: type, settings: Settings) -> "PreTrainedModel":
    """A checkpoint as a frozen float32 network; transformers unpickles no code.

    Weights that the checkpoint lacks would be drawn at random: that is an error, unless no feature
    depends on them.
    """
    hf_logging.disable_progress_bar()  # this project shows its own
    hf_logging.set_verbosity_error()  # what is missing is judged below
    checkpoint = checkpoint_folder(settings)
    try:
        model: PreTrainedModel
        model, found = automodel.from_pretrained(
            str(checkpoint), dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [repr(error)]
        raise UserError(
            f"checkpoint {checkpoint} cannot be loaded ({lines[0]}); "
            "fetch it again with `affectloom fetch` or rerun the stage checkpoints"
        ) from error
    absent = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    absent = [key for key in absent if not _UNUSED.search(key)]
    if absent:
        raise UserError(
            f"checkpoint {checkpoint} lacks {len(absent)} weights of a {model.config.model_type} "
            f"network, the first is {absent[0]}; its features would be random: name the right "
            "checkpoint or fetch it again with `affectloom fetch`"
        )
    return prepare(model, settings.dtype)


def prepare(model: Network, dtype: Dtype) -> Network:
    """Freeze a network and do once what it would do in every forward pass.

    Weights that are computed from others (weight norm) are computed, and those of matrix products
    are rounded to ``dtype`` as autocast would round them each time: the results do not change.
    """
    model.eval().requires_grad_(False)
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(cast(nn.ModuleDict, module.parametrizations)):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for name, child in list(module.named_children()):
            if _is_narrow(child):
                setattr(module, name, _Precise(child))
    for module in model.modules():
        if dtype == "bfloat16" and isinstance(module, _PRODUCTS) and not _is_narrow(module):
            module.to(torch.bfloat16)
    return model.requires_grad_(False)


def _is_narrow(module: nn.Module) -> bool:
    """Whether its groups have so few channels that bfloat16 gains nothing, and may be wrong.

    On processors with AMX, torch 2.11 computes those with an even kernel with errors as large as
    the values; the positional convolutions of published networks have 48 or 64 channels a group.
    """
    return (
        isinstance(module, nn.Conv1d)
        and module.groups > 1
        and module.in_channels // module.groups < _NARROW
    )


def narrow_error() -> float:
    """Largest error of such a convolution in bfloat16 on this processor; rounding gives .01."""
    layer = nn.Conv1d(32, 32, 128, padding=64, groups=16)
    generator = torch.Generator().manual_seed(0)
    nn.init.normal_(layer.weight, std=0.1, generator=generator)
    x = torch.randn(1, 32, 100, generator=generator)
    with torch.inference_mode():
        exact = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            return float((layer(x).float() - exact).abs().max() / exact.abs().max())


class _Precise(nn.Module):
    """A layer that computes in float32, whatever surrounds it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for x, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return self.layer(x.float())


def place(model: nn.Module, device: torch.device) -> None:
    """Move a network to ``device``; the type of transformers' own ``to`` is lost in a wrapper."""
    model.to(device)


class Layers:
    """Turns the hidden states of a network into what the settings ask for.

    Args:
        settings: ``layer``, ``layer_weights``, ``pooling`` and ``unit_norm`` are used.
        blocks: transformer blocks of the network; it has K = blocks + 1 hidden layers.
        width: D.
    """

    def __init__(self, settings: Settings, blocks: int, width: int) -> None:
        self.layer = layer = settings.layer
        self.pooling: Pooling = settings.pooling
        self.unit_norm = settings.unit_norm
        self.count = blocks + 1
        weights, where = settings.layer_weights, f"checkpoint {settings.checkpoint}"
        #: The hidden layers that are named, from 0; none where ``layer`` is a word.
        self.named: tuple[int, ...] = ()
        if not isinstance(layer, str):
            self.named = tuple(self._place(one, where) for one in _several(layer))
        self.frame_dim = width * max(1, len(self.named))
        if self.layer == "weighted":
            if len(weights) != self.count or min(weights) < 0 or sum(weights) <= 0:
                raise UserError(
                    f"{where} has {self.count} hidden layers, so `layer_weights` must hold "
                    f"{self.count} numbers of at least 0, not all 0; got {list(weights)}"
                )
        elif weights:
            raise UserError(f"{where}: `layer_weights` needs `layer: weighted`")
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def _place(self, layer: int, where: str) -> int:
        """A layer counted from 0."""
        if not -self.count <= layer < self.count:
            raise UserError(
                f"{where} has hidden layers 0 to {self.count - 1}; layer {layer} is none of them: "
                "mend the encoder's `layer` in params.yaml"
            )
        return layer % self.count

    @property
    def pooled_dim(self) -> int:
        """P."""
        if self.layer == "all":
            return self.count * 2 * self.frame_dim
        return (2 if self.pooling == "mean_std" else 1) * self.frame_dim

    @property
    def needs_states(self) -> bool:
        """The network must hand out its hidden states, not only its last output."""
        return self.layer != "last"

    def shorten(self, model: nn.Module) -> None:
        """Drop the blocks above the wanted layers: they would be computed for nothing.

        One block more than needed stays, because some networks normalise after their last one.
        """
        if not self.named:
            return
        stacks = [
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList)
            and len(module) == self.count - 1
            and name.rsplit(".", 1)[-1] in {"layer", "layers"}
        ]
        if len(stacks) == 1:
            del stacks[0][max(self.named) + 1 :]

    def frames(self, output: Output) -> Tensor:
        """A network's output as (B, T, D) float32, or (B, T, K, D) for layer ``all``."""
        if self.layer == "last":
            return output.last_hidden_state.float()
        states = output.hidden_states
        if self.named:
            return torch.cat([states[layer].float() for layer in self.named], dim=-1)
        stacked = torch.stack([state.float() for state in states], dim=-2)
        if self.layer == "all":
            return stacked
        if self.layer == "mean":
            return stacked.mean(-2)
        weights = (self.weights / self.weights.sum()).float().to(stacked.device)
        return (stacked * weights[:, None]).sum(-2)

    def encoded(
        self,
        parts: Iterable[Tensor],
        *,
        cls: Tensor | None = None,
        hop_s: float | None = None,
        reason: str | None = None,
    ) -> Encoded:
        """Features of one utterance.

        Args:
            parts: stretches of real frames that follow each other, each (T, D), or (T, K, D) for
                layer ``all``, of which one is held at a time.
            cls: (D,), the vector of the classification token.
            hop_s: seconds between frames.
            reason: passed on.
        """
        if self.layer == "all":
            return Encoded(_layer_statistics(parts), None, hop_s, reason)
        frames = torch.cat(list(parts))
        pooled = pool(frames, self.pooling, cls)
        if self.unit_norm:
            pooled = nn.functional.normalize(pooled, dim=-1)
        return Encoded(to_numpy(pooled), to_numpy(frames), hop_s, reason)


def _several(layer: int | tuple[int, ...]) -> tuple[int, ...]:
    return layer if isinstance(layer, tuple) else (layer,)


def pool(frames: Tensor, pooling: Pooling, cls: Tensor | None = None) -> Tensor:
    """(T, D) to (D,), or (2D,) for ``mean_std`` (population standard deviation)."""
    if pooling == "cls":
        if cls is None:
            raise UserError("pooling `cls` needs a network with a classification token; use `mean`")
        return cls
    if pooling == "max":
        return frames.amax(0)
    if pooling == "mean":
        return frames.mean(0)
    return torch.cat([frames.mean(0), frames.std(0, correction=0)])


def to_numpy(values: Tensor) -> np.ndarray:
    """Float32 on the CPU."""
    return np.ascontiguousarray(values.float().cpu().numpy())


def _layer_statistics(parts: Iterable[Tensor]) -> np.ndarray:
    """(K * 2 * D,) float32: mean and standard deviation over time, layer by layer."""
    total, squares = torch.zeros(2, dtype=torch.float64)
    count = 0
    for part in parts:
        part = part.double()
        total, squares, count = total + part.sum(0), squares + (part**2).sum(0), count + len(part)
    mean = total / count
    deviation = (squares / count - mean**2).clamp(min=0).sqrt()
    return to_numpy(torch.cat([mean, deviation], dim=-1).flatten())


def runs(order: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """``order`` cut into stretches of at most ``size``."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
