"""CMU-MOSI and CMU-MOSEI: both layouts of each, through ingest, labels and splits."""

import json

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora.adapters import mosei, mosi
from tests.tasks.corpora.trees_conversation import (
    MOSEI,
    common,
    counts_of,
    mosei_release,
    mosi_release,
    reasons,
    through_stages,
    write_folds,
    write_text,
)

SENTIMENT = {
    "03bSnISJMiM_1": 1.0,
    "03bSnISJMiM_2": -0.8,
    "03bSnISJMiM_10": 2.4,
    "_dI--eQ6qVU_1": 0.0,
    "zhpQhgha_KU_1": 3.0,
    "zhpQhgha_KU_3": -1.3333334,
}
SPLITS = {"03bSnISJMiM": "train", "_dI--eQ6qVU": "validation", "zhpQhgha_KU": "test"}


def named(frame: pl.DataFrame, column: str) -> dict:
    names = [name.split("/")[-1] for name in frame["utterance_id"]]
    return dict(zip(names, frame[column].to_list(), strict=True))


@pytest.fixture
def root(project):
    return project / "data/raw/mosi"


@pytest.fixture
def big(project):
    return project / "data/raw/mosei"


def test_the_common_layout_passes_all_stages(root):
    common(root)
    tables = through_stages("mosi")
    assert named(tables["labels"], "sentiment") == SENTIMENT
    assert named(tables["splits"], "split") == {
        name: SPLITS[name.rsplit("_", 1)[0]] for name in SENTIMENT
    }
    media = named(tables["utterances"], "media")
    assert media["03bSnISJMiM_10"] == "mosi/Raw/03bSnISJMiM/10.mp4"
    assert tables["quarantine"].height == 0
    assert counts_of("mosi")["expected_utterances"] == 2_199
    assert counts_of("mosi")["expected_dialogues"] == 93


@pytest.mark.parametrize("inner", ["Raw", "."])
def test_the_release_gives_the_same_as_the_common_layout(root, inner):
    common(root)
    wanted = through_stages("mosi")
    (root / "label.csv").unlink()
    mosi_release(root, inner)
    write_folds(root / "folds.py")
    tables = through_stages("mosi", {"folds": "folds.py"})
    same = ["utterance_id", "dialogue_id", "turn", "text", "published_split", "session"]
    assert tables["utterances"].select(same).equals(wanted["utterances"].select(same))
    assert tables["labels"].equals(wanted["labels"])
    assert tables["splits"].equals(wanted["splits"])


def test_turns_follow_the_number_of_the_clip_not_its_text(root):
    common(root)
    turns = named(mosi.read(root, {}).utterances, "turn")
    assert [turns[f"03bSnISJMiM_{n}"] for n in (1, 2, 10)] == [0, 1, 2]
    assert turns["zhpQhgha_KU_3"] == 1  # clip 2 does not exist


def test_whole_videos_are_cut_by_time(root):
    mosi_release(root)
    rows = mosi.read(root, {"media": "full"}).utterances
    assert named(rows, "media")["zhpQhgha_KU_3"] == "Raw/Video/Full/zhpQhgha_KU.mp4"
    assert named(rows, "start_s")["zhpQhgha_KU_3"] == 15.0
    assert named(rows, "end_s")["zhpQhgha_KU_3"] == 19.5
    sounds = mosi.read(root, {"media": "audio"}).utterances
    wav = "Raw/Audio/WAV_16000/Segmented/zhpQhgha_KU_3.wav"
    assert named(sounds, "media")["zhpQhgha_KU_3"] == wav
    assert sounds["start_s"].null_count() == 6
    assert mosi.read(root, {"media": "none"}).utterances["media"].null_count() == 6


def test_labels_may_have_a_header_and_windows_line_ends(root):
    mosi_release(root)
    wanted = mosi.read(root, {})
    path = root / "Raw/Labels/OpinionLevelSentiment.csv"
    text = "start,end,video,clip,sentiment\n" + path.read_text()
    write_text(path, text.replace("\n", "\r\n"))
    found = mosi.read(root, {})
    assert found.utterances.equals(wanted.utterances)
    assert found.annotations.equals(wanted.annotations)
    assert found.quarantine.height == 0


