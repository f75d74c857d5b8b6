import pytest

from models.batch import Target
from models.errors import UserError
from tasks.params.recipes import resolve

CATEGORY = Target("category", "category", ("a", "b"))
VAD_TARGET = Target("vad", "values", ("valence", "arousal", "dominance"))
INPUTS = {"audio": "ears", "video": "eyes", "text": "words"}


def groups(found, entry, wanted=None, method="early_fusion"):
    return resolve(method, entry).target_groups(found, wanted, "tiny")


def test_an_entry_overrides_the_recipe_which_overrides_the_defaults():
    recipe = resolve("linear", {"epochs": 7, "dropout": 0.5})
    assert (recipe.train.epochs, recipe.config.dropout) == (7, 0.5)
    assert recipe.train.weight_decay == 0.1  # of the method
    assert recipe.train.clip_norm == 5.0  # of the trainer


BIDDIN = {"backbone": "biddin", "plugin": "none"}


@pytest.mark.parametrize(("entry", "same"), [
    ({"method": "biddin", "variant": "spcl"}, BIDDIN),
    ({"method": "spcl", "backbone": "biddin"}, {**BIDDIN, "plugin": "spcl"}),
    ({**BIDDIN, "variant": "original"}, {"method": "biddin"}),
    ({"method": "mmgcn", "variant": "spcl"}, {"backbone": "mmgcn", "plugin": "none"}),
    ({"backbone": "mmgcn", "plugin": "ogm_ge", "variant": "original"}, {"method": "mmgcn"}),
], ids=str)  # fmt: skip
def test_a_chosen_variant_brings_its_recipe(entry, same):
    found, wanted = resolve("mine", entry).train, resolve("mine", same).train
    assert found == wanted


def test_a_variant_of_biddin_trains_as_published():
    train = resolve("biddin", {"variant": "spcl"}).train
    assert (train.lr, train.weight_decay, train.batch_size, train.clip_norm) == (4e-4, 1e-8, 32, 2)
    assert resolve("biddin", {"variant": "spcl", "lr": 1e-3}).train.lr == 1e-3


@pytest.mark.parametrize("entry", [
    {"method": "cage"}, {"method": "corect"}, {"method": "mmgcn", "class_weights": True},
    {"backbone": "mmgcn", "plugin": "ogm_ge"}, {"method": "ridge"},
], ids=str)  # fmt: skip
def test_soft_labels_are_refused_where_they_have_no_effect(entry):
    with pytest.raises(UserError, match=r"mine\.soft_labels has no effect"):
        resolve("mine", {**entry, "soft_labels": True})
    resolve("mine", {"method": "mmgcn", "soft_labels": True})


def test_an_entry_may_carry_a_name_of_its_own():
    assert resolve("linear_slow", {"method": "linear"}).method is resolve("linear", {}).method


@pytest.mark.parametrize(("entry", "sentence"), [
    ({"epoch": 3}, "methods.linear has no option 'epoch'; did you mean 'epochs'?"),
    ({"dropuot": 0.1}, "methods.linear has no option 'dropuot'; did you mean 'dropout'?"),
    ({"modality": ["text"]}, "methods.linear has no option 'modality'; did you mean"),
    ({"modalities": ["vidoe"]}, "methods.linear.modalities has 'vidoe'; did you mean 'video'?"),
    ({"method": "lineer"}, "there is no method 'lineer'; did you mean 'linear'?"),
    ({"backbone": "bc_lstm", "plugin": "ogm_g"}, "no plug-in 'ogm_g'; did you mean 'ogm_ge'?"),
    ({"backbone": "linear", "plugin": "ogm_ge"}, "method 'linear' is no backbone"),
    ({"optimizer": "adm"}, "methods.linear.optimizer has 'adm'; did you mean 'adam'?"),
    ({"scheduler": "cosin"}, "methods.linear.scheduler has 'cosin'; did you mean 'cosine'?"),
    ({"precision": "fp64"}, "methods.linear.precision has 'fp64'; known: float32, bfloat16, auto"),
    ({"t_max": "cod"}, "methods.linear.t_max has 'cod'; did you mean 'code'?"),
    ({"step_unit": "epoch"}, "methods.linear.step_unit has 'epoch'; did you mean 'epochs'?"),
], ids=str)  # fmt: skip
def test_a_misspelt_word_names_the_nearest(entry, sentence):
    with pytest.raises(UserError) as caught:
        resolve("linear", entry)
    assert sentence in str(caught.value)


def test_a_misspelt_choice_of_the_network_is_an_error():
    with pytest.raises(UserError, match="mask_stage is 'inputs'; use one of input, latent, both"):
        resolve("mi_cga", {"mask_stage": "inputs"})


@pytest.mark.parametrize(("entry", "sentence"), [
    ({"epochs": "5"}, "methods.linear.epochs is '5', expected a int"),
    ({"epochs": True}, "methods.linear.epochs is True"),
    ({"lr": "1e-3"}, "methods.linear.lr is '1e-3', expected a float"),
    ({"drop_last": 1}, "methods.linear.drop_last is 1, expected a bool"),
    ({"modalities": "audio"}, "methods.linear.modalities is 'audio', expected a list"),
    ({"targets": "vad"}, "methods.linear.targets is 'vad', expected a list"),
    ({"targets": [3]}, "methods.linear.targets is [3], expected a list of names"),
    ({"epochs": 0}, "methods.linear.epochs is 0, expected 1 or more"),
    ({"batch_size": 0}, "methods.linear.batch_size is 0, expected 1 or more"),
    ({"step_every": 0}, "methods.linear.step_every is 0, expected 1 or more"),
    ({"step_from": -1}, "methods.linear.step_from is -1, expected 0 or more"),
    ({"lr": -0.1}, "methods.linear.lr is -0.1, expected 0 or more"),
    ({"lr": float("nan")}, "methods.linear.lr is nan"),
    ({"modality_dropout": 1.5}, "modality_dropout is 1.5, expected from 0 to 1"),
], ids=str)  # fmt: skip
def test_a_wrong_type_or_value_is_an_error(entry, sentence):
    with pytest.raises(UserError) as caught:
        resolve("linear", entry)
    assert sentence in str(caught.value)


