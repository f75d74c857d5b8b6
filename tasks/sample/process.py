"""The hidden truth of the sample corpus: dialogues, moods, outward cues and simulated raters.

Valence, arousal and dominance (``vad``, each in [-1, 1]) follow a process with inertia (a speaker
stays in a mood) and influence (the previous speaker's mood carries over; dominance is answered by
its opposite). Face, voice and text then each show a part of the truth with noise of their own, so
that no modality carries everything. Every random draw has its own stream, keyed by seed, purpose,
dialogue and turn: one more dialogue leaves the others as they are.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.targets import EMI, VAD

Floats = np.ndarray

RATERS = ("r1", "r2", "r3")
CATEGORIES = ("neutral", "happy", "sad", "angry", "fear", "surprise")
MULTI_LABELS = ("affection", "amused", "calm", "confident", "doubt", "eager", "tired", "upset")

#: Modality -> its three outward cues, in the order of ``vad``, as columns of ``factors.csv``.
CUES = {
    "video": ("face_valence", "face_arousal", "face_dominance"),
    "audio": ("voice_valence", "voice_arousal", "voice_dominance"),
    "text": ("text_valence", "text_dominance"),
}

# Compared with earlier values on generator seeds 21 to 32, never on scores of the shipped one:
# regressions on what encoders keep of the cues gain more, in VAD, by fusion over the best modality
# (0.36 against 0.31 of CCC) and by neighbouring turns over fusion (0.17 against 0.13).

# How far a mood moves from turn to turn, in the order of ``vad``.
_INERTIA = np.array([0.33, 0.33, 0.36])
_INFLUENCE = np.array([0.66, 0.66, -0.63])
_INNOVATION = 0.05
_CLIMATE = 0.5  # what the conversation is about sets where it starts
_SPREAD = 3.5  # pushes moods towards the ends of the scale
_TEMPERAMENT = 0.08  # standard deviation of a speaker's resting point

# What each modality shows: cue = weight * truth + noise, in the order of ``vad``.
_FACE_WEIGHT, _FACE_NOISE = np.array([0.95, 0.35, 0.15]), np.array([0.62, 0.65, 0.70])
_VOICE_WEIGHT, _VOICE_NOISE = np.array([0.15, 0.95, 0.50]), np.array([0.70, 0.62, 0.68])
_TEXT_NOISE = {"valence": 0.50, "dominance": 0.50}
_NEUTRAL_SENTENCE, _SARCASM = 0.20, 0.08  # shares of sentences; sarcasm only says bad as good

# Category regions: the nearest of these points of VAD space names the category.
_CENTRES = np.array(
    [
        [0.00, -0.05, 0.00],  # neutral
        [0.75, 0.30, 0.25],  # happy
        [-0.55, -0.60, -0.35],  # sad
        [-0.60, 0.40, 0.60],  # angry
        [-0.55, 0.50, -0.55],  # fear
        [0.25, 0.80, -0.25],  # surprise
    ]
)
_MULTI_DIRECTIONS = np.array(
    [
        [0.8, -0.1, -0.3],  # affection
        [0.8, 0.5, 0.1],  # amused
        [0.3, -0.9, 0.2],  # calm
        [0.3, 0.1, 0.9],  # confident
        [-0.3, 0.1, -0.9],  # doubt
        [0.4, 0.8, 0.4],  # eager
        [-0.2, -0.9, -0.3],  # tired
        [-0.9, 0.4, 0.1],  # upset
    ]
)
_RATER_BIAS, _RATER_NOISE = 0.08, 0.12

Stream = Literal["cast", "mood", "cues", "sentence", "look", "face", "voice", "scene", "raters"]
_STREAMS: dict[str, int] = {
    name: number
    for number, name in enumerate(
        ("cast", "mood", "cues", "sentence", "look", "face", "voice", "scene", "raters")
    )
}


class SampleParams(BaseModel):
    """Knobs of the stage ``sample`` (``params.yaml: sample``).

    Attributes:
        seed: same seed, same bytes.
        dialogues: number of dialogues, shared out evenly over the sessions.
        single_file_dialogues: how many of them, the last ones, are one file with time spans.
        mean_turns: turns of a dialogue are drawn from two below to two above.
        speakers: size of the cast, a multiple of ``sessions``.
        sessions: groups of speakers who never meet speakers of another group.
        width_px: width of the picture.
        height_px: height of the picture.
        fps: pictures per second.
        min_duration_s: shortest clip.
        max_duration_s: longest clip.
        rate_hz: sampling rate of the voice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=7, ge=0)
    dialogues: int = Field(default=24, ge=6, le=99)
    single_file_dialogues: int = Field(default=4, ge=0)
    mean_turns: int = Field(default=8, ge=5, le=90)
    speakers: int = Field(default=12, ge=3)
    sessions: int = Field(default=4, ge=1)
    width_px: int = Field(default=320, ge=160, le=1920, multiple_of=2)
    height_px: int = Field(default=240, ge=120, le=1080, multiple_of=2)
    fps: int = Field(default=12, ge=4, le=60)
    min_duration_s: float = Field(default=1.0, ge=0.5)
    max_duration_s: float = Field(default=2.2, le=10.0)
    rate_hz: int = Field(default=16_000, ge=16_000, le=48_000)

    @model_validator(mode="after")
    def _check(self) -> "SampleParams":
        if self.speakers % self.sessions or self.speakers // self.sessions < 3:
            raise ValueError(
                f"speakers ({self.speakers}) must be a multiple of sessions ({self.sessions}), "
                "at least three for each session"
            )
        if self.min_duration_s > self.max_duration_s:
            raise ValueError("min_duration_s must not exceed max_duration_s")
        if self.dialogues - self.single_file_dialogues < len(AWKWARD):
            raise ValueError(
                f"dialogues ({self.dialogues}) must exceed single_file_dialogues "
                f"({self.single_file_dialogues}) by at least {len(AWKWARD)}, "
                "one for each awkward clip"
            )
        return self


