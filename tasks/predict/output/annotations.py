"""An answer for the tools that researchers annotate in: ELAN, Praat, and subtitles.

Every writer takes the answer, its medium and the file to write.
"""

import mimetypes
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from models.errors import UserError
from tasks.atomic import replacing
from tasks.predict.answer import Answer, Utterance

#: What XML 1.0 cannot hold, in any spelling.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NOBODY = "speech"
_SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
_ELAN = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


@dataclass(frozen=True)
class Tier:
    """Utterances of one speaker, none of which overlap.

    Attributes:
        name: of the speaker; with a number where one speaker's utterances overlap.
        speaker: None where nobody is told apart.
        utterances: in order of time.
    """

    name: str
    speaker: str | None
    utterances: Sequence[Utterance]


def write_srt(answer: Answer, medium: Path, path: Path) -> None:
    """Write subtitles: a cue for each utterance with its emotion, then its words if it has any."""
    _check_time(answer, medium)
    cues = [
        f"{number}\n{_srt_time(u.start_s)} --> {_srt_time(max(u.end_s, u.start_s + 0.001))}\n"
        + "\n".join(_cue_lines(u))
        for number, u in enumerate(_in_order(answer.utterances), 1)
    ]
    _write(path, "\n\n".join(cues) + "\n" if cues else "")


def write_textgrid(answer: Answer, medium: Path, path: Path) -> None:
    """Write Praat's TextGrid: for each speaker a tier of words and one for each thing predicted."""
    _check_time(answer, medium)
    end_s = max([answer.medium.duration_s, 0.001, *(u.end_s for u in answer.utterances)])
    tiers = [
        (name, list(_intervals(tier.utterances, texts, end_s)))
        for tier in tiers_of(answer)
        for name, texts in _layers(tier)
    ]
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ",
        f"xmax = {end_s!r} ", "tiers? <exists> ", f"size = {len(tiers)} ", "item []: ",
    ]  # fmt: skip
    for place, (name, intervals) in enumerate(tiers, 1):
        lines += [
            f"    item [{place}]:", '        class = "IntervalTier" ',
            f"        name = {_praat(name)} ", "        xmin = 0 ", f"        xmax = {end_s!r} ",
            f"        intervals: size = {len(intervals)} ",
        ]  # fmt: skip
        for number, (low_s, high_s, text) in enumerate(intervals, 1):
            lines += [
                f"        intervals [{number}]:", f"            xmin = {low_s!r} ",
                f"            xmax = {high_s!r} ", f"            text = {_praat(text)} ",
            ]  # fmt: skip
    _write(path, "\n".join(lines) + "\n")


def write_eaf(answer: Answer, medium: Path, path: Path) -> None:
    """Write ELAN's EAF: a tier of words for each speaker, and below it one for each prediction.

    The medium is named without folders: ELAN looks for it beside the file, or asks.
    """
    _check_time(answer, medium)
    # the format demands a date; a fixed one keeps the bytes the same
    root = ET.Element("ANNOTATION_DOCUMENT", {_SCHEMA: _ELAN}, AUTHOR="affectloom",
                      DATE="1970-01-01T00:00:00Z", FORMAT="3.0", VERSION="3.0")  # fmt: skip
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if answer.medium.kind != "text":
        kind = mimetypes.guess_type(medium.name)[0] or f"{answer.medium.kind}/*"
        url = {name: f"./{_xml(medium.name)}" for name in ("MEDIA_URL", "RELATIVE_MEDIA_URL")}
        ET.SubElement(header, "MEDIA_DESCRIPTOR", url, MIME_TYPE=kind)
    order = ET.SubElement(root, "TIME_ORDER")
    slots: dict[int, str] = {}
    tiers = tiers_of(answer)
    for ms in sorted({ms for tier in tiers for u in tier.utterances for ms in _span_ms(u)}):
        slots[ms] = f"ts{len(slots) + 1}"
        ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slots[ms], TIME_VALUE=str(ms))
    ids = (f"a{number}" for number in count(1))
    for tier in tiers:
        _add_tier(root, tier, slots, ids)
    ET.SubElement(root, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID="default-lt",
                  GRAPHIC_REFERENCES="false", TIME_ALIGNABLE="true")  # fmt: skip
    ET.SubElement(root, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID="prediction",
                  CONSTRAINTS="Symbolic_Association", GRAPHIC_REFERENCES="false",
                  TIME_ALIGNABLE="false")  # fmt: skip
    ET.SubElement(
        root, "CONSTRAINT", STEREOTYPE="Symbolic_Association",
        DESCRIPTION="1-1 association with a parent annotation",
    )  # fmt: skip
    ET.indent(root)
    _write(path, '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n")


def _add_tier(root: ET.Element, tier: Tier, slots: Mapping[int, str], ids: Iterator[str]) -> None:
    """A tier with times and words, and tiers that depend on it, one for each thing predicted."""
    parents: dict[str, str] = {}
    for name, texts in _layers(tier):
        is_child = bool(parents)
        attributes = {"TIER_ID": _xml(name), "LINGUISTIC_TYPE_REF": "default-lt"}
        if tier.speaker is not None:
            attributes["PARTICIPANT"] = _xml(tier.speaker)
        if is_child:
            attributes |= {"PARENT_REF": _xml(tier.name), "LINGUISTIC_TYPE_REF": "prediction"}
        element = ET.SubElement(root, "TIER", attributes)
        for utterance, text in zip(tier.utterances, texts, strict=True):
            if is_child and not text:
                continue
            place = ET.SubElement(element, "ANNOTATION")
            own = next(ids)
            if is_child:
                of = {"ANNOTATION_REF": parents[utterance.id]}
                found = ET.SubElement(place, "REF_ANNOTATION", of, ANNOTATION_ID=own)
            else:
                parents[utterance.id] = own
                start, end = (slots[ms] for ms in _span_ms(utterance))
                of = {"TIME_SLOT_REF1": start, "TIME_SLOT_REF2": end}
                found = ET.SubElement(place, "ALIGNABLE_ANNOTATION", of, ANNOTATION_ID=own)
            ET.SubElement(found, "ANNOTATION_VALUE").text = _xml(text)


def tiers_of(answer: Answer) -> list[Tier]:
    """Speakers in order of appearance; who talks over themselves gets a further tier."""
    layers: dict[tuple[str | None, int], list[Utterance]] = {}
    for utterance in _in_order(answer.utterances):
        number = 0
        while True:
            held = layers.setdefault((utterance.speaker, number), [])
            # as whole milliseconds, so that rounding cannot make an overlap
            if not held or _span_ms(held[-1])[1] <= _span_ms(utterance)[0]:
                held.append(utterance)
                break
            number += 1
    taken: set[str] = set()
    tiers = []
    for (speaker, _), utterances in layers.items():
        base = " ".join((speaker or _NOBODY).split()) or _NOBODY
        name = next(n for n in _numbered(base) if n not in taken)
        taken.add(name)
        tiers.append(Tier(name, speaker, utterances))
    return tiers


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base} ({number})"
        number += 1


