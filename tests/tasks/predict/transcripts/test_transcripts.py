"""Transcripts in every form, whole and broken."""

import contextlib
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from av.subtitles.subtitle import SubtitleSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tasks.predict.transcripts import Turn, embedded_subtitles, read_transcript
from tests.tasks import media_factory

TURNS = [Turn(0.5, 2.0, "Anna", "Hello there."), Turn(2.25, 4.0, "Ben", "Oh, “you”!")]

SRT = """1
00:00:00,500 --> 00:00:02,000
[Anna]: <i>Hello</i>
there.

2
00:00:02,250 --> 00:00:04,000 X1:0
[Ben]: {\\an8}Oh, “you”!
"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE a remark
over two lines

first
00:00.500 --> 00:02.000 align:start
<v Anna>Hello <b>there.</b></v>

00:02.250 --> 00:04.000
<v.loud Ben>Oh, “you”!
"""
TXT = """An interview

00:00.5 - 00:02.0 Anna: Hello
there.
[0:02.25 --> 0:04] Ben: Oh, “you”!
"""
LABELS = "0.5\t2.0\tAnna: Hello there.\n2.25\t4.0\tBen: Oh, “you”!\n"
CSV = 'Begin,END_s,Who,words,more\n0.5,2.0,Anna,Hello there.,1\n2.25,4,Ben,"Oh, “you”!",2\n'
GERMAN = "start;dauer;end;speaker;text\n0,5;1,5;2,0;Anna;Hello there.\n0:02,25;;4;Ben;Oh, “you”!\n"
WHISPERX = json.dumps({"segments": [
    {"start": 0.5, "end": 2.0, "text": " Hello there.", "speaker": "Anna", "words": []},
    {"start": 2.25, "end": 4.0, "text": " Oh, “you”!", "speaker": "Ben"},
]})  # fmt: skip
CHUNKS = json.dumps({"chunks": [
    {"timestamp": [0.5, 2.0], "text": "Hello there.", "speaker": "Anna"},
    {"timestamp": [2.25, 4.0], "text": "Oh, “you”!", "speaker": "Ben"},
]})  # fmt: skip
OURS = json.dumps({"format": 1, "utterances": [
    {"start_s": 0.5, "end_s": 2.0, "text": "Hello there.", "speaker": "Anna"},
    {"start_s": 2.0, "end_s": 2.2, "text": None, "speaker": None},
    {"start_s": 2.25, "end_s": 4.0, "text": "Oh, “you”!", "speaker": "Ben"},
]})  # fmt: skip
LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "Anna"
        xmin = 0
        xmax = 4
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 2
            text = "Hello there."
        intervals [3]:
            xmin = 2
            xmax = 4
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "Ben"
        xmin = 0
        xmax = 4
        intervals: size = 1
        intervals [1]:
            xmin = 2.25
            xmax = 4
            text = "Oh, “you”!"
    item [3]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 4
        points: size = 1
        points [1]:
            number = 1
            mark = "a ""click"" 7"
"""
SHORT_GRID = (
    """File type = "ooTextFile"
"TextGrid"
0
4 ! the end
<exists>
3
"IntervalTier" "Anna" 0 4 1 0.5 2 "Hello there."
"Anna - phones"... 
""".replace('"Anna - phones"... \n', '"IntervalTier" "Anna - phones" 0 4 1 0 4 "h"\n')
    + ('"IntervalTier" "Ben" 0 4 1 2.25 4 "Oh, “you”!"\n')
)
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT>
<TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="500"/><TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="2000"/>
<TIME_SLOT TIME_SLOT_ID="c" TIME_VALUE="2250"/><TIME_SLOT TIME_SLOT_ID="d" TIME_VALUE="4000"/>
</TIME_ORDER>
<TIER TIER_ID="Anna"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">
<ANNOTATION_VALUE>Hello there.</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="second" PARTICIPANT="Ben"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="c" TIME_SLOT_REF2="d">
<ANNOTATION_VALUE>Oh, “you”!</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="translation" PARENT_REF="Anna"><ANNOTATION>
<REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
<ANNOTATION_VALUE>Salut.</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>
"""
FORMS = {
    "a.srt": SRT, "a.vtt": VTT, "a.txt": TXT, "labels.txt": LABELS, "a.csv": CSV, "b.csv": GERMAN,
    "whisperx.json": WHISPERX, "chunks.json": CHUNKS, "ours.json": OURS, "long.TextGrid": LONG_GRID,
    "short.TextGrid": SHORT_GRID, "a.eaf": EAF,
}  # fmt: skip


def read(tmp_path, content, name="words.txt", encoding="utf-8", **how):
    (tmp_path / name).write_bytes(content.encode(encoding))
    return read_transcript(tmp_path / name, **how)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_form_says_the_same(tmp_path, form):
    assert read(tmp_path, FORMS[form], form) == TURNS


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_content_decides_whatever_name_encoding_and_line_ends(tmp_path, form, encoding):
    content = FORMS[form].replace("\n", "\r\n")
    assert read(tmp_path, content, "words.dat", encoding) == TURNS


