from dataclasses import fields
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from models.errors import UserError
from models.layers.balance import damping, modality_scores, ratio_to_others, ratio_to_weakest
from models.method import Spec, configure, find_method
from models.plugin import (
    Plugged,
    Plugin,
    attach,
    backbone_names,
    find_balanced,
    find_plugin,
    plugin_names,
)
from models.plugins import opm
from models.plugins.fagm import importance, select_neurons
from models.plugins.opm import compensation, hiding_chances
from models.plugins.rna import norm_gap
from models.stepping import Steps, scaled_updates
from models.training import Hooks, TrainConfig, fit
from tests.factories import CATEGORY, DIMS, VAD_TARGET, ToyData

PAIRS = [(b, p) for b in backbone_names() for p in plugin_names()]
EVERYTHING = ToyData(lengths=(4, 2, 5, 1, 3, 6), absent=0.2)


def build(backbone="mmgcn", plugin="ogm_ge", dims=DIMS, target=CATEGORY, **options):
    torch.manual_seed(0)
    method = find_balanced(backbone, plugin)
    return method(Spec(dims, (target,), 2), configure(method.config_type, options, "methods.test"))


class Stepper:
    """Stands in for the trainer; keeps the gradients after clipping and at the step."""

    is_last_part = True

    def __init__(self, method, rate=0.0, norm=2.0):
        self.method, self.epoch, self.rate, self.norm = method, 0, rate, norm
        self.steps = 0

    def grads(self):
        return {
            n: None if p.grad is None else p.grad.clone() for n, p in self.method.named_parameters()
        }

    def backward(self, loss):
        self.method.zero_grad()
        loss.backward()

    def clip(self):
        torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.norm)
        self.clipped = self.grads()
        return 0.0

    def step(self, slowed=None):
        self.steps += 1
        self.final = self.grads()
        with scaled_updates(slowed or {}), torch.no_grad():
            for weight in self.method.parameters():
                if weight.grad is not None and self.rate:
                    weight.sub_(self.rate * weight.grad)


def one_step(method, epoch=7, data=EVERYTHING):
    method.on_epoch(1, data)  # what is found out once, before all others
    method.on_epoch(epoch, data)
    method.train()
    stepper = Stepper(method)
    history = method.update(method.normalise(data.batch(range(len(data)))), stepper)
    return stepper, history


def same(a, b):
    return all((a[n] is None and b[n] is None) or torch.equal(a[n], b[n]) for n in a)


# --- attaching -----------------------------------------------------------------------------------


def test_all_five_plugins_are_found():
    assert plugin_names() == ["fagm", "ogm_ge", "opm", "rna", "spcl"]
    assert find_plugin("none") is None


@pytest.mark.parametrize(("backbone", "plugin"), PAIRS)
def test_every_pair_trains_every_parameter_and_predicts_like_the_bare_backbone(backbone, plugin):
    method = build(backbone, plugin)
    method.prepare(EVERYTHING)
    options = {"spcl_threshold": 60.0} if plugin == "spcl" else {}
    method = build(backbone, plugin, **options)
    method.prepare(EVERYTHING)
    stepper, history = one_step(method)
    assert stepper.steps == 1
    assert all(torch.isfinite(torch.as_tensor(v)).all() for v in history.values())
    assert [n for n, g in stepper.final.items() if g is None or not torch.isfinite(g).all()] == []
    bare = build(backbone, "none")
    weights = {k: v for k, v in method.state_dict().items() if not k.startswith("plugin.")}
    bare.load_state_dict(weights)
    batch = method.normalise(EVERYTHING.batch(range(6))).without_labels()
    found = method.eval().predict(batch)["category"]
    torch.testing.assert_close(found, bare.eval().predict(batch)["category"])


@pytest.mark.parametrize("plugin", plugin_names())
def test_in_evaluation_the_loss_is_the_plain_one(plugin):
    method = build("bc_lstm", plugin).eval()
    batch = EVERYTHING.batch(range(6))
    plain = method.task_loss(method.predict(batch)["category"], batch)
    assert torch.equal(method.losses(batch)["category"], plain)
    assert list(method.losses(batch)) == ["category"]


