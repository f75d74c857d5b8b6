"""The trainer's settings, which entries of params.yaml set beside the options of a network."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """How a method is optimised. A method's ``recipe`` overrides these, ``params.yaml`` both.

    Attributes:
        optimizer: update rule.
        lr: learning rate, the peak where there is a warm-up.
        weight_decay: decoupled for ``adamw``, L2 for ``adam`` and ``sgd``.
        decay_vectors: decay biases, norms and other vectors too, as torch's optimisers do.
        epochs: at most this many.
        patience: stop after so many epochs without a better validation score, counted from when
            all training data are in; 0 = never.
        batch_size: dialogues (utterances, images) per step.
        clip_norm: largest L2 norm of the gradient; 0 = no clipping.
        scheduler: ``plateau`` follows validation, ``cosine`` falls from the peak,
            ``step`` lowers the rate every so many optimiser steps or epochs.
        plateau_on: whether ``plateau`` follows the validation ``score`` or the ``loss``.
        plateau_factor: what ``plateau`` multiplies the rate by.
        plateau_patience: epochs that ``plateau`` waits.
        step_factor: what ``step`` multiplies the rate by.
        step_every: optimiser steps or epochs after which it does so.
        step_from: so many of them leave the rate as it is.
        step_unit: what both count; epochs are those that have ended.
        t_max: where ``cosine`` ends: with the ``training``, at 1 % of the peak; ``code``, as in
            CAGE's code: at 0 after ``batch_size * epochs`` steps, from where it comes back to the
            peak and so on, without a warm-up.
        warmup: share of all steps over which ``cosine`` rises linearly.
        ema_decay: decay of the averaged weights used for validation and kept; 0 = none.
        ema_warmup: let the decay grow as (1 + t) / (10 + t) up to ``ema_decay``.
        accumulate: batches per optimiser step.
        precision: ``bfloat16`` runs forward passes in autocast; ``auto`` does so on a GPU alone.
        modality_dropout: share of the modalities of an utterance that training hides, never all: at
            most 1/2 of two, 2/3 of three.
        hide_rate: hide that share, or a ``random`` one up to it, drawn for every dialogue.
        hide_unit: hide a modality from single utterances, or from a whole ``dialogue``.
        validation_rate: share hidden on validation when epochs are chosen; -1: as in training.
        validation_masks: masks of the validation data, over which the score is averaged.
        soft_labels: learn how sure raters were: shares of votes instead of the class that has most,
            and errors of values that count the less, the more raters differed.
        derived_weight: how much a value counts in the loss that nobody judged, but a lexicon, a
            model, a table or sentiment gave: 1 as much as a judged one, 0 not at all.
        part_balance: how evenly an epoch shows the parts of a union: shares are as sizes to the
            power 1 - part_balance, so at 0 as they are, at 1 all alike. Items of smaller parts come
            again, and none is left out.
        part_align: parts of a union use equal ranges differently; train on a scale in the middle:
            ``zscore``: means and deviations of values become the means of those of the parts;
            ``quantile``: so do all quantiles. Scores are on each part's own scale.
        part_offset: learn an offset and a slope of values for each part.
        drop_last: leave out a last batch smaller than ``batch_size`` (not when it is the only one).
    """

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    decay_vectors: bool = False
    epochs: int = 60
    patience: int = 10
    batch_size: int = 16
    clip_norm: float = 5.0
    scheduler: Literal["none", "plateau", "cosine", "step"] = "none"
    plateau_on: Literal["score", "loss"] = "score"
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    step_factor: float = 0.1
    step_every: int = 10_000
    step_from: int = 0
    step_unit: Literal["steps", "epochs"] = "steps"
    t_max: Literal["training", "code"] = "training"
    warmup: float = 0.05
    ema_decay: float = 0.0
    ema_warmup: bool = True
    accumulate: int = 1
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    modality_dropout: float = 0.0
    hide_rate: Literal["fixed", "random"] = "fixed"
    hide_unit: Literal["utterance", "dialogue"] = "utterance"
    validation_rate: float = -1.0
    validation_masks: int = 3
    soft_labels: bool = False
    derived_weight: float = 1.0
    part_balance: float = 0.0
    part_align: Literal["none", "zscore", "quantile"] = "none"
    part_offset: bool = False
    drop_last: bool = False