def _layers(tier: Tier) -> Iterator[tuple[str, list[str]]]:
    """Name of each tier of a speaker and its text for each utterance; the words are first."""
    yield tier.name, [u.text or "" for u in tier.utterances]
    for target in dict.fromkeys(t for u in tier.utterances for t in u.classes):
        found = [u.classes.get(target) for u in tier.utterances]
        name = f"{tier.name} {'emotion' if target == 'category' else target}"
        yield name, [f"{c.label} {c.confidence:.2f}" if c else "" for c in found]
    columns = dict.fromkeys((t, c) for u in tier.utterances for t in u.values for c in u.values[t])
    for target, column in columns:
        numbers = [u.values.get(target, {}).get(column) for u in tier.utterances]
        yield f"{tier.name} {column}", [f"{n.value:.3f}" if n else "" for n in numbers]


def _intervals(
    utterances: Sequence[Utterance], texts: Sequence[str], end_s: float
) -> Iterator[tuple[float, float, str]]:
    """Intervals that cover the whole time, as Praat demands; empty where nobody speaks."""
    at_s = 0.0
    for utterance, text in zip(utterances, texts, strict=True):
        start_ms, stop_ms = _span_ms(utterance)
        start_s, stop_s = start_ms / 1000, min(stop_ms / 1000, end_s)
        if start_s >= stop_s:  # rounded away at the very end
            continue
        if start_s > at_s:
            yield at_s, start_s, ""
        yield start_s, stop_s, text
        at_s = stop_s
    if at_s < end_s:
        yield at_s, end_s, ""


def _in_order(utterances: Iterable[Utterance]) -> list[Utterance]:
    return sorted(utterances, key=lambda u: (u.start_s, u.end_s))


def _span_ms(utterance: Utterance) -> tuple[int, int]:
    """Beginning and end, at least a millisecond apart."""
    start = round(utterance.start_s * 1000)
    return start, max(start + 1, round(utterance.end_s * 1000))


def _srt_time(time_s: float) -> str:
    ms = round(time_s * 1000)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"


def _cue_lines(utterance: Utterance) -> Iterator[str]:
    said = [f"{c.label} {100 * c.confidence:.0f} %" for c in utterance.classes.values()]
    said += [
        f"{column} {number.value:+.2f}"
        for values in utterance.values.values()
        for column, number in values.items()
    ]
    yield f"({', '.join(said) or utterance.reason or 'nothing could be said'})"
    words = " ".join((utterance.text or "").split()).replace("-->", "->")
    if words:
        yield f"{utterance.speaker}: {words}" if utterance.speaker else words


def _check_time(answer: Answer, medium: Path) -> None:
    if answer.medium.kind == "image":
        raise UserError(f"{medium.name} is a picture, in which no time passes; see its predictions")


def _praat(text: str) -> str:
    flat = " ".join(text.replace("\0", " ").split())
    return '"' + flat.replace('"', '""') + '"'


def _xml(text: str) -> str:
    return _NO_XML.sub(" ", text)


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))