def test_options_of_both_are_merged_and_the_form_is_the_separable_one():
    config = find_balanced("mmgcn", "ogm_ge").config_type
    names = {item.name for item in fields(config)}
    assert {"hidden", "alpha", "ogm_alpha", "variant"} <= names
    assert config().variant == "spcl"
    assert find_balanced("bc_lstm", "none").config_type().variant == "streams"
    assert find_method("mmgcn").config_type().variant == "original"


@pytest.mark.parametrize("plugin", plugin_names())
@pytest.mark.parametrize("backbone", backbone_names())
def test_option_names_never_collide(backbone, plugin):
    mine = {item.name for item in fields(find_plugin(plugin).config_type)}
    theirs = {item.name for item in fields(find_method(backbone).config_type)}
    assert not mine & theirs
    assert all(name.startswith(plugin.split("_")[0]) for name in mine)


def test_the_same_pair_is_the_same_class():
    assert find_balanced("mmgcn", "rna") is find_balanced("mmgcn", "rna")
    assert issubclass(find_balanced("mmgcn", "rna"), Plugged)


def test_a_misspelt_plugin_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'ogm_ge'"):
        find_plugin("ogmge")


def test_a_method_without_votes_is_no_backbone():
    with pytest.raises(UserError, match="'linear' is no backbone"):
        attach(find_method("linear"), find_plugin("rna"))


def test_a_joint_form_has_nothing_to_balance():
    with pytest.raises(UserError, match="use variant spcl"):
        build("biddin", "rna", variant="original")


@pytest.mark.parametrize("plugin", plugin_names())
def test_one_modality_cannot_be_balanced(plugin):
    with pytest.raises(UserError, match="balances modalities"):
        build("bc_lstm", plugin, dims={"text": 6})


@pytest.mark.parametrize("plugin", ["spcl", "ogm_ge", "opm", "fagm"])
def test_plugins_that_weigh_classes_refuse_numbers(plugin):
    with pytest.raises(UserError, match="target of values"):
        build("bc_lstm", plugin, target=VAD_TARGET)


def test_rna_takes_any_target():
    data = ToyData(targets=[VAD_TARGET])
    losses = build("bc_lstm", "rna", target=VAD_TARGET).losses(data.batch([0, 1]))
    assert set(losses) == {"vad", "rna"}


@pytest.mark.parametrize("plugin", plugin_names())
def test_a_killed_run_goes_on_bit_for_bit(plugin):
    train, validation = ToyData(seed=1), ToyData(seed=2)
    config = TrainConfig(epochs=4, patience=0, batch_size=3, optimizer="sgd", lr=0.1)
    options = {"opm_warmup": 1} if plugin == "opm" else {}
    states = []

    def run(**more):
        method = build("bc_lstm", plugin, **options)
        return fit(method, train, validation, lambda _outputs: 0.5, config, seed=3, **more)

    whole = run(hooks=Hooks(save=lambda state: states.append(state())))
    resumed = run(resume=states[1])
    assert whole.history == resumed.history
    assert all(torch.equal(whole.state[n], resumed.state[n]) for n in whole.state)


# --- scores --------------------------------------------------------------------------------------


def test_a_modality_is_scored_where_it_is_present_and_scaled_up():
    data = ToyData(lengths=(4,))
    batch = data.batch([0])
    votes = {m: torch.zeros(1, 4, 3) for m in DIMS}
    hidden = batch.present["audio"].clone()
    hidden[0, 2:] = False
    batch = batch.with_present({**batch.present, "audio": hidden})
    scores = modality_scores(CATEGORY, votes, batch)
    assert scores.tolist() == pytest.approx([4 / 3] * 3)
    gone = batch.with_modalities({"text", "video"})
    scores = modality_scores(CATEGORY, votes, gone)
    assert scores.isnan().tolist() == [True, False, False]
    assert ratio_to_weakest(scores).tolist() == [1, 1, 1]
    assert ratio_to_others(scores).tolist() == pytest.approx([1, 1, 1])


