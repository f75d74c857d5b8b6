"""Values of params.yaml are changed in place; everything else in the file stays."""

import pytest

from models.errors import UserError
from tasks.params_text import with_revision

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
