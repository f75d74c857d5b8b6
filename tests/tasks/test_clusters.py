"""What intervals and tests draw as a whole."""

import polars as pl
import pytest

from tasks.clusters import clusters_of


def rows(dialogues, speakers):
    return pl.DataFrame(
        {"dialogue_id": dialogues, "speaker": speakers},
        schema={"dialogue_id": pl.String, "speaker": pl.String},
    )


def test_clips_of_one_speaker_are_drawn_together():
    found = clusters_of(rows([f"d{i}" for i in range(30)], [f"s{i % 10}" for i in range(30)]))
    assert found.codes.tolist() == [i % 10 for i in range(30)]
    assert (found.by, found.n_dialogues, found.remark) == ("speakers and dialogues", 30, "")


def test_dialogues_link_the_speakers_in_them():
    # pairs of dialogues share their first speaker, everybody else speaks in one
    dialogue = [i // 2 for i in range(40)]
    speaker = [f"lead{d // 2}" if i % 2 == 0 else f"s{i}" for i, d in enumerate(dialogue)]
    found = clusters_of(rows([f"d{d}" for d in dialogue], speaker))
    assert found.codes.tolist() == [d // 2 for d in dialogue]


@pytest.mark.parametrize(
    ("speakers", "sentence"),
    [
        (["s"] * 24, "the 12 dialogues all share speakers"),
        ([f"s{i // 2 % 7}" for i in range(24)], "form 7 groups that share no speaker"),
    ],
)
def test_with_few_groups_dialogues_are_drawn_and_the_report_says_so(speakers, sentence):
    found = clusters_of(rows([f"d{i // 2}" for i in range(24)], speakers))
    assert found.codes.tolist() == [i // 2 for i in range(24)]
    assert (found.by, found.n_dialogues) == ("dialogues", 12)
    assert sentence in found.remark
    assert "speakers are ignored" in found.remark


def test_groups_of_which_one_outweighs_all_others_are_few():
    # sixteen dialogues of two people, as in a union, beside fifty of people who speak once
    talks = [f"d{i // 20}" for i in range(320)] + [f"e{i}" for i in range(50)]
    found = clusters_of(rows(talks, [f"s{i % 2}" for i in range(320)] + [None] * 50))
    assert (found.by, found.n_dialogues) == ("dialogues", 66)
    assert len(set(found.codes.tolist())) == 66
    assert found.remark.endswith(
        "form 51 groups that share no speaker, of which the largest has 320 of 370 rows"
    )


def test_unknown_speakers_share_nothing():
    found = clusters_of(rows([f"d{i}" for i in range(9)], [None] * 9))
    assert found.codes.tolist() == list(range(9))
    assert found.remark == ""