# --- RNA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("norms", "expected"), [((2, 1, 4), 1.0625), ((3, 4), 0.0625), ((5, 5, 5), 0.0)]
)
def test_norm_gap(norms, expected):
    found = norm_gap({str(i): torch.tensor(float(n)) for i, n in enumerate(norms)})
    assert found.item() == pytest.approx(expected)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=3), st.floats(0.1, 10))
def test_norm_gap_ignores_scale_and_is_at_most_one_per_pair(norms, scale):
    one = norm_gap({str(i): torch.tensor(n) for i, n in enumerate(norms)})
    other = norm_gap({str(i): torch.tensor(n * scale) for i, n in enumerate(norms)})
    assert one.item() == pytest.approx(other.item(), abs=1e-4)
    assert 0 <= one <= len(norms) * (len(norms) - 1) / 2


def test_norms_are_averaged_over_real_present_utterances_and_carry_gradient():
    data = ToyData(absent=0.4)
    method = build("bc_lstm", "rna", rna_weight=2.0)
    features = {
        m: torch.randn(6, 6, 4, generator=torch.Generator().manual_seed(i)).requires_grad_()
        for i, m in enumerate(DIMS)
    }
    method.encode = lambda _batch: features
    method.decode = lambda values, _batch: {m: v[..., :3] for m, v in values.items()}
    batch = data.batch(range(6))
    found = method.train().losses(batch)["rna"]
    norms = {m: features[m][batch.mask & batch.present[m]].norm(dim=-1).mean() for m in DIMS}
    assert found.item() == pytest.approx(2 * norm_gap(norms).item())
    found.backward()
    for m in DIMS:
        seen = batch.mask & batch.present[m]
        assert features[m].grad[seen].any()
        assert not features[m].grad[~seen].any()


# --- SPCL ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["selected", "all"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_weights": True},
        {"focal_gamma": 2.0},
        {"class_weights": True, "focal_gamma": 0.5},
    ],
)
def test_with_everything_selected_the_loss_is_the_backbones_own(options, norm):
    method = build("bc_lstm", "spcl", spcl_threshold=60.0, spcl_norm=norm, **options)
    method.prepare(EVERYTHING)
    batch = method.train().normalise(EVERYTHING.batch(range(6)))
    torch.manual_seed(1)
    found = method.losses(batch)["category"]
    torch.manual_seed(1)
    torch.testing.assert_close(found, method.task_loss(method.predict(batch)["category"], batch))


def test_selected_utterances_are_weighed_by_their_class():
    method = build("bc_lstm", "spcl", spcl_threshold=60.0, class_weights=True)
    method.prepare(EVERYTHING)
    batch = EVERYTHING.batch(range(6))
    votes = torch.randn(*batch.mask.shape, 3, generator=torch.Generator().manual_seed(0))
    method.unimodal = lambda _batch: {m: votes / 3 for m in DIMS}
    is_first = batch.mask & (torch.arange(6) == 0)
    method.plugin.difficulty = lambda *_: ((~is_first) * 100.0, batch.mask)
    truth = batch.targets["category"][is_first]
    expected = F.cross_entropy(votes[is_first], truth, method.class_weight)
    torch.testing.assert_close(method.train().losses(batch)["category"], expected)


# --- OGM-GE --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "alpha", "expected"),
    [
        ((6, 3, 2), 0.1, (0.708687, 0.851115, 1)),
        ((6, 3, 2), 0.3, (0.283702, 0.578101, 1)),
        ((6, 3, 2), 0.8, (0.016325, 0.166345, 1)),
        ((6, 3), 0.3, (0.462950, 1)),
    ],
)
def test_modulation_factors(scores, alpha, expected):
    found = damping(ratio_to_weakest(torch.tensor(scores).float()), alpha)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_only_matrices_of_encoders_are_scaled():
    method = build("mmgcn", "ogm_ge", ogm_noise=False)
    method.prepare(EVERYTHING)
    stepper, history = one_step(method)
    factors = {m: float(history[f"ogm_{m}"]) for m in DIMS}
    assert min(factors.values()) < 1
    for name, grad in stepper.clipped.items():
        part = name.split(".")
        is_scaled = part[0] == "encoders" and grad.ndim > 1
        factor = factors[part[1]] if is_scaled else 1.0
        torch.testing.assert_close(stepper.final[name], grad * factor)


