"""A small project's tables, scores and predictions on disk, as the stages would have left them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models.metrics.scoring import CONVENTION, HEADLINE, score_target
from tasks.evaluate.calibration import reliability
from tasks.evaluate.scores import spread
from tasks.tables.faces import FACES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import write_table
from tasks.tables.predictions import predictions_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.targets import EMI, VAD
from tests.places import here
from tests.tasks.arrow_files import write_arrow

CLASSES = ("angry", "happy", "neutral", "sad")
MODALITIES = ("audio", "video", "text")
RATES = (0.0, 0.3, 0.7)
KINDS = {
    "category": "category",
    "vad": "values",
    "sentiment": "values",
    "emi": "values",
    "categories": "labels",
}
NAMES: Mapping[str, tuple[str, ...]] = {
    "category": CLASSES,
    "vad": VAD,
    "sentiment": ("sentiment",),
    "emi": EMI,
    "categories": ("calm", "tense", "tired"),
}


class Silent:
    """A context that tells nobody."""

    def progress(self, *_):
        pass


@dataclass(frozen=True)
class Scene:
    """What to make; ``text`` is what everybody says, and may be hostile.

    Of the targets in ``hidden`` no test row has a label, as in a challenge.
    """

    methods: tuple[str, ...] = ("constant", "linear", "corect")
    seeds: tuple[int, ...] = (0, 1)
    dialogues: int = 8
    turns: int = 6
    targets: tuple[str, ...] = ("category", "vad", "sentiment", "categories")
    corpora: tuple[str, ...] = ("toy",)
    text: str = "It was a long day."
    hidden: tuple[str, ...] = ()


def make_project(root: Path, scene: Scene | None = None) -> dict[str, Any]:
    """Write everything that the report reads below ``root``; return params.yaml's content."""
    scene = scene or Scene()
    for number, corpus in enumerate(scene.corpora):
        _make_corpus(root, corpus, scene, number)
    return {
        "corpora": {corpus: {"adapter": "sample"} for corpus in scene.corpora},
        "encoders": {"tiny": {"family": "prosody"}},
        "inputs": {"audio": "tiny"},
        "train": {"seeds": list(scene.seeds)},
        "methods": {method: {} for method in scene.methods},
        "report": {"resamples": 200},
    }


def _make_corpus(root: Path, corpus: str, scene: Scene, number: int) -> None:
    random = np.random.default_rng(number)
    size = 3 * scene.dialogues * scene.turns
    dialogue = np.arange(size) // scene.turns
    turn = np.arange(size) % scene.turns
    ids = [f"{corpus}/d{d:03d}/u{t:02d}" for d, t in zip(dialogue, turn, strict=True)]
    split = np.array(["train", "validation", "test"])[dialogue % 3]
    rows = [
        {
            "utterance_id": name,
            "dialogue_id": name.rsplit("/", 1)[0],
            "turn": int(t),
            "speaker": f"p{int(d) % 5}_{int(t) % 2}",
            "start_s": float(t),
            "end_s": float(t) + 0.9,
            "media": f"{corpus}/d{d:03d}.mp4",
            "media_sha256": f"{d:064d}",
            "text": None if i % 17 == 3 else scene.text,
            "language": "en",
        }
        for i, (name, d, t) in enumerate(zip(ids, dialogue, turn, strict=True))
    ]
    write_table(UTTERANCES, UTTERANCES.frame(rows), root / here().utterances(corpus))
    code = random.integers(len(CLASSES), size=size)
    centre = np.array([[-0.6, 0.6, 0.4], [0.7, 0.5, 0.3], [0.0, -0.1, 0.0], [-0.6, -0.5, -0.4]])
    vad = np.clip(centre[code] + 0.2 * random.standard_normal((size, 3)), -1, 1)
    sentiment = np.clip(3 * vad[:, 0], -3, 3)
    tags = random.random((size, 3)) < 0.4
    has_emi = "emi" in scene.targets
    emi = random.random((size, len(EMI))) if has_emi else np.zeros((size, 0))
    hidden = {
        column
        for target in scene.hidden
        for column in (NAMES[target] if KINDS[target] == "values" else (target,))
    }
    labels = [
        {
            "utterance_id": name,
            "category": CLASSES[code[i]] if i % 11 else None,
            "categories": [n for n, on in zip(NAMES["categories"], tags[i], strict=True) if on],
            **dict(zip(VAD, vad[i].tolist(), strict=True)),
            "n_raters": 3,
            "sentiment": float(sentiment[i]),
            **(dict(zip(EMI, emi[i].tolist(), strict=True)) if has_emi else {}),
        }
        for i, name in enumerate(ids)
    ]
    for row, where in zip(labels, split, strict=True):
        row |= dict.fromkeys(hidden) if where == "test" else {}
    write_table(LABELS, LABELS.frame(labels), root / here().labels(corpus))
    truth = {
        "category": np.where(np.arange(size) % 11, code, -1),
        "vad": vad,
        "sentiment": sentiment[:, None],
        "emi": emi,
        "categories": tags.astype(float),
    }
    splits = [
        {"utterance_id": name, "fold": 0, "split": str(s)}
        for name, s in zip(ids, split, strict=True)
    ]
    write_table(SPLIT, SPLIT.frame(splits), root / here().splits(corpus))
    bad = {
        "utterance_id": f"{corpus}/?/row 7",
        "stage": "ingest",
        "reason": "file_missing",
        "detail": "row 7 names a file that is not there",
    }
    write_table(QUARANTINE, QUARANTINE.frame([bad]), root / here().quarantine(corpus))
    write_table(QUARANTINE, QUARANTINE.frame([]), root / here().labels_quarantine(corpus))
    _write_faces(root, corpus, ids)
    _write_features(root, corpus, ids)
    _write_reports(root, corpus)
    parts = {part: np.flatnonzero(split == part) for part in ("test", "validation")}
    for position, method in enumerate(scene.methods):
        write_method(
            root,
            corpus,
            method,
            scene,
            ids,
            truth,
            parts,
            0.9 - 0.6 * position / len(scene.methods),
        )