def test_labels_of_modalities_are_kept_where_the_table_has_them(root):
    common(root)
    path = root / "label.csv"
    write_text(path, path.read_text().replace("2.4,,,,", "2.4,1.5,,-0.5,"))
    found = mosi.read(root, {}).annotations
    rows = found.filter(pl.col("target") != "sentiment").select("target", "value").rows()
    assert rows == [("sentiment_text", "1.5"), ("sentiment_video", "-0.5")]


def test_awkward_rows_are_named_and_never_lost(root):
    mosi_release(root)
    labels = root / "Raw/Labels/OpinionLevelSentiment.csv"
    more = "1,2,,7,0.5\n3,x,zhpQhgha_KU,9,1.0\n5,6,zhpQhgha_KU,4,much\n7,8,zhpQhgha_KU,5,3.5\n"
    write_text(labels, labels.read_text() + more)
    words = root / "Raw/Transcript/Segmented/zhpQhgha_KU.annotprocessed"
    write_text(words, words.read_text() + "8_DELIM_NOBODY HEARD\nno segment\n")
    tables = through_stages(
        "mosi", {"media": "full"}, split_params={"protocol": "random_by_dialogue", "folds": 1}
    )
    assert reasons(tables["quarantine"]) == {
        "bad_times": 1,
        "missing_key": 1,
        "not_numeric": 1,
        "unlabelled": 1,
        "unreadable_line": 1,
    }
    assert reasons(tables["labels_quarantine"]) == {"out_of_range": 1}
    assert tables["utterances"].height == 8
    details = " ".join(tables["quarantine"]["detail"])
    assert "OpinionLevelSentiment.csv row 8: 3, x, zhpQhgha_KU, 9, 1.0" in details
    assert "zhpQhgha_KU.annotprocessed line 4: 'no segment' is no segment" in details


def test_a_missing_clip_goes_to_quarantine(root):
    common(root)
    (root / "Raw/zhpQhgha_KU/3.mp4").unlink()
    tables = through_stages("mosi")
    assert reasons(tables["quarantine"]) == {"missing_media": 1}
    assert tables["labels"].height == 5


def test_folds_are_parsed_and_never_run(root):
    common(root)
    write_text(root / "f.json", json.dumps({"train": ["zhpQhgha_KU"], "test": ["_dI--eQ6qVU"]}))
    split = named(mosi.read(root, {"folds": "f.json"}).utterances, "published_split")
    assert split["zhpQhgha_KU_1"] == "train"
    assert split["03bSnISJMiM_1"] is None
    write_text(root / "f.py", "standard_train_fold=[open('x', 'w').name]\n")
    with pytest.raises(UserError, match=r"f.py is no list of folds"):
        mosi.read(root, {"folds": "f.py"})
    write_text(root / "f.json", json.dumps({"train": ["a"], "test": ["a"]}))
    with pytest.raises(UserError, match="1 videos are in two folds"):
        mosi.read(root, {"folds": "f.json"})


def test_an_unknown_split_of_the_table_is_set_aside(root):
    common(root)
    path = root / "label.csv"
    write_text(path, path.read_text().replace(",-0.8,,,,Negative,train", ",-0.8,,,,Negative,trial"))
    tables = through_stages("mosi", split_params={"protocol": "random_by_dialogue", "folds": 1})
    assert reasons(tables["quarantine"]) == {"unknown_split": 1}
    assert "split 'trial' is none of" in tables["quarantine"]["detail"][0]


def test_folders_without_labels_say_what_is_missing(root, tmp_path):
    with pytest.raises(UserError, match=r"nor Labels/OpinionLevelSentiment\.csv"):
        mosi.read(tmp_path, {})
    with pytest.raises(UserError, match=r"nor Labels/Data_Train_modified\.csv"):
        mosei.read(tmp_path, {})
    common(root)
    with pytest.raises(UserError, match="set it to segmented or none"):
        mosi.read(root, {"media": "full"})


