"""What answers: trained networks, with all that is needed to show them a new medium."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from models.batch import MODALITIES
from models.errors import UserError, hint
from models.method import find_method
from models.metrics.scoring import HEADLINE
from tasks.batches.pooled import read_pooled
from tasks.checkpoints.wheels import WheelFile
from tasks.evaluate.networks import Run, load_runs
from tasks.faces.params import FacesParams
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.params.inputs import Named
from tasks.params.model import Params
from tasks.params.recipes import Recipe
from tasks.predict.distance import Range
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

#: What a project's best run is judged by: the first of these that any of its runs predicts.
_JUDGED_BY = ("category", "vad", "sentiment")
#: Checkpoints that the stage ``checkpoints`` makes: where somebody speaks, and whose voice it is.
ACTIVITY, VOICES = "silero_vad", "resemblyzer"


@dataclass(frozen=True)
class Expected:
    """What an encoder was when the networks learnt from its features.

    Attributes:
        weights_sha256: of its weights.
        settings: how it was used; None where the entry itself came with the model.
    """

    weights_sha256: str
    settings: Mapping[str, Any] | None = None

    def is_met_by(self, metadata: Mapping[str, str]) -> bool:
        """Whether a table of features was made by the same; precision and versions may differ."""
        same = metadata["weights_sha256"] == self.weights_sha256
        return same and self.settings in (None, _settings(metadata))


def _settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    found = json.loads(metadata["settings"])
    return {name: value for name, value in found.items() if name != "dtype"}


@dataclass(frozen=True)
class Part:
    """Networks that read the same.

    Attributes:
        name: for messages, as ``iemocap/mmgcn``.
        runs: every network.
        inputs: modality or further input to its encoders.
        encoders: each of those that are read.
        faces: how faces are looked for.
        calibration: ``targets`` of the file of temperatures and residuals; may be empty.
        ranges: modality to where the training rows lie; empty where that is not known.
        expected: encoder to what it was at training, where that is known.
        learnt: fold to the hashes of media that its networks were trained or chosen on, where that
            is known.
    """

    name: str
    runs: tuple[Run, ...]
    inputs: Mapping[str, Named]
    encoders: Mapping[str, EncoderParams]
    faces: FacesParams
    calibration: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    expected: Mapping[str, Expected] = field(default_factory=dict)
    learnt: Mapping[int, frozenset[str]] = field(default_factory=dict)
    listening: Mapping[str, WheelFile] = field(default_factory=dict)

    @property
    def read(self) -> dict[str, tuple[str, ...]]:
        """Modality to the encoders that are read for it."""
        return self.runs[0].recipe.inputs(self.inputs)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it reads, in the project's order; pictures are ``video``."""
        pictures = {"video"} if "images" in self.runs[0].recipe.method.needs else set()
        return tuple(name for name in MODALITIES if name in {*self.read, *pictures})


@dataclass(frozen=True)
class Model:
    """Parts whose answers are put side by side.

    Attributes:
        parts: at least one.
        told: what is used and why, a sentence.
    """

    parts: tuple[Part, ...]
    told: str

    @property
    def modalities(self) -> tuple[str, ...]:
        """What any part reads."""
        read = {name for part in self.parts for name in part.modalities}
        return tuple(name for name in MODALITIES if name in read)

    @property
    def listening(self) -> dict[str, WheelFile]:
        """Where the networks that tell speech and voices come from, as its parts know."""
        return {name: wheel for part in self.parts for name, wheel in part.listening.items()}

    @property
    def networks(self) -> int:
        """How many networks the part with most of them averages for a target."""
        return max(
            sum(target in [t.name for t in run.targets] for run in part.runs)
            for part in self.parts
            for target in {t.name for run in part.runs for t in run.targets}
        )


def trained_runs(layout: Layout) -> list[tuple[str, str]]:
    """Corpus and method of everything that was trained."""
    found = (layout.root / "runs").glob("*/*")
    return sorted((f.parent.name, f.name) for f in found if any(f.rglob("config.json")))


def model_of_run(name: str, layout: Layout, params: Params, why: str = "as asked") -> Model:
    """Every network of ``corpus/method``.

    Args:
        name: of the runs.
        layout: of the project.
        params: of the project.
        why: it is this one, for the sentence.
    """
    known = trained_runs(layout)
    corpus, _, method = name.partition("/")
    if (corpus, method) not in known:
        there_is = hint(name, ["/".join(ids) for ids in known]) if known else "nothing is trained"
        raise UserError(f"--run {name}: there is no such trained run; {there_is}")
    part = part_of_run(corpus, method, layout, params)
    count = len(part.runs)
    told = f"model: {name} ({count} network{'s' if count > 1 else ''}), {why}"
    return Model((part,), told)


