"""Every path under a data folder, declared once; the folder may lie anywhere."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import UserError

#: What marks the root of a project.
_MARKS = ("params.yaml", ".dvc")
#: Where DVC copies a project to for experiments that are queued or run with ``--temp``.
_EXPERIMENTS = (".dvc", "tmp", "exps")


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


def default_cache(project: Path = Path()) -> Path:
    """The cache of a project, unless ``AFFECTLOOM_CACHE`` names another.

    DVC runs queued experiments in copies below ``.dvc/tmp/exps``; these share the project's own.
    """
    home = project.resolve()
    for above in home.parents:
        if above.parts[-3:] == _EXPERIMENTS:
            home = above.parents[len(_EXPERIMENTS) - 1]
            break
    return Path(os.environ.get("AFFECTLOOM_CACHE") or home / ".cache/affectloom").resolve()


@dataclass(frozen=True)
class Layout:
    """Where everything lies that the pipeline reads and writes.

    Attributes:
        root: the data folder.
        media: a folder per corpus with media and annotation files; default: ``raw`` in ``root``.
        cache: feature store, resumable runs and timings: outside DVC's outs, safe to delete. The
            default is the project's, or what ``AFFECTLOOM_CACHE`` names, for instance a folder that
            several machines share.
        project: what local names in params.yaml are relative to.
    """

    root: Path = Path("data")
    media: Path | None = None
    cache: Path = field(default_factory=default_cache)
    project: Path = Path()

    @property
    def media_root(self) -> Path:
        """What ``media`` in the table of utterances is relative to."""
        return self.media or self.root / "raw"

    @property
    def store(self) -> Path:
        """The content-addressed store of faces and features."""
        return self.cache / "features"

    @property
    def checkpoints(self) -> Path:
        """Local encoders made by the stage ``checkpoints``."""
        return self.root / "checkpoints"

    @property
    def reports(self) -> Path:
        """Everything that is there to be read by people."""
        return self.root / "reports"

    @property
    def analysis(self) -> Path:
        """What the page draws of each data set."""
        return self.reports / "analysis"

    @property
    def ensembles(self) -> Path:
        """Mean predictions, a folder per corpus."""
        return self.reports / "ensembles"

    def raw(self, corpus: str) -> Path:
        """Media and original annotation files of a corpus."""
        return self.media_root / corpus

    def checkpoint(self, name: str) -> Path:
        """A local encoder made by the stage ``checkpoints``."""
        return self.checkpoints / name

    def utterances(self, corpus: str) -> Path:
        """Table of utterances."""
        return self.root / "corpora" / corpus / "utterances.parquet"

    def annotations(self, corpus: str) -> Path:
        """Table of single judgements."""
        return self.root / "corpora" / corpus / "annotations.parquet"

    def quarantine(self, corpus: str) -> Path:
        """What ingest set aside."""
        return self.root / "corpora" / corpus / "quarantine.parquet"

    def labels(self, corpus: str) -> Path:
        """Table of merged labels."""
        return self.root / "labels" / f"{corpus}.parquet"

    def labels_quarantine(self, corpus: str) -> Path:
        """Judgements that label merging set aside."""
        return self.root / "labels" / f"{corpus}.quarantine.parquet"

    def agreement(self, corpus: str) -> Path:
        """How far the raters agree, JSON."""
        return self.reports / "agreement" / f"{corpus}.json"

    def splits(self, corpus: str) -> Path:
        """Folds and splits."""
        return self.root / "splits" / f"{corpus}.parquet"

    def leaks(self, corpus: str) -> Path:
        """Leaks found between splits, JSON."""
        return self.reports / "leaks" / f"{corpus}.json"

    def faces(self, corpus: str) -> Path:
        """Table of face boxes and crops."""
        return self.root / "faces" / f"{corpus}.parquet"

    def transcripts(self, corpus: str) -> Path:
        """Table of the words that were heard."""
        return self.root / "transcripts" / f"{corpus}.parquet"

    def features(self, corpus: str, encoder: str) -> Path:
        """Folder of bucket files of one encoder's features."""
        return self.root / "features" / corpus / encoder

    def search(self, corpus: str, method: str) -> Path:
        """Folder of what the search of a method's options tried and found."""
        return self.root / "search" / corpus / method

    def runs(self, corpus: str, method: str) -> Path:
        """Folder of the trained runs of a method, one folder per seed inside."""
        return self.root / "runs" / corpus / method

    def metrics(self, corpus: str, method: str) -> Path:
        """Scores of a method, JSON."""
        return self.reports / "metrics" / corpus / f"{method}.json"

    def details(self, corpus: str, method: str) -> Path:
        """Everything measured about a method: by seed, by class, grids, provenance; JSON."""
        return self.reports / "metrics" / corpus / f"{method}.details.json"

    def calibration(self, corpus: str, method: str) -> Path:
        """Temperature of classes and residuals of values, learned on validation rows, JSON."""
        return self.reports / "metrics" / corpus / f"{method}.calibration.json"

    def predictions(self, corpus: str, method: str) -> Path:
        """Predictions of a method on validation and test, beside its scores."""
        return self.reports / "metrics" / corpus / f"{method}.predictions.parquet"

    def transfer(self, corpus: str, method: str, onto: str) -> Path:
        """Scores on the test rows of ``onto`` of the runs trained on ``corpus``, JSON."""
        return self.reports / "transfer" / corpus / method / f"{onto}.json"

    def ensemble(self, corpus: str, method: str) -> Path:
        """Mean predictions of a method's networks on the test rows, CSV."""
        return self.ensembles / corpus / f"{method}.csv"

    def leaderboard(self, suffix: str = "json") -> Path:
        """The leaderboard, as ``json`` or ``csv``."""
        return self.reports / f"leaderboard.{suffix}"

    def plots(self) -> Path:
        """Data files of `dvc plots`."""
        return self.reports / "plots"

    def page(self) -> Path:
        """The page that people read."""
        return self.reports / "index.html"