def test_noise_has_the_deviation_of_the_unscaled_gradient():
    method = build("mmgcn", "ogm_ge", ogm_alpha=0.8)
    method.prepare(EVERYTHING)
    stepper, history = one_step(method)
    ratios = []
    for name, grad in stepper.clipped.items():
        if name.startswith("encoders") and grad.ndim > 1 and grad.numel() > 2000:
            scaled = grad * float(history[f"ogm_{name.split('.')[1]}"])
            ratios.append(float((stepper.final[name] - scaled).std() / grad.std()))
    assert ratios
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.1)


@pytest.mark.parametrize(("epoch", "is_active"), [(1, False), (2, True), (3, True), (4, False)])
def test_outside_its_epochs_gradients_stay_bit_for_bit(epoch, is_active):
    method = build("bc_lstm", "ogm_ge", ogm_start=2, ogm_end=3)
    method.prepare(EVERYTHING)
    stepper, _ = one_step(method, epoch)
    assert same(stepper.clipped, stepper.final) != is_active


def test_noise_is_the_same_for_the_same_seed_and_new_at_every_step():
    def noise(steps):
        method = build("bc_lstm", "ogm_ge")
        method.prepare(EVERYTHING)
        for step in range(steps):
            torch.manual_seed(step)  # the dropout; not the noise
            stepper, _ = one_step(method)
        return stepper.final

    assert same(noise(1), noise(1))
    assert same(noise(2), noise(2))
    assert not same(noise(1), noise(2))


# --- OPM -----------------------------------------------------------------------------------------


def test_chances_grow_with_the_lead():
    found = hiding_chances(torch.tensor([1.0, 1.2, 2.0, 3.0]), 0.5, 0.5).tolist()
    assert found == pytest.approx([0, 0.549344, 0.690399, 0.741007], abs=1e-6)


def test_a_modality_is_compared_with_the_mean_of_the_others():
    ratio = ratio_to_others(torch.tensor([6.0, 3.0, 2.0]), "mean")
    assert ratio.tolist() == pytest.approx([2.4, 0.75, 0.444444], abs=1e-6)
    chances = hiding_chances(ratio, 0.5, 0.5)
    assert chances.tolist() == pytest.approx([0.721338, 0, 0], abs=1e-6)
    # theta = 0.721338 / 3
    assert compensation(chances, torch.ones(3)).item() == pytest.approx(1.316562, abs=1e-6)


def test_or_with_their_sum():
    ratio = ratio_to_others(torch.tensor([6.0, 3.0, 2.0]), "sum")
    assert ratio[0].item() == pytest.approx(1.2)
    found = hiding_chances(ratio, 0.5, 0.5).tolist()
    assert found == pytest.approx([0.549344, 0, 0], abs=1e-6)


def test_two_modalities_mean_and_sum_are_one():
    scores = torch.tensor([6.0, 3.0])
    assert torch.equal(ratio_to_others(scores, "mean"), ratio_to_others(scores, "sum"))


def test_no_features_are_hidden_in_the_warmup():
    method = build("bc_lstm", "opm", opm_chance=1.0).train()
    batch = EVERYTHING.batch(range(6))
    method.on_epoch(6, EVERYTHING)
    torch.manual_seed(1)
    found = method.losses(batch)["category"]
    torch.manual_seed(1)
    plain = method.task_loss(method.predict(batch)["category"], batch)
    assert torch.equal(found, plain)
    method.on_epoch(7, EVERYTHING)
    torch.manual_seed(1)
    assert not torch.equal(method.losses(batch)["category"], plain)


