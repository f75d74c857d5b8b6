import pytest
import torch

from models.layers.balance import damping, modality_scores, ratio_to_weakest
from models.method import Spec, configure, total
from models.methods.ada2i import METHOD, Config, FeatureWeighting, ModalityWeighting, pooled
from models.stepping import Steps, scaled_updates
from models.train_config import TrainConfig
from tests.factories import CATEGORY, DIMS, LABELS, VAD_TARGET, ToyData

SIX = CATEGORY.__class__("category", "category", tuple("abcdef"))


def build(data=None, **options):
    torch.manual_seed(0)
    data = data or ToyData()
    method = METHOD(Spec(data.dims, data.targets, 2), configure(Config, options, "ada2i"))
    method.prepare(data)
    return method.train()


class Sgd:
    """Stands in for the trainer; keeps the gradients of every stage."""

    is_last_part = True

    def __init__(self, method, epoch):
        self.method, self.epoch, self.stages = method, epoch, {}

    def _keep(self, stage):
        self.stages[stage] = {
            name: None if p.grad is None else p.grad.clone()
            for name, p in self.method.named_parameters()
        }

    def backward(self, loss):
        self.method.zero_grad()
        loss.backward()

    def clip(self):
        norm = torch.nn.utils.clip_grad_norm_(self.method.parameters(), 2.0)
        self._keep("clipped")
        return float(norm)

    def step(self, slowed=None):
        self._keep("final")


def one_step(method, data, epoch):
    method.on_epoch(epoch, data)
    stepper = Sgd(method, epoch)
    history = method.update(method.normalise(data.batch(range(len(data)))), stepper)
    return stepper.stages, history


def test_parameters_of_the_published_size():
    spec = Spec({"audio": 512, "video": 1024, "text": 768}, (SIX,), 2)
    method = METHOD(spec, Config())
    assert sum(p.numel() for p in method.encoders.parameters()) == 34_824_580
    assert sum(p.numel() for p in method.weightings.parameters()) == 840_864
    assert sum(p.numel() for p in method.classifier.parameters()) == 5_406
    assert sum(p.numel() for p in method.parameters()) == 35_670_850


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.42, (0.148936, 0.441948, 1)), (0.037, (0.889454, 0.944557, 1))]
)
def test_disparity_ratios_and_factors(alpha, expected):
    ratio = ratio_to_weakest(torch.tensor([6.0, 3.0, 2.0]))
    assert ratio.tolist() == [3.0, 1.5, 1.0]
    assert damping(ratio, alpha).tolist() == pytest.approx(expected, abs=1e-6)


def test_factor_jumps_just_above_one():
    factors = damping(torch.tensor([1.0001, 1.0]), 0.42).tolist()
    assert factors == pytest.approx([0.603034, 1.0], abs=1e-6)


def test_scores_are_summed_probabilities_of_the_truth():
    data = ToyData(lengths=(2,))
    batch = data.batch([0])
    batch.targets["category"][0] = torch.tensor([0, 1])
    own = {
        "text": torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]),
        "audio": torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]),
        "video": torch.zeros(1, 2, 2),
    }
    scores = modality_scores(CATEGORY, own, batch).tolist()
    assert scores == pytest.approx([1.761594, 1.231059, 1.0], abs=1e-6)


def unit_layer(names, rank, **options):
    """Feature weighting with all weights 1 and all biases 0 between scalars."""
    layer = FeatureWeighting(names, Config(hidden=1, rank=rank, dropout=0.0, **options))
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
    return layer.eval()


@pytest.mark.parametrize("padding", [0, 1])
def test_feature_weighting_toy_and_padding_stays_out_of_the_mean(padding):
    layer = unit_layer(("text", "audio"), 1, beta=0.5)
    x = {
        "text": torch.tensor([[[1.0], [2.0], [9.0]]])[:, : 2 + padding],
        "audio": torch.tensor([[[1.0], [3.0], [7.0]]])[:, : 2 + padding],
    }
    seen = torch.tensor([[True, True, False]])[:, : 2 + padding]
    weighted, gap = layer(x, {"text": seen, "audio": seen})
    assert gap is None
    assert weighted["text"][0, :2, 0].tolist() == pytest.approx([41.5, 1313.0])
    assert weighted["audio"][0, :2, 0].tolist() == pytest.approx([9.0, 2067.0])


