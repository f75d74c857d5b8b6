"""Where utterances begin and end, and who speaks them."""

from pathlib import Path

import numpy as np
import pytest

from models.speech_activity import FRAME, RATE_HZ
from tasks.media.decoding import Media
from tasks.predict.distance import Range, beyond, told
from tasks.predict.listening.hearing import (
    LONGEST_S,
    SHORTEST_S,
    Heard,
    cut_at_quiet_places,
    joined,
)
from tasks.predict.listening.voices import tell_apart
from tasks.predict.media import Found
from tasks.predict.plan import Unanswerable, gaps_between, plan_of, plan_of_turns, windows
from tasks.predict.transcripts import Turn


def found(length_s, *, sound=True, picture=False):
    kind = "video" if picture else "audio"
    return Found("x", Path("x.mp4"), Media(kind, "mp4", length_s, sound, picture))


def spans(plan):
    return [(part.start_s, part.end_s) for part in plan.stretches]


def test_a_short_clip_with_one_stretch_is_whole_as_clips_of_corpora_are():
    assert spans(plan_of(found(4.0), Heard(((0.5, 3.0),), False))) == [(None, None)]
    two = Heard(((0.5, 1.0), (2.0, 3.0)), False)
    assert spans(plan_of(found(4.0), two)) == [(0.5, 1.0), (2.0, 3.0)]


def test_stretches_of_speech_are_utterances_and_the_rest_gaps():
    plan = plan_of(found(30.0), Heard(((1.0, 4.0), (4.2, 9.0), (20.0, 30.0)), False))
    assert spans(plan) == [(1.0, 4.0), (4.2, 9.0), (20.0, 30.0)]
    assert [(gap.start_s, gap.end_s) for gap in plan.gaps] == [(0.0, 1.0), (9.0, 20.0)]


def test_music_and_silence_are_a_sentence():
    with pytest.raises(Unanswerable, match="--transcript"):
        plan_of(found(30.0), Heard((), False))
    with pytest.raises(Unanswerable, match="only silence"):
        plan_of(found(3.0), Heard((), True))


def test_a_video_in_which_nobody_speaks_is_cut_and_its_sound_is_no_voice():
    plan = plan_of(found(12.0, picture=True), Heard((), False))
    assert spans(plan) == [(0.0, 5.0), (5.0, 10.0), (10.0, 12.0)]
    assert not any(part.is_heard for part in plan.stretches)
    assert plan.is_cut
    assert plan.notes == ("nobody is heard to speak",)


def test_what_nobody_listened_to_keeps_its_sound():
    plan = plan_of(found(25.0), None)
    assert spans(plan) == [(0.0, 10.0), (10.0, 20.0), (20.0, 25.0)]
    assert all(part.is_heard for part in plan.stretches)


@pytest.mark.parametrize(
    ("length_s", "ends"),
    [(3.0, [3.0]), (5.4, [5.4]), (10.9, [5.0, 10.9]), (11.0, [5.0, 10.0, 11.0])],
)
def test_a_short_rest_belongs_to_the_last_window(length_s, ends):
    assert [end for _, end in windows(length_s, 5.0)] == ends


def test_turns_that_overlap_are_kept_and_leave_no_gap():
    turns = [Turn(0.0, 5.0, "a", "one"), Turn(1.0, 2.0, "b", "two"), Turn(6.0, 99.0, "a", "three")]
    plan = plan_of_turns(found(8.0), turns, "transcript", "words.srt")
    assert spans(plan) == [(0.0, 5.0), (1.0, 2.0), (6.0, 8.0)]
    assert [(gap.start_s, gap.end_s) for gap in plan.gaps] == [(5.0, 6.0)]
    assert gaps_between([(0.0, 5.0), (1.0, 2.0)], 5.2, "x") == ()


def test_only_short_pauses_are_bridged():
    assert joined([(0.0, 1.0), (1.2, 2.0), (2.5, 3.0)]) == [(0.0, 2.0), (2.5, 3.0)]


def test_long_speech_is_cut_where_it_is_quiet():
    hop_s = FRAME / RATE_HZ
    level_db = np.full(round(40 / hop_s), -20.0)
    for quiet_s in (7.0, 13.0, 19.0, 26.0, 31.0):
        level_db[round((quiet_s - 0.2) / hop_s) : round((quiet_s + 0.2) / hop_s)] = -60.0
    parts = list(cut_at_quiet_places(1.0, 39.0, level_db))
    assert parts[0][0] == 1.0
    assert parts[-1][1] == 39.0
    assert [end for _, end in parts[:-1]] == [start for start, _ in parts[1:]]
    assert all(SHORTEST_S <= end - start <= LONGEST_S for start, end in parts)
    cuts = [end for _, end in parts[:-1]]
    assert all(min(abs(cut - q) for q in (7, 13, 19, 26, 31)) < 0.3 for cut in cuts)


def test_speech_without_a_quiet_place_is_cut_all_the_same():
    parts = list(cut_at_quiet_places(0.0, 100.0, np.full(3200, -20.0)))
    assert all(0 < end - start <= LONGEST_S for start, end in parts)


def test_voices_that_are_alike_are_one_person_by_first_appearance():
    random = np.random.default_rng(0)
    people = np.repeat(np.eye(3), 8, axis=1)
    who = [2, 0, 2, 1, 0, 2]
    voices = people[who] + 0.05 * np.abs(random.standard_normal((6, 24)))
    voices /= np.linalg.norm(voices, axis=1, keepdims=True)
    known = np.ones(6, bool)
    assert tell_apart(voices, known, [3.0] * 6) == [1, 2, 1, 3, 2, 1]
    known[1] = False
    assert tell_apart(voices, known, [3.0] * 6) == [1, 0, 1, 2, 3, 1]


def test_a_short_utterance_founds_no_person_of_its_own():
    voices = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert tell_apart(voices, np.ones(3, bool), [3.0, 3.0, 0.4]) == [1, 2, 2]
    assert tell_apart(voices[:1], np.ones(1, bool), [0.4]) == [1]
    assert tell_apart(voices, np.zeros(3, bool), [3.0] * 3) == [0, 0, 0]


def test_rows_beyond_nearly_all_training_rows_are_far():
    random = np.random.default_rng(0)
    rows = random.standard_normal((1000, 8)) * np.array([1, 2, 3, 4, 5, 6, 7, 0])
    limits = Range.of(rows)
    assert (limits.distances(rows) > limits.limit).mean() == pytest.approx(0.01, abs=0.002)
    features = {"audio": np.stack([rows[0], rows[0] + 100])}
    present = {"audio": np.array([True, True]), "text": np.array([False, True])}
    assert beyond({"audio": limits}, features, present) == [[], ["audio"]]
    assert beyond({"audio": limits}, features, {"audio": np.array([True, False])}) == [[], []]
    assert told(["audio", "text"]).startswith("the sound and words are further")
    assert told([]) == ""
