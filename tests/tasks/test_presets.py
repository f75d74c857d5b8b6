"""The presets in ``params/`` are right as they stand: keys, families, commits."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from flows.cli.data import is_local
from models.batch import MODALITIES, Target
from models.encoders.records import FILES, is_pinned
from models.encoders.wheels import folder_name, is_wheel
from models.method import Method, Spec
from models.methods.cage.method import Cage
from models.methods.huo_ge_vad.method import HuoGeVad
from tasks.corpora.adapters.emotic import LABELS
from tasks.faces.whole import WholeClip
from tasks.faces.windows import ClipRequest, Window
from tasks.features.families import families
from tasks.media.decoding import Media, Span
from tasks.params.model import Params
from tasks.params.recipes import build, resolve
from tasks.selection import encoders_of, read_by
from tasks.stages import STAGES
from tasks.targets import VAD
from tests.places import ROOT

FOLDER = ROOT / "params"
#: No preset to copy from: it is the whole params.yaml of a project of its own.
STARTER = FOLDER / "starter.yaml"
EVERY = sorted(file for file in FOLDER.glob("*.yaml") if file != STARTER)
PRESETS = [preset for preset in EVERY if "encoders" in yaml.safe_load(preset.read_text())]
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


#: Whose commit is known to nobody here; the entry says that ``affectloom fetch --pin`` writes it.
UNKNOWN = {"vad_vox"}


@pytest.mark.parametrize(("preset", "name"), ENTRIES)
def test_every_encoder_of_a_preset_is_known_and_pinned(preset, name):
    raw = yaml.safe_load(preset.read_text())
    if raw["encoders"][name]["family"] not in families():
        pytest.skip(f"family {raw['encoders'][name]['family']} is not built")
    entry = Params(raw).encoder(name)
    if is_wheel(entry.checkpoint):
        folder_name(entry.checkpoint, entry.sha256)  # raises where it is not pinned
    elif entry.checkpoint and entry.checkpoint not in FILES and not is_local(entry.checkpoint):
        assert is_pinned(entry.revision) != (name in UNKNOWN)


def test_the_preset_of_emi_gives_it_frames_and_a_teacher():
    params = Params(yaml.safe_load((FOLDER / "emi.yaml").read_text()))
    params.check_everything()
    inputs = params.inputs("hume_vidmimic", "emi")
    teacher = params.encoder(inputs["vad_teacher"])
    voice = params.encoder(inputs["audio"])
    assert teacher.family == "audio_vad"
    assert (voice.family, voice.cut_s, teacher.cut_s) == ("hf_audio", 12.0, 12.0)
    recipe = resolve("emi", params.method("emi"))
    assert recipe.notes(inputs, {}) == []
    assert recipe.max_frames >= 12 * 50  # nothing is thinned


def whole(preset: Path) -> Params:
    """What params.yaml is once all of a preset has been copied into it."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, entries in yaml.safe_load(preset.read_text()).items():
        raw[section] = (raw.get(section) or {}) | entries
    return Params(raw)


@pytest.mark.parametrize("preset", EVERY, ids=lambda path: path.stem)
def test_every_entry_of_a_preset_is_right(preset):
    params = whole(preset)
    for name in set(params.raw["encoders"]):
        if params.raw["encoders"][name]["family"] not in families():
            del params.raw["encoders"][name]
    params.check_everything()
    trained = STAGES["train"].instances_of(params.raw)
    for name, entry in yaml.safe_load(preset.read_text()).get("methods", {}).items():
        for corpus in entry.get("corpora", ["sample"]):
            assert {"corpus": corpus, "method": name} in trained


TARGETS = {
    "category": Target("category", "category", ("angry", "happy", "neutral", "sad")),
    "categories": Target("categories", "labels", LABELS),
    "sentiment": Target("sentiment", "values", ("sentiment",)),
    "emi": Target("emi", "values", ("joy", "awe")),
}
VALUES = {"affectnet": VAD[:2], "affectnet7": VAD[:2]}
CLASSES = {"affectnet": 8, "affectnet7": 7, "fer2013": 7}
METHODS = [
    pytest.param(preset, name, corpus, id=f"{preset.stem}-{name}-{corpus}")
    for preset in EVERY
    for name, entry in yaml.safe_load(preset.read_text()).get("methods", {}).items()
    for corpus in entry.get("corpora", ["sample"])
]


