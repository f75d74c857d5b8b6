import copy

import pytest
import yaml

from models.errors import UserError
from tasks.corpora.adapter import check_options
from tasks.labels.params import LabelsParams
from tasks.params.model import OVERRIDABLE, Params, parse
from tasks.stages import STAGES
from tests.places import ROOT

GOOD = yaml.safe_load((ROOT / "params.yaml").read_text())


def changed(path, value, good=GOOD):
    raw = copy.deepcopy(good)
    *folders, last = path.split("/")
    place = raw
    for folder in folders:
        if place.get(folder) is None:
            place[folder] = {}
        place = place[folder]
    place[last] = value
    return raw


def sentence_of(raw):
    with pytest.raises(UserError) as caught:
        Params(raw).check_everything()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_projects_own_file_is_right():
    Params(GOOD).check_everything()


@pytest.mark.parametrize(("path", "value", "sentence"), [
    ("trian", {}, "there is no section 'trian'; did you mean 'train'?"),
    ("train/seed", [1], "there is no key train.seed; did you mean 'seeds'?"),
    ("evaluate/missing_rate", [0.1], "no key evaluate.missing_rate; did you mean 'missing_rates'?"),
    ("splits/protocoll", "x", "no key splits.protocoll; did you mean 'protocol'?"),
    ("faces/rate", 5, "no key faces.rate; did you mean 'rate_hz'?"),
    ("labels/merg", "mean", "no key labels.merg; did you mean 'merge'?"),
    ("corpora/sample/labels", {"merg": "mean"}, "no key corpora.sample.labels.merg; did you mean"),
    ("corpora/sample/lables", {}, "no key corpora.sample.lables; did you mean 'labels'?"),
    ("encoders/prosody/poolling", "mean", "no key encoders.prosody.poolling; did you mean"),
    ("execution/runer", "threads", "no key execution.runer; did you mean 'runner'?"),
    ("inputs/vidoe", "vit_tiny", "inputs names 'vidoe'; did you mean 'video'?"),
    ("inputs/video", "vit_tin", "inputs.video is 'vit_tin', which is no key of encoders; did you"),
    ("corpora/sample/inputs", {"text": "minilmm"}, "corpora.sample.inputs.text is 'minilmm'"),
    ("methods/linear", {"dropuot": 0.1}, "methods.linear has no option 'dropuot'; did you mean"),
    ("methods/lineer", {}, "there is no method 'lineer'; did you mean 'linear'?"),
    ("methods/linear", {"corpora": ["sampel"]}, "methods.linear.corpora names 'sampel'; did you"),
    ("encoders/minilm/corpora", ["sampel"], "encoders.minilm.corpora names 'sampel'; did you mean"),
], ids=str)  # fmt: skip
def test_a_misspelt_word_names_the_nearest(path, value, sentence):
    assert sentence in sentence_of(changed(path, value))


@pytest.mark.parametrize(("path", "value", "sentence"), [
    (1, {}, "there is no section '1'"),
    ("train", 3, "train is 3, expected keys with values"),
    ("methods", ["linear"], "methods is ['linear'], expected keys"),
    ("methods/linear", 5, "methods.linear is 5, expected keys"),
    ("encoders/prosody", "x", "encoders.prosody is 'x', expected keys"),
    ("corpora/sample/faces", 5, "corpora.sample.faces is 5, expected keys"),
    ("methods/linear", {"corpora": "sample"}, "corpora is 'sample', expected a list of corpora"),
    ("inputs/video", ["fer", "vit_tin"], "inputs.video is 'vit_tin', which is no key"),
    ("inputs/video", ["fer", "fer"], "inputs.video names an encoder twice; leave one out"),
    ("inputs/video", [], "inputs.video is [], expected an encoder or a list of them"),
    ("inputs/audio", [["prosody"]], "inputs.audio is [['prosody']], expected an encoder or a list"),
    ("inputs/text", [{"minilm": 1}], "expected an encoder or a list of them"),
    ("inputs/vad_teacher", ["fer", "prosody"], "is a list, but vad_teacher comes from one"),
    ("methods/linear", {"inputs": {"video": "ferr"}}, "linear.inputs.video is 'ferr', which is"),
    ("methods/linear", {"inputs": "fer"}, "methods.linear.inputs is 'fer', expected keys"),
    ("methods/cage", {"inputs": {"audio": "prosody"}}, "inputs.audio has no effect: the method"),
    ("inputs/1", "prosody", "inputs names '1'"),
    ("inputs/video", 3, "inputs.video is 3, expected an encoder or a list of them"),
    ("train/seeds", "x", "train.seeds is 'x'"),
    ("train/seeds", [0, 0], "train.seeds: [0, 0] names a seed twice"),
    ("train/seeds", [-1], "train.seeds.0 is -1"),
    ("evaluate/missing_rates", [0.1, 1.5], "evaluate.missing_rates.1 is 1.5"),
    ("evaluate/mask_seed", -1, "evaluate.mask_seed is -1"),
    ("execution/runner", "thread", "execution.runner is 'thread'"),
    ("execution/workers", -1, "execution.workers is -1"),
    ("methods/linear", {"lr": "1e-3"}, "methods.linear.lr is '1e-3', expected a float"),
], ids=str)  # fmt: skip
def test_a_wrong_type_or_value_is_an_error(path, value, sentence):
    raw = {**GOOD, path: value} if isinstance(path, int) else changed(path, value)
    assert sentence in sentence_of(raw)


