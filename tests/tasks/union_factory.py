"""A project of three small corpora of text and their union, each read by the stages themselves.

``essays`` has valence and arousal on 1 to 5 and a published split; ``calls`` has VAD on 1 to 7,
speakers with sex and age, and three folds; ``reviews`` has sentiment alone.
"""

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks.params.model import Params
from tasks.stages import STAGES
from tests.places import QUIET, here

PARTS = ("essays", "calls", "reviews")
_WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fjord"),
    *("grove", "heron", "inlet", "jetty", "koala", "lemon"),
)


def sentence(seed: int) -> str:
    """Nine words and a number; two seeds never give nearly the same."""
    words = np.random.default_rng(seed).permutation(_WORDS)[:9]
    return " ".join([*words.tolist(), f"{seed * 7919:06d}"])


def table(part: str, dialogues: int = 12, turns: int = 4) -> pl.DataFrame:
    """What stands in the part's CSV file."""
    number = np.arange(dialogues * turns)
    dialogue = number // turns
    rng = np.random.default_rng(PARTS.index(part))
    parts = np.array(["train"] * 7 + ["dev"] * 2 + ["test"] * 3)
    frame = pl.DataFrame(
        {
            "id": [f"u{n:03d}" for n in number],
            "talk": [f"d{d:02d}" for d in dialogue],
            "who": [f"p{d}" for d in dialogue],
            "text": [sentence(int(n) + 1000 * PARTS.index(part)) for n in number],
            "split": parts[dialogue % 12],
            "sex": np.array(["f", "m"])[dialogue % 2],
            "age": 20.0 + 5 * (dialogue % 8),
        }
    )
    if part == "reviews":
        return frame.with_columns(sentiment=rng.uniform(-3, 3, len(number)).round(2))
    high = {"essays": 5, "calls": 7}[part]
    dims = {"essays": ("v", "a"), "calls": ("v", "a", "d")}[part]
    return frame.with_columns(
        pl.Series(name, rng.uniform(1, high, len(number)).round(2)) for name in dims
    )


def params() -> dict[str, Any]:
    """All of params.yaml."""
    columns = {"utterance": "id", "dialogue": "talk", "speaker": "who", "text": "text"}
    more = {"sex": "sex", "age": "age"}
    dims = {"v": "valence", "a": "arousal", "d": "dominance"}

    def options(part: str, targets: dict[str, Any], **fields: str) -> dict[str, Any]:
        return {
            "file": f"{part}.csv",
            "columns": columns | fields,
            "labels": {"targets": targets},
        }

    def numbers(short: str, high: int) -> dict[str, Any]:
        return {dims[c]: {"column": c, "scale": [1, high]} for c in short}

    sentiment = {"sentiment": {"column": "sentiment", "scale": [-3, 3]}}
    published = {"splits": {"protocol": "published"}}
    return copy.deepcopy(
        {
            "corpora": {
                "essays": {
                    "adapter": "table",
                    "options": options("essays", numbers("va", 5), split="split"),
                    **published,
                },
                "calls": {
                    "adapter": "table",
                    "options": options("calls", numbers("vad", 7), **more),
                    "splits": {"protocol": "group_kfold", "folds": 3, "group": "speaker"},
                },
                "reviews": {
                    "adapter": "table",
                    "options": options("reviews", sentiment, split="split"),
                    **published,
                },
                "joint": {"adapter": "union", "of": list(PARTS)},
            },
            "encoders": {"words": {"family": "fake_text_family", "dtype": "float32"}},
            "inputs": {"text": "words"},
            "train": {"seeds": [0]},
            "evaluate": {"missing_rates": [0.0]},
            "report": {"resamples": 100},
            "methods": {"linear": {"epochs": 3, "batch_size": 16}},
        }
    )


def write_part(part: str, frame: pl.DataFrame | None = None) -> None:
    """The part's folder, with its table or with another."""
    folder: Path = here().raw(part)
    folder.mkdir(parents=True, exist_ok=True)
    (table(part) if frame is None else frame).write_csv(folder / f"{part}.csv")


def run(raw: dict[str, Any], name: str, **ids: str) -> None:
    """One instance of a stage, as DVC would have it run."""
    row = STAGES[name]
    function = importlib.import_module(row.module(raw, **ids)).run
    function(row.asked(Params(raw), **ids), here(), QUIET, **ids)


def prepare(raw: dict[str, Any], *corpora: str) -> None:
    """Tables, labels and splits of corpora, parts before their union."""
    for corpus in corpora:
        run(raw, "ingest", corpus=corpus)
        for stage in ("splits", "labels"):
            run(raw, stage, corpus=corpus)
