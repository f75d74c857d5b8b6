"""What every method promises, checked for every file in models/methods."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.batch import Batch, Frames, LabelsHidden
from models.errors import UserError
from models.method import Spec, configure, find_method, method_names, total
from models.training import TrainConfig, fit, predict, seed_everything
from tests.factories import CATEGORY, DIMS, LABELS, VAD_TARGET, ToyData, subsets_of

#: Baselines that learn nothing by gradient.
CONSTANT = {"constant", "readout", "ridge"}
#: SPCL selects nothing of some batches at first; with this threshold it selects all.
ALL_SELECTED = {"spcl": {"spcl_threshold": 60.0}}
#: Networks that would take minutes here, in a size for tests.
SMALL = {
    "cage": {"backbone": "small", "pretrained": "", "image_px": 16, "augment": "none"},
    "huo_ge_vad": {"width": 2, "image_px": 16, "crop_px": 12},
}
#: What it takes to learn by heart, where the common recipe or the small network cannot: two
#: channels before dropout hold too little, and batch norm over four pictures swings at evaluation.
BY_HEART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "huo_ge_vad": ({"width": 8, "dropout": 0.0}, {"lr": 0.01, "batch_size": 12, "epochs": 50}),
}
IMAGE_PX = 16
NAMES = method_names()
#: Of one modality, which is a picture.
PICTURES = [name for name in NAMES if find_method(name).needs == {"images"}]
FRAMES = [name for name in NAMES if "frames" in find_method(name).needs]
EXTRA = [name for name in NAMES if find_method(name).extra_inputs]
TARGETS = [CATEGORY, VAD_TARGET, LABELS]


class Pictures(ToyData):
    """Data of pictures alone: video exists where they do."""

    def __init__(self, *args, absent: float = 0.0, **options) -> None:
        super().__init__(*args, **options)
        drawn = torch.rand(len(self._speakers), generator=torch.Generator().manual_seed(5))
        self._present = {"video": drawn >= absent}


def toy(name: str, lengths=(4, 2, 5, 1, 3, 6), dims=None, **options) -> ToyData:
    """Data with everything that a method reads; one utterance an item where that is its level."""
    method = find_method(name)
    dims = DIMS if dims is None else dims
    if method.needs != {"pooled"} and method.level != "dialogue":
        lengths = (1,) * sum(lengths)
    if "images" in method.needs:
        options["image_px"] = IMAGE_PX
    if name in PICTURES:
        return Pictures(lengths, dims={}, **options)
    if name in FRAMES:
        options["frame_dims"] = {modality: dim + 1 for modality, dim in dims.items()}
    if method.extra_inputs:
        options["extra"] = dict.fromkeys(method.extra_inputs, 3)
    return ToyData(lengths, dims=dims, **options)


def build(name: str, data: ToyData, speakers: int = 2, seed: int = 0, **options):
    seed_everything(seed)
    method = find_method(name)
    config = configure(method.config_type, SMALL.get(name, {}) | options, name)
    frame_dims = {modality: frames.values.shape[-1] for modality, frames in data._frames.items()}
    return method(Spec(data.dims, data.targets, speakers, frame_dims), config)


def prepared(name: str, data: ToyData, **options):
    method = build(name, data, **options)
    method.prepare(data)
    return method.eval()


def outputs(method, batch):
    with torch.no_grad():
        return method.predict(method.normalise(batch).without_labels())


def can(name: str, target) -> bool:
    return target.kind in find_method(name).kinds


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.kind)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_have_the_width_of_the_target(name, target):
    data = toy(name, targets=[target])
    if not can(name, target):
        with pytest.raises(UserError):
            build(name, data)
        return
    batch = data.batch([0, 1, 3])
    found = outputs(prepared(name, data), batch)
    assert found[target.name].shape == (*batch.mask.shape, target.width)
    assert torch.isfinite(found[target.name]).all()


@pytest.mark.parametrize("name", NAMES)
def test_predicting_never_looks_at_labels(name):
    data = toy(name)
    batch = data.batch([0, 1]).without_labels()
    method = prepared(name, data)
    assert set(outputs(method, batch)) == {"category"}
    with pytest.raises(LabelsHidden):
        method.losses(method.normalise(batch))


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_batch_mates_do_not_change_an_output(name):
    data = toy(name, lengths=(3, 9, 1, 6), speakers=3)
    method = prepared(name, data, speakers=3)
    together = outputs(method, data.batch(range(len(data))))["category"]
    for row, dialogue in enumerate(range(len(data))):
        alone = outputs(method, data.batch([dialogue]))["category"][0]
        length = data.lengths[dialogue]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_values_of_an_absent_modality_do_not_matter(name):
    data = toy(name, absent=0.5)
    method = prepared(name, data)
    batch = data.batch(range(len(data)))
    before = outputs(method, batch)["category"]
    after = outputs(method, scrambled(batch))["category"]
    torch.testing.assert_close(before[batch.mask], after[batch.mask])


def scrambled(batch: Batch) -> Batch:
    """Other values wherever there are none: of absent modalities and beyond the last frame."""
    features = {
        m: torch.where(batch.present[m].unsqueeze(-1), v, torch.full_like(v, 7.0))
        for m, v in batch.features.items()
    }
    frames = batch.frames and {
        m: Frames(
            torch.where(f.mask.unsqueeze(-1), f.values, torch.full_like(f.values, 7.0)), f.mask
        )
        for m, f in batch.frames.items()
    }
    images = batch.images
    if images is not None:
        seen = batch.present["video"][..., None, None, None]
        images = torch.where(seen, images, torch.full_like(images, 0.7))
    return replace(batch, features=features, frames=frames, images=images)


@pytest.mark.parametrize("name", FRAMES)
def test_padded_frames_do_not_change_an_output(name):
    data = toy(name)
    method = prepared(name, data)
    batch = data.batch([0, 1, 2])
    longer = {
        m: Frames(F.pad(f.values, (0, 0, 0, 4)), F.pad(f.mask, (0, 4)))
        for m, f in batch.frames.items()
    }
    before, after = (
        outputs(method, some)["category"][batch.mask]
        for some in (batch, replace(batch, frames=longer))
    )
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FRAMES)
def test_a_batch_whose_modality_has_no_frame_at_all_is_fine(name):
    data = toy(name)
    method = build(name, data)
    method.prepare(data)
    batch = data.batch(range(len(data)))
    gone = {m: mask & (m != "audio") for m, mask in batch.present.items()}
    bare = method.normalise(batch.with_present(gone))
    assert torch.isfinite(total(method.losses(bare)))
    assert torch.isfinite(method.eval().predict(bare.without_labels())["category"]).all()


@pytest.mark.parametrize("name", EXTRA)
@pytest.mark.parametrize("without", ["values", "all"])
def test_further_inputs_may_be_missing(name, without):
    data = toy(name)
    method = build(name, data)
    method.prepare(data)
    batch = data.batch(range(len(data)))
    nothing = {key: torch.full_like(values, float("nan")) for key, values in batch.extra.items()}
    bare = replace(batch, extra=nothing if without == "values" else None)
    assert torch.isfinite(total(method.losses(method.normalise(bare))))
    assert torch.isfinite(outputs(method.eval(), bare)["category"][batch.mask]).all()


@pytest.mark.parametrize("name", PICTURES)
def test_views_have_one_size_whatever_the_picture(name):
    data = toy(name)
    method = build(name, data)
    random = np.random.default_rng(0)
    shapes = [(48, 48), (30, 90), (200, 64), (1, 1)]
    pictures = [random.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    for rng in (random, None):
        views = [method.view(picture, rng) for picture in pictures]
        assert {view.shape for view in views} == {views[0].shape}
        assert views[0].shape[0] == 3
        assert all(view.dtype == np.float32 and np.isfinite(view).all() for view in views)


@pytest.mark.parametrize("name", PICTURES)
def test_a_view_depends_on_picture_and_generator_alone(name):
    method = build(name, toy(name))
    picture = np.random.default_rng(0).integers(0, 256, (40, 44, 3)).astype(np.uint8)
    kept = picture.copy()

    def look(seed):
        return method.view(picture, None if seed is None else np.random.default_rng([3, seed]))

    for seed in (None, 1, 2):
        first = look(seed)
        torch.manual_seed(seed or 9)  # other sources of randomness have no say
        np.random.seed(seed or 9)
        np.testing.assert_array_equal(look(seed), first)
    np.testing.assert_array_equal(picture, kept)


@pytest.mark.parametrize("dims", subsets_of(), ids=lambda d: "+".join(d))
@pytest.mark.parametrize("name", [n for n in NAMES if n not in PICTURES])
def test_any_subset_of_modalities_trains(name, dims):
    data = toy(name, dims=dims)
    if name == "spcl" and len(dims) == 1:
        with pytest.raises(UserError, match="modal"):
            build(name, data)
        return
    try:
        method = build(name, data)
    except UserError as error:  # a method may refuse a subset, but only in so many words
        assert "modal" in str(error)  # noqa: PT017
        return
    method.prepare(data)
    batch = method.normalise(data.batch([0, 2, 3]))
    loss = total(method.losses(batch))
    assert torch.isfinite(loss)
    if name not in CONSTANT:
        loss.backward()


@pytest.mark.parametrize("name", [n for n in NAMES if find_method(n).is_joint])
def test_joint_methods_predict_every_target_at_once(name):
    data = toy(name, targets=[CATEGORY, VAD_TARGET])
    method = prepared(name, data)
    batch = data.batch([0, 1, 2])
    found = outputs(method, batch)
    assert {key: values.shape[-1] for key, values in found.items()} == {"category": 3, "vad": 3}
    assert all(torch.isfinite(values[batch.mask]).all() for values in found.values())
    assert torch.isfinite(total(method.train().losses(method.normalise(batch))))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in CONSTANT])
def test_every_parameter_gets_gradient(name):
    data = toy(name, lengths=(8, 12, 5), speakers=2, absent=0.3)
    method = build(name, data, **ALL_SELECTED.get(name, {}))
    method.prepare(data)
    method.train()
    missing = None
    for _ in range(4):  # dropout may hide a unit once
        total(method.losses(method.normalise(data.batch(range(len(data)))))).backward()
        missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    zero = [
        n for n, p in method.named_parameters() if p.grad is not None and not p.grad.abs().sum() > 0
    ]
    assert not missing
    assert not zero


@pytest.mark.parametrize("name", NAMES)
def test_single_utterances_and_many_speakers_are_fine(name):
    data = toy(name, lengths=(1, 1, 7), speakers=6)
    method = prepared(name, data, speakers=2)  # fewer in training than appear here
    assert torch.isfinite(outputs(method, data.batch(range(len(data))))["category"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_history_and_state_survives_saving(name):
    train, validation = toy(name, seed=1), toy(name, seed=2)
    config = TrainConfig(epochs=2, patience=0, batch_size=3)

    def run():
        method = build(name, train)
        return method, fit(method, train, validation, accuracy(validation), config, seed=3)

    (first, a), (_, b) = run(), run()
    assert a.history == b.history
    other = build(name, train, seed=9)
    other.load_state_dict(a.state)
    expected = predict(first, validation)["category"]
    torch.testing.assert_close(predict(other, validation)["category"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n not in CONSTANT])
def test_overfits_twelve_dialogues(name):
    train = toy(name, lengths=(5,) * 12, noise=0.05)
    recipe = dict(find_method(name).recipe) | {
        "epochs": 150, "patience": 0, "batch_size": 4, "lr": 2e-3, "weight_decay": 0.0,
        "scheduler": "none",
    }  # fmt: skip
    options, own = BY_HEART.get(name, ({}, {}))
    config = configure(TrainConfig, recipe | own, name)
    fitted = fit(build(name, train, **options), train, train, accuracy(train), config, seed=0)
    assert fitted.score > 0.9


def accuracy(data: ToyData):
    def score(found):
        truth = data.truth(CATEGORY)
        return float((found["category"].argmax(-1) == truth).float().mean())

    return score
