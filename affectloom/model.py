"""A trained model, from a project or from a folder that was given away."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from affectloom.project import Project
from models.encoders.encoder import Sound, Text
from tasks.layout import Layout

if TYPE_CHECKING:  # polars and torch are slow to import
    import polars as pl

    from tasks.predict.model import Model as Trained

#: A file, folder or pattern; a voice; words; a picture (H, W, 3) uint8, RGB.
Medium: TypeAlias = str | Path | Sound | Text | np.ndarray


def load(name: str | Path, project: str | Path | None = None) -> "Model":
    """The model of that name.

    Args:
        name: a folder that ``affectloom export`` wrote, ``hub:owner/name@revision``, or
            ``corpus/method`` of a project.
        project: the project, or any folder inside it (default: the one around the current folder).
    """
    from tasks.predict.leaving.folder import is_model, read_model
    from tasks.predict.leaving.hub import PREFIX, folder_of
    from tasks.predict.model import model_of_run
    from tasks.predict.outside import layout_for

    folder, is_plain = Path(name).expanduser(), not str(name).startswith(PREFIX)
    is_run = is_plain and len(folder.parts) == 2 and not folder.is_absolute()
    if is_run and not is_model(folder):
        home = Project(project)
        return Model(model_of_run(str(name), home.layout, home.params), home.layout)
    layout = layout_for(project)
    return Model(read_model(folder_of(str(name), Path(), layout.cache)), layout)


class Model:
    """Trained networks that answer together; ``load`` makes one.

    Attributes:
        trained: the networks and what they read.
        layout: where what was computed is kept.
    """

    def __init__(self, trained: "Trained", layout: Layout) -> None:
        self.trained = trained
        self.layout = layout

    def __repr__(self) -> str:
        return f"<affectloom.Model {self.trained.told.removeprefix('model: ')}>"

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it reads, out of ``audio``, ``video`` and ``text``."""
        return self.trained.modalities

    @property
    def encoders(self) -> tuple[str, ...]:
        """Whose features it reads."""
        return tuple(dict.fromkeys(name for part in self.trained.parts for name in part.encoders))

    def predict(
        self,
        media: "Medium | Sequence[Medium] | Mapping[str, pl.DataFrame]",
        transcript: str | Path | None = None,
    ) -> "pl.DataFrame":
        """What the model says, as a table with a row an utterance.

        Args:
            media: one or several of: files, folders or patterns, relative to the current folder;
                ``Sound``; ``Text``; pictures (H, W, 3) uint8. Or a table of features for each
                encoder, as ``Project.features`` gives them: then ids and dialogues are theirs.
            transcript: a file of words with times, where there is one medium.

        Returns:
            ``medium`` (the file, or for instance ``sound 0`` by its place), then the columns of
            ``predictions.csv`` (docs/predict.md). A medium that cannot be used has a row with
            nothing but its ``reason``. Of tables of features: ``id`` is the utterance's.
        """
        from tasks.predict.loose import predict

        return predict(media, self.trained, self.layout, transcript)
