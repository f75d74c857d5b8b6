"""Processor time and memory of drawing an answer into a 720p video, for two lengths.

    python -m benchmarks.overlay [--lengths-s 20 1800]

Each length is drawn in a process of its own. The video is made here: 30 frames a second of a moving
pattern with noise, which costs an encoder more than most films, and stereo sound, 20 s over and
over. Every second has an utterance with a face, words and values.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

from benchmarks.predict import film
from tasks.predict.answer import Answer, Face, Medium
from tasks.predict.output.overlay import write_overlay
from tests.tasks.media_factory import tone
from tests.tasks.predict.answers import answer

WIDTH, HEIGHT, RATE_HZ, SOUND_HZ = 1280, 720, 30, 48000
CLIP_S = 20


def make(path: Path, seconds: int) -> Path:
    noise = np.random.default_rng(0).integers(0, 24, (HEIGHT, 2 * WIDTH, 3), np.uint8)
    ramp = np.linspace(40, 200, 2 * WIDTH, dtype=np.uint8)[None, :, None]
    sound = tone(1.0, SOUND_HZ, channels=2)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE_HZ)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"preset": "ultrafast"}
        audio = out.add_stream("aac", rate=SOUND_HZ, layout="stereo")
        for second in range(seconds):
            for number in range(RATE_HZ):
                at = 7 * (second * RATE_HZ + number) % WIDTH
                picture = (noise + ramp)[:, at : at + WIDTH]
                out.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture))))
            for begin in range(0, SOUND_HZ, 1000):
                part = np.ascontiguousarray(sound[:, begin : begin + 1000])
                frame = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
                frame.sample_rate, frame.pts = SOUND_HZ, second * SOUND_HZ + begin
                frame.time_base = Fraction(1, SOUND_HZ)
                out.mux(audio.encode(frame))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def said(seconds: int) -> Answer:
    found = answer(seconds)
    faces = [
        Face(u.id, u.start_s + k * 0.4, 0, (400 + 40 * k, 150, 640 + 40 * k, 430), 0.99)
        for u in found.utterances
        for k in range(2)
    ]
    medium = Medium("talk.mp4", "video", float(seconds), (WIDTH, HEIGHT))
    return replace(found, medium=medium, faces=tuple(faces))


def measure(seconds: int, folder: str) -> tuple[float, float, int]:
    """Processor seconds, wall seconds, and peak memory in MB of this process."""
    medium = Path(folder) / f"{seconds}.mp4"
    processor, wall = time.process_time(), time.perf_counter()
    write_overlay(said(seconds), medium, Path(folder) / f"{seconds}_overlay.mp4")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return time.process_time() - processor, time.perf_counter() - wall, peak_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lengths-s", type=int, nargs="+", default=[20, 1800])
    lengths = parser.parse_args().lengths_s
    with tempfile.TemporaryDirectory() as folder:
        clip = make(Path(folder) / "clip.mp4", min(CLIP_S, min(lengths)))
        for seconds in lengths:
            film(clip, Path(folder) / f"{seconds}.mp4", seconds)
        for seconds in lengths:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                processor_s, wall_s, peak_mb = pool.submit(measure, seconds, folder).result()
            print(
                f"{seconds} s of 720p: {processor_s / seconds:.2f} processor seconds a second, "
                f"{wall_s / seconds:.2f} s a second here, at most {peak_mb} MB"
            )


if __name__ == "__main__":
    main()
