"""``affectloom lint``: features are held against every target that has labels."""

import pyarrow.parquet as pq
import pytest

from tasks.leaks.lint import lint_corpus
from tests.places import here
from tests.tasks.corpus_factory import CORPUS, Corpus, make_corpus


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Corpus:
    """A tiny corpus with room for a leak in the first two columns of ``ears``."""
    monkeypatch.chdir(tmp_path)
    made = make_corpus()
    for number, name in enumerate(sorted(made.features["ears"])):
        if made.features["ears"][name] is not None:
            made.features["ears"][name] = [7.0, number * 37 % 11 / 11, number % 5 / 5, 0.5 + number]
    return made


def kinds(threshold: float = 0.9) -> dict[str, dict]:
    found = lint_corpus(here(), CORPUS, ["ears", "nowhere"], threshold)
    return {finding["kind"]: dict(finding) for finding in found}


@pytest.mark.parametrize("target", ["valence", "dominance", "sentiment", "joy"])
def test_a_column_that_bears_any_target_is_found_without_categories(corpus, target):
    for number, row in enumerate(corpus.labels):
        value = number * 29 % 17 / 17
        row.update(category=None, category_shares=None, valence=None, arousal=None, dominance=None)
        row[target] = value
        if corpus.features["ears"].get(row["utterance_id"]) is not None:
            corpus.features["ears"][row["utterance_id"]][1] = value
    corpus.write()
    found = kinds()
    assert found["constant_column"]["examples"] == ["ears[0]"]
    assert found["label_bearing_column"]["examples"] == ["ears[1] (1.00)"]
    assert f"predict {target} alone" in found["label_bearing_column"]["sentence"]


def test_the_threshold_decides_what_bears_the_label(corpus):
    corpus.write()
    assert "label_bearing_column" not in kinds(1.0)
    assert "label_bearing_column" in kinds(0.0)


def test_utterances_without_features_are_counted_by_reason(corpus):
    gone = [row["utterance_id"] for row in corpus.splits if row["fold"] == 0][:2]
    for name in gone:
        corpus.features["ears"][name] = None
    corpus.write()
    found = kinds()["absent_features"]
    assert found["severity"] == "info"
    assert found["count"] >= 2
    assert gone[0] in " ".join(found["examples"])


def test_an_encoder_that_was_trained_on_the_corpus_is_a_warning(corpus):
    corpus.write()
    assert "encoder_trained_on_corpus" not in kinds()
    for file in here().features(CORPUS, "ears").glob("*.parquet"):
        table = pq.read_table(file)
        noted = {**(table.schema.metadata or {}), b"trained_on": f"imagenet, {CORPUS}".encode()}
        pq.write_table(table.replace_schema_metadata(noted), file)
    found = kinds()["encoder_trained_on_corpus"]
    tested = {r["utterance_id"] for r in corpus.splits if (r["fold"], r["split"]) == (0, "test")}
    assert (found["severity"], found["count"]) == ("warning", len(tested))
    assert set(found["examples"]) <= tested
    assert f"ears was trained on {CORPUS} itself" in found["sentence"]