#: The awkward clips, exactly one of each: what is wrong -> the utterance's name.
AWKWARD = {
    "no_audio": "d01_u02",
    "no_face": "d02_u01",
    "truncated": "d03_u02",
    "no_text": "d04_u01",
    "duplicate": "d05_u02",
}
#: The utterance whose media file the duplicate repeats.
DUPLICATE_OF = "d05_u01"


def stream(seed: int, purpose: Stream, *keys: int) -> np.random.Generator:
    """A random generator of its own for one purpose and one dialogue, turn or speaker."""
    return np.random.default_rng([seed, _STREAMS[purpose], *keys])


@dataclass(frozen=True)
class Cast:
    """Who speaks in a dialogue.

    Attributes:
        session: name of the session, ``s1`` onwards.
        order: index of the speaker of each turn; nobody speaks twice in a row.
    """

    session: str
    order: list[int]


def draw_cast(params: SampleParams, dialogue: int) -> Cast:
    """Two or three speakers of one session and the order in which they speak."""
    rng = stream(params.seed, "cast", dialogue)
    session = dialogue % params.sessions
    pool = params.speakers // params.sessions
    people = session * pool + rng.permutation(pool)[: rng.integers(2, 4)]
    turns = params.mean_turns + int(rng.integers(-2, 3))
    order = [int(people[0])]
    while len(order) < turns:
        # the person before last tends to answer, as people in conversation do
        others = [int(person) for person in people if person != order[-1]]
        answer = len(order) > 1 and rng.random() < 0.6
        order.append(order[-2] if answer else others[rng.integers(len(others))])
    return Cast(f"s{session + 1}", order)


def draw_moods(params: SampleParams, dialogue: int, order: list[int]) -> Floats:
    """The speakers' VAD at each turn, (turns, 3) in [-1, 1]."""
    rng = stream(params.seed, "mood", dialogue)
    rest = {
        person: stream(params.seed, "look", person, 1).normal(0, _TEMPERAMENT, 3)
        for person in set(order)
    }
    climate = rng.normal(0, _CLIMATE, 3)
    moods = np.zeros((len(order), 3))
    last: dict[int, Floats] = {}
    for turn, person in enumerate(order):
        own = last.get(person, rest[person] + climate) - rest[person]
        heard = moods[turn - 1] if turn else climate
        moods[turn] = rest[person] + _INERTIA * own + _INFLUENCE * heard
        moods[turn] += rng.normal(0, _INNOVATION, 3)
        last[person] = moods[turn]
    return np.tanh(_SPREAD * moods)