@pytest.mark.parametrize(("ask", "sentence"), [
    (lambda p: p.corpus("sampel"), "corpora has no entry 'sampel'; did you mean 'sample'?"),
    (lambda p: p.encoder("minil"), "encoders has no entry 'minil'; did you mean 'minilm'?"),
    (lambda p: p.method("lineer"), "methods has no entry 'lineer'; did you mean 'linear'?"),
])  # fmt: skip
def test_asking_for_an_unknown_entry_names_the_nearest(ask, sentence):
    with pytest.raises(UserError) as caught:
        ask(Params(GOOD))
    assert sentence in str(caught.value)


def test_a_corpus_overrides_single_keys_of_a_section():
    params = Params(changed("corpora/sample/faces", {"rate_hz": 9.0}))
    assert params.section("faces", "sample").rate_hz == 9.0
    assert params.section("faces").rate_hz == GOOD["faces"]["rate_hz"]
    assert params.section("faces", "sample").crop_px == GOOD["faces"]["crop_px"]


def test_an_empty_entry_means_all_defaults():
    raw = changed("methods/linear", None)
    assert Params(raw).method("linear") == {}
    assert Params(changed("train", None)).section("train").seeds == [0, 1, 2]


def test_what_a_corpus_may_override_is_a_section_or_the_inputs():
    assert all(STAGES[name].model for name in set(OVERRIDABLE) - {"inputs"})


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        (
            5,
            "labels.scales.valence is 5: input should be a valid string, or input should have keys",
        ),
        ({"min": 1, "mxa": 9}, "no key labels.scales.valence.mxa; did you mean 'max'?"),
        ({"min": 1}, "labels.scales.valence.max is missing"),
    ],
)
def test_a_value_of_several_kinds_is_told_without_the_names_of_the_kinds(scale, told):
    with pytest.raises(UserError) as caught:
        parse(LabelsParams, {"scales": {"valence": scale}}, "labels")
    assert told in str(caught.value)


