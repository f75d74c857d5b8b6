"""Time the media layer against the field's way, and print the awkward files one by one.

    python -m benchmarks.media [--shared ../shared] [--json media.json]

The field's way decodes a file twice: every frame to RGB, and the sound by itself. Ours makes one
pass and converts the frames that are kept. Both run in this process, one thread each, in
processor seconds, and the best of the rounds counts, so other work on the machine hardly matters.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np

from tasks.media import FrameSampling, decode
from tasks.media_worker import Decoders

RATE_HZ = 16000
SAMPLED_HZ = 5.0


def naive(path: Path) -> int:
    """Every frame as RGB in one pass, the sound in another; returns the number of frames."""
    frames = 0
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            frame.to_ndarray(format="rgb24")
            frames += 1
    with av.open(str(path)) as container:
        stream = container.streams.best("audio")
        if stream is not None:
            resampler = av.AudioResampler("flt", "mono", RATE_HZ)
            np.concatenate(
                [
                    part.to_ndarray()
                    for frame in container.decode(stream)
                    for part in resampler.resample(frame)
                ],
                axis=1,
            )
    return frames


def best_s(function: Callable[[], object], rounds: int) -> float:
    """Least processor time of several rounds, in seconds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return min(times)


def compare(path: Path, rounds: int) -> dict[str, object]:
    """Frames of the file per second, naively and by the media layer."""
    frames = naive(path)
    has_sound = decode(path, audio_rate_hz=RATE_HZ, frame_times=None).audio is not None
    rate = RATE_HZ if has_sound else None
    wishes = {
        "all": FrameSampling(),
        "sampled": FrameSampling(rate_hz=SAMPLED_HZ),
        "sampled_360p": FrameSampling(rate_hz=SAMPLED_HZ, max_height_px=360),
    }
    took = {"naive": best_s(partial(naive, path), rounds)}
    for name, sampling in wishes.items():
        call = partial(decode, path, audio_rate_hz=rate, frame_times=sampling)
        took[name] = best_s(call, rounds)
    return {
        "file": path.name,
        "frames": frames,
        "fps": {name: round(frames / seconds, 1) for name, seconds in took.items()},
        "sampled_over_naive": round(took["naive"] / took["sampled"], 2),
    }


def awkward(folder: Path) -> list[dict[str, object]]:
    """What becomes of every file of the awkward collection, decoded in worker processes."""
    with open(folder / "manifest.csv", newline="") as file:
        manifest = list(csv.DictReader(file))
    call = partial(decode, audio_rate_hz=RATE_HZ, frame_times=FrameSampling())
    table = []
    with Decoders(timeout_s=60) as decoders:
        clips = decoders.clips(call, [folder.resolve() / row["file"] for row in manifest])
        for row, clip in zip(manifest, clips, strict=True):
            table.append(
                {
                    "file": row["file"],
                    "why": row["why"],
                    "status": clip.status,
                    "reasons": [problem.reason for problem in clip.problems],
                    "frames": len(clip.frames),
                    "manifest_frames": row["decoded_frames"] if row["video"] else "",
                    "size": "x".join(str(n) for n in clip.frames.shape[2:0:-1]),
                    "sound_s": 0.0 if clip.audio is None else len(clip.audio) / RATE_HZ,
                }
            )
    return table


def overhead(path: Path, count: int) -> dict[str, float]:
    """Clips per second here and through one worker, and the memory that many clips take."""
    call = partial(decode, audio_rate_hz=RATE_HZ, frame_times=FrameSampling(count=8))
    begin = time.perf_counter()
    for _ in range(count):
        call(path)
    here_s = time.perf_counter() - begin
    with Decoders(1) as decoders:
        list(decoders.clips(call, [path]))  # the process starts outside the measured time
        peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        for _ in decoders.clips(call, [path] * count):
            pass
        there_s = time.perf_counter() - begin
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before) / 1024
    return {
        "clips_per_s_here": round(count / here_s, 1),
        "clips_per_s_one_worker": round(count / there_s, 1),
        "peak_growth_mb": round(grown_mb, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = os.environ.get("AFFECTLOOM_SHARED", "../shared")
    parser.add_argument("--shared", type=Path, default=Path(shared))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = options.shared / "data"
    clips = [
        data / "awkward" / "failing_audio.mp4",
        data / "av_clips" / "hamilton_clip.mp4",
        data / "av_clips" / "ravdess_01-01-01-01-01-01-01.mp4",
    ]
    result = {
        "libraries": {"av": av.__version__, "numpy": np.__version__},
        "awkward": awkward(data / "awkward"),
        "speed": [compare(path, options.rounds) for path in clips],
        "workers": overhead(clips[0], 20),
    }
    for row in result["awkward"]:
        print(
            f"{row['file']:36s} {row['status']:9s} {row['frames']:4d} of"
            f" {row['manifest_frames']:4s} {row['size']:10s} {row['sound_s']:8.3f} s"
            f"  {', '.join(row['reasons'])}"
        )
    for row in result["speed"]:
        print(row)
    print(result["workers"])
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
