"""Do the ranges of ``affectloom predict`` hold the truth as often as they say?

    python -m benchmarks.coverage [--rows 1000]

in the root of the repository, with the real data beside it (``../shared/data``, or
``AFFECTLOOM_SHARED``). Simulated: residuals of four shapes, ranges from the quantiles of so many
validation rows, and how much of fresh rows lies within; also where fresh rows are other than those.
Real: the starter model on test sentences of EmoBank, none of which it learnt from, asked as a user
would ask it.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.project import SHARED
from models.metrics.calibration import residual_quantiles
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.predict.answering import COVERAGE, ENDS
from tasks.predict.engine import Asked, predict
from tasks.predict.leaving.folder import read_model
from tasks.predict.media import find_media
from tasks.predict.session import STARTER

SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(0, 0.2, n),
    "skewed": lambda rng, n: rng.gamma(2.0, 0.15, n) - 0.3,
    "heavy tails": lambda rng, n: 0.1 * rng.standard_t(3, n),
    "two peaks": lambda rng, n: rng.choice([-0.3, 0.2], n) + rng.normal(0, 0.05, n),
}
_TIMES, _FRESH = 400, 2000


def simulated(shape: str, validation: int, wider: float = 1.0) -> tuple[float, float]:
    """Mean share of fresh rows within the range, and how much that differs between experiments.

    Args:
        shape: of the residuals.
        validation: rows that the range is taken from.
        wider: factor of the residuals of the fresh rows.
    """
    rng, draw = np.random.default_rng(0), SHAPES[shape]
    found = []
    for _ in range(_TIMES):
        known, fresh = draw(rng, validation), wider * draw(rng, _FRESH)
        low, high = residual_quantiles(known, np.zeros(validation), [float(e) for e in ENDS])
        found.append(np.mean((low <= fresh) & (fresh <= high)))
    return float(np.mean(found)), float(np.std(found))


def real(rows: int) -> dict[str, tuple[float, float, int]]:
    """Column to the share of test sentences within the range, its mean width, and their number."""
    table = pl.read_parquet(SHARED / "emobank_vad.parquet")
    test = table.filter(pl.col("split") == "test").head(rows)
    layout = Layout()
    model = read_model(layout.project / STARTER)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "sentences.csv"
        numbers = np.arange(len(test), dtype=float)
        words = test.select(pl.Series("start", numbers), pl.Series("end", numbers + 1), "text")
        words.write_csv(file)
        quiet = PlainContext(stream=io.StringIO())
        found = find_media([str(file)], Path())
        *_, last = predict(found, model, layout, lambda what, is_long: quiet, Asked())
    assert last.answer is not None
    said = {round(one.start_s): one for one in last.answer.utterances}
    report = {}
    for column in ("valence", "arousal", "dominance"):
        truth = ((test[column] - 3) / 2).to_numpy()  # from 1 to 5
        hits, widths = [], []
        for place, one in said.items():
            value = one.values["vad"][column]
            assert value.low is not None
            assert value.high is not None
            hits.append(value.low <= truth[place] <= value.high)
            widths.append(value.high - value.low)
        report[column] = (float(np.mean(hits)), float(np.mean(widths)), len(hits))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1000)
    rows = parser.parse_args().rows
    print(f"stated: {COVERAGE:.1%}")
    for shape in SHAPES:
        for known in (50, 200, 1000):
            mean, spread = simulated(shape, known)
            print(f"{shape}, {known} validation rows: {mean:.1%} ± {spread:.1%}")
    shifted = simulated("normal", 1000, wider=1.5)[0]
    print(f"normal, fresh residuals half as wide again: {shifted:.1%}")
    for column, (share, width, n) in real(rows).items():
        print(f"EmoBank, {column}: {share:.1%} of {n} test sentences, width {width:.2f}")


if __name__ == "__main__":
    main()
