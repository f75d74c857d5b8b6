"""What docs/python.md shows can be typed and pasted."""

import re

import affectloom
from tests.places import ROOT
from tests.tasks.predict.projects import CORPUS, METHOD, write_talk

TEXT = (ROOT / "docs" / "python.md").read_text()


def test_the_examples_of_the_docs_run_in_order(clone, tmp_path):
    write_talk(tmp_path / "talk.mp4", 2.0)
    names = {
        '"models/starter"': f'"{CORPUS}/{METHOD}", "{clone}"',  # the starter needs real weights
        "sample/early_fusion": f"{CORPUS}/{METHOD}",
        "my_clone": str(clone),
        '"sample"': f'"{CORPUS}"',
        '"early_fusion"': f'"{METHOD}"',
    }
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 4
    known: dict = {}
    for block in blocks:
        for old, new in names.items():
            block = block.replace(old, new)
        exec(block, known)
    assert known["table"].height == 18


def test_every_name_that_the_docs_use_is_there():
    assert all(hasattr(affectloom, name) for name in re.findall(r"affectloom\.([A-Z]\w+)", TEXT))
