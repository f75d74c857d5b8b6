import pytest

from tasks.selection import encoders_of, inputs_of, methods_of

RAW = {
    "corpora": {"one": {"inputs": {"text": "b"}}, "two": None},
    "encoders": {"a": {"family": "x"}, "b": {"corpora": ["one"]}, "c": {"corpora": []}, "d": None},
    "methods": {"linear": None, "corect": {"corpora": ["two"]}},
    "inputs": {"audio": "a"},
}


@pytest.mark.parametrize(("corpus", "encoders", "methods"), [
    ("one", ["a", "b", "d"], ["linear"]),
    ("two", ["a", "d"], ["linear", "corect"]),
])  # fmt: skip
def test_entries_belong_to_all_corpora_unless_they_say_less(corpus, encoders, methods):
    assert encoders_of(RAW, corpus) == encoders
    assert methods_of(RAW, corpus) == methods


def test_inputs_of_a_corpus_take_the_place_of_the_common_ones():
    assert inputs_of(RAW, "one") == {"text": "b"}
    assert inputs_of(RAW, "two") == {"audio": "a"}


def test_a_file_without_sections_selects_nothing():
    assert (encoders_of({}, "one"), methods_of({}, "one"), inputs_of({}, "one")) == ([], [], {})