def built(preset: Path, name: str, corpus: str) -> list[Method]:
    """The networks of an entry, without weights, for the targets of a corpus."""
    entry = whole(preset).method(name)
    recipe = resolve(name, {key: value for key, value in entry.items() if key != "search"})
    classes = tuple(f"class {number}" for number in range(CLASSES.get(corpus, 4)))
    known = TARGETS | {
        "category": Target("category", "category", classes),
        "vad": Target("vad", "values", tuple(VALUES.get(corpus, VAD))),
    }
    targets = [recipe.narrowed(known[word]) for word in recipe.targets or known]
    dims = {"audio": 5, "video": 7, "text": 6}
    dims = {name: width for name, width in dims.items() if name in (recipe.modalities or dims)}
    with torch.device("meta"):
        return [
            build(recipe, Spec(dims, group, 2, dims))
            for group in recipe.target_groups(targets, None, corpus)
        ]


@pytest.mark.parametrize(("preset", "name", "corpus"), METHODS)
def test_every_method_of_a_preset_can_be_built(preset, name, corpus):
    networks = built(preset, name, corpus)
    assert networks
    if name != "constant":
        assert all(list(network.parameters()) for network in networks)


FACES = FOLDER / "faces.yaml"


@pytest.mark.parametrize(("name", "corpus", "count"), [
    ("cage_discrete", "affectnet", 30_411_720),
    ("cage_discrete_code", "affectnet7", 30_411_208),
    ("cage_combined", "affectnet", 30_412_744),
    ("cage_combined_code7", "affectnet7", 30_412_232),
    ("cage_va", "affectnet", 30_408_648),
    ("cage_emotic", "emotic", 30_422_472),
    ("cage_emotic_code", "emotic", 30_422_472),
    ("cage_discrete_effnet", "affectnet7", 20_186_455),
    ("cage_combined_effnet_code", "affectnet", 20_190_298),
    ("cage_discrete_lite0", "affectnet", 3_381_256),
    ("cage_va_effnet", "affectnet7", 20_180_050),
    ("huo_ge_vadc", "fer2013", 44_680_458),
    ("huo_ge_vc_plain_code", "fer2013", 22_341_768),
])  # fmt: skip
def test_presets_of_faces_are_networks_of_the_published_size(name, corpus, count):
    (network,) = built(FACES, name, corpus)
    assert sum(p.numel() for p in network.parameters()) == count


def test_presets_of_faces_differ_by_paper_and_code_as_the_specification_says():
    params = whole(FACES)
    own = yaml.safe_load(FACES.read_text())["methods"]
    found = {name: resolve(name, params.method(name)) for name in own}
    for name, recipe in found.items():
        train, config = recipe.train, recipe.config
        if recipe.method is Cage:
            is_code, is_script = "_code" in name, name == "cage_emotic_code"
            rate = 4e-5 if is_code and not is_script else 5e-5
            assert (train.lr, train.batch_size) == (rate, 32 if is_script else 128), name
            assert (train.t_max == "code" or train.scheduler == "none") == is_code, name
            assert train.precision == "auto", name
            epochs = {"cage_combined_code7": 25, "cage_emotic_code": 30}.get(name, 20)
            assert train.epochs == epochs, name
            usual = "tensorflow" if name.endswith("_lite0") else "imagenet"
            assert (config.standard, config.pos_weight) == (
                ("code_emotic", "neg_over_pos") if is_script else (usual, "inverse")
            ), name
            assert config.balanced == (config.variant == "valence_arousal"), name
            if config.variant == "valence_arousal":
                start = found[recipe.init_from]
                assert (start.config.variant, start.config.backbone) == (
                    "combined",
                    config.backbone,
                )
        if recipe.method is HuoGeVad:
            assert (train.lr, train.batch_size, train.epochs) == (0.01, 16, 120), name
            is_code = name.endswith("_code")
            assert (train.step_unit == "epochs") == is_code, name
            assert (config.pool == "code_4x4") == is_code, name
            # the code's term has no gradient, and without it nothing is added
            has_effect = config.consistency_weight > 0 and not config.detach_vad
            assert has_effect == (not is_code and "_plain" not in name), name
    huo = [name for name, recipe in found.items() if recipe.method is HuoGeVad]
    assert len(huo) == 16
    assert {found[name].config.dims for name in huo} == {"vad", "v", "a", "d"}