def test_hidden_utterances_are_zero_rescaled_and_leave_the_loss():
    data = ToyData(lengths=(40, 40))
    method = build("bc_lstm", "opm")
    plugin = method.plugin
    plugin.chances = torch.tensor([0.8, 0.5, 0.0])
    batch = data.batch([0, 1]).with_modalities({"audio", "video"})
    features = {m: torch.ones(2, 40, w) for m, w in (("audio", 4), ("video", 2), ("text", 4))}
    hidden, left = plugin._hide(features, batch, "category", torch.Generator().manual_seed(0))
    scale = 1 / (1 - (4 * 0.8 + 2 * 0.5) / 10)
    for name, share in (("audio", 0.2), ("video", 0.5), ("text", 1.0)):
        values = hidden[name][..., 0].unique().tolist()
        assert values == pytest.approx([0.0, scale] if share < 1 else [scale])
        kept = (hidden[name][..., 0] > 0).float().mean().item()
        assert kept == pytest.approx(share, abs=0.15)
    # text is absent, so an utterance is lost when audio and video are both hidden
    is_lost = (hidden["audio"][..., 0] == 0) & (hidden["video"][..., 0] == 0)
    assert is_lost.any()
    assert torch.equal(left.targets["category"] < 0, is_lost)
    assert (batch.targets["category"] >= 0).all()


def test_a_batch_that_lost_everything_makes_no_step(monkeypatch):
    method = build("bc_lstm", "opm", opm_chance=1.0, opm_base=1.0)
    method.prepare(EVERYTHING)
    method.on_epoch(7, EVERYTHING)
    monkeypatch.setattr(opm, "hiding_chances", lambda *_: torch.full((3,), 0.999999))
    stepper, _ = one_step(method)
    assert stepper.steps == 0


# --- scaling updates -----------------------------------------------------------------------------


class Real(Stepper):
    """A stepper with an optimiser of torch behind it."""

    def __init__(self, method, kind):
        super().__init__(method)
        self.optimizer = kind(method.parameters(), lr=0.01)

    def step(self, slowed=None):
        with scaled_updates(slowed or {}):
            self.optimizer.step()


def slowness(plugin, kind, **options):
    """How far each slowed encoder goes in five steps, against those of the bare backbone."""
    moved = []
    for name, own in (("none", {}), (plugin, options)):
        method = build("bc_lstm", name, dropout=0.0, **own)
        method.prepare(EVERYTHING)
        method.on_epoch(1, EVERYTHING)
        if name != "none":  # text is far ahead, always
            method.plugin.factors = torch.tensor([1.0, 1.0, 0.2])
            method.plugin.losses = partial(Plugin.losses, method.plugin)
        method.train()
        start = method.contexts["text"].project.weight.detach().clone()
        stepper = Real(method, kind)
        batch = method.normalise(EVERYTHING.batch(range(6)))
        for _ in range(5):
            method.update(batch, stepper)
        moved.append(float((method.contexts["text"].project.weight.detach() - start).norm()))
    return moved[1] / moved[0]


def test_adam_undoes_a_factor_on_gradients_and_not_one_on_updates():
    options = {"ogm_noise": False}
    adam, sgd = torch.optim.Adam, torch.optim.SGD
    assert slowness("ogm_ge", adam, **options) > 0.9
    assert slowness("ogm_ge", adam, ogm_scale="update", **options) < 0.3
    assert slowness("ogm_ge", sgd, **options) < 0.3
    assert slowness("ogm_ge", sgd, ogm_scale="update", **options) < 0.3


@pytest.mark.parametrize("backbone", ["bc_lstm", "mmgcn"])
def test_under_plain_descent_both_ways_of_slowing_agree(backbone):
    def after(scale):
        method = build(backbone, "fagm", fagm_scale=scale)
        method.prepare(EVERYTHING)
        method.on_epoch(1, EVERYTHING)
        method.train()
        torch.manual_seed(1)
        method.update(method.normalise(EVERYTHING.batch(range(6))), Stepper(method, rate=0.1))
        return method.state_dict()

    found, expected = after("update"), after("gradient")
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name])


