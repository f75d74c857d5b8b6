"""Headers tell what a network does otherwise than its paper or published code, and who wrote it."""

import ast
from pathlib import Path

import pytest

import models

#: File, and words that its header needs to be true.
SAID = [
    ("methods/multidag_cl/method.py", "AdamW divides by sqrt(v) + 1e-8"),
    ("methods/multidag_cl/method.py", "by sqrt(v) + 1e-6"),
    ("methods/biddin/method.py", "sum of their weights, which the code makes larger by 1"),
    ("methods/dialogue_gcn.py", "messages of a relation are averaged"),
    ("methods/mm_dfn/method.py", "passes gradient through its factor"),
    ("methods/mm_dfn/method.py", "Licence of the references: MIT; none stated"),
    ("methods/cage/method.py", "EMOTIC_Model_Discrete+VAD.py, which only its history has"),
    ("plugins/spcl.py", "fewer are selected in it (18 % were, of 40 %)"),
    ("plugins/fagm.py", "Paper: Wang et al."),
    ("plugins/fagm.py", "neurons of shared modules matter in MMGCN and MM-DFN only"),
    ("plugins/ogm_ge.py", "Adam nearly undoes a factor that stays the same"),
]
#: Networks that tell speakers apart.
HEARS_SPEAKERS = (
    "biddin/method", "corect/method", "dialogue_gcn", "dialogue_rnn", "mi_cga/method",
    "mm_dfn/method", "mmgcn", "multidag_cl/method",
)  # fmt: skip


def header(file: str) -> str:
    text = (Path(str(models.__file__)).parent / file).read_text(encoding="utf-8")
    return " ".join(str(ast.get_docstring(ast.parse(text))).split())


@pytest.mark.parametrize(("file", "words"), SAID)
def test_a_header_says_what_departs(file, words):
    assert words in header(file)


@pytest.mark.parametrize("name", HEARS_SPEAKERS)
def test_a_header_says_who_a_speaker_is_to_the_network(name):
    assert "Speakers: " in header(f"methods/{name}.py")
