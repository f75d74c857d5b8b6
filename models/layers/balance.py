"""How well does each modality do: scores, ratios and damping that several methods share."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from models.batch import Batch, Target


def utterance_loss(target: Target, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss of every utterance and where it is labelled.

    Args:
        target: what is predicted.
        output: (B, U, C) logits or (B, U, K) values.
        batch: carries the labels.

    Returns:
        (B, U) losses, 0 where unlabelled (several columns are averaged), and (B, U) bool.
    """
    truth = batch.targets[target.name]
    if target.kind == "category":
        is_known = batch.mask & (truth >= 0)
        picked = F.log_softmax(output, -1).gather(-1, truth.clamp(min=0).unsqueeze(-1))
        return -picked.squeeze(-1) * is_known.to(output.dtype), is_known
    has_label = batch.mask.unsqueeze(-1) & ~truth.isnan()
    known = truth.nan_to_num(0.0).to(output.dtype)
    if target.kind == "values":
        each = (output - known) ** 2
    else:
        each = F.binary_cross_entropy_with_logits(output, known, reduction="none")
    weight = has_label.to(output.dtype)
    return (each * weight).sum(-1) / weight.sum(-1).clamp(min=1), has_label.any(-1)


@torch.no_grad()
def modality_scores(target: Target, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """(M,) how much each modality believes the truth, summed over the batch's utterances.

    The belief is exp(-loss): the probability of the true class for ``category``. A modality that is
    missing from some utterances is scored on the others and scaled up to all, so that absence is
    not taken for weakness. NaN: it is missing from all.
    """
    scores = []
    for name, output in outputs.items():
        loss, is_known = utterance_loss(target, output.detach().float(), batch)
        seen = is_known & batch.present[name]
        belief = (torch.exp(-loss) * seen).sum()
        scores.append(belief * is_known.sum() / seen.sum())
    return torch.stack(scores)


def ratio_to_weakest(scores: Tensor) -> Tensor:
    """(M,) each score over the smallest: 1 for the weakest, more for the others; 1 for NaN."""
    weakest = torch.where(scores.isnan(), torch.inf, scores).min()
    return torch.where(scores.isnan(), 1.0, scores / weakest.clamp(min=1e-12))


def ratio_to_others(scores: Tensor, how: Literal["mean", "sum"] = "mean") -> Tensor:
    """(M,) each score over the mean (or sum) of the other modalities' scores; 1 for NaN."""
    seen = ~scores.isnan()
    known = torch.where(seen, scores, 0.0)
    others = known.sum() - known
    if how == "mean":
        others = others / (seen.sum() - seen.to(scores.dtype)).clamp(min=1)
    is_alone = (seen.sum() < 2) | ~seen
    return torch.where(is_alone, 1.0, known / others.clamp(min=1e-12))


def damping(ratio: Tensor, alpha: float) -> Tensor:
    """(M,) factor 1 - tanh(alpha ratio) for modalities ahead of the weakest, 1 for the weakest."""
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio.clamp(min=0)), 1.0)


def counted_generator(seed: Tensor, counter: Tensor, device: torch.device) -> torch.Generator:
    """Noise that depends on two buffers alone, so a resumed run draws what it would have drawn.

    Args:
        seed: () long, fixed when the method was built.
        counter: () long, advanced by the caller at every draw.
        device: where the noise is drawn.
    """
    mixed = (int(seed) * 1_000_003 + int(counter)) % (2**63 - 1)
    return torch.Generator(device).manual_seed(mixed)


def add_noise(grad: Tensor, std: Tensor, generator: torch.Generator) -> None:
    """Add Gaussian noise of standard deviation ``std`` (+ 1e-8) to a gradient in place."""
    noise = torch.randn(grad.shape, generator=generator, device=grad.device, dtype=grad.dtype)
    grad.addcmul_(noise, std + 1e-8)