def test_another_encoding_is_told(tmp_path):
    notes = []
    read(tmp_path, SRT, encoding="cp1252", note=notes.append)
    assert notes == ["words.txt is not UTF-8; it was read as Western European text (cp1252)"]


def test_tables_of_whisper_count_milliseconds(tmp_path):
    found = read(tmp_path, "start\tend\ttext\n500\t2000\tHello\n2250\t4000\tOh\n", "a.tsv")
    assert [(turn.start_s, turn.end_s) for turn in found] == [(0.5, 2.0), (2.25, 4.0)]


def test_a_line_that_says_no_end_ends_where_the_next_begins(tmp_path):
    found = read(tmp_path, "[00:01] Anna: Yes\n[00:03] Ben: No\n", length_s=5.0)
    assert found == [Turn(1.0, 3.0, "Anna", "Yes"), Turn(3.0, 5.0, "Ben", "No")]
    with pytest.raises(UserError, match="line 2: the last turn has no end"):
        read(tmp_path, "[00:01] Anna: Yes\n[00:03] Ben: No\n")


def test_two_voices_of_a_cue_are_two_turns(tmp_path):
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Anna>Yes &amp; no</v>\n<v Ben>1 < 2</v>\n"
    assert read(tmp_path, text) == [
        Turn(1.0, 2.0, "Anna", "Yes & no"), Turn(1.0, 2.0, "Ben", "1 < 2")
    ]  # fmt: skip


def test_a_script_in_a_cue_stays_text_or_goes(tmp_path):
    text = "1\n00:00:01,000 --> 00:00:02,000\n2 < 3 <script>alert(1)</script>\n"
    assert read(tmp_path, text)[0].text == "2 < 3 alert(1)"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("start,end,text\n3,4,b\n1,2,a\n", "not in order of time; they were sorted"),
        ("start,end,text\n1,2,a\n1,2,a\n", "turns that stand there twice: 1 (read once)"),
        ("start,end,text\n1,2,a\n3,3,b\n", "turns that last no time: 1 (left out)"),
        ("start,end,text\n1,2,a\n3,4,\n", "turns without words: 1 (left out)"),
        ("start,end,text\n1,3,a\n2,4,b\n", "turns over the same speaker's last: 1 (kept)"),
        ("start,end,text\n1,2,a\n9,12,b\n", "turns that end after the medium: 1 (cut to it)"),
        ("start,end,text\n1,2,a\n2,3,b\n11,12,c\n", "turns after the medium's end: 1 (left out)"),
    ],
)
def test_what_is_harmless_is_mended_and_told(tmp_path, text, note):
    notes = []
    found = read(tmp_path, text, length_s=10.0, note=notes.append)
    assert len(notes) == 1
    assert note in notes[0]
    assert found == sorted(found, key=lambda turn: turn.start_s)
    assert all(turn.start_s < turn.end_s <= 10.0 for turn in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("Hello there.\nNo times here.\n", "no transcript with times"),
        ("1990 - 1995 we lived there.\n12 30 people came.\n", "no transcript with times"),
        ("1\n00:00:03,000 --> 00:00:02,000\nHi\n", "line 2: ends at 2 s, before it begins at 3 s"),
        ("1\n00:00:xx,000 --> 00:00:02,000\nHi\n\n2\n00:00:03,000 --> 00:00:04,000\nHo", "line 2"),
        ("1\n00:00:03,000 --> 00:99:74,000\nHi\n", "60 minutes and 60 seconds"),
        ("00:10 - 00:75 Anna: Hi\n", "line 1: '00:75' is no time"),
        ("start,end,text\n1,2,a\nx,2,b\n", "row 2: start: 'x' is no time"),
        ("start,end,text\n1,2,a\n,2,b\n", "row 2: does not say when it begins"),
        ("start,end,text\n1,2,a,b\n", "row 1: has 4 cells, the header 3"),
        ("start,end,text\n-1,2,a\n", "row 1: begins at -1 s"),
        ("start,end,text\n1,2,\n", "no turn with words"),
        ('{"segments": [{"start": NaN, "end": 2, "text": "a"}]}', "segment 1: a time is no finite"),
        ('{"segments": [{"start": true, "end": 2, "text": "a"}]}', "segment 1: start: True"),
        ('{"segments": [7]}', "segment 1: is no object"),
        ('{"segments": {}}', "has no list of segments"),
        ('{"segments": [', "is no JSON"),
        ("start,end,text\n61,62,a\n63,64,b\n", "row 1: .* transcript of another file"),
        (LONG_GRID[:400], "not a whole TextGrid"),
        (SHORT_GRID.replace('"TextGrid"', '"Pitch"'), "no TextGrid"),
        (EAF[:600], "no whole XML"),
        ("<tt><p begin='1s'>Hi</p></tt>", "not of ELAN"),
        (EAF.replace('TIME_VALUE="500"', ""), "annotation a1 of tier 'Anna': has no time"),
        ("<!DOCTYPE x [<!ENTITY e 'ha'>]>" + EAF.partition("?>")[2], "entities of its own"),
        ("a\0b\0\0\0c", "is no text"),
    ],
)
def test_what_matters_is_one_sentence_with_file_and_row(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, text, length_s=60.0)
    assert "words.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transcript_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.srt cannot be read"):
        read_transcript(tmp_path / "none.srt")