@pytest.mark.parametrize(("path", "value", "sentence"), [
    ("inputs/video", "prosody", "inputs.video is 'prosody', which reads audio; write it under aud"),
    ("methods/gru", {"inputs": {"text": "prosody"}}, "methods.gru.inputs.text is 'prosody', which"),
    ("corpora/sample", {"adapter": "sampel"}, "no adapter is called 'sampel'; known adapters: aff"),
    ("corpora/sample", {"options": {"x": 1}}, "the adapter sample has no option 'x'"),
    ("corpora/mine", {"adapter": "table"}, "options of adapter table: file: Field required"),
    ("corpora/c", {"adapter": "crema_d", "options": {"media": "x"}}, "option media of adapter cre"),
    ("corpora/m", {"adapter": "meld", "options": {"medai": 1}}, "no option 'medai'; did you mean"),
    ("methods/gru", {"dropout": 1.5}, "methods.gru.dropout is 1.5, expected 0 or more and below 1"),
    ("methods/gru", {"dropout": -0.1}, "methods.gru.dropout is -0.1, expected 0 or more"),
    ("methods/gru", {"hidden": 0}, "methods.gru.hidden is 0, expected 1 or more"),
    ("methods/gru", {"targets": ["valense"]}, "methods.gru.targets names 'valense'; known: catego"),
    ("train/targets", ["sentimnt"], "train.targets names 'sentimnt'; did you mean 'sentiment'?"),
    ("splits/stratify", "categry", "splits.stratify is 'categry'; did you mean 'category'?"),
    ("corpora/sample", {"splits": {"stratify": "x"}}, "corpora.sample.splits.stratify is 'x'"),
    ("encoders/minilm/checkpoint", "data/raw/no.pt", "minilm: checkpoint 'data/raw/no.pt'"),
    ("methods/spcl", {"backbone": "spcl"}, "method 'spcl' is no backbone"),
    ("methods/x", {"backbone": "x"}, "there is no method 'x'"),
    ("encoders/prosody/family", "e" * 300, "known families: audio_vad"),
    ("encoders/minilm/checkpoint", "./" + "e" * 300, "minilm: checkpoint './eee"),
], ids=str)  # fmt: skip
def test_what_cannot_work_is_said_before_anything_runs(path, value, sentence):
    assert sentence in sentence_of(changed(path, value))


def test_an_encoder_that_is_kept_from_a_corpus_is_no_unknown_one():
    raw = changed("encoders/minilm/corpora", ["other"])
    raw["corpora"]["other"] = {"adapter": "sample"}
    told = "reads text of corpus sample with 'minilm', but encoders.minilm.corpora leaves sample"
    assert told in sentence_of(raw)
    raw["corpora"]["sample"] = {**(raw["corpora"]["sample"] or {}), "inputs": {"text": "minilm"}}
    told = "corpora.sample.inputs.text is 'minilm', but encoders.minilm.corpora leaves sample out"
    assert told in sentence_of(raw)
    raw["corpora"]["sample"]["inputs"] = {"audio": "prosody"}
    raw["methods"] = {"linear": {}}
    Params(raw).check_everything()


@pytest.mark.parametrize("section", ["corpora", "encoders", "methods"])
@pytest.mark.parametrize(
    "name", [5, True, None, 1.5, "5", "true", "2020-01-01", "a/../../x", "a b", "", "-x", "e" * 101]
)
def test_a_name_that_can_be_no_folder_is_refused(section, name):
    raw = copy.deepcopy(GOOD)
    raw[section][name] = {}
    assert f"params.yaml: {section} has the name" in sentence_of(raw)


def test_every_adapter_says_what_it_may_be_told():
    for file in sorted((ROOT / "tasks/corpora/adapters").glob("[a-z]*.py")):
        with pytest.raises(UserError, match=f"adapter {file.stem}"):
            check_options(file.stem, {"no_such_option": 1})


@pytest.mark.parametrize(("key", "path"), [("file", "file"), ("labels.file", "labels/file")])
def test_a_table_that_is_not_there_is_named_before_dvc_looks_for_it(
    tmp_path, monkeypatch, key, path
):
    monkeypatch.chdir(tmp_path)
    labels = {"target": "what", "value": "says", "file": "votes.csv"}
    table = {"file": "clips.csv", "columns": {"utterance": "id"}, "labels": labels}
    entry = {"adapter": "table", "options": table}
    raw = {"corpora": {"mine": entry}, "execution": {}}
    Params(raw).check_everything()  # the folder itself may be brought by a pull
    folder = tmp_path / "data/raw/mine"
    folder.mkdir(parents=True)
    for name in ("clips.csv", "votes.csv"):
        (folder / name).write_text("id\n")
    Params(raw).check_everything()
    wrong = changed(f"corpora/mine/options/{path}", "vote.cvs", raw)
    sentence = f"corpora.mine.options.{key} is 'vote.cvs', but data/raw/mine has no such file; did"
    assert f"{sentence} you mean 'votes.csv'?" in sentence_of(wrong)
    wrong = changed(f"corpora/mine/options/{path}", "x", raw)
    assert "file; put it there, or correct the name" in sentence_of(wrong)
    (folder / "x.dvc").write_text("outs: []\n")
    Params(wrong).check_everything()
