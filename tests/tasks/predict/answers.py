"""Answers as a model would give them, made without one."""

import math

from tasks.predict.answer import (
    Answer,
    Classes,
    Face,
    Gap,
    Kind,
    Medium,
    Seen,
    Utterance,
    Value,
)

EMOTIONS = ("anger", "joy", "neutral", "sadness", "surprise")
HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)> & \"q\""


def utterance(number: int, start_s: float, end_s: float, **changes: object) -> Utterance:
    """One that was understood; ``changes`` replace fields."""
    likeliest = number % len(EMOTIONS)
    rest = 0.4 / (len(EMOTIONS) - 1)
    wave = math.sin(number / 3)
    content: dict[str, object] = {
        "id": str(number),
        "start_s": start_s,
        "end_s": end_s,
        "speaker": ("Anna", "Ben")[number % 2],
        "text": f"These are the words of utterance {number}.",
        "words_from": "transcript",
        "language": "en",
        "classes": {
            "category": Classes(
                EMOTIONS[likeliest],
                {name: 0.6 if i == likeliest else rest for i, name in enumerate(EMOTIONS)},
                0.05,
            )
        },
        "values": {
            "vad": {
                name: Value(v, v - 0.25, v + 0.25, 0.04)
                for name, v in (
                    ("valence", 0.7 * wave), ("arousal", -0.5 * wave), ("dominance", 0.2)
                )
            }
        },
        "seen": {
            "audio": Seen("ok"),
            "text": Seen("ok"),
            "video": Seen("degraded", "few_frames", "a face in 2 of 9 frames"),
        },
    }  # fmt: skip
    return Utterance(**content | changes)  # pyright: ignore[reportArgumentType]


def answer(
    count: int = 6,
    *,
    step_s: float = 1.0,
    kind: Kind = "video",
    size_px: tuple[int, int] | None = (320, 240),
    name: str = "talk.mp4",
    last: Utterance | None = None,
) -> Answer:
    """``count`` turns of two people, a gap before each, one that nobody could understand."""
    found = [utterance(n + 1, n * step_s + 0.2 * step_s, (n + 1) * step_s) for n in range(count)]
    if count > 2:
        found[2] = utterance(
            3, found[2].start_s, found[2].end_s, classes={}, values={}, text=None, words_from=None,
            seen={"audio": Seen("missing", "silent_audio"), "text": Seen("missing", "no_words"),
                  "video": Seen("missing", "no_face", "nobody is in the picture")},
            reason="nobody is heard or seen",
        )  # fmt: skip
    if last is not None:
        found.append(last)
    faces = [
        Face(u.id, u.start_s + 0.1 + k * 0.3, 0, (40 + 8 * k, 60, 120 + 8 * k, 150), 0.99)
        for u in found
        if u.is_answered and kind == "video"
        for k in range(2)
    ]
    return Answer(
        Medium(name, kind, max((u.end_s for u in found), default=0.0), size_px),
        tuple(found),
        faces=tuple(faces),
        gaps=tuple(
            Gap(u.start_s - 0.2 * step_s, u.start_s, "silence") for u in found if u.start_s > 0
        ),
        modalities=("audio", "text", "video"),
        networks=3,
        notes=("the words are those of the transcript",),
    )