def test_cores_are_multiplied_from_the_right():
    def vectors(q1, q2, k1, k2):
        q1, q2, k1, k2 = (torch.tensor([[v]]).float() for v in (q1, q2, k1, k2))
        return q1 * k1, q2 * k2

    text = vectors([1, 2], [0, 1], [1, 1], [2, 1])
    audio = vectors([1, 0], [1, 1], [1, 3], [1, 2])
    seen = torch.ones(1, 1, dtype=torch.bool)
    core_text, core_audio = pooled(*text, seen), pooled(*audio, seen)
    assert core_text[0].tolist() == [[0, 1], [0, 2]]
    assert core_audio[0].tolist() == [[1, 2], [0, 0]]

    def gated(vector, core):
        left, right = vector
        return (left.unsqueeze(-1) * (right @ core).unsqueeze(-2))[0, 0].tolist()

    assert gated(text, core_audio) == [[0, 0], [0, 0]]
    assert gated(audio, core_text) == [[0, 5], [0, 0]]


def test_attention_flattens_rows_first():
    layer = FeatureWeighting(("text",), Config(hidden=1, rank=2))
    core = layer.cores["text"]
    with torch.no_grad():
        core.attend.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        core.attend.bias.zero_()
    left, right = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0]]])
    found = core.attention(left, right, torch.eye(2)[None])
    assert found.item() == 3 * 1 + 4 * 10 + 6 * 100 + 8 * 1000


@pytest.mark.parametrize("option", ["attention", "output"])
def test_alignment_targets(option):
    layer = unit_layer(("text",), 1, beta=0.5, afw_target=option).train()
    x = torch.tensor([[[2.0]]])
    _, gap = layer({"text": x}, {"text": torch.ones(1, 1, dtype=torch.bool)})
    # guide(x) = 2; attention = x^4 = 16; output = 16 * 2 + 1
    assert float(gap.detach()) == (14 if option == "attention" else 31)


def head(is_official, bias=(0.0, 0.0)):
    layer = ModalityWeighting(("audio", "video", "text"), 2, 2, is_official, 1.0)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 5.0]]).repeat(1, 3))
        layer.linear.bias.copy_(torch.tensor(bias))
    return layer


@pytest.mark.parametrize(
    ("is_official", "bias", "expected"),
    [
        (False, (0.0, 0.0), (1.0, 0.8)),
        (False, (0.3, -0.3), (1.1, 0.7)),
        (True, (0.0, 0.0), (1.099756, 0.624695)),
    ],
)
def test_classifier_votes_with_cosines(is_official, bias, expected):
    z = torch.tensor([[[3.0, 4.0]]])
    layer = head(is_official, bias)
    for scale in (1.0, 10.0):
        votes = layer({name: z * scale for name in layer.names})
        assert votes["text"].flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_the_default_lets_logits_grow_beyond_the_number_of_modalities():
    method = build().eval()
    with torch.no_grad():
        weight = method.classifier.linear.weight
        weight.zero_()
        weight[0] = 1.0  # all for the first class
    z = {name: torch.ones(1, 1, method.config.hidden) for name in method.names}
    with torch.no_grad():
        logits = sum(method.classifier(z).values())[0, 0] - method.classifier.linear.bias
    expected = len(method.names) * method.config.hidden**0.5
    assert float(logits[0]) == pytest.approx(expected, rel=1e-5)


