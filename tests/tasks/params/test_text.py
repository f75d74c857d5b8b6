"""Values of params.yaml are changed in place; everything else in the file stays."""

import pytest

from models.errors import UserError
from tasks.params.text import read_mapping, with_revision

_HASH = "a" * 40
BLOCK = """\
# a comment
encoders:
  one:
    family: hf_text
    checkpoint: a/b   # why this one
  two: {family: hf_text, checkpoint: "c/d"}
  three: {family: prosody}
"""


def test_a_key_is_added_in_the_style_of_its_entry():
    found = with_revision(BLOCK, "one", _HASH)
    assert found == BLOCK.replace("a/b ", f"a/b\n    revision: {_HASH} ")
    found = with_revision(BLOCK, "two", _HASH)
    assert found == BLOCK.replace('"c/d"', f'"c/d", revision: {_HASH}')


def test_a_value_is_replaced_in_place():
    found = with_revision(with_revision(BLOCK, "two", "main"), "two", _HASH)
    assert found == with_revision(BLOCK, "two", _HASH)


@pytest.mark.parametrize("name", ["three", "four"])
def test_an_entry_without_checkpoint_cannot_be_pinned(name):
    with pytest.raises(UserError, match=f"encoders.{name} names no checkpoint"):
        with_revision(BLOCK, name, _HASH)


@pytest.mark.parametrize(("text", "sentence"), [
    (b"a: 1\na: 2\n", "params.yaml line 2: 'a' stands twice; keep one"),
    (b"m:\n  gru: {}\n  ridge: {}\n  gru: {}\n", "params.yaml line 4: 'gru' stands twice"),
    (b"- a\n- b\n", "params.yaml is a list; it must hold keys and values"),
    (b"word", "params.yaml is a str; it must hold"),
    (b"", "params.yaml is empty"),
    (b"# only a comment\n", "params.yaml is empty"),
    ("a: \u00e9".encode("latin-1"), "params.yaml: not UTF-8 text"),
    (b"a: [1\n", "not valid YAML"),
    (b"a: 2020-13-45\n", "not valid YAML (month must be in 1..12"),
    (b"[" * 5000, "not valid YAML"),
    (b"a: !!python/object/apply:os.system [id]\n", "params.yaml line 1: not valid YAML"),
    (b"a: 1\x00\n", "not valid YAML"),
    (b"? [1]\n: 2\n", "not valid YAML"),
], ids=str)  # fmt: skip
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "params.yaml"
    file.write_bytes(text)
    with pytest.raises(UserError) as caught:
        read_mapping(file)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_may_override_one_that_was_merged_in(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n")
    assert read_mapping(file)["b"] == {"x": 3, "y": 2}
