"""A picture of what the stage faces sees in real clips: boxes with track numbers, and the crops.

    python -m benchmarks.contact_sheet [CLIP...] [--out sheet.png] [--frames 4]

Without clips those of ``../shared/data/av_clips`` are taken. For each clip: some frames with every
tracked face (thick: the chosen track; thin: interpolated, not looked at) and its five landmarks,
then the crops kept of the chosen track with their quality. Prints JSON with what a picture cannot
tell: tracks, status and reasons. The picture goes to a temporary folder unless ``--out`` is given.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tasks.faces.crops import decode as decode_crop
from tasks.faces.detection import detect_clips
from tasks.faces.params import FacesParams
from tasks.faces.windows import ClipRequest
from tasks.media.decoding import FrameSampling, Span, decode

FRAME_PX, CROP_PX, CROPS = 180, 90, 12
COLOURS = [(80, 220, 80), (240, 120, 60), (70, 150, 250), (240, 220, 60), (220, 90, 220)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared"))
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--frames", type=int, default=4)
    arguments = parser.parse_args()
    clips = arguments.clips or sorted((shared / "data" / "av_clips").glob("*.mp4"))
    if not clips:
        raise SystemExit("no clips: name some, or set AFFECTLOOM_SHARED")
    out = arguments.out or Path(tempfile.mkdtemp(prefix="contact_sheet.")) / "sheet.png"
    params = FacesParams()
    requests = [ClipRequest(f"sheet/0/{clip.stem}", Span(str(clip.resolve()))) for clip in clips]
    strips, told = [], []
    for clip, rows in zip(clips, detect_clips(params, requests), strict=True):
        strips.append(strip(clip, rows, params, arguments.frames))
        told.append({"clip": clip.name} | summary(rows))
    width = max(each.shape[1] for each in strips)
    padded = [np.pad(each, ((0, 6), (0, width - each.shape[1]), (0, 0))) for each in strips]
    cv2.imwrite(str(out), np.concatenate(padded)[..., ::-1])
    print(json.dumps({"picture": str(out), "clips": told}, indent=1))


def summary(rows: pl.DataFrame) -> dict[str, object]:
    """What became of a clip."""
    chosen = rows.filter("chosen")
    return {
        "status": rows.item(0, "status"),
        "reason": rows.item(0, "reason"),
        "frames": rows["frame"].n_unique(),
        "tracks": rows["track"].n_unique() if rows.item(0, "track") >= 0 else 0,
        "chosen_frames": chosen.height,
        "crops": chosen["crop"].count(),
        "median_quality": chosen["quality"].median(),
        "speaking": dict(
            rows.filter(pl.col("speaking").is_not_null())
            .group_by("track", maintain_order=True)
            .agg(pl.col("speaking").first().round(3))
            .iter_rows()
        ),
    }


def strip(clip: Path, rows: pl.DataFrame, params: FacesParams, count: int) -> np.ndarray:
    """One clip: frames above, crops below."""
    found = decode(clip, audio_rate_hz=None, frame_times=FrameSampling(rate_hz=params.rate_hz))
    numbers = np.linspace(0, len(found.frames) - 1, count).round().astype(int)
    pictures = [frame_with_faces(found.frames[n], rows.filter(frame=int(n)), n) for n in numbers]
    top = np.concatenate(pictures, axis=1)
    label(top, clip.name, (4, FRAME_PX - 6), 0.45)
    kept = rows.filter(pl.col("crop").is_not_null())
    crops = [crop_picture(row) for row in kept.head(CROPS).iter_rows(named=True)]
    bottom = np.zeros((CROP_PX, CROPS * CROP_PX, 3), np.uint8)
    if crops:
        bottom[:, : len(crops) * CROP_PX] = np.concatenate(crops, axis=1)
    width = max(top.shape[1], bottom.shape[1])
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0))) for part in (top, bottom)]
    )


def frame_with_faces(frame: np.ndarray, faces: pl.DataFrame, number: int) -> np.ndarray:
    """The frame at a set height with boxes, landmarks and track numbers."""
    scale = FRAME_PX / frame.shape[0]
    picture = cv2.resize(frame, (round(frame.shape[1] * scale), FRAME_PX))
    for row in faces.iter_rows(named=True):
        if row["box_px"] is None:
            continue
        colour = COLOURS[row["track"] % len(COLOURS)]
        x0, y0, x1, y1 = (np.array(row["box_px"]) * scale).round().astype(int).tolist()
        thickness = (3 if row["chosen"] else 1) if row["is_detected"] else 1
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, thickness)
        for x, y in (np.array(row["landmarks_px"]).reshape(-1, 2) * scale).round().astype(int):
            cv2.circle(picture, (int(x), int(y)), 1, colour, -1)
        sign = "" if row["is_detected"] else "~"
        label(picture, f"{sign}{row['track']} {row['confidence']:.2f}", (x0, max(10, y0 - 3)), 0.35)
    label(picture, f"#{number}", (4, 12), 0.4)
    return picture


def crop_picture(row: dict[str, object]) -> np.ndarray:
    """A kept crop with its frame's number and quality."""
    picture = cv2.resize(decode_crop(row["crop"]), (CROP_PX, CROP_PX))
    label(picture, f"#{row['frame']} {row['quality']:.2f}", (2, CROP_PX - 4), 0.33)
    return picture


def label(picture: np.ndarray, text: str, place: tuple[int, int], size: float) -> None:
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA
        )


if __name__ == "__main__":
    main()
