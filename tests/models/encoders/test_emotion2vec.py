"""emotion2vec against what its authors' code says, by the names and shapes that they publish."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from models.encoders.converters import convert
from models.encoders.emotion2vec import Emotion2vec
from models.encoders.encoder import Settings, Sound
from models.encoders.fetching import fetch
from models.encoders.records import hash_file, read_record
from models.encoders.weights import find_weights
from models.errors import UserError
from models.layers.emotion2vec import Emotion2vecNetwork, from_published
from tests.hub_factory import COMMIT, NAME, write_hub_cache

FIXTURES = Path(__file__).parent / "fixtures"
KERNELS = (10, 3, 3, 3, 3, 2, 2)
#: Of emotion2vec+ large as published, and of the one that the authors' code was recorded with; the
#: heads of that are no power of 2.
LARGE = dict(width=1024, heads=16, blocks=8, context=4, channels=512, places=5, kernel=19)
TOY = dict(width=48, heads=12, blocks=2, context=2, channels=16, places=2, kernel=19)


def manifest(
    width: int, heads: int, blocks: int, context: int, channels: int, places: int, kernel: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the published file."""
    audio = "d2v_model.modality_encoders.AUDIO"
    shapes: dict[str, tuple[int, ...]] = {
        f"{audio}.alibi_scale": (1, 1, heads, 1, 1),
        f"{audio}.extra_tokens": (1, 10, width),
        f"{audio}.project_features.1.weight": (channels,),
        f"{audio}.project_features.1.bias": (channels,),
        f"{audio}.project_features.2.weight": (width, channels),
        f"{audio}.project_features.2.bias": (width,),
        f"{audio}.context_encoder.norm.weight": (width,),
        f"{audio}.context_encoder.norm.bias": (width,),
        "proj.weight": (9, width),
        "proj.bias": (9,),
    }
    for place, size in enumerate(KERNELS):
        wave = f"{audio}.local_encoder.conv_layers.{place}"
        shapes[f"{wave}.0.weight"] = (channels, channels if place else 1, size)
        shapes |= {f"{wave}.2.1.{kind}": (channels,) for kind in ("weight", "bias")}
    for place in range(1, places + 1):
        there = f"{audio}.relative_positional_encoder.{place}.0"
        shapes |= {f"{there}.weight": (width, width // 16, kernel), f"{there}.bias": (width,)}
    parts = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    parts |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    homes = [f"d2v_model.blocks.{number}" for number in range(blocks)]
    for home in [*homes, *(f"{audio}.context_encoder.blocks.{n}" for n in range(context))]:
        for part, shape in parts.items():
            shapes |= {f"{home}.{part}.weight": shape, f"{home}.{part}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            shapes |= {f"{home}.{norm}.{kind}": (width,) for kind in ("weight", "bias")}
    return shapes


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights as they were drawn for the recording: norms near 1, one scale of distance below 0."""
    rng = np.random.default_rng(11)
    found = {}
    for name, shape in sorted(shapes.items()):
        value = rng.standard_normal(shape)
        if len(shape) == 1:
            is_norm = "norm" in name or ".2.1." in name or "project_features.1." in name
            value = 0.1 * value + float(is_norm and name.endswith("weight"))
        elif not name.endswith(("alibi_scale", "extra_tokens")):
            value /= np.prod(shape[1:]) ** 0.5
        found[name] = torch.from_numpy(value.astype(np.float32))
    return found


def sound(samples: int = 9000) -> np.ndarray:
    return (0.1 * np.random.default_rng(12).standard_normal(samples) + 0.02).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint out of a file in the published form."""
    folder = tmp_path_factory.mktemp("emotion2vec")
    torch.save({"model": drawn(manifest(**TOY))}, folder / "model.pt")
    convert(folder / "model.pt", "someone/emotion2vec", folder)
    (folder / "model.pt").unlink()
    return folder


def encoder(folder: Path, **options) -> Emotion2vec:
    return Emotion2vec(Settings(checkpoint=folder, device="cpu", **options))


def test_frames_are_those_of_the_authors_code(folder):
    recorded = load_file(FIXTURES / "emotion2vec_toy.safetensors")
    (found,) = encoder(folder).encode([Sound(sound(), 16000)])
    assert found.sequence.shape == recorded["frames"].shape == (27, 48)
    np.testing.assert_allclose(found.sequence, recorded["frames"], atol=2e-5)
    np.testing.assert_allclose(found.pooled, recorded["frames"].mean(0), atol=2e-5)


def test_a_sound_does_not_depend_on_the_others(folder):
    sounds = [Sound(sound(n), 16000) for n in (9000, 5200, 9000, 399)]
    together = encoder(folder, layer=(0, 2)).encode(sounds)
    assert together[0].sequence.shape == (27, 96)
    for one, beside in zip(sounds[:3], together, strict=False):
        (alone,) = encoder(folder, layer=(0, 2)).encode([one])
        np.testing.assert_array_equal(alone.pooled, beside.pooled)
    assert (together[3].pooled, together[3].reason) == (None, "too_short")


def test_half_precision_is_near(folder):
    whole, half = (
        encoder(folder, dtype=dtype).encode([Sound(sound(), 16000)])[0].pooled
        for dtype in ("float32", "bfloat16")
    )
    assert np.linalg.norm(half - whole) < 0.02 * np.linalg.norm(whole)


def test_the_published_large_network_is_this_one():
    shapes = manifest(**LARGE)
    assert len(shapes) == 185  # with the classifier
    with torch.device("meta"):
        published = {f"model/{name}": torch.empty(shape) for name, shape in shapes.items()}
        found = from_published(published)
        network = Emotion2vecNetwork(
            width=1024, heads=16, blocks=8, context=4, tokens=10, channels=512, kernels=KERNELS,
            positions=(19,) * 5, groups=16,
        )  # fmt: skip
    own = network.state_dict()
    assert len(found) == 183
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in own.items()}


def test_it_is_fetched_from_a_hub_as_its_authors_keep_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    repository = tmp_path / "repository"
    repository.mkdir()
    torch.save({"model": drawn(manifest(**TOY))}, repository / "model.pt")
    (repository / "configuration.json").write_text("{}")
    (repository / "config.yaml").write_text("model: Emotion2vec\n")
    digest = hash_file(repository / "model.pt")
    write_hub_cache(tmp_path / "hub", repository)
    folder = fetch(NAME, COMMIT, tmp_path)
    assert set(read_record(folder)) == {"model.safetensors", "config.json", "configuration.json"}
    assert digest in (folder / ".affectloom.json").read_text()
    found = find_weights(NAME, COMMIT, tmp_path)
    assert "ravdess" in found.trained_on
    assert encoder(folder).pooled_dim == 48


def test_half_a_network_and_another_one_are_refused(tmp_path, folder):
    state = drawn(manifest(**TOY))
    del state["d2v_model.blocks.1.mlp.fc2.bias"]
    torch.save({"model": state}, tmp_path / "model.pt")
    with pytest.raises(
        UserError, match=r"no whole emotion2vec: it lacks blocks\.1\.mlp\.fc2\.bias"
    ):
        convert(tmp_path / "model.pt", "someone/emotion2vec", tmp_path)
    with pytest.raises(UserError, match="holds no emotion2vec"):
        encoder(tmp_path)
