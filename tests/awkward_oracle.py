"""What each file of `shared/data/awkward` must give, from its manifest and what the manifest omits.

`tests/tasks/media/test_awkward.py` holds the media layer to it, `benchmarks/media.py` prints it.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

# What is wrong with a file beyond a track that the manifest says is not there.
_WRONG = {
    "vfr_hevc_face_noface.mov": ["audio_gap"],  # its sound begins 2.43 s after its picture
    "five_frames_1080p.mp4": ["silent_audio"],
    "corrupted.mp4": ["corrupt"],
    "no_duration.webm": ["silent_audio"],
    "transparent.webm": ["silent_audio"],
    "empty.webm": ["empty_file"],
    "mp3_with_cover_art.mp3": ["silent_audio"],
    "audio_only.mp4": ["silent_audio"],
    "no_streams.mp4": ["no_content"],
    "header_only.flv": ["no_content"],
    "one_pixel.avi": ["no_content"],
    "header_only.wav": ["no_content"],
    "broken.webp": ["unreadable"],
    "truncated.png": ["truncated"],
    "derived_truncated_60pct.mp4": ["truncated"],
    "derived_truncated_60pct.mkv": ["truncated"],
    "silence_400hz.wav": ["silent_audio"],
}
# The manifest counts the first track; the best one is the second, 390 frames of 480x270.
_FRAMES = {"nasa_two_video_streams.mp4": 390, "mp3_with_cover_art.mp3": 0}
# Upright size, where it is not the stored one: the second track, or pixels that are not square.
_SIZES = {
    "nasa_two_video_streams.mp4": (480, 270),
    "surround_5_1.mp4": (427, 240),
    "face_heavy_compression.mp4": (193, 144),
}
_USELESS = ("broken.webp", "truncated.png", "derived_truncated_60pct.mp4")


@dataclass(frozen=True)
class Expected:
    """What a file must give.

    Attributes:
        file: its name.
        why: what is awkward about it.
        status: ``ok``, ``degraded`` or ``failed``.
        reasons: of all problems; of a failed file the first one.
        frames: how many.
        size_px: width and height of an upright frame; None without a picture.
        turn_deg: by which the stored picture is turned to stand upright.
        step_s: shortest and longest time from frame to frame; None where not stated.
        end_s: when the sound ends; None where not stated.
        sound: the manifest's words about the sound track; empty without one.
        sha256: of its bytes.
    """

    file: str
    why: str
    status: str
    reasons: frozenset[str]
    frames: int
    size_px: tuple[int, int] | None
    turn_deg: int
    step_s: tuple[float, float] | None
    end_s: float | None
    sound: str
    sha256: str


def expectations(folder: Path) -> list[Expected]:
    """One for each row of ``manifest.csv``."""
    with open(folder / "manifest.csv", newline="") as file:
        return [_expected(row) for row in csv.DictReader(file)]


def _expected(row: dict[str, str]) -> Expected:
    name = row["file"]
    reasons = set(_WRONG.get(name, []))
    has_picture = bool(row["video"]) and name != "mp3_with_cover_art.mp3"
    if name in _USELESS or reasons & {"empty_file", "no_content"}:
        return Expected(
            name,
            row["why"],
            "failed",
            frozenset(reasons),
            0,
            None,
            0,
            None,
            None,
            "",
            row["sha256"],
        )
    reasons |= set() if has_picture else {"no_video"}
    reasons |= set() if row["audio"] else {"no_audio"}
    size_px, turn, step_s = None, 0, None
    if has_picture:
        stored = row["video"].split()[1].split("x")
        size_px = _SIZES.get(name, (int(stored[0]), int(stored[1])))
        turn = -int(row["rotation"] or 0) % 360
        if turn in (90, 270):
            size_px = size_px[::-1]
        if row["dt_min"] and name not in _FRAMES:
            step_s = (float(row["dt_min"]), float(row["dt_max"]))
    is_known = row["audio"] and row["duration_s"] and "truncated" not in reasons
    return Expected(
        name,
        row["why"],
        "degraded" if reasons else "ok",
        frozenset(reasons),
        _FRAMES.get(name, int(row["decoded_frames"]) if has_picture else 0),
        size_px,
        turn,
        step_s,
        float(row["duration_s"]) if is_known else None,
        row["audio"],
        row["sha256"],
    )
