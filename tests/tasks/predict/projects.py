"""A small project with real media, trained and evaluated: what ``predict`` is held against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.checkpoints.stage import TinyCheckpoint, make_checkpoint
from tasks.context import ForMethod
from tasks.evaluate import stage as evaluate
from tasks.faces import stage as faces
from tasks.features import stage as features
from tasks.layout import Layout
from tasks.media.decoding import media_sha256
from tasks.params.model import Params
from tasks.predict.transcripts import Turn
from tasks.tables.labels import LABELS
from tasks.tables.parquet import write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.train import stage as train
from tests.face_factory import draw_face, room
from tests.places import QUIET
from tests.tasks.media_factory import tone, write

CORPUS, METHOD = "tiny", "linear"
NAME = f"{CORPUS}/{METHOD}"
#: Dialogues 4 and 5 are test rows.
SPLITS = ["train"] * 3 + ["validation"] + ["test"] * 2
SPANS = ((0.0, 1.2), (1.2, 2.3333333333333335), (2.3333333333333335, 4.0))
TEXTS = ("so it is", "i am glad of that", "what a day")
CLASSES = ("angry", "happy", "sad")

BERT = {"family": "hf_text", "checkpoint": "data/checkpoints/bert", "dtype": "float32"}
RAW: dict[str, Any] = {
    "corpora": {CORPUS: {"adapter": "table"}},
    "encoders": {
        "prosody": {"family": "prosody", "pooling": "mean_std"},
        "vit": {
            "family": "hf_vision",
            "checkpoint": "data/checkpoints/vit",
            "tokens": "mean",
            "dtype": "float32",
        },
        "bert": BERT,
        "bert_l1": BERT | {"layer": 1},
    },
    "inputs": {"audio": "prosody", "video": "vit", "text": ["bert", "bert_l1"]},
    "faces": {"rate_hz": 3.0, "detect_height_px": 240, "crop_px": 64, "crops_per_utterance": 3},
    "methods": {
        METHOD: {"epochs": 4, "patience": 0, "lr": 0.01},
        "words": {"method": METHOD, "modalities": ["text"], "epochs": 2, "patience": 0},
        "constant": {},
    },
}


@dataclass(frozen=True)
class Project:
    """Where everything lies."""

    root: Path
    layout: Layout
    params: Params

    def medium(self, dialogue: int) -> Path:
        """The video of a dialogue."""
        return self.layout.raw(CORPUS) / f"d{dialogue}.mp4"

    def turns(self, dialogue: int) -> list[Turn]:
        """What is said in it, as its corpus has it."""
        return [
            Turn(start, end, f"p{dialogue}{'ab'[turn % 2]}", TEXTS[(dialogue + turn) % 3])
            for turn, (start, end) in enumerate(SPANS)
        ]


def make_project(root: Path) -> Project:
    """Six dialogues of three utterances; one method with two seeds."""
    layout = Layout(root=root / "data", cache=root / "cache", project=root)
    project = Project(root, layout, Params(RAW))
    for kind, name in (("vit", "vit"), ("bert", "bert")):
        make_checkpoint(TinyCheckpoint(kind=kind), 0, layout.checkpoint(name))
    utterances, labels, splits = [], [], []
    random = np.random.default_rng(0)
    layout.raw(CORPUS).mkdir(parents=True)
    for dialogue, split in enumerate(SPLITS):
        path = write_talk(
            project.medium(dialogue), hz=150 + 40 * dialogue, x_px=100 + 20 * dialogue
        )
        for turn, said in enumerate(project.turns(dialogue)):
            name = f"{CORPUS}/d{dialogue}/u{turn}"
            utterances.append(
                {
                    "utterance_id": name,
                    "dialogue_id": f"{CORPUS}/d{dialogue}",
                    "turn": turn,
                    "speaker": said.speaker,
                    "start_s": said.start_s,
                    "end_s": said.end_s,
                    "media": f"{CORPUS}/{path.name}",
                    "media_sha256": media_sha256(path),
                    "text": said.text,
                }
            )
            vad = dict(zip(("valence", "arousal"), random.uniform(-0.8, 0.8, 2), strict=True))
            category = CLASSES[(dialogue + turn) % 3]
            labels.append({"utterance_id": name, "category": category, **vad, "n_raters": 1})
            splits.append({"utterance_id": name, "fold": 0, "split": split})
    write_table(UTTERANCES, UTTERANCES.frame(utterances), layout.utterances(CORPUS))
    write_table(LABELS, LABELS.frame(labels), layout.labels(CORPUS))
    write_table(SPLIT, SPLIT.frame(splits), layout.splits(CORPUS))
    params = project.params
    faces.run(params.section("faces", CORPUS), layout, QUIET, CORPUS)
    for encoder in RAW["encoders"]:
        features.run(params.encoder(encoder), layout, QUIET, CORPUS, encoder)
    for method in RAW["methods"]:
        fit(project, method)
    return project


def fit(project: Project, method: str) -> None:
    """Train and evaluate a method with two seeds."""
    entry, inputs = project.params.method(method), project.params.inputs(CORPUS)
    asked = ForMethod(train.TrainParams(seeds=[0, 1], snapshot_mb=0), entry, inputs)
    train.run(asked, project.layout, QUIET, CORPUS, method)
    judged = ForMethod(evaluate.EvaluateParams(missing_rates=[0.5]), entry, inputs)
    evaluate.run(judged, project.layout, QUIET, CORPUS, method)


def write_talk(
    path: Path,
    seconds: float = 4.0,
    hz: float = 200.0,
    x_px: float = 160.0,
    *,
    face_until_s: float = 1e9,
    has_sound: bool = True,
) -> Path:
    """A video of a drawn face with a tone, or without either."""
    pictures = [
        draw_face(room(), x_px + i, 120, 150) if i < 10 * face_until_s else room()
        for i in range(round(seconds * 10))
    ]
    sound = tone(seconds, 16000, hz=hz) if has_sound else None
    times_s = np.arange(len(pictures)) / 10
    return write(
        path,
        times_s=times_s,
        pictures=pictures,
        size=(320, 240),
        sound=sound,
        audio_codec="aac",
        format="mp4",
    )
