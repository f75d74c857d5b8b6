"""How soon ``affectloom predict`` says something of a video, and the memory it takes for long ones.

    python -m benchmarks.predict [--minutes 3 60 180] [--rate-hz 10] [--run sample/early_fusion]

in the root of the repository, with the real data beside it (``../shared/data``, or
``AFFECTLOOM_SHARED``). The videos are a man who speaks, at 320x240 and 10 frames a second, over
and over; each is new to the store. Measured are the seconds from the first look at the file to the
first answer, in a process that answered of another file before, and, for each length, the largest
proportional memory (PSS) of the command with all of its processes, and their processor seconds;
libraries count by the share of all processes that read them, so nothing else of the project should
run meanwhile, and what is no file is told apart. The starter model answers. Most of the work is in
faces, five a second: with ``--rate-hz 1`` a film has one to look at, as many utterances, and is
done in a fraction of the time. ``--run`` times one
minute at 1280x720 and 30 frames a second instead, answered by a run of this project, without and
with the overlay.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import av

from benchmarks.project import ROOT, SHARED
from flows.settings import read_params
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.predict.engine import Asked, predict
from tasks.predict.leaving.folder import read_model
from tasks.predict.listening.listeners import find_listeners
from tasks.predict.media import find_media
from tasks.predict.session import STARTER, wheels_of

CLIP = SHARED / "av_clips/obama_speech.mp4"
WIDTH, HEIGHT = 320, 240
_EVERY_S = 0.25


def small(path: Path, rate_hz: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """The clip at few frames of few pixels, so that hours of it are a file of some 100 MB."""
    with av.open(str(CLIP)) as source, av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=rate_hz, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = out.add_stream("aac", rate=16000, layout="mono")
        resampler = av.AudioResampler("fltp", "mono", 16000)
        due = count()
        number = next(due)
        for frame in source.decode(video=0, audio=0):
            if isinstance(frame, av.AudioFrame):
                out.mux([p for part in resampler.resample(frame) for p in sound.encode(part)])
            elif frame.time * rate_hz >= number:
                picture = frame.reformat(width, height, "yuv420p")
                picture.pts, picture.time_base = number, video.codec_context.time_base
                out.mux(video.encode(picture))
                number = next(due)
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def film(clip: Path, path: Path, length_s: float) -> Path:
    """The clip over and over; nobody has seen these very bytes before."""
    begins_s = 0.0
    with av.open(str(path), "w") as out:
        out.metadata["comment"] = str(time.time_ns())
        while begins_s < length_s:
            with av.open(str(clip)) as source:
                if not out.streams:
                    for stream in source.streams:
                        out.add_stream_from_template(stream)
                for packet in source.demux():
                    if packet.dts is None:
                        continue
                    later = round(begins_s / float(packet.time_base))
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = out.streams[packet.stream.index]
                    out.mux(packet)
                begins_s += (source.duration or 0) / av.time_base + 0.2
    return path


def first_answer(warm: Path, path: Path) -> tuple[float, float]:
    """Seconds on the clock, and of processors, until the first answer."""
    layout = Layout()
    model = read_model(layout.project / STARTER)
    wheels = wheels_of(model, read_params(Path()))
    listeners = find_listeners(layout, wheels, print, speech=True, voices=True)

    def answers(medium: Path):
        found = find_media([str(medium)], Path())
        quiet = PlainContext(stream=io.StringIO())
        return predict(found, model, layout, lambda what, is_long: quiet, Asked(), listeners)

    list(answers(warm))
    wall, work = time.perf_counter(), _processor_s()
    next(answers(path))
    return time.perf_counter() - wall, _processor_s() - work


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(frozen=True)
class Taken:
    """What a command and all of its processes took.

    Attributes:
        most_mb: largest memory, files that are mapped among it by their share.
        own_mb: largest memory that is no file.
        work_s: processor seconds.
    """

    most_mb: float
    own_mb: float
    work_s: float


def taken(path: Path, out: Path, *options: str) -> Taken:
    """What an answer takes."""
    start, most, own = _processor_s(), 0, 0
    command = [sys.executable, "-m", "flows.cli.main", "predict", str(path), *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, "--out", str(out)], cwd=ROOT, **quiet) as process:
        while process.poll() is None:
            now = [_memory_kb(pid) for pid in _family(process.pid)]
            most = max(most, sum(one["Pss"] for one in now))
            own = max(own, sum(one["Pss_Anon"] for one in now))
            time.sleep(_EVERY_S)
    if process.returncode:
        raise SystemExit(f"{path.name}: predict ended with status {process.returncode}")
    return Taken(most / 1024, own / 1024, _processor_s() - start)


def _family(pid: int) -> Iterator[int]:
    """A process and those below it, whichever of its threads began them."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread ended meanwhile
            for child in file.read_text().split():
                yield from _family(int(child))


def _memory_kb(pid: int) -> Counter[str]:
    """The sums of a process by their names; what ended meanwhile takes nothing."""
    found = Counter[str]()
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size, _ = line.split()
            found[name.removesuffix(":")] = int(size)
    return found


def minute(run: str) -> None:
    """Print what a minute of 720p takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = small(folder / "clip.mp4", 30, 1280, 720)
        for options in (["--no-overlay"], []):
            path = film(clip, folder / f"minute{len(options)}.mp4", 60)
            began = time.perf_counter()
            took = taken(path, folder / f"out{len(options)}", "--run", run, *options)
            print(
                f"60 s of 720p {' '.join(options)}: {time.perf_counter() - began:.1f} s, "
                f"{took.work_s:.1f} processor seconds, at most {took.most_mb:.0f} MB",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, nargs="*", default=[3, 60, 180])
    parser.add_argument("--rate-hz", type=int, default=10, help="frames a second of the videos")
    parser.add_argument("--run", help="of this project: answers a minute of 720p")
    asked = parser.parse_args()
    if asked.run:
        minute(asked.run)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = small(folder / "clip.mp4", asked.rate_hz)
        warm = film(clip, folder / "warm.mp4", 5)
        wall_s, work_s = first_answer(warm, film(clip, folder / "first.mp4", 180))
        print(f"first answer of 3 minutes: {wall_s:.1f} s, {work_s:.1f} processor seconds")
        for minutes in asked.minutes:
            path = film(clip, folder / f"{minutes:g}.mp4", 60 * minutes)
            took = taken(path, folder / "out", "--no-overlay")
            page_mb = (folder / "out/timeline.html").stat().st_size / 1e6
            print(
                f"{minutes:g} minutes: at most {took.most_mb:.0f} MB ({took.own_mb:.0f} without "
                f"files), {took.work_s:.0f} processor seconds, timeline.html {page_mb:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