def part_of_run(corpus: str, method: str, layout: Layout, params: Params) -> Part:
    """The networks of a method on a corpus, and what they read."""
    name = f"{corpus}/{method}"
    runs = load_runs(layout, corpus, method)
    inputs = json.loads((runs[0].folder / "config.json").read_text(encoding="utf-8"))["inputs"]
    recipe = runs[0].recipe
    modalities = recipe.inputs(inputs)
    encoders = {name: params.encoder(name) for name in encoders_read(recipe, inputs)}
    for encoder, entry in encoders.items():
        if entry.family == "imported":
            raise UserError(
                f"{name} reads {encoder}, features that another program computed, which cannot be "
                "computed of a new medium; name a run with encoders of this project"
            )
    file = layout.calibration(corpus, method)
    calibration = json.loads(file.read_text(encoding="utf-8"))["targets"] if file.exists() else {}
    return Part(
        name=name,
        runs=tuple(runs),
        inputs=inputs,
        encoders=encoders,
        faces=_faces(params, corpus),
        calibration=calibration,
        ranges=_ranges(layout, corpus, modalities),
        expected=_expected(layout, corpus, encoders),
        learnt=_learnt(layout, corpus),
        listening={
            name: wheel
            for name, wheel in params.section("checkpoints").wheels.items()
            if name in (ACTIVITY, VOICES)
        },
    )


def _faces(params: Params, corpus: str) -> FacesParams:
    """As for the corpus; but in a new medium faces are looked for, even where its were cut out."""
    known = corpus in (params.raw.get("corpora") or {})
    asked = params.section("faces", corpus if known else None)
    return asked.model_copy(update={"detect": "faces"})


def encoders_read(recipe: Recipe, inputs: Mapping[str, Named]) -> list[str]:
    """Every encoder that a method reads of these inputs, once."""
    found = [name for names in recipe.inputs(inputs).values() for name in names]
    return list(dict.fromkeys([*found, *recipe.extra(inputs).values()]))


def _ranges(layout: Layout, corpus: str, inputs: Mapping[str, Sequence[str]]) -> dict[str, Range]:
    """Of the rows that any fold trained on, as far as the project still has their features."""
    if not layout.splits(corpus).exists():
        return {}
    splits = read_table(SPLIT, layout.splits(corpus))
    ids = splits.filter(pl.col("split") == "train").get_column("utterance_id").unique().sort()
    found = {}
    for modality, encoders in inputs.items():
        folders = [layout.features(corpus, encoder) for encoder in encoders]
        if not all(any(folder.glob("*.parquet")) for folder in folders):
            continue
        parts = [read_pooled(ids, folder) for folder in folders]
        present = np.logical_and.reduce([there for _, there in parts])
        if present.any():
            found[modality] = Range.of(np.hstack([values[present] for values, _ in parts]))
    return found


def _learnt(layout: Layout, corpus: str) -> dict[int, frozenset[str]]:
    if not (layout.splits(corpus).exists() and layout.utterances(corpus).exists()):
        return {}
    media = read_table(UTTERANCES, layout.utterances(corpus), ["utterance_id", "media_sha256"])
    known = read_table(SPLIT, layout.splits(corpus)).filter(pl.col("split") != "test")
    joined = known.join(media.drop_nulls(), on="utterance_id")
    return {
        int(str(fold)): frozenset(rows.get_column("media_sha256"))
        for (fold,), rows in joined.group_by("fold")
    }


def _expected(layout: Layout, corpus: str, encoders: Collection[str]) -> dict[str, Expected]:
    """As far as the project still has the features of training."""
    found = {}
    for encoder in encoders:
        folder = layout.features(corpus, encoder)
        if any(folder.glob("*.parquet")):
            metadata = read_metadata(folder)
            found[encoder] = Expected(metadata["weights_sha256"], _settings(metadata))
    return found


def best_run(layout: Layout, params: Params, modalities: Sequence[str]) -> tuple[str, str] | None:
    """Name of the best run of the project and why it is best; None without any that fits.

    A run on drawn people says nothing about real ones, so it counts only when it is named.

    Args:
        layout: of the project.
        params: of the project.
        modalities: what the media have.
    """
    corpora = params.raw.get("corpora") or {}
    found: dict[str, list[tuple[float, str, str]]] = {}
    for corpus, method in trained_runs(layout):
        entry = corpora.get(corpus) or {}
        file = layout.details(corpus, method)
        if entry.get("adapter", corpus) == "sample" or not file.exists():
            continue
        if not set(_read_by(layout, corpus, method)) & set(modalities):
            continue
        for target, scores in json.loads(file.read_text(encoding="utf-8"))["targets"].items():
            metric, sign = HEADLINE[target]
            metrics = scores.get("validation", {}).get("metrics", {})
            mean = metrics.get(metric, {}).get("mean")
            if mean is not None and np.isfinite(mean):
                why = f"the best of the project for {target}: validation {metric} {mean:.3f}"
                found.setdefault(target, []).append((-sign * mean, f"{corpus}/{method}", why))
    for target in _JUDGED_BY:
        if target in found:
            _, name, why = min(found[target])
            return name, why
    return None


def _read_by(layout: Layout, corpus: str, method: str) -> list[str]:
    """Modalities that the runs of a method read."""
    file = min(layout.runs(corpus, method).rglob("config.json"))
    config = json.loads(file.read_text(encoding="utf-8"))
    if find_method(config["entry"].get("method") or method).is_blind:
        return []
    return list(config["dims"]) or ["video"]


def runs_that_read(layout: Layout, modalities: Sequence[str]) -> list[str]:
    """Trained runs that read any of these."""
    return [
        f"{corpus}/{method}"
        for corpus, method in trained_runs(layout)
        if set(_read_by(layout, corpus, method)) & set(modalities)
    ]
