"""FAGM: fine-grained adaptive gradient modulation, down to single neurons.

Paper: Wang et al., "Unlocking the power of multimodal learning for emotion recognition in
conversation", ACM MM 2023.
Reference code: iLearn-Lab/MM23-FAGM, read; nothing copied.
Licence of the reference: none stated.
What we changed and why:
    - a modality is erased by declaring it absent, so it also loses its vote and its nodes; the code
      puts zeros at the input and lets biases vote on;
    - a module counts as unchanged when no input moves by more than 1e-6; the code wants exactly 0;
    - modules that a backbone declares as one modality's own are taken at its word: recurrences that
      run all streams abreast have no single call to watch;
    - the loss of the whole input, from which the code takes each loss, cancels in the softmax over
      modalities: there is no pass for it;
    - a form without an output per modality is refused like under every plug-in; the code erases the
      inputs of such networks too. So the neurons of shared modules matter in MMGCN and MM-DFN only;
    - which module is whose is decided once, before epoch 1, and kept in a buffer;
    - Adam nearly undoes a factor that stays the same: ``fagm_scale: update`` can put it on the step
      instead of the gradient;
    - recurrent weight matrices (hidden to hidden) are never modulated by neuron;
    - activations with and without a modality are both taken without dropout; the code takes the
      first with it;
    - factors slow neurons of the input, as the paper says; the code keeps weights of the graph
      layers of MMGCN and MM-DFN with inputs in rows, and so slows neurons of the output;
    - a module that is called more than once counts by the mean of its calls; in the code the last
      one counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from models.backbone import Backbone, joint
from models.batch import Batch
from models.errors import UserError
from models.method import Data
from models.plugin import Plugin, Scale, check_choice

#: Weights whose columns are the neurons of a module's input.
INPUT_WEIGHTS = ("weight", "weight_ih", "weight_ih_l0", "weight_ih_l0_reverse")
Activations = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Config:
    """Options of FAGM.

    Attributes:
        fagm_beta: share of a modality's neurons in shared modules that are slowed; refused where
            no module is shared, as in all separable forms but those of MMGCN and MM-DFN.
        fagm_gamma: exponent of the importance; small values nearly freeze all but the weakest.
        fagm_every: steps between modulations.
        fagm_scale: slow by scaling the ``gradient``, as published, or the optimiser's ``update``.
        fagm_erase: erase ``inputs``, or ``features`` just before fusion (DialogueGCN in the paper;
            shared modules are then left alone).
    """

    fagm_beta: float = 0.5
    fagm_gamma: float = 0.05
    fagm_every: int = 1
    fagm_scale: Scale = "gradient"
    fagm_erase: str = "inputs"


def importance(scores: Tensor, gamma: float) -> Tensor:
    """(M,) in [0, 1): (r - min r)^gamma with r = softmax(0.1 score); 0 for the weakest.

    Args:
        scores: (M,) the loss without each modality, or how much it grows: a constant cancels.
        gamma: exponent, above 0.
    """
    ratio = torch.softmax(0.1 * scores, 0)
    return (ratio - ratio.min()) ** gamma


def select_neurons(lead: Tensor, beta: float) -> Tensor:
    """(N,) bool: neurons whose lead is above the value at rank beta x (number of positive ones).

    Args:
        lead: (N,) how much more a neuron depends on this modality than on any other.
        beta: share of the positive ones.
    """
    positive = int((lead > 0).sum())
    rank = max(int(beta * positive) - 1, 0)
    ordered = lead.sort(descending=True).values
    return (lead > ordered[rank]) & (lead > 0)


class Fagm(Plugin):
    """Slows the modules of important modalities, and their neurons in shared modules."""

    config_type = Config

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__(backbone, config)
        if config.fagm_gamma <= 0:
            raise UserError(f"fagm_gamma is {config.fagm_gamma}, expected a number above 0")
        check_choice("fagm_erase", config.fagm_erase, ("inputs", "features"))
        check_choice("fagm_scale", config.fagm_scale, get_args(Scale))
        if config.fagm_every < 1:
            raise UserError(f"fagm_every is {config.fagm_every}, expected a number from 1")
        self.names = backbone.spec.modalities
        self.leaves = _leaf_names(backbone)
        if config.fagm_beta != Config.fagm_beta and not self._shares(backbone):
            raise UserError(
                "fagm_beta chooses neurons of modules that modalities share, and here none are; "
                "leave it out"
            )
        #: Modality that a module belongs to; -1: it is shared.
        self.register_buffer("owner", torch.full((len(self.leaves),), -1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.weights = torch.zeros(len(self.names))

    def _shares(self, backbone: Backbone) -> bool:
        """Whether a module is left that no modality declares its own and that is modulated."""
        owned = self._declared(backbone)
        modules = [backbone.get_submodule(leaf) for leaf in self.leaves]
        return self.config.fagm_erase == "inputs" and any(m not in owned for m in modules)

    def _declared(self, backbone: Backbone) -> dict[nn.Module, int]:
        """Modules that a backbone declares as one modality's own, and that modality's place."""
        return {
            module: index
            for index, name in enumerate(self.names)
            for part in backbone.encoder(name)
            for module in part.modules()
        }

    def on_epoch(self, backbone: Backbone, epoch: int, train: Data) -> None:
        """Find out once whose module is whose."""
        super().on_epoch(backbone, epoch, train)
        if epoch == 1 and self.config.fagm_erase == "inputs":
            owner = cast(Tensor, self.owner)
            raw = train.batch(range(min(len(train), 8))).to(owner.device)
            owner.copy_(self.find_owners(backbone, backbone.normalise(raw)))

    @torch.no_grad()
    def find_owners(self, backbone: Backbone, batch: Batch) -> Tensor:
        """(leaves,) long: the modality whose module's input is the same without all the others."""
        with _evaluating(backbone):
            whole = _watch(backbone, self.leaves, batch)[1]
            alone = [
                _watch(backbone, self.leaves, batch.with_modalities({name}))[1]
                for name in self.names
            ]
        declared = self._declared(backbone)
        owners = torch.full((len(self.leaves),), -1)
        for index, leaf in enumerate(self.leaves):
            same = [
                m
                for m, activations in enumerate(alone)
                if leaf in whole and _is_same(whole[leaf], activations.get(leaf, []))
            ]
            seen = same[0] if len(same) == 1 else -1
            owners[index] = declared.get(backbone.get_submodule(leaf), seen)
        return owners

    @torch.no_grad()
    def after_clip(self, backbone: Backbone, batch: Batch) -> None:
        """Scale gradients by module and by neuron."""
        steps = cast(Tensor, self.steps)
        steps.add_(1)
        if (int(steps) - 1) % self.config.fagm_every:
            return
        by_neuron = self.config.fagm_erase == "inputs"
        owners = cast(Tensor, self.owner).tolist()
        shared = [leaf for leaf, m in zip(self.leaves, owners, strict=True) if m < 0 and by_neuron]
        with _evaluating(backbone):
            whole = _watch(backbone, shared, batch)[1] if shared else {}
            erased = [self._without(backbone, shared, batch, name) for name in self.names]
        self.weights = importance(torch.stack([loss for loss, _ in erased]), self.config.fagm_gamma)
        own = self._scale_own(backbone, owners)
        for leaf in shared:
            module = backbone.get_submodule(leaf)
            changed = [activations.get(leaf, []) for _, activations in erased]
            self._scale_neurons(module, whole.get(leaf, []), changed, own)

    def _without(
        self, backbone: Backbone, leaves: list[str], batch: Batch, name: str
    ) -> tuple[Tensor, Activations]:
        """Loss and activations without a modality."""
        if self.config.fagm_erase == "inputs":
            return _watch(backbone, leaves, batch.with_modalities(set(self.names) - {name}))
        features = backbone.encode(batch)
        features[name] = torch.zeros_like(features[name])
        return backbone.task_loss(joint(backbone.decode(features, batch)), batch), {}

    def _scale_own(self, backbone: Backbone, owners: list[int]) -> set[int]:
        """Scale the gradients of modules that belong to one modality; returns the tensors' ids."""
        done: set[int] = set()
        for index, name in enumerate(self.names):
            weights = list(backbone.encoder_parameters(name))
            for leaf, owner in zip(self.leaves, owners, strict=True):
                if owner == index:
                    weights += backbone.get_submodule(leaf).parameters(recurse=False)
            for weight in weights:
                if id(weight) not in done and weight.grad is not None:
                    self.slow(weight, 1 - self.weights[index], self.config.fagm_scale)
                done.add(id(weight))
        return done

    def _scale_neurons(
        self, module: nn.Module, whole: list[Tensor], erased: list[list[Tensor]], own: set[int]
    ) -> None:
        """Scale the columns of a shared module's weights."""
        if not whole or any(not _fits(whole, other) for other in erased):
            return
        change = torch.stack([_mean_change(whole, other) for other in erased])  # (M, N)
        factor = torch.ones_like(change[0])
        for index, weight in enumerate(self.weights):
            others = torch.cat([change[:index], change[index + 1 :]])
            chosen = select_neurons(change[index] - others.max(0).values, self.config.fagm_beta)
            factor = factor - chosen * weight
        for name, weight in module.named_parameters(recurse=False):
            fits = weight.ndim == 2 and weight.shape[1] == len(factor) and name in INPUT_WEIGHTS
            if fits and weight.grad is not None and id(weight) not in own:
                self.slow(cast(nn.Parameter, weight), factor, self.config.fagm_scale)

    def diagnostics(self) -> dict[str, Tensor]:
        """Importance of each modality."""
        return {f"fagm_{n}": w for n, w in zip(self.names, self.weights, strict=True)}


