"""CAGE and Huo and Ge's networks against their published code; see ``parity/pictures.md``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.batch import Batch, Target
from models.method import Method, Spec, configure, find_method, total
from models.methods.cage.losses import positive_weights, printed_weights
from models.metrics.consistency import CLASSES, DIMENSIONS, consistency_costs

FOLDER = Path(__file__).parent / "parity"
EIGHT = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
FER = Target("category", "category", CLASSES)
VA, VAD = (Target("vad", "values", DIMENSIONS[:count]) for count in (2, 3))
SEVEN, ALL_EIGHT = (Target("category", "category", EIGHT[:count]) for count in (7, 8))
LABELS = Target("categories", "labels", tuple(f"label {number}" for number in range(26)))
#: Without consistency, which has no gradient in the published code.
HUO = {
    "width": 8,
    "dropout": 0.0,
    "pool": "code_4x4",
    "orth_padding": "code",
    "consistency_weight": 0.0,
}
_PLAIN: dict[str, object] = {"pretrained": "", "backbone": "maxvit_t"}
CAGE: dict[str, tuple[tuple[Target, ...], dict[str, object]]] = {
    "cage_combined": ((SEVEN, VA), {**_PLAIN, "class_weights": "paper"}),
    "cage_va": ((VA,), _PLAIN),
    "cage_emotic": (
        (LABELS, VAD),
        {**_PLAIN, "pos_weight": "neg_over_pos", "standard": "code_emotic"},
    ),
    "cage_efficientnet": (
        (ALL_EIGHT, VA),
        {**_PLAIN, "backbone": "efficientnet_v2_s", "class_weights": "paper"},
    ),
}


def draw(*shape: int, seed: int = 9) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pictures(count: int, px: int) -> list[np.ndarray]:
    """Noise, each brighter than the one before, (px, px, 3) uint8."""
    light = torch.linspace(0.2, 1, count)[:, None, None, None]
    pixels = (draw(count, px, px, 3) + 1) * 127.5 * light
    return list(pixels.round().to(torch.uint8).numpy())


def label_counts() -> Tensor:
    """(26,) persons that carry each label, of EMOTIC's 23,266."""
    return ((draw(26, seed=10) + 1.01) * 5000).round()


def truths(targets: tuple[Target, ...], count: int) -> dict[str, Tensor]:
    """Labels of ``count`` pictures, (1, count, ...)."""
    found = {}
    for number, target in enumerate(targets, 11):
        values = draw(1, count, target.width, seed=number)
        found[target.name] = {
            "category": values.argmax(-1),
            "labels": (values > 0).float(),
            "values": values,
        }[target.kind]
    return found


def seeded(name: str, targets: tuple[Target, ...], options: Mapping[str, object]) -> Method:
    """The network with weights and statistics that depend on nothing but names and shapes."""
    kind = find_method(name)
    method = kind(Spec({}, targets), configure(kind.config_type, options, name))
    generator = torch.Generator().manual_seed(7)
    state = {key: value for key, value in method.state_dict().items() if value.dim()}
    with torch.no_grad():
        for key, weight in sorted(state.items()):
            if not key.startswith(("network.", "trunks.", "heads.")):
                continue
            values = torch.rand(weight.shape, generator=generator) * 2 - 1
            if weight.dim() > 1:
                values = values * (3 / weight[0].numel()) ** 0.5
            elif key.endswith(("weight", "running_var")):
                values = 1 + values / 2  # a norm's
            weight.copy_(values)
    if LABELS in targets:
        weights = positive_weights(label_counts(), 23_266, "neg_over_pos", LABELS.names)
        method.class_weight = weights.float()
    if options.get("class_weights") == "paper":
        method.class_weight = printed_weights(targets[0].names).float()
    return method


def batch(images: Tensor, targets: Mapping[str, Tensor]) -> Batch:
    """Pictures (N, 3, h, w) as one dialogue."""
    mask = torch.ones(1, len(images), dtype=torch.bool)
    return Batch(
        mask=mask,
        speakers=torch.zeros(1, len(images), dtype=torch.long),
        features={},
        present={"video": mask},
        targets=targets,
        index=torch.arange(len(images)).unsqueeze(0),
        images=images.unsqueeze(0),
    )


def views(method: Method, count: int, px: int) -> Tensor:
    """(N, 3, h, w) as the method sees pictures at evaluation."""
    return torch.stack([torch.from_numpy(method.view(each, None)) for each in pictures(count, px)])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-5)


def test_ten_crops_are_scored_as_by_huo_and_ge():
    stored = load_file(FOLDER / "huo_ge_vad.safetensors")
    method = seeded("huo_ge_vad", (FER, VAD), HUO).eval()
    with torch.no_grad():
        found = method.predict(batch(views(method, 2, 48), {}))
    for name in ("category", "vad"):
        close(found[name][0], stored[name])
        assert float(stored[name].std(0).min()) > 1e-3


def test_losses_and_clamped_gradients_are_those_of_huo_and_ge():
    stored = load_file(FOLDER / "huo_ge_vad.safetensors")
    # in float32 one activation that rounds to the other side of 0 would move gradients by a percent
    method = seeded("huo_ge_vad", (FER, VAD), HUO).train().double()
    crops = views(method, 4, 48)[..., :44, :44].double()
    given = batch(crops, truths((FER, VAD), 4))
    losses = method.losses(given)
    for name in ("category", *DIMENSIONS, "orthogonality"):
        close(losses[name].detach().float(), stored[f"loss.{name}"])
    total(losses).backward()
    method.after_backward(given, 1)
    for name in ("category", "valence"):
        gradient = method.get_parameter(f"trunks.{name}.stem.0.weight").grad
        assert gradient is not None
        close(gradient.float(), stored[f"gradient.{name}"])
        assert 0 < float(gradient.abs().max()) <= 0.1


def test_the_cost_table_is_that_of_huo_and_ges_spreadsheet():
    stored = load_file(FOLDER / "huo_ge_vad.safetensors")["costs"]  # (class, sign), all of them
    signs = np.asarray([[x, x, x] for x in (0.5, 0.0, -0.5)])
    for number in range(len(CLASSES)):
        found = consistency_costs([number] * 3, signs, table="code")
        np.testing.assert_array_equal(found.sum(-1), stored[number].numpy())


@pytest.mark.parametrize(
    "name",
    [
        "cage_efficientnet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in CAGE if n != "cage_efficientnet"),
    ],
)
def test_outputs_and_losses_are_those_of_cage(name):
    stored, (targets, options) = load_file(FOLDER / f"{name}.safetensors"), CAGE[name]
    method = seeded("cage", targets, options).eval()
    given = batch(views(method, 2, 224), truths(targets, 2))
    with torch.no_grad():
        found, losses = method.predict(given), method.losses(given)
    outputs = torch.cat([found[target.name][0] for target in targets], -1)
    close(outputs, stored["outputs"])
    assert float(stored["outputs"].std(0).min()) > 1e-4
    close(total(losses), stored["loss"])
