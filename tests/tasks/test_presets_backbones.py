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

#: Entry to learning rate, weight decay, batch and epochs of the scripts.
PUBLISHED = {
    "bc_lstm_iemocap": (1e-4, 1e-5, 32, 60),
    "bc_lstm_meld": (1e-4, 1e-5, 32, 60),
    "dialogue_rnn_iemocap": (1e-4, 1e-5, 30, 60),
    "dialogue_rnn_meld": (5e-4, 1e-5, 30, 100),
    "dialogue_gcn_iemocap": (3e-4, 0.0, 32, 60),
    "mmgcn_iemocap": (3e-4, 3e-5, 16, 20),
    "mmgcn_meld": (1e-3, 0.0, 16, 60),
    "mm_dfn_iemocap": (3e-4, 1e-4, 32, 30),
    "mm_dfn_meld": (5e-4, 1e-4, 32, 30),
    "biddin_iemocap": (1e-4, 1e-5, 30, 60),
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


@pytest.mark.parametrize("entry", PUBLISHED)
def test_rates_and_epochs_are_those_of_the_scripts(entry):
    train = resolve(entry, ENTRIES[entry]).train
    found = (train.lr, train.weight_decay, train.batch_size, train.epochs)
    assert found == PUBLISHED[entry]


@pytest.mark.parametrize(("corpus", "sizes"), [
    ("iemocap", (500, 500, 300, 300)), ("meld", (150, 150, 100, 100)),
])  # fmt: skip
def test_each_corpus_has_its_own_sizes_of_dialogue_rnn(corpus, sizes):
    entry = f"dialogue_rnn_{corpus}"
    config = resolve(entry, ENTRIES[entry]).config
    names = ("global_size", "party_size", "emotion_size", "hidden")
    assert tuple(getattr(config, name) for name in names) == sizes


def test_iemocap_is_class_weighted_and_meld_is_not():
    weighs = {name for name in ENTRIES if resolve(name, ENTRIES[name]).config.class_weights}
    methods = ("dialogue_rnn", "dialogue_gcn", "mmgcn", "mm_dfn", "biddin")
    assert weighs == {f"{name}_iemocap" for name in methods}
