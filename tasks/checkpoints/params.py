"""What the stage ``checkpoints`` is asked; who only checks params.yaml loads no network."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.checkpoints.wheels import Wanted, WheelFile

Kind = Literal[
    "wav2vec2",
    "wav2vec2_layer_norm",
    "hubert",
    "wavlm",
    "data2vec_audio",
    "whisper",
    "vit",
    "dinov2",
    "clip",
    "siglip",
    "bert",
    "roberta",
]


class TinyCheckpoint(BaseModel):
    """One tiny network.

    Attributes:
        kind: its architecture; ``wav2vec2`` and ``hubert`` normalise over time as their base
            versions do, ``wav2vec2_layer_norm`` over channels as the large ones do.
        width: D, a multiple of ``heads``.
        layers: transformer blocks.
        heads: attention heads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    width: int = Field(default=64, ge=16)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)


class CheckpointsParams(BaseModel):
    """``params.yaml: checkpoints``.

    Attributes:
        seed: of the tiny networks.
        models: each folder's tiny network by its name.
        wheels: each folder's file in a wheel by its name, beside those that encoders name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    models: dict[str, TinyCheckpoint] = {
        "wav2vec2_tiny": TinyCheckpoint(kind="wav2vec2"),
        "hubert_tiny": TinyCheckpoint(kind="hubert"),
        "vit_tiny": TinyCheckpoint(kind="vit"),
        "bert_tiny": TinyCheckpoint(kind="bert"),
    }
    wheels: dict[str, WheelFile] = {}


@dataclass(frozen=True)
class ForCheckpoints:
    """What the stage is asked to make.

    Attributes:
        own: the stage's own parameters.
        wheels: every file in a wheel that encoders name.
    """

    own: CheckpointsParams
    wheels: tuple[Wanted, ...] = ()