def test_a_single_output_learns_its_weights():
    torch.manual_seed(0)
    layer = ModalityWeighting(("audio", "text"), 4, 1, True, 1.0)
    votes = layer({name: torch.randn(1, 3, 4) for name in layer.names})
    sum(votes.values()).square().sum().backward()
    assert layer.linear.weight.grad.abs().max() > 1e-3
    lengths = torch.cat([layer._normed(block) for _, block, _ in layer._blocks()]).norm(dim=1)
    assert lengths.tolist() == pytest.approx([2.0, 2.0])


def test_plain_votes_add_up_to_the_linear_layer():
    torch.manual_seed(0)
    layer = ModalityWeighting(("audio", "text"), 4, 3, False, 1.0)
    z = {name: torch.randn(2, 5, 4) for name in layer.names}
    expected = layer.linear(torch.cat(list(z.values()), -1))
    torch.testing.assert_close(sum(layer.plain(z).values()), expected)


def test_before_epoch_4_gradients_are_the_clipped_ones():
    data = ToyData()
    for epoch in (1, 3):
        stages, _ = one_step(build(data), data, epoch)
        for name, grad in stages["clipped"].items():
            assert torch.equal(grad, stages["final"][name])


def test_from_epoch_4_encoders_are_scaled_and_nothing_else():
    data = ToyData()
    method = build(data, has_noise=False, alpha=0.42)
    stages, history = one_step(method, data, 4)
    factors = dict(zip(method.names, method.factors.tolist(), strict=True))
    assert min(factors.values()) < 1 == max(factors.values())
    for name, grad in stages["clipped"].items():
        part = name.split(".")
        factor = factors[part[1]] if part[0] == "encoders" else 1.0
        torch.testing.assert_close(stages["final"][name], grad * factor)
    for name, factor in factors.items():
        assert float(history[f"factor_{name}"]) == pytest.approx(factor)


class Optimiser(Sgd):
    """The same with a step that is made."""

    def __init__(self, method, epoch, kind):
        super().__init__(method, epoch)
        self.optimizer = kind(method.parameters(), 1e-2)

    def step(self, slowed=None):
        with scaled_updates(slowed or {}):
            self.optimizer.step()


def moved(method, data, epoch, kind):
    """How far each modality's encoder went in one step, and the factors of that step."""
    before = {n: p.detach().clone() for n, p in method.encoders.named_parameters()}
    method.on_epoch(epoch, data)
    method.update(method.normalise(data.batch(range(len(data)))), Optimiser(method, epoch, kind))
    way = {name: 0.0 for name in method.names}
    for name, weight in method.encoders.named_parameters():
        way[name.split(".")[0]] += float((weight.detach() - before[name]).norm() ** 2)
    factors = dict(zip(method.names, method.factors.tolist(), strict=True))
    return {name: far**0.5 for name, far in way.items()}, factors


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("modulates", ["update", "gradient"])
def test_adam_undoes_a_factor_on_the_gradient_but_not_on_the_update(kind, modulates):
    data = ToyData()
    options = {"has_noise": False, "alpha": 0.42, "modulates": modulates}
    torch.manual_seed(1)
    whole, _ = moved(build(data, **options), data, 1, kind)
    torch.manual_seed(1)
    slowed, factors = moved(build(data, **options), data, 4, kind)
    assert min(factors.values()) < 0.8
    for name, factor in factors.items():
        is_undone = kind is torch.optim.Adam and modulates == "gradient"
        expected = 1.0 if is_undone else factor
        assert slowed[name] / whole[name] == pytest.approx(expected, abs=0.02)


def test_averages_are_of_the_slowed_weights():
    data = ToyData()
    method = build(data, modulates="update", has_noise=False, alpha=0.42)
    start = {n: p.detach().clone() for n, p in method.named_parameters()}
    steps = Steps(method, TrainConfig(lr=0.1, ema_decay=0.5, ema_warmup=False), len(data))
    method.on_epoch(4, data)
    steps.begin(4, 1)
    method.update(method.normalise(data.batch(range(len(data)))), steps)
    assert method.factors.min() < 0.8
    for name, weight in method.named_parameters():
        half = torch.lerp(start[name], weight.detach(), 0.5)
        torch.testing.assert_close(steps.average.shadow[name], half)