def test_a_method_reads_the_inputs_that_it_can_use():
    recipe = resolve("linear", {"modalities": ["text", "audio"]})
    assert recipe.inputs(INPUTS) == {"audio": ("ears",), "text": ("words",)}
    with pytest.raises(
        UserError, match="can use audio, text but inputs names encoders for video only; add one"
    ):
        recipe.inputs({"video": "eyes"})


def test_each_target_gets_a_network_of_its_own():
    assert groups((CATEGORY, VAD_TARGET), {}) == [(CATEGORY,), (VAD_TARGET,)]
    assert groups((CATEGORY, VAD_TARGET), {"targets": ["vad"]}) == [(VAD_TARGET,)]
    assert groups((CATEGORY, VAD_TARGET), {}, ["category"]) == [(CATEGORY,)]


def test_a_method_skips_what_it_cannot_predict_unless_asked_for_it():
    assert groups((CATEGORY, VAD_TARGET), {}, method="spcl") == [(CATEGORY,)]
    for found, entry in (((VAD_TARGET,), {}), ((CATEGORY, VAD_TARGET), {"targets": ["vad"]})):
        with pytest.raises(UserError, match=r"methods\.spcl cannot predict vad \(values\)"):
            groups(found, entry, method="spcl")


def test_an_unknown_target_is_an_error_that_lists_those_there_are():
    with pytest.raises(UserError, match=r"no labels for target 'emi'.*it has: category"):
        groups((CATEGORY,), {"targets": ["emi"]})


def test_targets_without_a_common_one_are_an_error():
    with pytest.raises(UserError, match=r"train.targets is category but .* only vad"):
        groups((CATEGORY, VAD_TARGET), {"targets": ["vad"]}, ["category"])


def test_nothing_to_predict_is_an_error():
    with pytest.raises(UserError, match="corpus tiny has nothing to predict"):
        groups((), {})


@pytest.mark.parametrize(("entry", "missing"), [
    ({}, True),
    ({"vad_mode": "anchor"}, True),
    ({"vad_mode": "prior"}, False),
    ({"vad_mode": "none"}, False),
    ({"fusion": "late"}, False),
    ({"modalities": ["video", "text"]}, False),
], ids=str)  # fmt: skip
def test_a_teacher_that_emi_would_learn_from_is_missed(entry, missing):
    recipe = resolve("emi_1", {"method": "emi", **entry})
    sentence = "methods.emi_1 has no vad_teacher to learn from; name an encoder as inputs.vad_teach"
    assert [note.startswith(sentence) for note in recipe.notes(INPUTS, {})] == [True] * missing
    assert not recipe.notes(INPUTS | {"vad_teacher": "ears"}, {})


def test_a_share_that_cannot_be_hidden_is_told():
    recipe = resolve("linear", {"modality_dropout": 0.8})
    (line,) = recipe.notes(INPUTS, {})
    assert line.endswith("modality: of 3 at most a share 0.67 is hidden")
    assert resolve("linear", {"modality_dropout": 0.6}).notes(INPUTS, {}) == []


@pytest.mark.parametrize(("entry", "needed"), [
    ({"plateau_patience": 3}, "scheduler: plateau"),
    ({"plateau_on": "loss", "scheduler": "cosine"}, "scheduler: plateau"),
    ({"step_every": 3}, "scheduler: step"),
    ({"t_max": "code"}, "scheduler: cosine"),
    ({"warmup": 0.1, "scheduler": "cosine", "t_max": "code"}, "scheduler: cosine and t_max"),
    ({"ema_warmup": False}, "ema_decay above 0"),
    ({"hide_rate": "random"}, "modality_dropout or missing_rate above 0"),
    ({"hide_unit": "dialogue"}, "modality_dropout, missing_rate or validation_rate above 0"),
    ({"validation_masks": 2}, "modality_dropout, missing_rate or validation_rate above 0"),
], ids=str)  # fmt: skip
def test_settings_without_effect_are_refused(entry, needed):
    with pytest.raises(UserError, match=f"has no effect without {needed}"):
        resolve("linear", entry).refuse_idle(entry)
    beside = {"scheduler": needed.split(": ")[-1]} if needed.count(": ") == 1 else {}
    beside |= {"ema_decay": 0.9, "modality_dropout": 0.1}
    if "t_max: training" not in needed and "and" not in needed:
        resolve("linear", entry | beside).refuse_idle(entry | beside)
    searched = {"search": {"space": {"scheduler": ["none", "plateau"]}}}
    resolve("linear", entry).refuse_idle(entry | searched)


def test_how_mi_cga_hides_cells_counts_where_it_hides_some():
    entry = {"missing_rate": 0.5, "hide_rate": "random", "hide_unit": "dialogue"}
    resolve("mi_cga", entry).refuse_idle(entry)
    entry["missing_rate"] = 0.0
    with pytest.raises(UserError, match="has no effect without"):
        resolve("mi_cga", entry).refuse_idle(entry)


def test_encoders_for_what_a_method_does_not_read_are_refused():
    entry = {"modalities": ["text"], "inputs": {"text": "words", "video": "eyes"}}
    with pytest.raises(UserError, match=r"linear\.inputs\.video has no effect.*reads text; leave"):
        resolve("linear", entry)
    resolve("emi", {"inputs": {"vad_teacher": "ears"}})
