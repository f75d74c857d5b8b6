"""What a model says of one medium: the content of ``predictions.json``, and what is drawn from it.

Nothing here names the machine, the date or the model's place, so that the same model says the same
bytes anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: Of ``predictions.json``; raised when a key changes its meaning.
FORMAT = 1

Kind = Literal["video", "audio", "image", "text"]


@dataclass(frozen=True)
class Medium:
    """The file that was looked at.

    Attributes:
        name: of the file, without folders.
        kind: what it holds, by content; ``text`` is a transcript alone.
        duration_s: 0 for a picture; of a transcript where its last turn ends.
        size_px: width and height as a person sees it, rotated; None without pictures.
    """

    name: str
    kind: Kind
    duration_s: float
    size_px: tuple[int, int] | None = None


@dataclass(frozen=True)
class Classes:
    """Categories of one utterance.

    Attributes:
        label: the likeliest.
        probabilities: category to calibrated probability, mean over the networks.
        spread: standard deviation over the networks of the probability of ``label``.
    """

    label: str
    probabilities: Mapping[str, float]
    spread: float

    @property
    def confidence(self) -> float:
        """Probability of the likeliest."""
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Value:
    """One number, as valence.

    Attributes:
        value: mean over the networks.
        low: lower end of the range that holds the truth as often as ``Answer.coverage`` says;
            None where no residuals of validation rows are known.
        high: its upper end.
        spread: standard deviation over the networks.
    """

    value: float
    low: float | None
    high: float | None
    spread: float


@dataclass(frozen=True)
class Seen:
    """What the model had of one modality of one utterance.

    Attributes:
        status: ``missing`` where it had nothing.
        reason: word of the project's tables, as ``no_face``; None for ok.
        detail: a sentence for people; may be empty.
    """

    status: Literal["ok", "degraded", "missing"]
    reason: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Utterance:
    """One stretch of the medium and what is said of it.

    Attributes:
        id: ``1``, ``2``, ... in order of time.
        start_s: where it begins.
        end_s: where it ends.
        speaker: name from a transcript, or ``speaker 1``; None where nobody is told apart.
        text: its words; None where they are not known.
        words_from: ``transcript``, ``subtitles`` or ``asr``; None without words.
        language: of the words, as ``en``; None where not known.
        classes: target to categories, as ``category``; empty where the model has none.
        values: target to column to number: ``vad``, ``sentiment``, ``emi``.
        seen: modality to what the model had of it.
        far: sentence where the input is unlike the training data; empty otherwise.
        reason: sentence why nothing could be said; empty otherwise.
    """

    id: str
    start_s: float
    end_s: float
    speaker: str | None = None
    text: str | None = None
    words_from: str | None = None
    language: str | None = None
    classes: Mapping[str, Classes] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    far: str = ""
    reason: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether anything was predicted."""
        return bool(self.classes or self.values)


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a frame that was looked at.

    Attributes:
        utterance: id of the utterance it belongs to.
        time_s: of the frame.
        track: the same number for the same person within an utterance.
        box_px: x0, y0, x1, y1 in pixels of the frame as a person sees it.
        confidence: of the detector.

    Slots: hours of video have tens of thousands.
    """

    utterance: str
    time_s: float
    track: int
    box_px: tuple[float, float, float, float]
    confidence: float


@dataclass(frozen=True)
class Gap:
    """A stretch without an utterance, as silence or music."""

    start_s: float
    end_s: float
    reason: str


@dataclass(frozen=True)
class Answer:
    """Everything that is known of one medium.

    Attributes:
        medium: the file.
        utterances: in order of time.
        faces: in order of time; empty where nothing was looked for.
        gaps: in order of time.
        modalities: what the model reads.
        networks: how many networks were averaged.
        coverage: share of validation rows that ``Value.low`` to ``high`` holds.
        notes: sentences for people about the whole medium.
        looked_s: how far the medium was looked at when this was written; None: to its end.
    """

    medium: Medium
    utterances: tuple[Utterance, ...]
    faces: tuple[Face, ...] = ()
    gaps: tuple[Gap, ...] = ()
    modalities: tuple[str, ...] = ()
    networks: int = 1
    coverage: float = 0.9
    notes: tuple[str, ...] = ()
    looked_s: float | None = None