def show(params: SampleParams, dialogue: int, vad: Floats) -> dict[str, Floats]:
    """The outward cues of each turn: columns of ``CUES`` and ``text_kind``.

    Args:
        params: the corpus.
        dialogue: number of the dialogue.
        vad: (turns, 3) in [-1, 1].
    """
    rng = stream(params.seed, "cues", dialogue)
    face = np.clip(_FACE_WEIGHT * vad + rng.normal(0, _FACE_NOISE, vad.shape), -1.3, 1.3)
    voice = np.clip(_VOICE_WEIGHT * vad + rng.normal(0, _VOICE_NOISE, vad.shape), -1.3, 1.3)
    said = vad[:, 0] + rng.normal(0, _TEXT_NOISE["valence"], len(vad))
    power = vad[:, 2] + rng.normal(0, _TEXT_NOISE["dominance"], len(vad))
    dice = rng.random(len(vad))
    kind = np.where(dice < _NEUTRAL_SENTENCE, "neutral", "plain")
    is_sarcastic = (dice > 1 - _SARCASM / 0.5) & (said < -0.1)  # about half the turns are negative
    kind = np.where(is_sarcastic, "sarcastic", kind)
    said = np.select([kind == "neutral", is_sarcastic], [0.0, np.abs(said)], said)
    level = np.digitize(said, [-0.5, -0.15, 0.15, 0.5]) - 2.0
    cues = {name: face[:, i] for i, name in enumerate(CUES["video"])}
    cues |= {name: voice[:, i] for i, name in enumerate(CUES["audio"])}
    cues |= {"text_valence": level, "text_dominance": np.digitize(power, [-0.25, 0.25]) - 1.0}
    return cues | {"text_kind": kind}


def draw_factors(params: SampleParams) -> pl.DataFrame:
    """The hidden truth, one row per utterance: who, ``vad``, cues of every modality.

    Returns:
        Columns utterance, dialogue, session, turn, speaker, valence, arousal, dominance, the cues
        of ``CUES`` and text_kind; rows in order of dialogue and turn.
    """
    frames = []
    for dialogue in range(params.dialogues):
        cast = draw_cast(params, dialogue)
        vad = draw_moods(params, dialogue, cast.order)
        name = f"d{dialogue + 1:02d}"
        turns = np.arange(len(cast.order))
        rows = {
            "utterance": [f"{name}_u{turn:02d}" for turn in turns],
            "dialogue": [name] * len(turns),
            "session": [cast.session] * len(turns),
            "turn": turns,
            "speaker": [f"p{person + 1:02d}" for person in cast.order],
            **{dim: vad[:, i] for i, dim in enumerate(VAD)},
            **show(params, dialogue, vad),
        }
        frames.append(pl.DataFrame(rows))
    return pl.concat(frames)


def categorise(vad: Floats) -> Floats:
    """Index into ``CATEGORIES`` of the region each point (N, 3) lies in."""
    return np.linalg.norm(vad[:, None] - _CENTRES, axis=2).argmin(axis=1)


def sentiment(vad: Floats) -> Floats:
    """Sentiment in [-3, 3] of points (N, 3): mostly valence, stronger when aroused."""
    return np.clip(3 * vad[:, 0] * (0.85 + 0.25 * vad[:, 1]), -3, 3)


def intensities(vad: Floats) -> Floats:
    """The six EMI intensities in [0, 1], (N, 6) in the order of ``EMI``, of points (N, 3)."""
    v, a, d = vad.T
    scores = np.stack(
        [
            1.8 * v + 0.4 * a - 0.9 * d - 0.6,  # admiration: looking up to someone
            2.2 * v + 1.2 * a + 0.4 * d - 0.9,  # amusement
            0.3 * v + 1.2 * a + 2.4 * d - 0.6,  # determination
            -1.8 * v - 0.4 * a - 1.2 * d - 0.7,  # empathic pain
            1.2 * v + 2.4 * a - 0.6,  # excitement
            2.8 * v + 0.6 * a - 0.7,  # joy
        ],
        axis=1,
    )
    return 1 / (1 + np.exp(-1.6 * scores))