def test_modulation_ends_after_its_last_epoch():
    data = ToyData()
    stages, _ = one_step(build(data, end_epoch=5), data, 6)
    for name, grad in stages["clipped"].items():
        assert torch.equal(grad, stages["final"][name])


def test_clipping_then_scaling():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    torch.nn.utils.clip_grad_norm_([weight], 2.0)
    assert weight.grad.tolist() == pytest.approx([1.2, 1.6], abs=1e-5)
    assert (0.5 * weight.grad).tolist() == pytest.approx([0.6, 0.8], abs=1e-5)


def test_noise_has_the_deviation_of_the_scaled_gradient_and_returns_after_a_restart():
    data = ToyData()
    first, second = build(data), build(data)
    torch.manual_seed(5)
    stages, _ = one_step(first, data, 4)
    torch.manual_seed(5)
    again, _ = one_step(second, data, 4)
    factors = dict(zip(first.names, first.factors.tolist(), strict=True))
    ratios = []
    for name, grad in stages["clipped"].items():
        assert torch.equal(stages["final"][name], again["final"][name])
        if name.startswith("encoders") and grad.numel() > 1000 and grad.std() > 0:
            scaled = grad * factors[name.split(".")[1]]
            ratios.append(float((stages["final"][name] - scaled).std() / (scaled.std() + 1e-8)))
    assert ratios
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.1)
    # the next draw differs, and a restart from the state makes the same one
    second.load_state_dict(first.state_dict())
    torch.manual_seed(6)
    one, _ = one_step(first, data, 5)
    torch.manual_seed(6)
    two, _ = one_step(second, data, 5)
    assert all(torch.equal(one["final"][n], two["final"][n]) for n in one["final"])


def test_one_modality_is_neither_gated_nor_modulated():
    data = ToyData(dims={"text": 6})
    stages, history = one_step(build(data), data, 4)
    assert float(history["factor_text"]) == 1
    for name, grad in stages["clipped"].items():
        assert torch.equal(grad, stages["final"][name])


def test_a_modality_absent_from_a_dialogue_gates_nobody():
    ones = torch.ones(2, 3, 2)
    seen = torch.tensor([[True, True, True], [False, False, False]])
    core = pooled(ones, 3 * ones, seen)
    assert torch.equal(core[1], torch.eye(2))
    assert torch.equal(core[0], torch.full((2, 2), 3.0))


@pytest.mark.parametrize(
    "options",
    [
        {"afw_layers": 0},
        {"has_amw": False},
        {"feature_weight": 0.0},
        {"modal_weight": 0.5},
        {"encoder": "lstm"},
        {"amw_norm": "official", "afw_target": "output"},
    ],
    ids=lambda o: "-".join(o),
)
def test_ablations_train_all_their_parameters(options):
    data = ToyData()
    method = build(data, **options)
    losses = method.losses(method.normalise(data.batch(range(6))))
    total(losses).backward()
    assert [n for n, p in method.named_parameters() if p.grad is None] == []
    assert ("feature" in losses) == (
        options.get("feature_weight", 1) > 0
        and "afw" not in str([k for k in options if k == "afw_layers"])
    )
    assert ("modal" in losses) == ("modal_weight" in options)


@pytest.mark.parametrize("target", [CATEGORY, VAD_TARGET, LABELS], ids=lambda t: t.kind)
def test_modulation_works_for_every_kind_of_target(target):
    data = ToyData(targets=[target])
    method = build(data)
    one_step(method, data, 4)
    assert method.factors.min() < 1


def test_votes_add_up_to_the_prediction_and_absent_modalities_have_none():
    data = ToyData(absent=0.5)
    method = build(data).eval()
    batch = method.normalise(data.batch(range(6)))
    votes = method.unimodal(batch)
    torch.testing.assert_close(sum(votes.values()), method.predict(batch)["category"])
    for name in DIMS:
        assert not votes[name][batch.mask & ~batch.present[name]].any()