def _write_faces(root: Path, corpus: str, ids: Sequence[str]) -> None:
    rows = [
        {
            "utterance_id": name,
            "frame": -1 if i % 9 == 4 else 0,
            "track": -1 if i % 9 == 4 else 0,
            "chosen": i % 9 != 4,
            "is_detected": i % 9 != 4,
            "crop": None if i % 9 == 4 else tiny_png(i),
            "status": "degraded" if i % 9 == 4 else "ok",
            "reason": "no_face" if i % 9 == 4 else None,
        }
        for i, name in enumerate(ids)
    ]
    write_table(FACES, FACES.frame(rows), root / here().faces(corpus))


def tiny_png(shade: int) -> bytes:
    """A grey square."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (shade * 7 % 255, 120, 160)).save(stream, "PNG")
    return stream.getvalue()


def _write_features(root: Path, corpus: str, ids: Sequence[str]) -> None:
    import pyarrow as pa

    frame = pl.DataFrame(
        {
            "utterance_id": list(ids),
            "status": ["degraded" if i % 17 == 3 else "ok" for i in range(len(ids))],
            "reason": ["no_text" if i % 17 == 3 else None for i in range(len(ids))],
            "frames": pl.Series([0] * len(ids), dtype=pl.Int32),
            "dim": pl.Series([2] * len(ids), dtype=pl.Int32),
            "hop_s": pl.Series([None] * len(ids), dtype=pl.Float64),
            "pooled": pl.Series([[0.0, 1.0]] * len(ids), dtype=pl.Array(pl.Float32, 2)),
            "sequence": pl.Series([None] * len(ids), dtype=pl.Binary),
        }
    ).sort("utterance_id")
    arrow: pa.Table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    metadata = {"family": "hf_audio", "checkpoint": "data/x", "revision": "", "trained": "false"}
    write_arrow(
        arrow.replace_schema_metadata(metadata),
        root / here().features(corpus, "tiny") / "0.parquet",
    )


def _write_reports(root: Path, corpus: str) -> None:
    agreement = {
        "agreement": {
            "valence": {
                "alpha_interval": 0.8,
                "icc_single": 0.81,
                "icc_average": 0.9,
                "mean_pairwise_pearson": 0.84,
                "raters": 3,
                "items": 100,
                "judgements": 300,
            },
            "category": {
                "alpha_nominal": 0.6,
                "agreeing_pairs": 0.7,
                "raters": 3,
                "items": 100,
                "judgements": 300,
            },
        },
        "utterances": {"all": 100, "labelled": 100, "no_label": 0},
    }
    leaks = {
        "corpus": corpus,
        "protocol": "group_kfold",
        "notes": [],
        "findings": [
            {
                "kind": "same_speaker",
                "severity": "warning",
                "count": 2,
                "folds": [0],
                "examples": ["p0_0 in train and test of fold 0"],
                "sentence": "in more than one split of a fold: 2 of 10 speakers",
            }
        ],
    }
    for path, content in ((here().agreement(corpus), agreement), (here().leaks(corpus), leaks)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps(content))


def write_method(
    root: Path,
    corpus: str,
    method: str,
    scene: Scene,
    ids: Sequence[str],
    truth: Mapping[str, np.ndarray],
    parts: Mapping[str, np.ndarray],
    noise: float,
) -> None:
    """Predictions that are the truth plus ``noise``, and their scores."""
    details: dict[str, Any] = {"corpus": corpus, "method": method, "targets": {}, "runs": []}
    details["convention"] = CONVENTION
    written = {split: rows for split, rows in parts.items() if split == "test" or scene.hidden}
    frames: list[pl.DataFrame] = []
    schema: dict[str, Any] = {}
    for split, rows in written.items():
        columns: dict[str, Any] = {
            "utterance_id": [ids[i] for i in rows] * len(scene.seeds),
            "seed": pl.Series(np.repeat(scene.seeds, len(rows)).tolist(), dtype=pl.Int32),
            "fold": pl.Series([0] * len(scene.seeds) * len(rows), dtype=pl.Int32),
            "split": [split] * len(scene.seeds) * len(rows),
        }
        for target in scene.targets:
            made = {
                seed: _predict(
                    target, truth[target][rows], noise, [seed, len(method), ord(method[0])]
                )
                for seed in scene.seeds
            }
            new, types = _columns(target, truth[target][rows], made)
            is_hidden = target in scene.hidden
            if is_hidden and split == "test":
                new |= {name: [None] * len(new[name]) for name in new if name[:7] == "target_"}
            if (split == "validation") == is_hidden:
                details["targets"][target] = _details(target, truth[target][rows], made, is_hidden)
            columns |= new
            schema |= types
        columns.setdefault("probabilities", [None] * len(columns["split"]))  # of a category alone
        frames.append(pl.DataFrame(columns, schema_overrides=predictions_table(schema).schema))
    for seed in scene.seeds:
        details["runs"].append(
            {
                "seed": seed,
                "fold": 0,
                "targets": list(scene.targets),
                "parameters": 1000 + 10 * len(method),
                "chosen_epoch": 2,
                "validation_score": 0.5,
                "stopped_early": False,
                "rows": {"train": 8, "validation": 8},
                "data": {str(here().splits(corpus)): "a" * 64},
                "history": [
                    {"epoch": float(e), "loss_category": 1 / e, "lr": 0.001, "score": 0.1 * e}
                    for e in range(1, 5)
                ],
            }
        )
    table = predictions_table(schema)
    write_table(
        table,
        pl.concat(frames).select(list(table.columns)),
        root / here().predictions(corpus, method),
        {"classes": json.dumps(list(CLASSES))},
    )
    file = root / here().details(corpus, method)
    file.write_text(json.dumps(details, indent=1, sort_keys=True))


def _predict(target: str, truth: np.ndarray, noise: float, seed: Sequence[int]) -> np.ndarray:
    random = np.random.default_rng(list(seed))
    if target == "category":
        scores = 1.2 * np.eye(len(CLASSES))[np.maximum(truth, 0)]
        scores = np.exp(scores + 2 * noise * random.standard_normal(scores.shape))
        return scores / scores.sum(1, keepdims=True)
    if target == "categories":
        return np.clip(0.5 + 0.4 * (truth - 0.5) + 0.4 * noise * random.random(truth.shape), 0, 1)
    return truth * (1 - noise / 2) + 0.5 * noise * random.standard_normal(truth.shape)


def _details(
    target: str, truth: np.ndarray, made: Mapping[int, np.ndarray], is_hidden: bool
) -> dict[str, Any]:
    kind, names = KINDS[target], NAMES[target]
    scores = {}
    for seed, values in made.items():
        if target == "category":
            keep = truth >= 0
            found = score_target(kind, names, truth[keep], values[keep].argmax(1), values[keep])
        else:
            found = score_target(kind, names, truth, values)
        scores[seed] = {name: float(value) for name, value in found.items()}
    headline, sign = HEADLINE[target]
    best = [found[headline] for found in scores.values()]
    names_of = next(iter(scores.values()))
    metrics = {name: spread([s[name] for s in scores.values()]) for name in names_of}
    subsets = ("audio", "video", "text", "audio+video", "audio+text", "video+text")
    part = {
        "+".join(MODALITIES): spread(best),
        **{
            name: spread([b * (0.5 + 0.1 * i if sign > 0 else 1.6 - 0.1 * i) for b in best])
            for i, name in enumerate(subsets)
        },
    }
    common = {
        "headline": headline,
        "higher_is_better": sign > 0,
        "kind": kind,
        "names": list(names),
    }
    nothing = {"mean": None, "std": None}
    bins = {}
    if target == "category" and not is_hidden:
        keep = truth >= 0
        shares = np.concatenate([values[keep] for values in made.values()])
        bins = reliability(np.concatenate([truth[keep]] * len(made)), shares)
    judged = {
        **({"reliability": {"raw": bins, "calibrated": bins}} if bins else {}),
        "n": int((truth >= 0).sum()) if target == "category" else len(truth),
        "metrics": metrics,
        "by_seed": {
            str(seed): {n: v if np.isfinite(v) else None for n, v in found.items()}
            for seed, found in scores.items()
        },
        "undefined": {},
    }
    if is_hidden:
        return common | {
            "validation": judged,
            "subsets": dict.fromkeys(part, nothing),
            "missing_rates": {f"{rate:g}": nothing for rate in RATES},
            "test_oracle": None,
        }
    return common | {
        "test": judged,
        "validation": judged,
        "subsets": part,
        "missing_rates": {
            f"{rate:g}": spread([b * (1 - sign * 0.4 * rate) for b in best]) for rate in RATES
        },
        "test_oracle": {**spread([b + sign * 0.02 for b in best]), "epochs_tried": 4},
    }


def _columns(
    target: str, truth: np.ndarray, made: Mapping[int, np.ndarray]
) -> tuple[dict[str, Any], dict[str, Any]]:
    seeds = list(made)
    values = np.concatenate([made[seed] for seed in seeds])
    if target == "category":
        known = [CLASSES[c] if c >= 0 else None for c in truth] * len(seeds)
        return (
            {
                "target_category": known,
                "prediction_category": [CLASSES[c] for c in values.argmax(1)],
                "probabilities": values.tolist(),
            },
            {"target_category": pl.String, "prediction_category": pl.String},
        )
    if target == "categories":
        names = NAMES[target]
        sets = [[n for n, on in zip(names, row, strict=True) if on] for row in truth]
        guess = [[n for n, p in zip(names, row, strict=True) if p >= 0.5] for row in values]
        kind = pl.List(pl.String)
        return (
            {
                "target_categories": sets * len(seeds),
                "prediction_categories": guess,
                "scores_categories": values.tolist(),
            },
            {
                "target_categories": kind,
                "prediction_categories": kind,
                "scores_categories": pl.List(pl.Float64),
            },
        )
    columns: dict[str, Any] = {}
    for i, name in enumerate(NAMES[target]):
        columns[f"target_{name}"] = np.tile(truth[:, i], len(seeds))
        columns[f"prediction_{name}"] = values[:, i]
    return columns, dict.fromkeys(columns, pl.Float64)


def write_transfer(root: Path, method: str, corpus: str, onto: str) -> None:
    """What the stage transfer leaves of a method, for its category and sentiment alone."""
    content = {
        "trained_on": corpus,
        "tested_on": onto,
        "method": method,
        "targets": {
            "category": {
                "headline": "weighted_f1",
                "higher_is_better": True,
                "kind": "category",
                "names": ["angry", "happy"],
                "only_trained": ["neutral", "sad"],
                "only_tested": ["fear"],
                "n": 40,
                "n_dialogues": 8,
                "networks": 2,
                "rows_left_out": 8,
                "metrics": {"weighted_f1": {"mean": 0.4321, "std": 0.02}},
                "ci_low": 0.35,
                "ci_high": 0.52,
                "remark": "",
            },
            "sentiment": {
                "headline": "mae",
                "higher_is_better": False,
                "kind": "values",
                "names": ["sentiment"],
                "only_trained": [],
                "only_tested": [],
                "n": 48,
                "n_dialogues": 8,
                "networks": 2,
                "rows_left_out": 0,
                "metrics": {"mae": {"mean": 0.5, "std": 0.02}},
                "ci_low": 0.4,
                "ci_high": 0.6,
                "remark": "",
                "coverage": {"sentiment": {"step": 0.01, "shares": [i / 100 for i in range(101)]}},
            },
        },
        "unshared": {"vad": f"{onto} has no labels for it"},
        "shared_media": 3,
    }
    file = root / here().transfer(corpus, method, onto)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def make_image_only(root: Path, corpus: str, method: str) -> None:
    """Let a method have seen pictures alone: there are no subsets of modalities to take away."""
    file = root / here().details(corpus, method)
    details = json.loads(file.read_text())
    for target in details["targets"].values():
        target["subsets"] = {"video": target["subsets"]["audio+video+text"]}
    file.write_text(json.dumps(details, indent=1, sort_keys=True))
