"""A project's tables: labels, features, predictions, leaderboard."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.layout import Layout, find_root

if TYPE_CHECKING:  # slow to import
    import polars as pl

    from tasks.params.model import Params


class Project:
    """A clone with what its stages made; nothing here runs a stage.

    Args:
        folder: the clone or any folder inside it (default: the current folder).
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        from tasks.predict.outside import layout_of

        self.root = find_root(Path(folder).expanduser() if folder is not None else None)
        self.layout: Layout = layout_of(self.root)

    def __repr__(self) -> str:
        return f"<affectloom.Project {self.root}>"

    @cached_property
    def params(self) -> "Params":
        """``params.yaml``, checked."""
        from tasks.params.model import Params
        from tasks.params.text import read_mapping

        return Params(read_mapping(self.root / "params.yaml"))

    @property
    def models(self) -> list[str]:
        """Everything that was trained, as ``load`` takes it."""
        from tasks.predict.model import trained_runs

        return ["/".join(ids) for ids in trained_runs(self.layout)]

    def labels(self, corpus: str) -> "pl.DataFrame":
        """A row for each labelled utterance, with dialogue, speaker, words and splits.

        ``split`` has a column a fold where there are several: ``split_0``, ``split_1``, ...
        """
        from tasks.predict.tables import labels

        return labels(self.layout, corpus)

    def features(self, corpus: str, encoder: str, frames: bool = False) -> "pl.DataFrame":
        """A row for each utterance; ``pooled`` is null where there are no features, see ``reason``.

        Args:
            corpus: whose utterances.
            encoder: name in ``params.yaml: encoders``.
            frames: with ``sequence``, a list of vectors an utterance, where the encoder keeps them.
        """
        from tasks.predict.tables import features

        return features(self.layout, corpus, encoder, frames)

    def predictions(self, corpus: str, method: str) -> "pl.DataFrame":
        """A row for each utterance of validation and test, seed and fold; truth beside it."""
        from tasks.predict.tables import predictions

        return predictions(self.layout, corpus, method)

    def leaderboard(self) -> "pl.DataFrame":
        """All methods on all corpora and targets, as ``data/reports/leaderboard.csv``."""
        from tasks.predict.tables import leaderboard

        return leaderboard(self.layout)
