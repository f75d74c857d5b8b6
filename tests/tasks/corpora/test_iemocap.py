"""IEMOCAP: a tiny tree in the release's layout, through ingest, labels and splits."""

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora.adapters.iemocap import read
from tests.tasks.corpora.trees_conversation import (
    IEMOCAP,
    counts_of,
    iemocap,
    reasons,
    through_stages,
    votes,
    write_text,
)

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]


def by_name(frame: pl.DataFrame) -> dict[str, dict]:
    """Rows by the release's name of the turn."""
    return {row["utterance_id"].split("/")[-1]: row for row in frame.to_dicts()}


@pytest.fixture
def root(project):
    folder = project / "data/raw/iemocap"
    iemocap(folder)
    return folder


def test_turns_of_six_classes_pass_all_stages_and_the_others_are_named(root):
    tables = through_stages("iemocap")
    assert tables["utterances"].height == 7
    sexes = dict(tables["utterances"].select("speaker", "sex").iter_rows())
    assert all(sex == {"F": "female", "M": "male"}[name[-1]] for name, sex in sexes.items())
    assert reasons(tables["quarantine"]) == {"outside_protocol": 2}
    assert set(tables["quarantine"]["utterance_id"]) == {
        "iemocap/Ses01F_impro01/Ses01F_impro01_M001",
        "iemocap/Ses01M_script01_1/Ses01M_script01_1_F000",
    }
    labels = by_name(tables["labels"])
    assert labels["Ses01F_impro01_M000"]["category"] == "excited"
    assert labels["Ses01M_script01_1_M000"]["category"] == "happy"
    finding = counts_of("iemocap")["findings"][0]
    assert finding.startswith("iemocap: expected 7,380 utterances, found 7: missing 7,373")
    assert "set aside" not in finding  # the protocol leaves these two out on purpose


def test_turns_follow_time_where_the_file_lists_them_otherwise(root):
    rows = read(root, {"protocol": "all"}).utterances
    first = rows.filter(pl.col("dialogue_id") == "Ses01F_impro01").sort("turn")
    assert first["turn"].to_list() == [0, 1, 2, 3]
    assert [name[-4:] for name in first["utterance_id"]] == ["F000", "M000", "F001", "M001"]
    assert first["start_s"].is_sorted()
    # F000 ends after M000 begins: an overlap, not an error
    assert first["end_s"][0] > first["start_s"][1]
    assert first["text"].to_list() == ["Excuse me.", "Do you?", "Yeah.", "Hm."]


def test_the_actor_with_the_markers_is_on_the_left(root):
    rows = by_name(read(root, {"protocol": "all"}).utterances)
    assert rows["Ses01F_impro01_F000"]["region"] == LEFT
    assert rows["Ses01F_impro01_M000"]["region"] == RIGHT
    assert rows["Ses01M_script01_1_M000"]["region"] == LEFT
    assert rows["Ses01M_script01_1_F000"]["region"] == RIGHT
    assert rows["Ses01F_impro01_M000"]["speaker"] == "Ses01_M"
    assert rows["Ses01F_impro01_M000"]["session"] == "Ses01"


def test_video_is_cut_by_time_and_sound_files_are_whole(root):
    video = by_name(read(root, {"media": "avi"}).utterances)["Ses05F_impro02_M000"]
    assert video["media"] == "Session5/dialog/avi/DivX/Ses05F_impro02.avi"
    assert (video["start_s"], video["end_s"]) == (1.6, 2.5)
    sound = by_name(read(root, {"media": "wav"}).utterances)["Ses05F_impro02_M000"]
    assert sound["media"] == "Session5/sentences/wav/Ses05F_impro02/Ses05F_impro02_M000.wav"
    assert sound["start_s"] is sound["end_s"] is sound["region"] is None
    nothing = by_name(read(root, {"media": "none"}).utterances)["Ses05F_impro02_M000"]
    assert nothing["media"] is nothing["start_s"] is None