def with_subtitles(folder, name, codec, cues):
    """A video of 5 s with cues (start in ms, length in ms, text)."""
    plain = media_factory.write(folder / "plain.mp4", times_s=np.arange(50) / 10)
    with av.open(str(plain)) as source, av.open(str(folder / name), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        words = out.add_stream(codec)
        words.codec_context.time_base = Fraction(1, 1000)
        words.codec_context.subtitle_header = _HEADER
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for start_ms, length_ms, text in cues:
            line = f"0,0,Default,,0,0,0,,{text}"
            found = SubtitleSet.create(line.encode(), 0, length_ms, start_ms * 1000)
            packet = words.codec_context.encode_subtitle(found)
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = start_ms
            packet.duration = length_ms
            out.mux(packet)
    return folder / name


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mov_text"), ("a.mkv", "srt")])
def test_subtitles_inside_a_video_are_read(tmp_path, name, codec):
    cues = [(500, 1500, "Hello <i>there</i>."), (2250, 1500, "Oh, “you”!")]
    assert embedded_subtitles(with_subtitles(tmp_path, name, codec, cues)) == [
        Turn(0.5, 2.0, None, "Hello there."), Turn(2.25, 3.75, None, "Oh, “you”!")
    ]  # fmt: skip


def test_subtitles_inside_a_video_that_last_no_time_are_none(tmp_path):
    assert embedded_subtitles(with_subtitles(tmp_path, "a.mkv", "srt", [(500, 0, "Hello")])) == []


_HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname\n"
    b"Style: Default,Arial\n\n[Events]\nFormat: Layer, Start, End, Style, Text\n"
)


def test_a_video_without_subtitles_has_none(tmp_path):
    assert embedded_subtitles(media_factory.write(tmp_path / "a.mp4", times_s=np.arange(5))) == []


def test_a_file_that_is_no_medium_has_no_subtitles_and_says_so(tmp_path):
    (tmp_path / "a.mp4").write_text("nothing")
    with pytest.raises(UserError, match="does not begin like any known media"):
        embedded_subtitles(tmp_path / "a.mp4")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_damaged_transcripts_are_turns_or_one_sentence(tmp_path, form, data):
    content = FORMS[form].encode()
    begin = data.draw(st.integers(0, len(content)))
    end = begin + data.draw(st.integers(0, 12))
    damaged = content[:begin] + data.draw(st.binary(max_size=6)) + content[end:]
    (tmp_path / form).write_bytes(damaged)
    turns = []
    with contextlib.suppress(UserError):
        turns = read_transcript(tmp_path / form, 100.0)
        assert turns
    assert all(0 <= t.start_s < t.end_s <= 100.0 and t.text.strip() for t in turns)


def test_languages_that_a_file_says_come_along(tmp_path):
    segments = '[{"start": 0, "end": 1, "text": "Hallo"}, {"start": 1, "end": 2, "text": "Hi", '
    text = '{"language": "de", "segments": ' + segments + '"language": "en-GB"}]}'
    assert [turn.language for turn in read(tmp_path, text)] == ["de", "en-GB"]
    text = "start,end,text,language\n0,1,Hallo,de\n1,2,Hm,\n2,3,Hi,English of England\n"
    assert [turn.language for turn in read(tmp_path, text)] == ["de", None, None]


@pytest.mark.parametrize(
    ("head", "line", "words"),
    [
        ("WEBVTT\n\n00:00.000 --> 00:01.000\n", "<v ", "<v"),
        ("1\n00:00:00,000 --> 00:00:01,000\n", "<a ", "<a"),
        ("1\n00:00:00,000 --> 00:00:01,000\n", "{\\", "{\\"),
        ("00:00 - 00:01 Anna: yes\n", " ", "yes x"),
    ],
    ids=["voices", "tags", "commands", "blanks"],
)
def test_a_line_of_beginnings_is_read_in_one_pass(tmp_path, head, line, words):
    """By the square of its length this would take hours."""
    path = tmp_path / "t.txt"
    path.write_text(head + 300_000 * line + "x\n")
    (turn,) = read_transcript(path)
    assert turn.text.startswith(words)


def test_half_a_character_is_written_as_a_question_mark(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(
        '{"segments": [{"start": 0, "end": 1, "text": "so \\ud800", "speaker": "\\udfff"}]}'
    )
    (turn,) = read_transcript(path)
    assert (turn.text, turn.speaker) == ("so ?", "?")
