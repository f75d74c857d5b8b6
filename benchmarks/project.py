"""A project of its own for a benchmark on real data: code, links to the data, params.yaml.

What runs in it is the same ``affectloom run`` that users type.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", ROOT.parent / "shared")).resolve() / "data"


def make_project(folder: Path, params: Mapping[str, Any]) -> None:
    """Make or bring up to date the project in ``folder``; data and results stay."""
    for package in ("flows", "tasks", "models"):
        shutil.rmtree(folder / package, ignore_errors=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(params), sort_keys=False))
    if not (folder / ".dvc").exists():
        command = [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"]
        subprocess.run(command, cwd=folder, check=True)


def grow(folder: Path, corpus: str, how: Callable[[Path], None]) -> None:
    """Fill ``data/raw/<corpus>`` once."""
    root = folder / "data/raw" / corpus
    if not root.exists():
        temporary = root.with_name(f"{corpus}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        how(temporary)
        temporary.replace(root)


def link(name: str) -> Callable[[Path], None]:
    """Puts one of the shared files into a corpus."""
    return lambda root: (root / name).symlink_to(SHARED / name)


def fer2013(root: Path) -> None:
    """The subset as class folders."""
    faces = pl.read_parquet(SHARED / "fer2013_subset.parquet")
    folder = {"train": "train", "val": "validation", "test": "test"}
    for row in faces.select("file", "split", "label", "image_jpeg").iter_rows(named=True):
        path = root / folder[row["split"]] / row["label"] / row["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image_jpeg"])


def import_columns(folder: Path, corpus: str, table: pl.DataFrame, modality: str) -> str:
    """Bring a table of an id and one column for each dimension in, as a user would.

    Returns:
        Where the features lie in the project.
    """
    place = f"data/raw/{corpus}/imported/{corpus}_{modality}.parquet"
    if (folder / place).exists():
        return place
    flat = folder / "made" / f"{corpus}_{modality}.parquet"
    flat.parent.mkdir(exist_ok=True)
    table.write_parquet(flat)
    arguments = ["import", str(flat), "--corpus", corpus, "--modality", modality]
    arguments += ["--encoder-name", f"{corpus}_{modality}", "--features-only"]
    affectloom(folder, *arguments)
    return place


def affectloom(folder: Path, *arguments: str) -> None:
    """Run a command in the project."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "AFFECTLOOM_CACHE": str(folder / ".cache"),
    }
    command = [sys.executable, "-m", "flows.cli.main", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The leaderboard's rows with ``corpus`` and ``target``."""
    board = json.loads((folder / "data/reports/leaderboard.json").read_text())
    found = []
    for corpus, targets in board.items():
        if corpus != "provenance":
            for target, entries in targets.items():
                found += [{"corpus": corpus, "target": target, **entry} for entry in entries]
    return found
