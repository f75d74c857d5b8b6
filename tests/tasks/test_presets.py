"""The presets in ``params/`` are right as they stand: keys, families, commits."""

from pathlib import Path

import pytest
import yaml

from models.encoders.weights import FILES, is_pinned
from tasks.encoder_families import families
from tasks.methods import resolve
from tasks.params import Params

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "params"
PRESETS = [
    preset
    for preset in sorted(FOLDER.glob("*.yaml"))
    if "encoders" in yaml.safe_load(preset.read_text())
]
ENTRIES = [
    pytest.param(preset, name, id=f"{preset.stem}-{name}")
    for preset in PRESETS
    for name in yaml.safe_load(preset.read_text())["encoders"]
]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_names_its_inputs(preset):
    params = Params(yaml.safe_load(preset.read_text()))
    assert set(params.raw["inputs"]) >= {"audio", "video", "text"}


@pytest.mark.parametrize("file", [ROOT / "params.yaml", *PRESETS], ids=lambda path: path.stem)
def test_the_inputs_of_a_preset_keep_their_frames(file):
    params = Params(yaml.safe_load(file.read_text()))
    inputs = params.raw["inputs"]
    assert [params.encoder(inputs[modality]).sequence for modality in ("audio", "video")] == [
        True
    ] * 2


@pytest.mark.parametrize(("preset", "name"), ENTRIES)
def test_every_encoder_of_a_preset_is_known_and_pinned(preset, name):
    raw = yaml.safe_load(preset.read_text())
    if raw["encoders"][name]["family"] not in families():
        pytest.skip(f"family {raw['encoders'][name]['family']} is not built")
    entry = Params(raw).encoder(name)
    if entry.checkpoint and entry.checkpoint not in FILES:
        assert is_pinned(entry.revision)


def test_the_preset_of_methods_has_the_nine_and_they_can_be_built_from_params():
    methods = yaml.safe_load((FOLDER / "methods.yaml").read_text())["methods"]
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    params = Params(raw | {"methods": methods})
    nine = [
        "corect",
        "multidag_cl",
        "mi_cga",
        "ada2i",
        "spcl",
        "cage",
        "huo_ge_vad",
        "emi",
        "haemsa",
    ]
    assert set(nine) <= set(methods)
    for name in methods:
        params.search(name)  # checks it
        resolve(name, {k: v for k, v in params.method(name).items() if k != "search"})
