"""The probabilities of an encoder come out as they went in."""

import pytest
import torch

from models.batch import Target
from models.errors import UserError
from models.method import Spec
from models.methods.readout import Config, Readout
from models.training import TrainConfig, fit
from tests.factories import CATEGORY, VAD_TARGET, ToyData

ORDER = ("neutral", "angry", "bored", "happy")


def data(**options) -> ToyData:
    """Video features that end in four probabilities."""
    made = ToyData((3, 5, 2), dims={"video": 7, "text": 2}, targets=[CATEGORY], **options)
    shares = made._features["video"][:, 3:].softmax(-1)
    made._features["video"][:, 3:] = shares
    return made


def build(classes=ORDER, dims=None, target=CATEGORY, **options) -> Readout:
    spec = Spec(dims or {"video": 7, "text": 2}, (target,))
    return Readout(spec, Config(classes=classes, **options))


def said(method: Readout, batch) -> torch.Tensor:
    return method.predict(method.normalise(batch).without_labels())["category"]


def test_shares_are_those_of_the_features_in_the_order_of_the_target():
    toy, method = data(), build()
    method.prepare(toy)
    batch = toy.batch(range(len(toy)))
    found = said(method, batch)[batch.mask].softmax(-1)
    given = batch.features["video"][batch.mask][:, 3:]
    wanted = given[:, [ORDER.index(name) for name in CATEGORY.names]]
    torch.testing.assert_close(found, wanted / wanted.sum(1, keepdim=True))


def test_nobody_seen_means_that_every_class_is_as_likely():
    toy = data(absent=0.5)
    batch = toy.batch(range(len(toy)))
    found = said(build(), batch)
    unseen = batch.mask & ~batch.present["video"]
    assert unseen.any()
    assert not found[unseen].any()
    assert found[batch.mask & batch.present["video"]].any()


def test_training_changes_nothing():
    method = build()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    fitted = fit(method, data(seed=1), data(seed=2), lambda found: 0.5, TrainConfig(), seed=0)
    assert all(torch.equal(before[name], value) for name, value in fitted.state.items())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"target": VAD_TARGET}, "readout reads classes, but vad is of values"),
        ({"classes": ("angry", "happy")}, "the corpus has neutral, the encoder only angry, happy"),
        ({"modality": "audio"}, "the modality 'audio' has 0 features"),
        ({"dims": {"video": 3}}, "has 3 features, which cannot end in 4 probabilities"),
        (
            {"classes": (), "dims": {"video": 2}, "target": Target("category", "category", ORDER)},
            "has 2 features",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(options, expected):
    with pytest.raises(UserError, match=expected):
        build(**options)
