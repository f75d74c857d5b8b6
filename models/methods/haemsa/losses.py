"""The losses of HAEMSA as pure functions of rows; labels that are missing count for nothing.

N rows   M modalities   D width   W outputs of a target (C classes, labels or K values)
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.batch import Target


def known_rows(target: Target, truth: Tensor) -> Tensor:
    """Rows with any label, (..., ) long or (..., W) float to (...) bool."""
    return truth >= 0 if target.kind == "category" else ~truth.isnan().all(-1)


def task_loss(target: Target, output: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean loss over labels: absolute error, weighted cross-entropy or binary cross-entropy.

    Args:
        target: what is predicted.
        output: (N, W).
        truth: (N,) long, -1 = none, for a category; (N, W) float, NaN = none, otherwise.
        weight: (W,) class weights of a category, weights of positive cases of labels.
    """
    if target.kind == "category":
        is_known = truth >= 0
        if not is_known.any():
            return output.sum() * 0.0
        return F.cross_entropy(output[is_known], truth[is_known], weight.to(output.dtype))
    is_known = ~truth.isnan()
    if not is_known.any():
        return output.sum() * 0.0
    goal = truth[is_known].to(output.dtype)
    if target.kind == "values":
        return F.l1_loss(output[is_known], goal)
    positive = weight.to(output.dtype).expand_as(output)[is_known]
    return F.binary_cross_entropy_with_logits(output[is_known], goal, pos_weight=positive)


def row_losses(target: Target, output: Tensor, truth: Tensor) -> Tensor:
    """Unweighted loss of each row, (N, W) to (N,); 0 for a row without labels."""
    if target.kind == "category":
        return F.cross_entropy(output, truth, reduction="none", ignore_index=-1)
    is_known = ~truth.isnan()
    goal = truth.nan_to_num().to(output.dtype)
    if target.kind == "values":
        losses = (output - goal).abs()
    else:
        losses = F.binary_cross_entropy_with_logits(output, goal, reduction="none")
    return (losses * is_known).sum(-1) / is_known.sum(-1).clamp(min=1)


def transfer(target: Target, teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """How far a student is from its teacher, (..., W) each to (...).

    Smooth absolute error for values; T^2 times the Kullback-Leibler divergence of the softened
    distributions for a category, and of the softened chances of each label, averaged, for labels.
    """
    if target.kind == "values":
        return F.smooth_l1_loss(student, teacher, reduction="none").mean(-1)
    soft_teacher, soft_student = teacher / temperature, student / temperature
    if target.kind == "category":
        log_p, log_q = soft_teacher.log_softmax(-1), soft_student.log_softmax(-1)
        return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)
    p = soft_teacher.sigmoid()
    yes = F.logsigmoid(soft_teacher) - F.logsigmoid(soft_student)
    no = F.logsigmoid(-soft_teacher) - F.logsigmoid(-soft_student)
    return temperature**2 * (p * yes + (1 - p) * no).mean(-1)


def teacher_weights(losses: Tensor, available: Tensor, temperature: float) -> Tensor:
    """Which modality teaches which, row by row.

    A modality learns from those with a smaller loss, weighted by softmax of -loss / temperature.

    Args:
        losses: (N, M) of each modality alone.
        available: (N, M) bool.
        temperature: smaller listens more to the best.

    Returns:
        (N, M, M): row, student, teacher; a student without a teacher has only zeros.
    """
    teaches = losses.unsqueeze(1) < losses.unsqueeze(2)  # (N, student, teacher)
    teaches = teaches & available.unsqueeze(1) & available.unsqueeze(2)
    scores = (-losses / temperature).unsqueeze(1).expand_as(teaches)
    scores = scores.masked_fill(~teaches, float("-inf"))
    has_teacher = teaches.any(-1, keepdim=True)
    return scores.masked_fill(~has_teacher, 0.0).softmax(-1) * has_teacher


def masked_average(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask``; 0 (with gradient) where nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def orthogonality(specific: Tensor, shared: Tensor, available: Tensor) -> Tensor:
    """Mean squared cosine between (N, M, D) and (N, M, D) over available cells (N, M)."""
    return masked_average(F.cosine_similarity(specific, shared, dim=-1).square(), available)


def class_weights(target: Target, labels: Tensor) -> Tensor:
    """(W,) weights from training labels.

    A category: inverse frequency, mean 1 over the classes that occur, 0 for those that do not.
    Labels: negatives over positives, at most 10. Values: ones.

    Args:
        target: whose labels.
        labels: (N,) long or (N, W) float, as ``Batch.targets`` has them.
    """
    if target.kind == "values":
        return torch.ones(target.width)
    if target.kind == "category":
        counts = torch.bincount(labels[labels >= 0], minlength=target.width).double()
        inverse = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
        return (inverse * (counts > 0).sum() / inverse.sum().clamp(min=1e-12)).float()
    positive = (labels == 1).sum(0).double()
    negative = (labels == 0).sum(0).double()
    weight = torch.where(positive > 0, negative / positive.clamp(min=1), 10.0)
    # a label that everyone has would get 0 and its tower would learn nothing from it
    return torch.where(negative > 0, weight, 1.0).clamp(max=10.0).float()
