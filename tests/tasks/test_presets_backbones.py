"""params/backbones.yaml says what the backbones declare as published."""

import pytest
import yaml

from models.method import find_method
from models.plugin import backbone_names
from tasks.params.recipes import resolve
from tests.places import ROOT

ENTRIES = yaml.safe_load((ROOT / "params/backbones.yaml").read_text())["methods"]
DECLARED = {
    f"{name}_{corpus}": (name, corpus, settings)
    for name in backbone_names()
    for form in find_method(name).variants.values()
    for corpus, settings in form.presets.items()
}


def test_every_declared_preset_is_an_entry():
    assert set(ENTRIES) == set(DECLARED)


@pytest.mark.parametrize("entry", DECLARED)
def test_an_entry_has_the_published_settings_and_no_others(entry):
    name, corpus, settings = DECLARED[entry]
    found = dict(ENTRIES[entry])
    assert found.pop("method") == name
    assert found.pop("corpora") == [corpus]
    assert found.pop("targets") == ["category"]
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()} == dict(settings)


@pytest.mark.parametrize("entry", DECLARED)
def test_published_training_neither_clips_nor_spares_vectors(entry):
    train = resolve(entry, ENTRIES[entry]).train
    assert (train.optimizer, train.clip_norm, train.decay_vectors) == ("adam", 0.0, True)
    assert train.patience == 0


def test_iemocap_is_class_weighted_and_meld_is_not():
    weighs = {name for name in ENTRIES if resolve(name, ENTRIES[name]).config.class_weights}
    methods = ("dialogue_rnn", "dialogue_gcn", "mmgcn", "mm_dfn", "biddin")
    assert weighs == {f"{name}_iemocap" for name in methods}
