"""Files for ELAN, Praat and players, read by readers that are not ours and by ours."""

from dataclasses import replace

import pytest

from models.errors import UserError
from tasks.predict.output.annotations import write_eaf, write_srt, write_textgrid
from tasks.predict.transcripts import read_transcript
from tests.tasks.predict.answers import HOSTILE, answer, utterance

WRITERS = {"a.eaf": write_eaf, "a.TextGrid": write_textgrid, "a.srt": write_srt}
STRANGE = 'a "quote" & <b>\n\x0bnew line, 你好, end'


def written(tmp_path, name, found):
    WRITERS[name](found, tmp_path / "talk.mp4", tmp_path / name)
    return tmp_path / name


def test_pympi_reads_the_eaf(tmp_path):
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling is not installed (extra dev)")
    found = answer(6, last=utterance(7, 6.2, 7, text=STRANGE))
    eaf = elan.Eaf(str(written(tmp_path, "a.eaf", found)))
    assert set(eaf.get_tier_names()) == {
        f"{who}{what}" for who in ("Anna", "Ben")
        for what in ("", " emotion", " valence", " arousal", " dominance")
    }  # fmt: skip
    words = sorted(eaf.get_annotation_data_for_tier("Anna"))
    assert [(a, b) for a, b, _ in words] == [(1200, 2000), (3200, 4000), (5200, 6000)]
    assert words[0][2] == "These are the words of utterance 2."
    assert sorted(eaf.get_annotation_data_for_tier("Ben"))[-1][2] == STRANGE.replace("\x0b", " ")
    emotions = sorted(eaf.get_ref_annotation_data_for_tier("Ben emotion"))
    assert [value for _, _, value, *_ in emotions] == ["joy 0.60", "anger 0.60", "neutral 0.60"]
    assert eaf.get_linked_files()[0]["RELATIVE_MEDIA_URL"] == "./talk.mp4"


def test_praatio_and_textgrid_read_the_textgrid(tmp_path):
    reason = "the extra dev is not installed"
    praatio = pytest.importorskip("praatio.textgrid", reason=reason)
    other = pytest.importorskip("textgrid", reason=reason)
    found = answer(6, last=utterance(7, 6.2, 7, text=STRANGE))
    file = str(written(tmp_path, "a.TextGrid", found))
    grid = praatio.openTextgrid(file, includeEmptyIntervals=False, reportingMode="error")
    assert grid.tierNames[:3] == ("Ben", "Ben emotion", "Ben valence")
    assert [e.label for e in grid.getTier("Ben emotion").entries] == [
        "joy 0.60", "anger 0.60", "neutral 0.60"
    ]  # fmt: skip
    spans = [(e.start, e.end) for e in grid.getTier("Anna").entries]
    assert spans == [(1.2, 2.0), (3.2, 4.0), (5.2, 6.0)]
    again = other.TextGrid.fromFile(file)
    assert [tier.name for tier in again] == list(grid.tierNames)
    assert again[0][-1].mark == 'a "quote" & <b> new line, 你好, end'
    assert again.maxTime == 7.0


def test_srt_and_webvtt_readers_read_the_srt(tmp_path):
    reason = "the extra dev is not installed"
    srt = pytest.importorskip("srt", reason=reason)
    webvtt = pytest.importorskip("webvtt", reason=reason)
    found = answer(4, last=utterance(5, 3725.5, 3727, text=None, speaker=None))
    file = written(tmp_path, "a.srt", found)
    cues = list(srt.parse(file.read_text(encoding="utf-8")))
    assert [cue.index for cue in cues] == [1, 2, 3, 4, 5]
    assert cues[0].content == (
        "(joy 60 %, valence +0.23, arousal -0.16, dominance +0.20)\n"
        "Ben: These are the words of utterance 1."
    )
    assert cues[2].content == "(nobody is heard or seen)"
    assert cues[4].start.total_seconds() == 3725.5  # a cue with no words, for silent films
    assert len(list(webvtt.from_srt(str(file)))) == 5


@pytest.mark.parametrize("name", ["a.eaf", "a.TextGrid"])
def test_words_come_back_through_our_own_reader(tmp_path, name):
    found = answer(6)
    turns = read_transcript(written(tmp_path, name, found), note=lambda sentence: None)
    assert [(t.speaker, t.text) for t in turns] == [
        (u.speaker, u.text) for u in found.utterances if u.text
    ]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_same_bytes_each_time_and_no_path(tmp_path, name):
    first = written(tmp_path, name, answer()).read_bytes()
    assert written(tmp_path, name, answer()).read_bytes() == first
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_overlaps_and_strange_names_stay_readable(tmp_path, name):
    found = replace(answer(0), utterances=(
        utterance(1, 0.0, 2.0, speaker="A"), utterance(2, 1.0, 3.0, speaker="A"),
        utterance(3, 2.0, 2.0, speaker="A (2)"), utterance(4, 2.0004, 3, speaker=HOSTILE),
        utterance(5, 3, 4, speaker=" ", text=HOSTILE), utterance(6, 3, 4, speaker=None),
    ))  # fmt: skip
    turns = read_transcript(written(tmp_path, name, found), note=lambda sentence: None)
    assert len(turns) == 6


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_nothing_said_is_still_a_file_and_a_picture_is_refused(tmp_path, name):
    assert written(tmp_path, name, answer(0)).exists()
    with pytest.raises(UserError, match="is a picture"):
        written(tmp_path, name, answer(1, kind="image"))