@pytest.mark.parametrize(("corpus", "side"), [
    ("affectnet", (224, 224)), ("affectnet7", (224, 224)), ("fer2013", (48, 48)),
    ("emotic", (448, 150)),
])  # fmt: skip
def test_presets_of_faces_keep_every_pixel_of_a_crop(corpus, side):
    faces = whole(FACES).section("faces", corpus)
    splits = whole(FACES).section("splits", corpus)
    assert splits.protocol == "published"
    assert "affectnet" not in corpus or splits.validation_fraction == 0.05
    pixels = np.random.default_rng(0).integers(0, 256, (*side, 3), np.uint8)
    clip = WholeClip(ClipRequest("a", Span("a.png")), Media("image", "png", has_video=True), faces)
    window = Window(pixels[None], np.zeros(1), np.zeros(0, np.float32), 0.0, True, ())
    clip.add(window)
    (row,) = clip.rows()
    stored = cv2.imdecode(np.frombuffer(row["crop"], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert faces.detect == "whole"
    np.testing.assert_array_equal(stored, pixels)


def test_hidden_test_labels_leave_the_validation_part_to_test_on():
    """Rows that chose an epoch are never tested, so what chooses is cut from training."""
    corpora = {file: yaml.safe_load(file.read_text()).get("corpora") or {} for file in EVERY}
    hume = [file for file, named in corpora.items() if "hume_vidmimic" in named]
    assert [file.stem for file in hume] == ["emi"]
    splits = whole(hume[0]).section("splits", "hume_vidmimic")
    assert (splits.protocol, splits.test_part) == ("published", "validation")
    assert splits.validation_fraction > 0


NINE = (
    "corect", "multidag_cl", "mi_cga", "ada2i", "spcl", "cage", "huo_ge_vad", "emi", "haemsa",
)  # fmt: skip


def test_the_default_graph_trains_the_nine_beside_baselines():
    params = Params(yaml.safe_load((ROOT / "params.yaml").read_text()))
    trained = {ids["method"] for ids in STAGES["train"].instances_of(params.raw)}
    single = {f"linear_{modality}" for modality in MODALITIES}
    fused = {"constant", "linear", "early_fusion", "late_fusion", "dialogue_gcn"}
    assert {*NINE, *single, *fused} <= trained
    assert not trained & set(yaml.safe_load((FOLDER / "methods.yaml").read_text())["methods"])


def test_every_encoder_of_the_default_graph_is_read_and_keeps_frames_where_they_are():
    params = Params(yaml.safe_load((ROOT / "params.yaml").read_text()))
    raw = params.raw
    assert encoders_of(raw, "sample") == list(raw["encoders"])
    for name in ("emi", "haemsa"):
        for encoders in read_by(raw, "sample", name).values():
            assert all(params.encoder(encoder).sequence for encoder in encoders), name


def test_the_parameters_of_the_starter_model_are_right_as_a_project():
    params = Params(yaml.safe_load(STARTER.read_text()))
    params.check_everything()
    trained = STAGES["train"].instances_of(params.raw)
    assert trained == [
        {"corpus": "emobank", "method": "words"},
        {"corpus": "fer2013", "method": "faces"},
    ]
    usual = yaml.safe_load((ROOT / "params.yaml").read_text())["encoders"]
    for name, entry in params.raw["encoders"].items():  # weights that every project fetches anyway
        assert {"checkpoint": usual[name]["checkpoint"]}.items() <= entry.items()
