"""A run that was given away answers as the run; a folder that was tampered with is refused."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from models.errors import UserError
from tasks.layout import Layout
from tasks.predict.engine import Asked, predict
from tasks.predict.leaving.export import export
from tasks.predict.leaving.folder import (
    CALIBRATION,
    CARD,
    CONFIG,
    ENCODERS,
    WEIGHTS,
    KnotsFile,
    read_model,
)
from tasks.predict.leaving.folder_sums import SUMS
from tasks.predict.media import find_media
from tasks.predict.output.writing import write_csv
from tests.places import QUIET
from tests.tasks.predict.leaving.tampering import change, network
from tests.tasks.predict.projects import NAME

VALUES = {"kind": "values", "names": ["a"]}


@pytest.fixture(scope="module")
def exported(project, tmp_path_factory):
    return export(NAME, project.layout, project.params, tmp_path_factory.mktemp("away") / "model")


@pytest.fixture
def folder(exported, tmp_path):
    """A copy to tamper with."""
    return shutil.copytree(exported, tmp_path / "model")


def answer_of(project, model, layout=None):
    media = find_media([str(project.medium(4))], project.root)
    asked = Asked(project.turns(4), "words.srt")
    where = layout or project.layout
    (result,) = predict(media, model, where, lambda what, is_long: QUIET, asked)
    return result.answer


def test_an_exported_run_answers_as_the_run_to_the_bit(project, model, exported):
    assert answer_of(project, read_model(exported)) == answer_of(project, model)


def test_the_card_tells_data_figures_and_encoders(exported):
    card = (exported / CARD).read_text()
    assert "corpus `tiny`" in card
    assert "weighted_f1 " in card
    assert "* bert: hf_text, weights in this folder, `weights/bert`" in card
    assert "4 networks (2 seeds, 1 fold, 2 targets) of the method `linear`" in card


def test_the_card_is_one_that_hubs_read(exported):
    from huggingface_hub import ModelCard

    data = ModelCard.load(exported / CARD).data.to_dict()
    assert (data["library_name"], data["license"]) == ("affectloom", "other")
    assert "Ask before you pass this on" in (exported / CARD).read_text()


def test_the_card_tells_the_terms_of_the_data(project, model):
    from tasks.predict.leaving.card import forbids_passing_on

    assert not forbids_passing_on("generated, Apache-2.0 like the project")
    assert forbids_passing_on("USC's release form: academic use, no redistribution")
    assert forbids_passing_on("")


def test_nothing_in_the_folder_is_of_this_machine(project, exported):
    for file in exported.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(project.root).encode() not in content, file


def test_a_model_answers_where_no_project_is(project, model, exported, tmp_path):
    away = Layout(tmp_path / "cache" / "data", cache=tmp_path / "cache", project=tmp_path)
    moved = shutil.move(shutil.copytree(exported, tmp_path / "a"), tmp_path / "elsewhere")
    answer = answer_of(project, read_model(Path(moved)), away)
    assert answer == answer_of(project, model)
    write_csv(answer, tmp_path / "away.csv")
    write_csv(answer_of(project, model), tmp_path / "home.csv")
    assert (tmp_path / "away.csv").read_bytes() == (tmp_path / "home.csv").read_bytes()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "code.py", ".hidden.json", "more/x.json"])
def test_files_that_weights_do_not_have_are_refused(folder, name):
    file = folder / "weights" / "bert" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"{}")
    with pytest.raises(UserError, match="is nothing that the weights of an encoder have"):
        read_model(folder)


def test_links_that_lead_out_are_refused(folder, project):
    file = folder / "weights" / "bert" / "config.json"
    file.unlink()
    file.symlink_to(project.layout.checkpoint("bert") / "config.json")
    with pytest.raises(UserError, match="is nothing that the weights of an encoder have"):
        read_model(folder)


def test_swapped_weights_of_an_encoder_are_refused_before_they_are_read(folder):
    bert, vit = (folder / "weights" / name / "model.safetensors" for name in ("bert", "vit"))
    bert.write_bytes(vit.read_bytes())
    with pytest.raises(UserError, match="holds other weights than the networks learnt from"):
        read_model(folder)
    shutil.rmtree(bert.parent)
    with pytest.raises(UserError, match="the weights of bert are not there"):
        read_model(folder)


def test_only_known_networks_that_listen_are_named(folder):
    wheel = {"checkpoint": "wheel:a==1/b", "sha256": "0" * 64}
    change(folder / ENCODERS, listening={"evil": wheel})
    with pytest.raises(UserError, match=r"listening"):
        read_model(folder)


def test_parts_are_put_side_by_side(project, exported, tmp_path):
    for name, target in (("one", "category"), ("two", "vad")):
        part = shutil.copytree(exported, tmp_path / "model" / "parts" / name)
        for file in list(part.glob(f"seed*/**/{CONFIG}")):
            if json.loads(file.read_text())["targets"][0]["name"] != target:
                shutil.rmtree(file.parent)
    both = read_model(tmp_path / "model")
    assert both.told == "model: folder model (4 networks in 2 parts)"
    found = answer_of(project, both)
    assert found == answer_of(project, read_model(exported))


def test_a_folder_in_use_is_not_written_over(project, exported):
    with pytest.raises(UserError, match="is in use"):
        export(NAME, project.layout, project.params, exported)
    with pytest.raises(UserError, match="there is no such trained run"):
        export("tiny/none", project.layout, project.params, exported)


def test_a_pickle_in_the_clothes_of_safetensors_is_refused(folder):
    torch.save({"weight": torch.zeros(1)}, network(folder) / WEIGHTS)
    with pytest.raises(UserError, match="is no file of safetensors"):
        read_model(folder)


def test_weights_of_another_shape_are_refused(folder):
    file = network(folder) / WEIGHTS
    tensors = load_file(file)
    name = max(tensors, key=lambda one: tensors[one].numel())
    save_file({**tensors, name: torch.zeros(3)}, file)
    with pytest.raises(UserError, match=r"does not fit its config.json: .*size mismatch"):
        read_model(folder)


def test_absent_weights_are_refused(folder):
    (network(folder) / WEIGHTS).unlink()
    with pytest.raises(UserError, match="is no file of safetensors"):
        read_model(folder)


@pytest.mark.parametrize("at", [-1, -200])
def test_a_bit_that_turned_round_in_weights_is_noticed(folder, at):
    file = network(folder) / WEIGHTS
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors is not as its maker wrote it"):
        read_model(folder)
    (folder / SUMS).unlink()
    read_model(folder)  # as models of before the checksums


@pytest.mark.parametrize("line", ["x", "0" * 64 + "  /etc/passwd", "0" * 64 + "  ../x", "\xff"])
def test_what_is_no_checksum_is_told_with_its_line(folder, line):
    with (folder / SUMS).open("a", encoding="latin-1") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"sha256.txt line \d+ is no checksum"):
        read_model(folder)


def test_the_checksums_are_those_of_sha256sum(folder):
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=True)


@pytest.mark.parametrize(
    ("place", "changes", "expected"),
    [
        (CONFIG, {"surprise": 1}, "surprise: extra inputs"),
        (CONFIG, {"method": "../../evil"}, "is no name"),
        (CONFIG, {"method": "evil"}, "there is no method 'evil'"),
        (CONFIG, {"targets": []}, "targets: "),
        (CONFIG, {"inputs": {"audio": "other"}}, "its inputs are not those"),
        (CONFIG, {"entry": {"hiden": 3}}, "hiden"),
        (ENCODERS, {"format": 2}, "format: "),
        (ENCODERS, {"surprise": 1}, "surprise: extra inputs"),
        (ENCODERS, {"weights_sha256": {}}, "is no SHA-256"),
        (ENCODERS, {"encoders": {}}, "no key of encoders"),
        (ENCODERS, {"encoders": {"bert": {"family": "evil"}}}, "family"),
        (
            ENCODERS,
            {"encoders": {"bert": {"family": "hf_text", "checkpoint": "/etc"}}},
            "another machine can have",
        ),
        (
            ENCODERS,
            {"encoders": {"bert": {"family": "hf_text", "checkpoint": "data/../../x"}}},
            "another machine can have",
        ),
        (CALIBRATION, {"targets": {"vad": {**VALUES, "temperature": -1}}}, "temperature"),
        (
            CALIBRATION,
            {"targets": {"vad": {**VALUES, "residuals": {"a": {"n": 1, "quantiles": {}}}}}},
            "expected 0.05 and 0.95",
        ),
        (CALIBRATION, {"ranges": {"text": {"mean": [1], "scale": [1], "limit": 1}}}, "as wide as"),
    ],
)
def test_anything_unexpected_is_one_sentence(folder, place, changes, expected):
    change(network(folder) / place if place == CONFIG else folder / place, **changes)
    with pytest.raises(UserError, match=expected) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)


def test_text_that_is_no_json_is_refused(folder):
    (folder / ENCODERS).write_text("{")
    with pytest.raises(UserError, match=r"encoders.json is not as a model has it"):
        read_model(folder)


def test_a_folder_without_networks_is_refused(folder, tmp_path):
    shutil.rmtree(network(folder).parents[0])
    for file in list(folder.glob(f"seed*/**/{CONFIG}")):
        file.unlink()
    with pytest.raises(UserError, match="there is no network in it"):
        read_model(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"there is no encoders.json in it"):
        read_model(tmp_path / "empty")


def test_other_weights_of_an_encoder_are_refused_before_they_answer(project, folder):
    content = json.loads((folder / ENCODERS).read_text())
    change(folder / ENCODERS, weights_sha256={**content["weights_sha256"], "prosody": "0" * 64})
    (folder / SUMS).unlink()
    with pytest.raises(UserError, match="encoder prosody is not the one"):
        answer_of(project, read_model(folder))


@pytest.mark.parametrize(
    ("own", "common", "message"),
    [
        ([0.0, 0.0], [0.0, 1.0], "does not rise"),
        ([0.0, 1.0], [0.0], "not of one length"),
        ([0.0], [0.0], "not of one length"),
        ([0.0, float("nan")], [0.0, 1.0], "does not rise"),
    ],
)
def test_maps_of_parts_that_cannot_be_read_both_ways_are_refused(own, common, message):
    with pytest.raises(ValidationError, match=message):
        KnotsFile(own=own, common=common)
    assert KnotsFile(own=[], common=[]).own == []