def _leaf_names(backbone: Backbone) -> list[str]:
    """Modules with weights of their own, without embeddings and the classifier."""
    return [
        name
        for name, module in backbone.named_modules()
        if name
        and not name.startswith("heads")
        and not isinstance(module, nn.Embedding)
        and next(module.parameters(recurse=False), None) is not None
    ]


@contextmanager
def _evaluating(backbone: Backbone) -> Iterator[None]:
    was_training = backbone.training
    backbone.eval()
    try:
        yield
    finally:
        backbone.train(was_training)


def _watch(backbone: Backbone, leaves: list[str], batch: Batch) -> tuple[Tensor, Activations]:
    """() loss of a pass and the inputs of the named modules, one entry per call."""
    seen: Activations = {}

    def remember(leaf: str):
        def hook(_module: nn.Module, inputs: tuple) -> None:
            first = inputs[0] if inputs else None
            values = first.data if isinstance(first, PackedSequence) else first
            if isinstance(values, Tensor):
                seen.setdefault(leaf, []).append(values.detach())

        return hook

    handles = [
        backbone.get_submodule(leaf).register_forward_pre_hook(remember(leaf)) for leaf in leaves
    ]
    try:
        loss = backbone.task_loss(joint(backbone.unimodal(batch)), batch)
    finally:
        for handle in handles:
            handle.remove()
    return loss, seen


def _fits(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(x.shape == y.shape for x, y in zip(a, b, strict=True))


def _is_same(a: list[Tensor], b: list[Tensor]) -> bool:
    if not _fits(a, b):
        return False
    return all(float((x - y).abs().max()) <= 1e-6 for x, y in zip(a, b, strict=True) if x.numel())


def _mean_change(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """(N,) mean absolute change of each neuron over all positions and calls."""
    changes = [(x - y).abs().flatten(0, -2).mean(0) for x, y in zip(a, b, strict=True)]
    return torch.stack(changes).mean(0)


PLUGIN = Fagm