@pytest.mark.parametrize("plugin", ["ogm_ge", "fagm"])
def test_averages_are_of_the_slowed_weights(plugin):
    options = {"ogm_noise": False} if plugin == "ogm_ge" else {}
    scale = {f"{plugin.partition('_')[0]}_scale": "update"}
    method = build("bc_lstm", plugin, **options, **scale)
    method.prepare(EVERYTHING)
    method.on_epoch(1, EVERYTHING)
    method.train()
    start = {n: p.detach().clone() for n, p in method.named_parameters()}
    steps = Steps(method, TrainConfig(lr=0.1, ema_decay=0.5, ema_warmup=False), 6)
    steps.begin(1, 1)
    method.update(method.normalise(EVERYTHING.batch(range(6))), steps)
    for name, weight in method.named_parameters():
        half = torch.lerp(start[name], weight.detach(), 0.5)
        torch.testing.assert_close(steps.average.shadow[name], half)


@pytest.mark.parametrize(
    "asked", [("ogm_ge", {"ogm_scale": "step"}), ("fagm", {"fagm_scale": "step"})]
)
def test_there_are_two_ways_of_slowing(asked):
    plugin, option = asked
    with pytest.raises(UserError, match="_scale is 'step', expected one of gradient, update"):
        build("bc_lstm", plugin, **option)


# --- FAGM ----------------------------------------------------------------------------------------

SCORES = torch.tensor([0.2, 0.0, 1.0])


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (0.05, (0.777184, 0, 0.844014)),
        (0.001, (0.994971, 0, 0.996614)),
        (0.5, (0.080397, 0, 0.183441)),
    ],
)
def test_importance(gamma, expected):
    assert importance(SCORES, gamma).tolist() == pytest.approx(expected, abs=2e-6)


def test_importance_knows_no_common_base():
    assert importance(SCORES + 3, 0.05).tolist() == pytest.approx(importance(SCORES, 0.05).tolist())


def test_one_pass_a_modality_where_no_module_is_shared():
    method = build("bc_lstm", "fagm")
    method.prepare(EVERYTHING)
    method.on_epoch(1, EVERYTHING)
    batch = method.train().normalise(EVERYTHING.batch(range(6)))
    stepper, passes = Stepper(method), []
    stepper.backward(method.losses(batch)["category"])
    method.encode = lambda asked: (passes.append(asked), type(method).encode(method, asked))[1]
    method.after_clip(batch, 1)
    assert len(passes) == len(DIMS)


@pytest.mark.parametrize("backbone", backbone_names())
def test_beta_moves_gradients_or_is_refused(backbone):
    def gradients(**options):
        method = build(backbone, "fagm", **options)
        method.prepare(EVERYTHING)
        return one_step(method)[0].final

    if backbone in ("mmgcn", "mm_dfn"):
        found, other = gradients(), gradients(fagm_beta=0.9)
        assert any(not torch.equal(found[name], other[name]) for name in found)
    else:
        with pytest.raises(UserError, match="fagm_beta chooses neurons"):
            build(backbone, "fagm", fagm_beta=0.9)


def test_beta_has_nothing_to_choose_from_erased_features():
    with pytest.raises(UserError, match="fagm_beta chooses neurons"):
        build("mmgcn", "fagm", fagm_beta=0.9, fagm_erase="features")


def test_a_tie_slows_nobody():
    assert importance(torch.full((3,), 0.7), 0.001).tolist() == [0, 0, 0]


def test_factors_of_modules_with_a_small_exponent():
    found = (1 - importance(SCORES, 0.001)).tolist()
    assert found == pytest.approx((0.005029, 1, 0.003386), abs=2e-6)


@pytest.mark.parametrize(("beta", "chosen"), [(0.5, {0.5}), (1.0, {0.5, 0.3, 0.4}), (0.25, set())])
def test_neuron_selection(beta, chosen):
    lead = torch.tensor([0.5, 0.1, -0.2, 0.3, 0.4])
    found = {round(v, 6) for v in lead[select_neurons(lead, beta)].tolist()}
    assert found == chosen


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(0.01, 1))
def test_selected_neurons_lead_and_number_less_than_the_positive_ones(values, beta):
    lead = torch.tensor(values)
    found = select_neurons(lead, beta)
    assert (lead[found] > 0).all()
    assert found.sum() <= max(0, int((lead > 0).sum()) - 1)


