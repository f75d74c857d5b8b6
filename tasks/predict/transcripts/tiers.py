"""Transcripts of tools for annotation: Praat's TextGrid and ELAN's EAF."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from models.errors import UserError
from tasks.predict.transcripts.turns import Note, Row

# In both forms of a TextGrid only strings, flags and numbers that stand alone mean anything.
_TOKEN = re.compile(
    r'"((?:[^"]|"")*)"|(<exists>|<absent>)|(?<!\S)([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\S)'
    r"|![^\n]*"
)
#: Names of tiers that hold words without saying whose.
_NOBODY = {"text", "transcript", "transcription", "utterance", "utterances", "words", "word",
           "sentence", "sentences", "ort", "ortho", "speech"}  # fmt: skip
#: A tier whose name ends so holds no words that somebody said.
_NO_WORDS = {"phones", "phone", "phonemes", "phoneme", "syllables", "mau", "kan", "emotion",
             "category", "valence", "arousal", "dominance", "sentiment", "vad", "gaps"}  # fmt: skip


def read_textgrid(name: str, text: str, note: Note) -> list[Row]:
    """Intervals with words, long form or short; the speaker is the tier's name."""
    tokens = [found for found in _TOKEN.finditer(text) if not found[0].startswith("!")]
    try:
        return list(_intervals(iter(tokens), name, note))
    except (StopIteration, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{name} is not a whole TextGrid: something is missing near its end or a number is "
            "not where it should be; save it again in Praat"
        ) from error


def _intervals(tokens: Iterator[re.Match[str]], name: str, note: Note) -> Iterator[Row]:
    def string() -> str:
        found = next(tokens)[1]
        if found is None:
            raise ValueError("a string is missing")
        return found.replace('""', '"')

    def number() -> float:
        return float(next(tokens)[3])

    if "TextGrid" not in (string(), string()):
        raise UserError(f"{name} is a file of Praat, but no TextGrid; save the TextGrid")
    _ = number(), number()  # the whole file's times, and below the tier's
    if next(tokens)[2] != "<exists>":
        return
    for _ in range(int(number())):
        is_interval, tier = string() == "IntervalTier", string()
        _ = number(), number()
        last = re.split(r"[\s\-_:@]+", tier.strip().lower())[-1]
        is_read = is_interval and last not in _NO_WORDS
        if not is_read:
            note(f"{name}: the tier '{tier}' holds no turns (left out)")
        for place in range(1, int(number()) + 1):
            start_s, end_s = number(), number() if is_interval else 0.0
            words = string()
            if is_read and words.strip():
                speaker = None if tier.strip().lower() in _NOBODY else tier
                yield Row(f"interval {place} of tier '{tier}'", start_s, end_s, speaker, words)


def read_eaf(name: str, text: str) -> list[Row]:
    """Annotations of the tiers that no other tier leads; their speaker is the participant."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{name} defines entities of its own, which is not read; save it in ELAN")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise UserError(f"{name} is no whole XML ({error}); save it again") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise UserError(f"{name} is XML, but not of ELAN (EAF); give an .eaf, or SRT or VTT")
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    rows = []
    for tier in root.iter("TIER"):
        if tier.get("PARENT_REF") is not None:
            continue
        label = tier.get("TIER_ID") or ""
        speaker = tier.get("PARTICIPANT") or (None if label.strip().lower() in _NOBODY else label)
        for found in tier.iter("ALIGNABLE_ANNOTATION"):
            where = f"annotation {found.get('ANNOTATION_ID')} of tier '{label}'"
            start_s, end_s = (
                _seconds(name, where, slots.get(found.get(f"TIME_SLOT_REF{n}"))) for n in (1, 2)
            )
            words = found.findtext("ANNOTATION_VALUE") or ""
            rows.append(Row(where, start_s, end_s, speaker, words))
    return rows


def _seconds(name: str, where: str, value: str | None) -> float:
    try:
        return int(value or "") / 1000
    except ValueError:
        raise UserError(f"{name}, {where}: has no time; align it in ELAN") from None
