"""EmotiEffLib's network of expressions, out of a pickled module of which nothing runs."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from models.encoders.cnn import Cnn
from models.encoders.converters import convert
from models.encoders.encoder import Faces, Settings
from models.encoders.pickled_modules import read_module
from models.errors import UserError
from models.layers import efficientnet_b0
from models.layers.efficientnet_b0 import CLASSES, EfficientNetB0

FIXTURES = Path(__file__).parent / "fixtures"
#: First block of each stage.
STARTS = (0, 1, 3, 5, 8, 11, 15)


def timm_name(ours: str) -> str:
    """What timm calls a parameter."""
    part, _, kind = ours.rpartition(".")
    if not part.startswith("blocks."):
        names = {ours: theirs for theirs, ours in efficientnet_b0._PARTS.items()}
        return f"{'classifier' if part == 'classifier' else names[part]}.{kind}"
    _, number, inner = part.split(".", 2)
    stage = max(place for place, start in enumerate(STARTS) if start <= int(number))
    known = efficientnet_b0._OTHERS if int(number) else efficientnet_b0._FIRST
    names = {ours: theirs for theirs, ours in known.items()}
    return f"blocks.{stage}.{int(number) - STARTS[stage]}.{names[inner]}.{kind}"


def drawn() -> dict[str, torch.Tensor]:
    """Weights by timm's names, as they were drawn for the recording."""
    rng = np.random.default_rng(13)
    shapes = {timm_name(name): value.shape for name, value in EfficientNetB0().state_dict().items()}
    found = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(5)
            continue
        value = rng.standard_normal(shape)
        if len(shape) > 1:
            value *= 1.6 / np.prod(shape[1:]) ** 0.5  # enough that pictures still differ at the end
        elif name.endswith("running_var"):
            value = np.abs(value) + 0.5
        else:
            value = 0.1 * value + float(".bn" in f".{name}" and name.endswith("weight"))
        found[name] = torch.from_numpy(value.astype(np.float32))
    return found


class Part(nn.Module):
    """A part of somebody's network."""


def module(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """A network with these parameters, as somebody would pickle it whole."""
    root = Part()
    for name, value in tensors.items():
        *parts, last = name.split(".")
        here = root
        for part in parts:
            if part not in here._modules:
                here.add_module(part, Part())
            here = here._modules[part]
        if "running" in last or "num_batches" in last:
            here.register_buffer(last, value)
        else:
            here.register_parameter(last, nn.Parameter(value))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("emotiefflib")
    torch.save(module(drawn()), folder / "model.pt")
    convert(folder / "model.pt", "emotiefflib:net", folder)
    return folder


def test_every_parameter_comes_out_by_its_name(tmp_path):
    tensors = drawn()
    torch.save(module(tensors), tmp_path / "model.pt")
    found = read_module(tmp_path / "model.pt")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_the_network_sees_what_timms_sees(folder):
    recorded = load_file(FIXTURES / "efficientnet_b0_timm.safetensors")
    encoder = Cnn(Settings(checkpoint=folder, device="cpu"))
    pixels = torch.from_numpy(recorded["pixels"])
    with torch.inference_mode():
        found = encoder.model.means(pixels).numpy()
    np.testing.assert_allclose(found[:, :1280], recorded["means"], rtol=1e-3, atol=1e-4)
    odds = np.exp(recorded["scores"])
    np.testing.assert_allclose(found[:, 1280:], odds / odds.sum(1, keepdims=True), atol=1e-4)


def test_a_face_is_scaled_as_imagenets_pictures_are(folder):
    encoder = Cnn(Settings(checkpoint=folder, device="cpu"))
    face = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    expected = (face / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(encoder.pixels([face])[0].permute(1, 2, 0), expected, atol=1e-5)
    (seen,) = encoder.encode([Faces((face,), (0.0,))])
    assert seen.pooled.shape == (1280 + len(CLASSES),)
    assert seen.pooled[1280:].sum() == pytest.approx(1, abs=1e-5)


class Trap:
    """Pickled, it would make a file when read."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self):
        return (self.call[0], self.call[1:])


def test_nothing_in_a_pickled_module_is_run(tmp_path):
    network = module(drawn())
    network.trap = Trap(open, str(tmp_path / "ran"), "w")
    torch.save(network, tmp_path / "model.pt")
    assert efficientnet_b0.SIGN in read_module(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_a_call_of_the_system_is_refused(tmp_path):
    network = module(drawn())
    network.trap = Trap(os.system, f"touch {tmp_path / 'ran'}")
    torch.save(network, tmp_path / "model.pt")
    with pytest.raises(pickle.UnpicklingError, match="is blocked"):
        read_module(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"a": Part()}, Part(), [1, 2]])
def test_what_is_no_network_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(pickle.UnpicklingError, match="no module of torch"):
        read_module(tmp_path / "model.pt")


def test_a_program_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "model.pt"))
    with pytest.raises(pickle.UnpicklingError, match="torchscript"):
        read_module(tmp_path / "model.pt")


def test_another_network_in_the_same_form_is_refused(tmp_path):
    tensors = drawn()
    del tensors["blocks.3.0.conv_pw.weight"]
    torch.save(module(tensors), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"no whole efficientnet_b0: it lacks blocks\.5\.expand"):
        convert(tmp_path / "model.pt", "emotiefflib:net", tmp_path)
