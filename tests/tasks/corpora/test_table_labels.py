"""Tables whose judgements would be lost without a word."""

import pytest

from models.errors import UserError
from tasks.corpora.adapters.table import read

LONG = "id,what,says\na,valence,1\nb,{word},2\nc,arousal,3\n"
SCALES = {"valence": {"scale": [1, 5]}, "arousal": {"scale": [1, 5]}}


def read_text(root, text, labels):
    (root / "t.csv").write_text(text)
    options = {"file": "t.csv", "columns": {"utterance": "id"}, "labels": labels}
    return read(root, options)


@pytest.mark.parametrize(("word", "near"), [("valense", "valence"), ("arousl", "arousal")])
def test_a_misspelt_target_of_the_long_form_names_its_row(tmp_path, word, near):
    labels = {"target": "what", "value": "says", "targets": SCALES}
    with pytest.raises(UserError, match=f"says '{word}' at b/b; did you mean '{near}'"):
        read_text(tmp_path, LONG.format(word=word), labels)
    assert read_text(tmp_path, LONG.format(word="mood"), labels).annotations.height == 3


def test_a_declared_target_that_never_occurs_is_an_error(tmp_path):
    targets = SCALES | {"dominance": {"scale": [1, 5]}}
    labels = {"target": "what", "value": "says", "targets": targets}
    with pytest.raises(UserError, match="never says 'dominance', but 'dom', which no target"):
        read_text(tmp_path, LONG.format(word="dom"), labels)
    assert read_text(tmp_path, LONG.format(word="valence"), labels).annotations.height == 3


def test_a_target_whose_columns_are_all_blank_is_an_error(tmp_path):
    labels = {"targets": {"category": {"columns": {"x": "p", "y": "q"}}}}
    with pytest.raises(UserError, match=r"category is blank in all 2 rows \(column p, q\)"):
        read_text(tmp_path, "id,p,q\na,,\nb, ,\n", labels)
    assert read_text(tmp_path, "id,p,q\na,,\nb,joy,\n", labels).annotations.height == 1
    assert read_text(tmp_path, "id,p,q\n", labels).annotations.height == 0


@pytest.mark.parametrize("columns", [["p", "p"], {"x": "p", "y": "p"}])
def test_one_column_is_one_rater(tmp_path, columns):
    labels = {"targets": {"category": {"columns": columns}}}
    with pytest.raises(UserError, match="the column 'p' is named for two raters"):
        read_text(tmp_path, "id,p\na,joy\n", labels)
