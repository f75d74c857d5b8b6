"""Pictures: the loader with training steps, against the same steps on batches in memory.

    python -m benchmarks.image_loader [--images 1500] [--crop-px 96] [--side-px 48] [--batch 32]
                                      [--width 24] [--repeats 3]

Crops are generated JPEG pictures in a faces table. *Loader* decodes them, crops, mirrors and scales
at random, makes batches ahead of time and takes training steps with a small convolutional network;
*bare* takes the same steps on batches that are in memory already; *alone* is the loader without
steps. As in training, the network has one thread. The first epoch decodes; later ones find the
decoded crops in memory. Prints JSON; ``ratio`` is loader to bare, to be at most 1.2. On a machine
that is busy with other work only ``processor_ratio`` means something: processor time of all threads
against that of the bare steps, what the ratio would be without a second core.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tasks.batches.dataset import Dataset
from tasks.batches.source import Wanted
from tasks.layout import Layout
from tasks.tables.faces import FACES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

CORPUS, CLASSES = "toy", ("angry", "happy", "neutral", "sad")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--crop-px", type=int, default=96)
    parser.add_argument("--side-px", type=int, default=48)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["AFFECTLOOM_CACHE"] = str(Path(folder) / "cache")
        make_corpus(arguments.images, arguments.crop_px)
        print(json.dumps(compare(arguments), indent=2))
        os.chdir("/")


def make_corpus(count: int, crop_px: int) -> None:
    """Tables with one noisy crop for each utterance."""
    random = np.random.default_rng(0)
    ids = [f"{CORPUS}/d{i:05d}/u0" for i in range(count)]
    kinds = random.integers(len(CLASSES), size=count)
    utterances, labels, splits, faces = [], [], [], []
    for name, kind in zip(ids, kinds.tolist(), strict=True):
        coarse = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        pixels = cv2.resize(coarse, (crop_px, crop_px), interpolation=cv2.INTER_CUBIC)
        pixels[: crop_px // 4] = 60 * kind
        jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        utterances.append({"utterance_id": name, "dialogue_id": name[:-3], "turn": 0})
        labels.append({"utterance_id": name, "category": CLASSES[kind], "n_raters": 1})
        splits.append({"utterance_id": name, "fold": 0, "split": "train"})
        faces.append(
            {
                "utterance_id": name, "frame": 0, "track": 0, "chosen": True, "is_detected": True,
                "quality": 0.5, "crop": jpeg, "status": "ok",
            }
        )  # fmt: skip
    write_table(UTTERANCES, UTTERANCES.frame(utterances), Layout().utterances(CORPUS))
    write_table(LABELS, LABELS.frame(labels), Layout().labels(CORPUS))
    write_table(SPLIT, SPLIT.frame(splits), Layout().splits(CORPUS))
    write_table(FACES, FACES.frame(faces), Layout().faces(CORPUS))


class View:
    """A random part of the picture, mirrored half of the time, as (3, side_px, side_px)."""

    def __init__(self, side_px: int) -> None:
        self.side_px = side_px

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        assert rng is not None
        height, width = image.shape[:2]
        share = rng.uniform(0.75, 1.0)
        tall, wide = max(1, round(share * height)), max(1, round(share * width))
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        part = image[top : top + tall, left : left + wide]
        small = cv2.resize(part, (self.side_px, self.side_px), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            small = small[:, ::-1]
        return small.transpose(2, 0, 1).astype(np.float32) / 255


def network(width: int) -> nn.Module:
    """A small convolutional network."""
    layers: list[nn.Module] = []
    before = 3
    for after, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 4))


class Stepper:
    """Training steps; every measurement begins from the same weights."""

    def __init__(self, width: int) -> None:
        torch.manual_seed(0)
        self.network = network(width)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01)

    def __call__(self, images: Tensor, truth: Tensor) -> None:
        """Forward, backward, step."""
        loss = F.cross_entropy(self.network(images), truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def dataset(side_px: int) -> Dataset:
    """The corpus as it is before the first epoch: nothing is decoded."""
    source = Wanted({}, {"images"}).source(Layout(), CORPUS)
    part = source.part(0, "train", "image", source.targets, labelled=True, seen=True)
    return part.seen_through(View(side_px))


def epoch(data: Dataset, groups: list[list[int]], key: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Pictures and classes of each batch."""
    for batch in data.batches(groups, key):
        assert batch.images is not None
        yield batch.images[:, 0], batch.targets["category"][:, 0]


def timed(batches: Iterable[tuple[Tensor, Tensor]], step: Stepper | None) -> tuple[float, float]:
    """Seconds of one pass, and processor seconds of all threads."""
    started, worked = time.perf_counter(), time.process_time()
    for images, truth in batches:
        if step is not None:
            step(images, truth)
    return time.perf_counter() - started, time.process_time() - worked


def compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Medians over repeats; each takes its turn so that a busy machine slows all alike."""
    order = np.random.default_rng(1).permutation(arguments.images).tolist()
    size = arguments.batch
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    ready = list(epoch(dataset(arguments.side_px), groups, 7))
    step = Stepper(arguments.width)
    timed(ready[:3], step)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.repeats):
        data, cold = dataset(arguments.side_px), dataset(arguments.side_px)
        for name, batches, taken in (
            ("bare", ready, step),
            ("first", epoch(data, groups, 7), step),
            ("later", epoch(data, groups, 8), step),
            ("alone", epoch(cold, groups, 7), None),
        ):
            found.setdefault(name, []).append(timed(batches, taken))
    times = {name: np.array(pairs) for name, pairs in found.items()}
    seconds = {name: float(np.median(pairs[:, 0])) for name, pairs in times.items()}
    ratios, processor = (
        {
            name: float(np.median(times[name][:, i] / times["bare"][:, i]))
            for name in ("first", "later")
        }
        for i in (0, 1)
    )
    return {
        "images": arguments.images,
        "batch": size,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "images_per_second": {
            name: round(arguments.images / value, 1) for name, value in seconds.items()
        },
        "ratio_first_epoch": round(ratios["first"], 3),
        "ratio_later_epochs": round(ratios["later"], 3),
        "processor_ratio_first_epoch": round(processor["first"], 3),
        "processor_ratio_later_epochs": round(processor["later"], 3),
        "ratio": round(max(ratios.values()), 3),
        "wanted": 1.2,
    }


if __name__ == "__main__":
    main()
