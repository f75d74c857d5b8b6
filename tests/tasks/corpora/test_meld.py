"""MELD: three tables and three folders of clips, through ingest, labels and splits."""

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora.adapters.meld import read
from tests.tasks.corpora.trees_conversation import (
    MELD,
    counts_of,
    meld,
    reasons,
    through_stages,
    write_text,
)


@pytest.fixture
def root(project):
    folder = project / "data/raw/meld"
    meld(folder)
    return folder


def test_three_parts_pass_all_stages(root):
    tables = through_stages("meld")
    assert tables["utterances"].height == 8
    assert tables["quarantine"].height == 0
    splits = tables["splits"].group_by("split").len().sort("split")
    assert splits.rows() == [("test", 2), ("train", 4), ("validation", 2)]
    counts = counts_of("meld")
    assert (counts["expected_utterances"], counts["expected_dialogues"]) == (13_708, 1_432)
    assert counts["findings"][0].startswith("meld: expected 13,708 utterances, found 8")


def test_the_same_dialogue_number_of_two_parts_is_two_dialogues(root):
    rows = read(root, {}).utterances
    assert rows["utterance_id"].n_unique() == 8
    assert sorted(set(rows["dialogue_id"])) == [
        "dev_dia0",
        "test_dia0",
        "train_dia0",
        "train_dia2",
    ]
    first = rows.filter(pl.col("utterance_id") == "train_dia0/dia0_utt1").row(0, named=True)
    assert first["media"] == "train_splits/dia0_utt1.mp4"
    assert (first["turn"], first["session"], first["speaker"]) == (1, "s08e21", "The Interviewer")
    # the clip is cut already: the times of the episode say nothing about it
    assert first["start_s"] is first["end_s"] is None


def test_words_of_cp1252_are_mended_in_either_encoding(root):
    good = {
        "train_dia0/dia0_utt0": "also I was the point person, he’s told me",
        "train_dia0/dia0_utt2": '"Wanted!" Nice, isn’t it…',
    }

    def texts() -> dict[str, str]:
        rows = read(root, {}).utterances
        return dict(zip(rows["utterance_id"], rows["text"], strict=True))

    assert good.items() <= texts().items()
    # an old copy: single bytes of cp1252, which are no UTF-8
    path = root / "train_sent_emo.csv"
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    assert good.items() <= texts().items()


def test_words_that_look_empty_are_words(root):
    rows = read(root, {}).utterances
    texts = dict(zip(rows["utterance_id"], rows["text"], strict=True))
    assert texts["train_dia2/dia2_utt0"] == "None"
    assert texts["test_dia0/dia0_utt1"] == "NA"


def test_either_label_is_the_category_and_the_other_stays_beside_it(root):
    emotion = through_stages("meld")
    assert set(emotion["labels"]["category"]) == {
        "anger", "fear", "joy", "neutral", "sadness", "surprise",
    }  # fmt: skip
    assert set(emotion["annotations"]["target"]) == {"category", "sentiment_class"}
    sentiment = through_stages("meld", {"category": "sentiment"})
    assert set(sentiment["labels"]["category"]) == {"negative", "neutral", "positive"}
    assert set(sentiment["annotations"]["target"]) == {"category", "emotion_class"}


def test_a_missing_clip_and_an_unknown_label_are_named(root):
    (root / "dev_splits_complete/dia0_utt1.mp4").unlink()
    rows = {**MELD, "test": [*MELD["test"], ("Hm", "Ross", "bored", "neutral", 0, 2)]}
    meld(root, rows)
    (root / "dev_splits_complete/dia0_utt1.mp4").unlink()
    tables = through_stages("meld")
    assert reasons(tables["quarantine"]) == {"missing_media": 1}
    assert reasons(tables["labels_quarantine"]) == {"unknown_category": 1}
    assert tables["utterances"].height == 8
    assert "dev_splits_complete/dia0_utt1.mp4" in tables["quarantine"]["detail"][0]


def test_rows_without_numbers_and_labels_go_to_quarantine(root):
    path = root / "test_sent_emo.csv"
    more = "3,Hi,Ross,neutral,neutral,zero,1,8,21,a,b\n4,Ho,Ross,,neutral,0,5,8,21,a,b\n"
    write_text(path, path.read_text(encoding="utf-8") + more)
    write_text(root / "output_repeated_splits_test/dia0_utt5.mp4", "clip")
    tables = through_stages("meld")
    assert reasons(tables["quarantine"]) == {"bad_id": 1, "missing_value": 1}
    assert "test_sent_emo.csv row 3: Dialogue_ID 'zero'" in " ".join(tables["quarantine"]["detail"])
    assert tables["utterances"].height == 9


def test_clips_may_lie_in_folders_of_the_parts_or_not_at_all(root):
    (root / "train").mkdir()
    (root / "train_splits").rename(root / "train/train_splits")
    (root / "train_sent_emo.csv").rename(root / "train/train_sent_emo.csv")
    assert read(root, {}).utterances["media"][0] == "train/train_splits/dia0_utt0.mp4"
    assert read(root, {"media": "none"}).utterances["media"].null_count() == 8
    (root / "train/train_splits").rename(root / "elsewhere")
    with pytest.raises(UserError, match=r"unpack train\.tar\.gz there"):
        read(root, {})


def test_broken_tables_are_errors_that_name_the_row(root):
    path = root / "dev_sent_emo.csv"
    text = path.read_text(encoding="utf-8")
    write_text(path, text + "9,too,short\n")
    with pytest.raises(UserError, match=r"dev_sent_emo.csv.*Expected 11 columns, got 3"):
        read(root, {})
    write_text(path, text.replace("Dialogue_ID", "Dialogue"))
    with pytest.raises(UserError, match="lacks column 'Dialogue_ID'"):
        read(root, {})
    path.unlink()
    with pytest.raises(UserError, match=r"dev_sent_emo\.csv does not exist"):
        read(root, {})
