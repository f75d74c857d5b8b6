"""Faces: the stage against ``facenet_pytorch.MTCNN.detect``, frame by frame, on one 720p video.

    python -m benchmarks.faces [--video FILE] [--seconds 30] [--rate-hz 5] [--detect-every 4]

Both see the same sampled frames. Our time is that of the stage for the clip, with decoding,
tracking, crops and encoding of crops; theirs is that of ``detect`` alone on decoded frames. A video
of another size or length is scaled to 720 lines and repeated. Without ``--video`` one is drawn.
Prints JSON: speedup by the clock (`speedup`: all cores at work, ours with a shard for each as the
stage cuts a corpus, theirs with torch's threads; `speedup_one_clip`: a single shard, most of which
is decoding) and by processor time, recall (their faces that ours overlap by half or more;
`recall_sure`: only those to which they give 0.9 and more), median IoU.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tasks.faces.detection import detect_clips
from tasks.faces.params import FacesParams
from tasks.faces.tracking import iou
from tasks.faces.windows import ClipRequest
from tasks.media.decoding import FrameSampling, Span, decode

HEIGHT_PX, WIDTH_PX, FPS = 720, 1280, 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate-hz", type=float, default=FacesParams().rate_hz)
    parser.add_argument("--detect-every", type=int, default=FacesParams().detect_every)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    params = FacesParams(rate_hz=arguments.rate_hz, detect_every=arguments.detect_every)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, source_frames(arguments.video), arguments.seconds)
        print(json.dumps(compare(video, params, arguments.repeats), indent=2))


def compare(video: Path, params: FacesParams, repeats: int) -> dict[str, object]:
    """Time both ways in turn, take the best of each, and match their boxes."""
    from facenet_pytorch import MTCNN

    sampled = FrameSampling(rate_hz=params.rate_hz)
    clip = decode(video, audio_rate_hz=None, frame_times=sampled)
    detector = MTCNN(keep_all=True)
    detector.detect(clip.frames[0])
    list(detect_clips(params, [ClipRequest("bench/0/0", Span(str(video), end_s=1.0))]))
    request = ClipRequest("bench/0/0", Span(str(video)))
    ours, theirs_time, shards = [], [], []
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(shard, [(params, request)] * cores))
        for _ in range(repeats):
            with timed(ours):
                (rows,) = detect_clips(params, [request])
            with timed(shards):
                list(pool.map(shard, [(params, request)] * cores))
            with timed(theirs_time):
                theirs = [detector.detect(frame) for frame in clip.frames]
    (ours_s, ours_cpu_s), (theirs_s, theirs_cpu_s) = min(ours), min(theirs_time)
    shard_s = min(shards)[0] / cores
    overlaps, sure = [], []
    for number, found in enumerate(theirs):
        boxes, probabilities = found[0], found[1]
        if boxes is not None:
            sure.extend(probability >= 0.9 for probability in probabilities)
            mine = rows.filter(rows["frame"] == number)["box_px"].to_list()
            overlap = iou(np.array(boxes, np.float64), np.array(mine, np.float64).reshape(-1, 4))
            overlaps.extend(overlap.max(axis=1, initial=0.0).tolist())
    count = len(clip.frames)
    best = np.array(overlaps)
    return {
        "speedup": round(theirs_s / shard_s, 2),
        "speedup_one_clip": round(theirs_s / ours_s, 2),
        "speedup_cpu": round(theirs_cpu_s / ours_cpu_s, 2),
        "recall": round(float((best >= 0.5).mean()), 4) if len(best) else None,
        "recall_sure": round(float((best[sure] >= 0.5).mean()), 4) if any(sure) else None,
        "median_iou": round(float(np.median(best)), 3) if len(best) else None,
        "fps_ours": round(count / shard_s, 1),
        "fps_theirs": round(count / theirs_s, 1),
        "frames": count,
        "faces_theirs": len(best),
        "faces_ours": int(rows.filter(rows["frame"] >= 0).height),
        "looked_at": rows.filter(rows["is_detected"])["frame"].n_unique(),
        "params": params.model_dump(mode="json"),
        "torch_threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {cores} cores",
        "versions": {name: version(name) for name in ("torch", "av", "facenet-pytorch")},
    }


def shard(job: tuple[FacesParams, ClipRequest]) -> int:
    """One process's part of a corpus: here the same clip for each."""
    params, request = job
    return sum(rows.height for rows in detect_clips(params, [request]))


@contextmanager
def timed(into: list[tuple[float, float]]) -> Iterator[None]:
    """Append wall seconds and processor seconds, those of decoding processes included."""
    wall_s, cpu_s = time.perf_counter(), processor_s()
    yield
    into.append((time.perf_counter() - wall_s, processor_s() - cpu_s))


def processor_s() -> float:
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def source_frames(video: Path | None) -> list[np.ndarray]:
    """Frames of a given video at 25 per second, or drawn ones."""
    if video is not None:
        sampling = FrameSampling(rate_hz=FPS, max_height_px=HEIGHT_PX)
        clip = decode(Span(str(video), 0.0, 10.0), audio_rate_hz=None, frame_times=sampling)
        if not len(clip.frames):
            raise SystemExit(f"{video}: no picture: {[p.detail for p in clip.problems]}")
        return list(clip.frames)
    from tasks.sample.face import Expression, draw_clip, draw_look, draw_room

    rng = np.random.default_rng(3)
    look, room = draw_look(rng), draw_room(WIDTH_PX, HEIGHT_PX, rng)
    opening = 0.5 - 0.5 * np.cos(np.arange(4 * FPS) * 0.8)
    return draw_clip(look, room, Expression(0.3, 0.2, 0.1), opening, rng)


def write_video(path: Path, frames: list[np.ndarray], seconds: float) -> None:
    """The frames forth and back, without a cut, as H.264 of 1280 x 720."""
    turn = frames + frames[-2:0:-1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for number in range(round(seconds * FPS)):
            frame = fitted(turn[number % len(turn)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def fitted(frame: np.ndarray) -> np.ndarray:
    """A frame scaled to 720 lines, on black where it is narrower than 1280 pixels."""
    import cv2

    scale = min(HEIGHT_PX / frame.shape[0], WIDTH_PX / frame.shape[1])
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    wide = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    top, left = (HEIGHT_PX - size[1]) // 2, (WIDTH_PX - size[0]) // 2
    wide[top : top + size[1], left : left + size[0]] = cv2.resize(frame, size)
    return wide


if __name__ == "__main__":
    main()