def test_mosei_gives_sentiment_and_every_emotion_above_zero(big):
    mosei_release(big)
    tables = through_stages("mosei")
    assert named(tables["labels"], "categories") == {
        "--qXJuDtHPw_0": ["happy"],
        "0K7dCp80n9c_0": ["happy", "surprise"],
        "AQ4Pktv4-Gc_0": ["angry", "fear"],
        "_0efYOjQYRc_0": ["disgust", "sad"],
        "_0efYOjQYRc_1": [],
    }
    assert named(tables["labels"], "sentiment")["AQ4Pktv4-Gc_0"] == -3.0
    rows = tables["annotations"].filter(pl.col("label") == "disgust")
    assert rows.select("scale_min", "scale_max").unique().rows() == [(0.0, 3.0)]
    assert rows["value"].sort().to_list() == [0.0, 0.0, 0.0, 0.0, 2.0]
    assert counts_of("mosei")["expected_utterances"] == 23_453
    split = named(tables["splits"], "split")
    assert (split["0K7dCp80n9c_0"], split["AQ4Pktv4-Gc_0"]) == ("validation", "test")


def test_mosei_segments_follow_time_and_name_what_nobody_judged(big):
    mosei_release(big)
    found = mosei.read(big, {})
    rows = found.utterances.filter(pl.col("dialogue_id") == "_0efYOjQYRc").sort("turn")
    assert rows["start_s"].to_list() == [0.0, 7.814]
    assert rows["text"][0] == "Deloitte ___ said."
    assert reasons(found.quarantine) == {"unlabelled": 4}


def test_mosei_without_transcripts_names_segments_by_their_start(big):
    mosei_release(big, transcripts=False)
    rows = mosei.read(big, {"media": "audio"}).utterances
    assert named(rows, "media")["_0efYOjQYRc_7.814"] == "Audio/Full/WAV_16000/_0efYOjQYRc.wav"
    assert named(rows, "turn")["_0efYOjQYRc_7.814"] == 1


def test_mosei_clips_are_whole_files(big):
    mosei_release(big)
    rows = mosei.read(big, {"media": "segmented"}).utterances
    media = "Videos/Segmented/Combined/_0efYOjQYRc_1.mp4"
    assert named(rows, "media")["_0efYOjQYRc_1"] == media
    assert rows["start_s"].null_count() == 5


def test_mosei_awkward_rows_are_named(big):
    bad = [
        ("Train", "x1", "-0.5", "2.0", 1.0, (0, 0, 0, 0, 0, 0), "Negative start."),
        ("Train", "x2", "soon", "2.0", 1.0, (0, 0, 0, 0, 0, 0), "No time."),
        ("Train", "x3", "0.5", "2.0", 1.0, (3.3333, 0, 0, 0, 0, 0), "Too happy."),
        ("Train", "x4", "0.5", "2.0", 1.0, ("much", 0, 0, 0, 0, 0), "No number."),
    ]
    mosei_release(big, [*MOSEI, *bad])
    tables = through_stages("mosei", max_quarantine_fraction=0.5)
    assert reasons(tables["quarantine"]) == {
        "bad_times": 2,
        "not_numeric": 1,
        "out_of_range": 1,
        "unlabelled": 9,
    }
    assert named(tables["labels"], "categories")["x3_0"] is None
    assert named(tables["labels"], "sentiment")["x3_0"] == 1.0
    assert tables["utterances"].height == 7


def test_mosei_common_table_may_carry_emotions(big):
    zeros = {name: [0, 0, 0, 0, 0, 0] for name in ("sad", "anger", "surprise", "disgust", "fear")}
    common(big, {"happy": [1, 0, 0, 0, 2, ""], **zeros})
    found = mosei.read(big, {})
    votes = found.annotations.filter(pl.col("target") == "categories")
    assert votes.height == 5 * 6  # five segments judged on six emotions, most of them absent
    assert votes.filter(pl.col("value").cast(pl.Float64) > 0)["label"].to_list() == [
        "happy",
        "happy",
    ]
    assert reasons(found.quarantine) == {"not_numeric": 1}
    assert found.card.expected_utterances == 22_856


def test_emotion_threshold_decides_what_is_present(big):
    mosei_release(big)
    votes = mosei.read(big, {"emotion_threshold": 1.0}).annotations
    votes = votes.filter(
        (pl.col("target") == "categories") & (pl.col("value").cast(pl.Float64) > 0)
    )
    assert votes.sort("utterance_id", "label")["label"].to_list() == ["happy", "anger", "disgust"]
