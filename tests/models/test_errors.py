"""What messages end with."""

import pytest

from models.errors import UserError, hint
from models.method import find_method
from models.plugin import find_plugin
from tests.places import ROOT


@pytest.mark.parametrize(
    ("word", "known", "otherwise", "wanted"),
    [
        ("lineer", ["linear", "gru"], None, "did you mean 'linear'?"),
        ("lineer", ["linear", "gru"], "check the file", "did you mean 'linear'?"),
        ("zzz", ["linear", "gru"], None, "known: linear, gru"),
        ("zzz", ["linear", "gru"], "check the file", "check the file"),
        ("zzz", ["linear", "gru"], "", ""),
        ("zzz", [], None, "known: none"),
        (7, ["70"], None, "did you mean '70'?"),
    ],
)
def test_a_hint_names_what_is_close_or_what_there_is(word, known, otherwise, wanted):
    assert hint(word, known, otherwise) == wanted


@pytest.mark.parametrize(
    ("find", "name", "wanted"),
    [
        (find_method, "lineer", "no method 'lineer'; did you mean 'linear'? Methods: "),
        (find_method, "zzz", "no method 'zzz' Methods: "),
        (find_plugin, "ogm_g", "no plug-in 'ogm_g'; did you mean 'ogm_ge'? Plug-ins: none, "),
        (find_plugin, "zzz", "no plug-in 'zzz' Plug-ins: none, "),
    ],
)
def test_unknown_parts_are_told_with_all_there_are(find, name, wanted):
    with pytest.raises(UserError) as caught:
        find(name)
    assert wanted in str(caught.value)


def test_hints_have_one_home():
    files = [file for part in ("models", "tasks", "flows") for file in (ROOT / part).rglob("*.py")]
    assert [f.name for f in files if "get_close_matches" in f.read_text()] == ["errors.py"]
