"""Every path under data/, declared once. All are relative to the repository's root."""

import os
from pathlib import Path

from models.errors import UserError

#: What marks the root of a project.
_MARKS = ("params.yaml", ".dvc")


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above ``start`` that holds params.yaml and .dvc."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if all((folder / mark).exists() for mark in _MARKS):
            return folder
    raise UserError(
        f"{here} is not inside an affectloom project: no folder above it holds "
        f"{' and '.join(_MARKS)}; change into your clone"
    )


RAW = Path("data/raw")
CHECKPOINTS = Path("data/checkpoints")
REPORTS = Path("data/reports")
ENSEMBLES = REPORTS / "ensembles"


def raw(corpus: str) -> Path:
    """Media and original annotation files of a corpus."""
    return RAW / corpus


def checkpoint(name: str) -> Path:
    """A local encoder made by the stage ``checkpoints``."""
    return CHECKPOINTS / name


def utterances(corpus: str) -> Path:
    """Table of utterances."""
    return Path("data/corpora") / corpus / "utterances.parquet"


def annotations(corpus: str) -> Path:
    """Table of single judgements."""
    return Path("data/corpora") / corpus / "annotations.parquet"


def quarantine(corpus: str) -> Path:
    """What ingest set aside."""
    return Path("data/corpora") / corpus / "quarantine.parquet"


def labels(corpus: str) -> Path:
    """Table of merged labels."""
    return Path("data/labels") / f"{corpus}.parquet"


def labels_quarantine(corpus: str) -> Path:
    """Judgements that label merging set aside."""
    return Path("data/labels") / f"{corpus}.quarantine.parquet"


def agreement(corpus: str) -> Path:
    """How far the raters agree, JSON."""
    return REPORTS / "agreement" / f"{corpus}.json"


def splits(corpus: str) -> Path:
    """Folds and splits."""
    return Path("data/splits") / f"{corpus}.parquet"


def leaks(corpus: str) -> Path:
    """Leaks found between splits, JSON."""
    return REPORTS / "leaks" / f"{corpus}.json"


def faces(corpus: str) -> Path:
    """Table of face boxes and crops."""
    return Path("data/faces") / f"{corpus}.parquet"


def features(corpus: str, encoder: str) -> Path:
    """Folder of bucket files of one encoder's features."""
    return Path("data/features") / corpus / encoder


def search(corpus: str, method: str) -> Path:
    """Folder of what the search of a method's options tried and found."""
    return Path("data/search") / corpus / method


def runs(corpus: str, method: str) -> Path:
    """Folder of the trained runs of a method, one folder per seed inside."""
    return Path("data/runs") / corpus / method


def metrics(corpus: str, method: str) -> Path:
    """Scores of a method, JSON."""
    return REPORTS / "metrics" / corpus / f"{method}.json"


def details(corpus: str, method: str) -> Path:
    """Everything measured about a method: by seed, by class, grids, provenance; JSON."""
    return REPORTS / "metrics" / corpus / f"{method}.details.json"


def predictions(corpus: str, method: str) -> Path:
    """Predictions of a method on validation and test, beside its scores."""
    return REPORTS / "metrics" / corpus / f"{method}.predictions.parquet"


def transfer(corpus: str, method: str, onto: str) -> Path:
    """Scores on the test rows of ``onto`` of the runs trained on ``corpus``, JSON."""
    return REPORTS / "transfer" / corpus / method / f"{onto}.json"


def ensemble(corpus: str, method: str) -> Path:
    """Mean predictions of a method's networks on the test rows, CSV."""
    return ENSEMBLES / corpus / f"{method}.csv"


def leaderboard(suffix: str = "json") -> Path:
    """The leaderboard, as ``json`` or ``csv``."""
    return REPORTS / f"leaderboard.{suffix}"


def plots() -> Path:
    """Data files of `dvc plots`."""
    return REPORTS / "plots"


def page() -> Path:
    """The page that people read."""
    return REPORTS / "index.html"


def cache() -> Path:
    """Feature store, resumable checkpoints and timings: outside DVC's outs, safe to delete.

    ``AFFECTLOOM_CACHE`` names another folder, for instance one that several machines share.
    """
    return Path(os.environ.get("AFFECTLOOM_CACHE") or ".cache/affectloom").resolve()