def test_modules_are_told_apart_by_what_reaches_them():
    method = build("mmgcn", "fagm")
    method.prepare(EVERYTHING)
    method.on_epoch(1, EVERYTHING)
    names = list(DIMS)
    for leaf, owner in zip(method.plugin.leaves, method.plugin.owner.tolist(), strict=True):
        part = leaf.split(".")
        expected = names.index(part[1]) if part[0] == "encoders" else -1
        assert owner == expected
    assert not any(leaf.startswith("heads") for leaf in method.plugin.leaves)
    assert "graph.layers.0.mix" in method.plugin.leaves


@pytest.mark.parametrize("backbone", ["mmgcn", "mm_dfn"])
def test_gradients_shrink_by_module_and_by_neuron(backbone):
    method = build(backbone, "fagm", fagm_gamma=0.05)
    method.prepare(EVERYTHING)
    method.on_epoch(1, EVERYTHING)
    stepper, history = one_step(method)
    weight = {m: float(history[f"fagm_{m}"]) for m in DIMS}
    assert min(weight.values()) == 0 < max(weight.values()) < 1
    slowed = 0
    for name, grad in stepper.clipped.items():
        part, final = name.removeprefix("network.").split("."), stepper.final[name]
        if part[0] == "encoders":
            torch.testing.assert_close(final, grad * (1 - weight[part[1]]))
        elif part[0] == "heads" or name.endswith("bias"):
            assert torch.equal(final, grad)
        else:
            columns = (final / grad)[:, (grad != 0).all(0)]
            assert (columns <= 1 + 1e-5).all()
            assert (columns >= 1 - max(weight.values()) - 1e-5).all()
            torch.testing.assert_close(columns, columns[:1].expand_as(columns))
            slowed += int((columns[0] < 0.99).sum())
    assert slowed > 0


def test_importance_is_the_loss_without_a_modality():
    method = build("bc_lstm", "fagm")
    method.prepare(EVERYTHING)
    method.on_epoch(1, EVERYTHING)
    _, history = one_step(method)
    method.eval()
    batch = method.normalise(EVERYTHING.batch(range(6)))

    def loss(keep):
        left = batch.with_modalities(keep)
        return method.task_loss(method.predict(left)["category"], left)

    with torch.no_grad():
        scores = torch.stack([loss(set(DIMS) - {m}) for m in DIMS])
    expected = importance(scores, 0.05)
    assert [float(history[f"fagm_{m}"]) for m in DIMS] == pytest.approx(expected.tolist(), abs=1e-5)


def test_erasing_features_slows_whole_streams_only():
    method = build("dialogue_gcn", "fagm", fagm_erase="features")
    method.prepare(EVERYTHING)
    stepper, history = one_step(method)
    for name, grad in stepper.clipped.items():
        part = name.split(".")
        factor = 1 - float(history[f"fagm_{part[1]}"]) if part[0] == "graphs" else 1.0
        torch.testing.assert_close(stepper.final[name], grad * factor)


def test_modulation_every_other_step():
    method = build("bc_lstm", "fagm", fagm_every=2)
    method.prepare(EVERYTHING)
    method.on_epoch(1, EVERYTHING)
    changed = []
    for _ in range(4):
        stepper, _ = one_step(method)
        changed.append(not same(stepper.clipped, stepper.final))
    assert changed == [True, False, True, False]


def test_probing_leaves_the_training_mode_alone():
    method = build("bc_lstm", "fagm")
    one_step(method)
    assert method.training
    assert all(module.training for module in method.modules())


@pytest.mark.parametrize("plugin", ["rna", "ogm_ge", "fagm"])
def test_accumulated_batches_are_clipped_and_modulated_once(plugin):
    method = build(plugin=plugin)
    clips = []
    after_clip = method.after_clip
    method.after_clip = lambda batch, epoch: (clips.append(epoch), after_clip(batch, epoch))
    config = TrainConfig(epochs=2, batch_size=1, accumulate=4)
    fit(method, EVERYTHING, EVERYTHING, lambda outputs: 0.0, config, seed=0)
    assert clips == [1, 1, 2, 2]  # six dialogues: four and two
