import pytest

from models.errors import UserError
from tasks.selection import encoders_of, inputs_of, methods_of, seen_corpora, transfers_of

RAW = {
    "corpora": {"one": {"inputs": {"text": "b"}}, "two": None},
    "encoders": {
        "a": {"family": "hf_text"},
        "b": {"family": "hf_text", "corpora": ["one"]},
        "c": {"family": "hf_text", "corpora": []},
        "unread": {"family": "hf_text"},
        "ears": {"family": "prosody"},
        "eyes": {"family": "hf_vision"},
    },
    "methods": {
        "linear": None,
        "corect": {"corpora": ["two"], "inputs": {"audio": ["a", "ears"], "text": "a"}},
    },
    "inputs": {"audio": "a", "text": ["a"]},
}


@pytest.mark.parametrize(("corpus", "encoders", "methods"), [
    ("one", ["b"], ["linear"]),
    ("two", ["a", "ears"], ["linear", "corect"]),
])  # fmt: skip
def test_encoders_that_something_reads_run_where_they_may(corpus, encoders, methods):
    assert encoders_of(RAW, corpus) == encoders
    assert methods_of(RAW, corpus) == methods


def test_an_encoder_does_not_run_where_its_entry_keeps_it_away():
    raw = RAW | {"inputs": {"text": ["b", "c"]}}
    assert encoders_of(raw, "two") == ["a", "ears"]


def test_inputs_of_a_corpus_take_the_place_of_the_common_ones():
    assert inputs_of(RAW, "one") == {"text": "b"}
    assert inputs_of(RAW, "two") == {"audio": "a", "text": ["a"]}


def test_inputs_of_a_method_replace_those_that_they_name():
    assert inputs_of(RAW, "two", "corect") == {"audio": ["a", "ears"], "text": "a"}
    raw = RAW | {"methods": {"linear": {"inputs": {"audio": "ears"}}}}
    assert inputs_of(raw, "one", "linear") == {"audio": "ears", "text": "b"}


def test_faces_are_looked_for_where_somebody_sees():
    assert seen_corpora(RAW) == []
    seeing = RAW | {"methods": {"linear": {"corpora": ["two"], "inputs": {"video": "eyes"}}}}
    assert seen_corpora(seeing) == [{"corpus": "two"}]
    pictured = RAW | {"methods": {"still": {"method": "cage", "corpora": ["one"]}}}
    assert seen_corpora(pictured) == [{"corpus": "one"}]


def test_an_unknown_family_is_named_where_faces_are_decided():
    raw = RAW | {"encoders": {"a": {"family": "hf_smell"}}}
    with pytest.raises(UserError, match=r"encoders\.a\.family is 'hf_smell'; known.*hf_vision"):
        seen_corpora(raw)


def test_one_encoder_and_a_list_of_it_are_the_same_to_transfers():
    raw = {
        "corpora": {"one": {"inputs": {"text": "a"}}, "two": {"inputs": {"text": ["a"]}}},
        "encoders": {"a": {"family": "hf_text"}, "b": {"family": "hf_text"}},
        "methods": {"linear": {}},
    }
    assert len(transfers_of(raw)) == 2
    raw["corpora"]["two"]["inputs"]["text"] = ["a", "b"]
    assert transfers_of(raw) == []


def test_a_method_is_tested_only_where_its_encoders_are_extracted():
    raw = {
        "corpora": {"one": {}, "two": {}},
        "encoders": {"a": {"family": "hf_text"}, "b": {"family": "hf_text"}},
        "inputs": {"text": "a"},
        "methods": {"linear": {"corpora": ["one"], "inputs": {"text": "b"}}},
    }
    assert transfers_of(raw) == []  # nothing reads b on two
    raw["methods"]["other"] = {"method": "linear", "corpora": ["two"], "inputs": {"text": "b"}}
    assert {"corpus": "one", "method": "linear", "onto": "two"} in transfers_of(raw)


def test_a_file_without_sections_selects_nothing():
    assert (encoders_of({}, "one"), methods_of({}, "one"), inputs_of({}, "one")) == ([], [], {})


def test_methods_on_pictures_are_tested_only_where_faces_are_looked_for():
    raw = {
        "corpora": {"seen": {}, "heard": {"inputs": {"audio": "prosody"}}},
        "encoders": {"prosody": {"family": "prosody"}},
        "methods": {"cage": {"corpora": ["seen"]}},
    }
    assert transfers_of(raw) == []
    raw["methods"]["cage"] = {}
    assert {(found["corpus"], found["onto"]) for found in transfers_of(raw)} == {
        ("seen", "heard"),
        ("heard", "seen"),
    }