def judge(params: SampleParams, factors: pl.DataFrame) -> pl.DataFrame:
    """What three raters write down about every utterance, each with a bias and noise.

    Returns:
        Columns utterance, rater, target, value, label, scale_min, scale_max; valence, arousal and
        dominance on a scale of whole numbers from 1 to 5, sentiment -3 to 3, EMI 0 to 1,
        ``category`` one label, ``categories`` one row per label.
    """
    truth = factors.select(VAD).to_numpy()
    frames = []
    for number, rater in enumerate(RATERS):
        rng = stream(params.seed, "raters", number)
        bias = rng.normal(0, _RATER_BIAS, 3)
        # one draw per dialogue's stream, so that other dialogues do not move the judgements
        noise = np.concatenate(
            [
                stream(params.seed, "raters", number, dialogue + 1).normal(0, 1, (turns, 21))
                for dialogue, turns in enumerate(
                    factors.group_by("dialogue", maintain_order=True).len()["len"]
                )
            ]
        )
        frames.append(_judgements(factors["utterance"], rater, truth + bias, noise))
    order = {name: row for row, name in enumerate(factors["utterance"])}
    return (
        pl.concat(frames)
        .sort(pl.col("utterance").replace_strict(order), "rater", maintain_order=True)
        .select("utterance", "rater", "target", "value", "label", "scale_min", "scale_max")
    )


def _judgements(utterances: pl.Series, rater: str, seen: Floats, noise: Floats) -> pl.DataFrame:
    """One rater's rows; ``seen`` (N, 3) is the VAD as this rater sees it, ``noise`` (N, 21)."""
    felt = seen + _RATER_NOISE * noise[:, :3]
    steps = np.clip(np.rint(3 + 2 * felt), 1, 5)
    numbers = [(dim, steps[:, i], 1.0, 5.0) for i, dim in enumerate(VAD)]
    feeling = np.round(np.clip(sentiment(felt) + 0.25 * noise[:, 3], -3, 3), 1)
    numbers.append(("sentiment", feeling, -3.0, 3.0))
    intensity = np.round(np.clip(intensities(felt) + 0.05 * noise[:, 4:10], 0, 1), 2)
    numbers += [(name, intensity[:, i], 0.0, 1.0) for i, name in enumerate(EMI)]
    frames = [
        pl.DataFrame(
            {"utterance": utterances, "target": target, "value": values + 0.0},
        ).with_columns(label=pl.lit(None, pl.String), scale_min=pl.lit(low), scale_max=pl.lit(high))
        for target, values, low, high in numbers
    ]
    category = categorise(seen + _RATER_NOISE * noise[:, 10:13])
    frames.append(
        _label_rows(utterances, "category", np.eye(len(CATEGORIES))[category], CATEGORIES)
    )
    strength = seen @ _MULTI_DIRECTIONS.T + _RATER_NOISE * noise[:, 13:21]
    chosen = (strength > 0.4) | (strength == strength.max(axis=1, keepdims=True))
    frames.append(_label_rows(utterances, "categories", chosen, MULTI_LABELS))
    return pl.concat(frames).with_columns(rater=pl.lit(rater))


def _label_rows(
    utterances: pl.Series, target: str, chosen: Floats, names: tuple[str, ...]
) -> pl.DataFrame:
    """A row for each true cell of ``chosen`` (N, len(names))."""
    rows, columns = np.nonzero(chosen)
    return pl.DataFrame(
        {
            "utterance": utterances[rows],
            "target": [target] * len(rows),
            "value": pl.Series([None] * len(rows), dtype=pl.Float64),
            "label": [names[column] for column in columns],
            "scale_min": pl.Series([None] * len(rows), dtype=pl.Float64),
            "scale_max": pl.Series([None] * len(rows), dtype=pl.Float64),
        }
    )
