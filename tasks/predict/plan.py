"""What of a medium is looked at: its utterances, and the gaps between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from models.errors import UserError
from tasks.predict.answer import Gap
from tasks.predict.listening.hearing import Heard
from tasks.predict.media import Found
from tasks.predict.transcripts import Turn

Words = Literal["transcript", "subtitles", "asr"]

#: A medium no longer than this, in which nobody pauses for long, is one utterance.
WHOLE_S = 10.0
#: What is looked at together where nobody is heard to speak, and where nobody listened.
WINDOW_S, UNHEARD_S = 5.0, 10.0
#: Shorter pauses are no gaps, and a shorter last window belongs to the one before.
_GAP_S, _REST_S = 0.5, 1.0


class Unanswerable(UserError):
    """Nothing can be said of this medium; of others it may be."""


@dataclass(frozen=True)
class Stretch:
    """One utterance to be.

    Attributes:
        start_s: None with ``end_s``: the whole medium.
        end_s: see ``start_s``.
        speaker: where a transcript names one.
        text: its words.
        language: of the words, as ``en``, where that is known.
        is_heard: False where nobody speaks: what sounds there is no voice.
    """

    start_s: float | None = None
    end_s: float | None = None
    speaker: str | None = None
    text: str | None = None
    is_heard: bool = True
    language: str | None = None


@dataclass(frozen=True)
class Plan:
    """All utterances of a medium.

    Attributes:
        stretches: in order of time.
        words_from: where their words come from.
        gaps: where there is no utterance.
        notes: sentences for people.
        is_cut: stretches are equal parts: those of which nothing is seen are no utterances.
        looked_s: where it ends before the medium does; None where it is whole.
    """

    stretches: tuple[Stretch, ...]
    words_from: Words | None = None
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = field(default=())
    is_cut: bool = False
    looked_s: float | None = None


def plan_of(found: Found, heard: Heard | None) -> Plan:
    """Utterances of a medium without words.

    Args:
        found: the medium.
        heard: None where it has no sound, or nothing to listen with.
    """
    if found.kind == "image":
        return Plan((Stretch(is_heard=False),))
    is_short = found.length_s <= WHOLE_S
    if heard is not None and heard.speech:
        if is_short and len(heard.speech) == 1:
            return Plan((Stretch(),))
        parts = tuple(Stretch(low, high) for low, high in heard.speech)
        return Plan(parts, gaps=gaps_between(heard.speech, found.length_s, "nobody speaks"))
    is_voice = heard is None and found.about.has_audio
    note = "" if is_voice else _without_speech(found, heard)
    notes = (note,) if note else ()
    if is_short:
        is_voice = is_voice or (heard is not None and not found.about.has_video)
        return Plan((Stretch(is_heard=is_voice),), notes=notes)
    window_s = WINDOW_S if found.about.has_video else UNHEARD_S
    parts = tuple(
        Stretch(low, high, is_heard=is_voice) for low, high in windows(found.length_s, window_s)
    )
    return Plan(parts, notes=notes, is_cut=True)


def _without_speech(found: Found, heard: Heard | None) -> str:
    """What is to be told where nobody is heard; raises where that leaves nothing to look at."""
    silent = heard is not None and heard.is_silent
    if found.about.has_video:
        if heard is None:
            return ""
        return "the sound is silent" if silent else "nobody is heard to speak"
    if silent:
        raise Unanswerable("it holds only silence")
    if found.length_s > WHOLE_S:
        raise Unanswerable(
            "nobody is heard to speak in it; if somebody does, say where with --transcript"
        )
    return "nobody is surely heard to speak, so the whole sound is taken as one utterance"


def windows(length_s: float, window_s: float) -> list[tuple[float, float]]:
    """Equal parts from the beginning; a short rest belongs to the last."""
    count = max(1, int(length_s / window_s))
    ends = [window_s * number for number in range(1, count)]
    if length_s - window_s * count >= _REST_S:
        ends.append(window_s * count)
    return list(zip([0.0, *ends], [*ends, length_s], strict=True))


def plan_of_turns(found: Found, turns: Sequence[Turn], words_from: Words, where: str) -> Plan:
    """Utterances as a transcript has them.

    Args:
        found: the medium.
        turns: in order of time; they may overlap.
        words_from: what kind of transcript it is.
        where: its name, for messages.
    """
    end_s = found.length_s
    if found.kind == "image":
        words = " ".join(turn.text for turn in turns) or None
        return Plan((Stretch(text=words, is_heard=False),), words_from)
    inside = [turn for turn in turns if turn.start_s < end_s]
    if not inside:
        raise Unanswerable(
            f"{where} has no turn within the {end_s:.1f} s of {found.path.name}; it may belong to "
            "another file"
        )
    left_out = len(turns) - len(inside)
    notes = (f"{left_out} turns of {where} begin after the end and were left out",)
    parts = tuple(
        Stretch(
            turn.start_s,
            min(turn.end_s, end_s),
            turn.speaker,
            turn.text,
            language=turn.language,
        )
        for turn in inside
    )
    spans = [(part.start_s or 0.0, part.end_s or 0.0) for part in parts]
    return Plan(
        parts, words_from, gaps_between(spans, end_s, "no words"), notes if left_out else ()
    )


def gaps_between(
    spans: Sequence[tuple[float, float]], length_s: float, reason: str
) -> tuple[Gap, ...]:
    """What of a medium lies in no span; spans may overlap."""
    found, reached = [], 0.0
    for low, high in [*sorted(spans), (length_s, length_s)]:
        if low - reached >= _GAP_S:
            found.append(Gap(reached, low, reason))
        reached = max(reached, high)
    return tuple(found)
