"""What an epoch of each conversation method costs, against its products and a bare perceptron.

Run ``python -m benchmarks.training [METHOD ...] [--rounds 3]`` in the root of the repository;
prints JSON. The data are synthetic and of IEMOCAP's size: 120 dialogues, 5,810 utterances, audio,
text and video of widths 100, 768 and 512. Every method gets a process of its own, in which its
epochs and those of a perceptron with two hidden layers and as many parameters, over the same
utterances in the same batches, take turns; the clock is that of CPU time, on one thread, and the
ratio is the smallest of its epochs over the smallest of the perceptron's, so that what other
programs do counts little. Both train through ``models.training.fit``. Its products are all matrix
products and convolutions of one of its epochs, forward and backward, done alone: no activation, no
norm, no optimiser (``benchmarks/products.py``).
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.products import Products
from models.batch import Batch, Target
from models.method import Method, Spec, configure, find_method
from models.plugin import find_balanced
from models.training import TrainConfig, fit, seed_everything

DIALOGUES, UTTERANCES, LONGEST = 120, 5_810, 110
WIDTHS = {"audio": 100, "video": 512, "text": 768}
CATEGORY = Target("category", "category", tuple("abcdef"))
#: What an epoch may cost in those of the perceptron.
LIMITS = {"corect": 3.0, "mi_cga": 3.0, "ada2i": 3.0, "spcl+dialogue_gcn": 3.0, "multidag_cl": 6.0}
OTHERS = (
    "bc_lstm", "dialogue_rnn", "dialogue_gcn", "mmgcn", "mm_dfn", "biddin",
    "ogm_ge+dialogue_gcn", "opm+dialogue_gcn", "rna+dialogue_gcn", "fagm+dialogue_gcn",
)  # fmt: skip
LIMIT_MB = 2_000


def lengths() -> np.ndarray:
    """Utterances of each dialogue: spread like IEMOCAP's, 8 to 110."""
    rng = np.random.default_rng(0)
    found = np.clip(np.round(rng.normal(48, 17, DIALOGUES)), 8, LONGEST).astype(int)
    while (gap := UTTERANCES - int(found.sum())) != 0:
        i = rng.integers(DIALOGUES)
        found[i] = np.clip(found[i] + np.sign(gap), 8, LONGEST)
    return found


class Talk:
    """Dialogues of noise with random labels, two speakers; a ``models.method.Data``."""

    targets = (CATEGORY,)

    def __init__(self) -> None:
        made = torch.Generator().manual_seed(0)
        self.items = []
        for length in lengths():
            features = {m: torch.randn(int(length), d, generator=made) for m, d in WIDTHS.items()}
            turns = torch.rand(int(length), generator=made) < 0.7
            labels = torch.randint(6, (int(length),), generator=made)
            self.items.append((features, turns.long().cumsum(0) % 2, labels))

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices) -> Batch:
        chosen = [self.items[i] for i in indices]

        def padded(parts: list[Tensor], fill: float = 0) -> Tensor:
            return nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)

        labels = padded([item[2] for item in chosen], -1)
        mask = labels >= 0
        return Batch(
            mask=mask,
            speakers=padded([item[1] for item in chosen]),
            features={m: padded([item[0][m] for item in chosen]) for m in WIDTHS},
            present=dict.fromkeys(WIDTHS, mask),
            targets={"category": labels},
            index=torch.where(mask, 0, -1),
        )

    def batches(self, groups, key=None):
        return (self.batch(group) for group in groups)

    def truth(self, target: Target) -> Tensor:
        return torch.cat([labels for _, _, labels in self.items])


class Perceptron(Method):
    """Two hidden layers on all features of the real utterances."""

    def __init__(self, spec: Spec, parameters: int) -> None:
        super().__init__(spec, None)
        width, classes = sum(spec.dims.values()), CATEGORY.width
        # h^2 + (width + 2 + classes) h + classes = parameters
        b = width + 2 + classes
        hidden = max(1, round((math.sqrt(b * b + 4 * (parameters - classes)) - b) / 2))
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = torch.cat([batch.features[m][batch.mask] for m in self.spec.modalities], -1)
        truth = batch.targets["category"][batch.mask]
        return {"category": nn.functional.cross_entropy(self.net(x), truth)}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        x = torch.cat([batch.features[m] for m in self.spec.modalities], -1)
        return {"category": self.net(x)}


def size(method: Method) -> int:
    return sum(p.numel() for p in method.parameters())


def make(name: str) -> Method:
    seed_everything(0)
    kind = find_balanced(*reversed(name.split("+"))) if "+" in name else find_method(name)
    options = {"spcl_threshold": 60.0} if name.startswith("spcl") else {}  # nothing is left out
    config = configure(kind.config_type, options, name)
    method = kind(Spec(WIDTHS, (CATEGORY,), 2), config)
    if hasattr(config, "buckets"):  # the curriculum begins with a part of the dialogues
        method.on_epoch = lambda epoch, train: None  # type: ignore[method-assign]
    return method


def epoch_s(method: Method, train: Talk, last: Talk, config: TrainConfig) -> float:
    """CPU seconds of one epoch of the trainer, validation on one dialogue included."""
    started = time.process_time()
    fit(method, train, last, lambda outputs: 0.0, config, seed=0)
    return time.process_time() - started


def measure(name: str, rounds: int) -> dict[str, object]:
    """Costs of one method; the process is its own."""
    torch.set_num_threads(1)
    train, last = Talk(), Talk()
    last.items = last.items[:1]
    method = make(name)
    # statistics of the features are taken once a run, not once an epoch
    method.prepare(train)
    method.prepare = lambda data: None  # type: ignore[method-assign]
    recipe = {
        key: method.recipe[key] for key in ("optimizer", "batch_size") if key in method.recipe
    }
    config = configure(TrainConfig, {**recipe, "epochs": 1, "patience": 0}, name)
    perceptron = Perceptron(method.spec, size(method))
    perceptron.normalise = method.normalise
    perceptron.prepare = lambda data: None  # type: ignore[method-assign]
    seconds = [
        (epoch_s(method, train, last, config), epoch_s(perceptron, train, last, config))
        for _ in range(rounds)
    ]
    with Products() as products:
        epoch_s(method, train, last, config)
    products_s = min(products.seconds() for _ in range(rounds))
    own, other = (min(column) for column in zip(*seconds, strict=True))
    return {
        "parameters": size(method),
        "perceptron_parameters": size(perceptron),
        "batch_size": config.batch_size,
        "epoch_s": round(own, 2),
        "products_s": round(products_s, 2),
        "over_products": round(own / products_s, 2),
        "perceptron_epoch_s": round(other, 2),
        "ratio": round(own / other, 2),
        "ratios": [round(a / b, 2) for a, b in seconds],
        "limit": LIMITS.get(name),
        "peak_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Most memory that this process ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", default=[*LIMITS, *OTHERS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.methods[0], arguments.rounds)))
        return
    found = {}
    for name in arguments.methods:
        command = [sys.executable, "-m", "benchmarks.training", name, "--here"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        told = subprocess.run(
            [*command, "--rounds", str(arguments.rounds)],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        found[name] = json.loads(told.stdout)
        own = found[name]
        print(
            f"{name}: {own['over_products']} times its products, {own['ratio']} a perceptron",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    over = [n for n, row in found.items() if row["limit"] and row["ratio"] > row["limit"]]
    over += [n for n, row in found.items() if row["peak_mb"] > LIMIT_MB]
    print(json.dumps({"methods": found, "over_the_limit": over}, indent=1))


if __name__ == "__main__":
    main()
