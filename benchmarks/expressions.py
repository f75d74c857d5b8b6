"""Faces, voices and sentiment on real data: CAGE, Huo & Ge, EMI and HAEMSA.

``python -m benchmarks.expressions FOLDER [--only fer2013 ravdess mosi] [--methods ENTRY ...]`` in
the root of the repository, with the real data beside it (``../shared/data``, or
``AFFECTLOOM_SHARED``). FOLDER becomes a project; ``affectloom run`` there does the work and goes on
where it was stopped. Prints one row for each method and target: mean and standard deviation over
seeds of the test score of the epoch that validation chose.

* FER2013 subset: 5,601 faces of 48 px, trained from scratch (HOG + SVM reach 41.8 % accuracy).
  ``cage_resnet18`` and ``--methods huo_ge_vad --epochs 170`` take more than an hour each;
  where a processor lacks bfloat16, ``--precision float32`` is faster.
  ``cage_lite0`` begins from ImageNet instead, with weights out of a package index.
* RAVDESS: 360 clips, six folds by actor (logistic regression on both modalities reaches 75.8 %).
* CMU-MOSI: sentiment as a number, three modalities (ridge regression on the text: r = 0.61).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks import project
from benchmarks.project import SHARED

#: As many as fit into 20 minutes on two cores, and into two hours for ``cage_resnet18``.
EPOCHS = {"cage": 40, "cage_resnet18": 150, "cage_lite0": 14, "huo_ge_vad": 36}
SCRATCH = {"patience": 0, "scheduler": "cosine"}

#: Regularisation for a few hundred clips; every fold is searched on its own rows.
EMI_SEARCH: dict[str, Any] = {
    "sampler": "tpe",
    "trials": 24,
    "space": {
        "lr": {"low": 3.0e-4, "high": 5.0e-3, "log": True},
        "weight_decay": [0.01, 0.1, 1.0],
        "hidden": [64, 256],
        "dropout": [0.3, 0.5, 0.7],
        "feature_noise": [0.0, 0.3],
        "modality_dropout": [0.0, 0.2],
    },
}
HAEMSA_SEARCH: dict[str, Any] = {
    "sampler": "evolution",
    "population": 8,
    "generations": 4,
    "max_evaluations": 32,
    "proxy_share": 1.0,
}


def fer2013(folder: Path) -> dict[str, Any]:
    """On two cores: two seeds side by side, from scratch but for ``cage_lite0``."""
    project.grow(folder, "fer2013", project.fer2013)
    only = {"corpora": ["fer2013"], "targets": ["category"], **SCRATCH}
    offline = yaml.safe_load((project.ROOT / "params/offline.yaml").read_text(encoding="utf-8"))
    lite0 = offline["encoders"]["efficientnet_lite0"]
    return {
        "corpora": {
            "fer2013": {
                "adapter": "fer2013",
                "splits": {"protocol": "published", "group": "dialogue"},
                "faces": {"detect": "whole", "crop_px": 48},
            }
        },
        "methods": {
            "cage": {
                "backbone": "small", "pretrained": "", "image_px": 48, "augment": "light",
                "class_weights": "none", "lr": 3.0e-3, "batch_size": 64,
                "epochs": EPOCHS["cage"], **only,
            },
            "cage_resnet18": {
                "method": "cage", "backbone": "resnet18", "pretrained": "", "image_px": 64,
                "augment": "light", "class_weights": "none", "head_dropout": 0.3,
                "weight_decay": 0.3, "ema_decay": 0.999, "precision": "bfloat16",
                "lr": 2.0e-3, "clip_norm": 5.0, "warmup": 0.05, "batch_size": 64,
                "epochs": EPOCHS["cage_resnet18"], **only,
            },
            # twice the pictures' size, for a network that ends at a 32nd of it
            "cage_lite0": {
                "method": "cage", "backbone": "efficientnet_lite0", "standard": "tensorflow",
                "pretrained": lite0["checkpoint"], "pretrained_sha256": lite0["sha256"],
                "image_px": 96, "augment": "light", "class_weights": "none", "head_dropout": 0.3,
                "weight_decay": 0.05, "lr": 1.0e-3, "clip_norm": 5.0, "warmup": 0.1,
                "batch_size": 32, "epochs": EPOCHS["cage_lite0"], **only,
            },
            "huo_ge_vad": {
                "width": 16, "orth_weight": 0.0, "precision": "bfloat16",
                "lr": 0.01, "batch_size": 16, "epochs": EPOCHS["huo_ge_vad"], **only,
            },
        },
    }  # fmt: skip


def ravdess(folder: Path) -> dict[str, Any]:
    """Voice and face features as they were published; folds share no actor."""
    table = pl.read_parquet(SHARED / "ravdess_av_features.parquet")

    def clips(root: Path) -> None:
        table.select("file", "actor", "emotion").write_csv(root / "clips.csv")

    project.grow(folder, "ravdess", clips)
    features = {}
    for modality in ("audio", "video"):
        columns = [name for name in table.columns if name.startswith(f"{modality}_")]
        # a measure that failed for a clip is the median of the others
        filled = table.select("file", pl.col(columns).fill_null(pl.col(columns).median()))
        features[modality] = filled.rename({"file": "utterance_id"})
    only = {"corpora": ["ravdess"]}
    return {
        "features": features,
        "corpora": {
            "ravdess": {
                "adapter": "table",
                "options": {
                    "file": "clips.csv",
                    "columns": {"utterance": "file", "dialogue": "actor", "speaker": "actor"},
                    "labels": {"targets": {"category": {"column": "emotion"}}},
                },
                "inputs": {"audio": "ravdess_audio", "video": "ravdess_video"},
                "splits": {
                    "protocol": "group_kfold", "group": "speaker", "folds": 6,
                    "validation_fraction": 0.15,
                },
            }
        },
        "methods": {
            "ravdess_linear": {"method": "linear", "epochs": 200, "patience": 40, **only},
            "ravdess_early": {"method": "early_fusion", "epochs": 100, "patience": 30, **only},
            "ravdess_emi": {"method": "emi", "lr": 1.0e-3, "batch_size": 32, **only},
            "ravdess_haemsa": {"method": "haemsa", **only},
            "ravdess_emi_searched": {
                "method": "emi", "batch_size": 32, "search": EMI_SEARCH, **only
            },
            "ravdess_haemsa_evolved": {"method": "haemsa", "search": HAEMSA_SEARCH, **only},
        },
    }  # fmt: skip


def mosi(folder: Path) -> dict[str, Any]:
    """Sentiment from -3 to 3; the published split, validation cut by video."""
    project.grow(folder, "mosi", project.link("mosi_bclstm.parquet"))
    table = pl.read_parquet(SHARED / "mosi_bclstm.parquet")
    features = {}
    for modality in ("audio", "video", "text"):
        width = table[modality].list.len().max()
        columns = [
            pl.col(modality).list.get(i).alias(f"{modality}_{i:03d}") for i in range(int(width))
        ]
        features[modality] = table.select("utterance_id", *columns)
    only = {"corpora": ["mosi"], "targets": ["sentiment"]}
    return {
        "features": features,
        "corpora": {
            "mosi": {
                "adapter": "table",
                "options": {
                    "file": "mosi_bclstm.parquet",
                    "columns": {
                        "utterance": "utterance_id", "dialogue": "video_id", "turn": "order",
                        "speaker": "video_id", "text": "transcript", "split": "split",
                    },
                    "labels": {
                        "targets": {"sentiment": {"column": "sentiment", "scale": [-3, 3]}}
                    },
                },
                "inputs": {name: f"mosi_{name}" for name in ("audio", "video", "text")},
                "splits": {
                    "protocol": "published", "group": "dialogue", "validation_fraction": 0.15
                },
            }
        },
        "methods": {
            "mosi_linear": {"method": "linear", "epochs": 100, "patience": 20, **only},
            "mosi_ridge": {"method": "ridge", **only},
            "mosi_ridge_text": {"method": "ridge", "modalities": ["text"], **only},
            "mosi_late": {"method": "late_fusion", **only},
            "mosi_emi": {"method": "emi", **only},
            "mosi_haemsa": {"method": "haemsa", **only},
            "mosi_haemsa_evolved": {"method": "haemsa", "search": HAEMSA_SEARCH, **only},
            "mosi_haemsa_random": {
                "method": "haemsa", "search": HAEMSA_SEARCH | {"sampler": "random"}, **only
            },
        },
    }  # fmt: skip


PARTS = {"fer2013": fer2013, "ravdess": ravdess, "mosi": mosi}


def main() -> None:
    """Build the project, run it, print its leaderboard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=0, help="default: 2 for fer2013, else 5")
    parser.add_argument("--epochs", type=int, default=0, help="of the methods on FER2013")
    parser.add_argument("--methods", nargs="*", help="these entries alone; default: all")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="of the networks on FER2013; float32 is faster where a processor lacks bfloat16",
    )
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.epochs:
        EPOCHS.update(dict.fromkeys(EPOCHS, arguments.epochs))
    seeds = arguments.seeds or (2 if arguments.only == ["fer2013"] else 5)
    params: dict[str, Any] = {
        "corpora": {},
        "labels": {},
        "splits": {},
        "encoders": {},
        "inputs": {},
        "train": {"seeds": list(range(seeds)), "snapshot_mb": 0.0},
        "methods": {},
        "evaluate": {"missing_rates": [0.0, 0.3]},
        "report": {},
        "execution": {"runner": "processes", "workers": 2},
    }
    parts = {name: PARTS[name](folder) for name in arguments.only}
    for part in parts.values():
        params["corpora"] |= part["corpora"]
    bare = {name: {**entry, "inputs": {}} for name, entry in params["corpora"].items()}
    project.make_project(folder, params | {"corpora": bare})
    project.affectloom(folder, "run", "ingest")  # features join a corpus that is there
    for name, part in parts.items():
        wanted = arguments.methods or part["methods"]
        entries = {key: part["methods"][key] for key in part["methods"] if key in wanted}
        if arguments.precision and name == "fer2013":
            entries = {
                key: one | {"precision": arguments.precision} for key, one in entries.items()
            }
        params["methods"] |= entries
        for modality, table in part.get("features", {}).items():
            place = project.import_columns(folder, name, table, modality)
            params["encoders"][f"{name}_{modality}"] = {
                "family": "imported", "checkpoint": place, "corpora": [name]
            }  # fmt: skip
    project.make_project(folder, params)
    project.affectloom(folder, "run")
    print(json.dumps([_figures(row) for row in project.rows(folder)], indent=1))


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    """What a table in the README needs, percent signs not included."""
    names = ("accuracy", "weighted_f1", "mae", "pearson", "acc7", "acc2_has0", "acc2_non0")
    found = {key: row[key] for key in ("corpus", "target", "method", "n_test", "seeds")}
    scores = row["metrics"]
    return found | {n: [scores[n]["mean"], scores[n]["std"]] for n in names if n in scores}


if __name__ == "__main__":
    main()