def test_both_takes_the_sound_where_the_video_is_missing(root):
    (root / "Session5/dialog/avi/DivX/Ses05F_impro02.avi").unlink()
    rows = by_name(read(root, {"media": "both"}).utterances)
    assert rows["Ses05F_impro02_F000"]["media"].endswith("Ses05F_impro02_F000.wav")
    assert rows["Ses05F_impro02_F000"]["region"] is None
    assert rows["Ses01F_impro01_F000"]["media"].endswith("Ses01F_impro01.avi")
    assert rows["Ses01F_impro01_F000"]["region"] == LEFT


def test_missing_sound_goes_to_quarantine(root):
    (root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav").unlink()
    tables = through_stages("iemocap", {"media": "wav"})
    assert tables["utterances"].height == 6
    assert reasons(tables["quarantine"])["missing_media"] == 1


@pytest.mark.parametrize(
    ("protocol", "expected", "categories"),
    [
        ("4way", 5_531, {"angry", "happy", "sad", "neutral"}),
        ("4way_unmerged", 4_490, {"angry", "happy", "sad", "neutral"}),
        ("6way", 7_380, {"angry", "happy", "excited", "sad", "neutral", "frustrated"}),
    ],
)
def test_protocols_differ_in_what_they_keep(root, protocol, expected, categories):
    tables = through_stages("iemocap", {"protocol": protocol})
    labels = by_name(tables["labels"])
    assert set(tables["labels"]["category"]) <= categories
    assert None not in set(tables["labels"]["category"])
    merged = {"4way": "happy", "6way": "excited"}.get(protocol)
    assert labels.get("Ses01F_impro01_M000", {}).get("category") == merged
    assert counts_of("iemocap")["expected_utterances"] == expected
    assert tables["labels_quarantine"].height == 0


def test_the_observers_mean_is_the_released_average(root):
    raters = through_stages("iemocap", {"vad": "raters"})["labels"]
    released = through_stages("iemocap", {"vad": "released"})["labels"]
    for name in ("valence", "arousal", "dominance"):
        assert raters[name].to_list() == released[name].to_list()
    assert raters["valence"][0] == -0.25  # 2.5 on 1..5
    assert raters["valence_std"][0] == pytest.approx(0.5 / 2**0.5)
    assert released["valence_std"][0] is None


def test_votes_of_observers_make_the_headers_category(root):
    options = {"protocol": "all", "categories": "raters"}
    tables = through_stages("iemocap", options, {"several_votes": "each"})
    labels = by_name(tables["labels"])
    wanted = {"neu": "neutral", "fru": "frustrated", "exc": "excited", "hap": "happy",
              "sur": "surprise", "ang": "angry", "sad": "sad"}  # fmt: skip
    for dialogue, turns in IEMOCAP.items():
        for name, _, _, code, *_ in turns:
            if code != "xxx":
                assert labels[f"{dialogue}_{name}"]["category"] == wanted[code]
    first = tables["annotations"].filter(
        pl.col("utterance_id").str.ends_with("impro01_F000") & (pl.col("target") == "category")
    )
    assert sorted(first.select("rater", "label").rows()) == [
        ("E2", "Neutral"),
        ("E3", "Neutral"),
        ("E4", "Frustration"),
        ("E4", "Neutral"),
    ]


def test_self_reports_are_a_kind_of_their_own(root):
    silent = read(root, {}).annotations
    assert "self_report" not in set(silent["source"])
    options = {"self_reports": True}
    tables = through_stages("iemocap", options)
    own = tables["annotations"].filter(pl.col("source") == "self_report")
    assert set(own["rater"]) == {"Ses01_F", "Ses05_F"}
    assert own.filter(pl.col("target") == "valence")["value"].to_list() == [5.0] * 7
    assert tables["labels"]["valence"][0] == -0.25  # the actor's 5 is not in it
    assert set(tables["labels"]["valence_kind"]) == {"rated"}
    alone = through_stages("iemocap", options, {"use_kinds": ("self_report",)})["labels"]
    assert set(alone["valence_kind"].drop_nulls()) == {"self_report"}


def test_a_blank_attribute_is_a_missing_judgement_of_that_rater(root):
    turns = dict(IEMOCAP)
    rows = [list(turn) for turn in turns["Ses05F_impro02"]]
    rows[0][6] = votes("Sadness;", "val ; act 3; dom  ;")
    iemocap(root, {**turns, "Ses05F_impro02": rows})
    tables = through_stages("iemocap")
    assert reasons(tables["quarantine"])["missing_value"] == 1
    detail = tables["quarantine"].filter(pl.col("reason") == "missing_value")["detail"][0]
    assert "rater E3" in detail
    row = by_name(tables["labels"])["Ses05F_impro02_F000"]
    assert (row["valence"], row["arousal"], row["n_raters"]) == (0.0, -0.5, 2)


def test_a_value_out_of_range_and_an_unknown_label_go_to_quarantine(root):
    turns = dict(IEMOCAP)
    rows = [list(turn) for turn in turns["Ses05F_impro02"]]
    rows[0][3] = "bor"
    rows[1][6] = votes("Neutral;", "val 6; act 3; dom  3;")
    iemocap(root, {**turns, "Ses05F_impro02": rows})
    tables = through_stages("iemocap")
    assert reasons(tables["labels_quarantine"]) == {"out_of_range": 1, "unknown_category": 1}
    assert by_name(tables["labels"])["Ses05F_impro02_F000"]["category"] is None
    assert by_name(tables["labels"])["Ses05F_impro02_M000"]["valence"] == 0.0


def test_unreadable_lines_are_named_and_never_lost(root):
    path = root / "Session5/dialog/EmoEvaluation/Ses05F_impro02.txt"
    text = path.read_text().replace("[0.5000 - 1.5000]", "[0.5000 - later]")
    text = text.replace("[1.6000 - 2.5000]\tSes05F_impro02_M000\tneu", "<1.6000 - 2.5000> neu")
    path.write_text(text)
    heard = root / "Session5/dialog/transcriptions/Ses05F_impro02.txt"
    write_text(heard, heard.read_text() + "M: [LAUGHTER]\n")
    found = read(root, {})
    assert found.utterances.height == 5
    # the header, the seven lines below it, a turn without times, a line without a name
    assert reasons(found.quarantine) == {
        "bad_times": 1,
        "not_evaluated": 1,
        "orphan_label": 7,
        "outside_protocol": 2,
        "unreadable_line": 2,
    }
    details = " ".join(found.quarantine["detail"])
    assert "'0.5000 - later' are no times; mend the line" in details
    assert "'M: [LAUGHTER]' names no turn" in details
    assert "EmoEvaluation/Ses05F_impro02.txt line 3" in details


def test_each_session_can_be_the_published_test_part(root):
    for session in (1, 5):
        rows = read(root, {"test_session": session}).utterances
        tests = rows.filter(pl.col("published_split") == "test")
        assert set(tests["session"]) == {f"Ses0{session}"}
    assert read(root, {"test_session": None}).utterances["published_split"].null_count() == 7
    splits = through_stages("iemocap", split_params={"group": "session"})["splits"]
    assert set(splits.filter(pl.col("split") == "test")["utterance_id"].str.slice(8, 5)) == {
        "Ses05"
    }
    iemocap(root, {**IEMOCAP, "Ses03M_impro04": IEMOCAP["Ses05F_impro02"]})
    folds = through_stages(
        "iemocap", {"test_session": None}, split_params={"protocol": "leave_one_session_out"}
    )["splits"]
    assert folds["fold"].n_unique() == 3


def test_mistakes_in_options_and_folder_say_what_to_do(root, tmp_path):
    with pytest.raises(UserError, match="no option 'medya'; did you mean 'media'"):
        read(root, {"medya": "avi"})
    with pytest.raises(UserError, match="protocol"):
        read(root, {"protocol": "5way"})
    with pytest.raises(UserError, match="Session1 to Session5"):
        read(tmp_path, {})


def test_same_tree_same_rows(root):
    one, two = read(root, {}), read(root, {})
    assert one.utterances.equals(two.utterances)
    assert one.annotations.equals(two.annotations)
