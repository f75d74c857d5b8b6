"""Time the media layer against the field's way; hold the awkward files to their manifest.

    python -m benchmarks.media [--shared ../shared] [--awkward-only] [--json media.json]

The field's way decodes a file twice: every frame to RGB, and the sound by itself. Ours makes one
pass and converts the frames that are kept. Both run in this process, one thread each, in
processor seconds, and the best of the rounds counts, so other work on the machine hardly matters.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from tasks.media.decoding import FrameSampling, decode
from tasks.media.worker import Decoders
from tests.awkward_oracle import expectations

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
    """Every file of the awkward collection, decoded in worker processes, beside what it must give.

    ``wrong`` lists what differs, and is empty where all is right.
    """
    expected = expectations(folder)
    call = partial(decode, audio_rate_hz=RATE_HZ, frame_times=FrameSampling())
    table = []
    with Decoders(timeout_s=60) as decoders:
        clips = decoders.clips(call, [folder.resolve() / one.file for one in expected])
        for one, clip in zip(expected, clips, strict=True):
            reasons = [problem.reason for problem in clip.problems]
            sound_s = 0.0 if clip.audio is None else len(clip.audio) / RATE_HZ
            end_s = sound_s + (clip.audio_start_s or 0.0)
            size_px = clip.frames.shape[2:0:-1] if len(clip.frames) else None
            is_failed = one.status == "failed"
            checks = {
                "status": clip.status == one.status,
                "reasons": set(reasons[:1] if is_failed else reasons) == one.reasons,
                "frames": len(clip.frames) == one.frames,
                "size": size_px == one.size_px,
                "sound": (sound_s > 0) == bool(one.sound),
                "end": one.end_s is None or abs(end_s - one.end_s) <= 0.06,
            }
            table.append(
                {
                    "file": one.file,
                    "why": one.why,
                    "expected": _words(one.status, sorted(one.reasons), one.frames, one.size_px),
                    "found": _words(clip.status, reasons, len(clip.frames), size_px),
                    "expected_end_s": one.end_s,
                    "found_end_s": round(end_s, 3) if sound_s else None,
                    "wrong": [name for name, is_right in checks.items() if not is_right],
                }
            )
    return table


def _words(status: str, reasons: list[str], frames: int, size_px: tuple[int, ...] | None) -> str:
    size = "" if size_px is None else f" {size_px[0]}x{size_px[1]}"
    return f"{status}, {frames} frames{size}" + "".join(f", {reason}" for reason in reasons)


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
    parser.add_argument("--awkward-only", action="store_true", help="without the timings")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = options.shared / "data"
    clips = [
        data / "awkward" / "failing_audio.mp4",
        data / "av_clips" / "hamilton_clip.mp4",
        data / "av_clips" / "ravdess_01-01-01-01-01-01-01.mp4",
    ]
    result: dict[str, Any] = {
        "libraries": {"av": av.__version__, "numpy": np.__version__},
        "awkward": awkward(data / "awkward"),
    }
    if not options.awkward_only:
        result["speed"] = [compare(path, options.rounds) for path in clips]
        result["workers"] = overhead(clips[0], 20)
    for row in result["awkward"]:
        verdict = "right" if not row["wrong"] else f"WRONG: {', '.join(row['wrong'])}"
        print(f"{row['file']:36s} {verdict:6s} expected {row['expected']}")
        print(f"{'':43s} found    {row['found']}")
    result["awkward_right"] = sum(not row["wrong"] for row in result["awkward"])
    result["awkward_files"] = len(result["awkward"])
    print(f"{result['awkward_right']} of {result['awkward_files']} awkward files are right")
    summary = {key: value for key, value in result.items() if key != "awkward"}
    print(json.dumps(summary, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
