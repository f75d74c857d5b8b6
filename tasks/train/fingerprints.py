"""What a training reads, by the bytes of its files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from models.batch import MODALITIES
from models.errors import UserError
from tasks.layout import Layout
from tasks.params.inputs import Named
from tasks.params.recipes import Recipe
from tasks.tables.parquet import files_of


def fingerprint_inputs(
    layout: Layout, corpus: str, recipe: Recipe, inputs: Mapping[str, Named]
) -> dict[str, str]:
    """SHA-256 of every table that training ``recipe`` reads, and of local weights."""
    tables = [layout.utterances(corpus), layout.labels(corpus), layout.splits(corpus)]
    files = [file for table in tables for file in files_of(table)]
    mine = recipe.inputs(inputs)
    encoders = [name for modality in MODALITIES for name in mine.get(modality, ())]
    for encoder in dict.fromkeys([*encoders, *recipe.extra(inputs).values()]):
        files += sorted(layout.features(corpus, encoder).glob("*.parquet"))
    if "images" in recipe.method.needs:
        files.append(layout.faces(corpus))
    pretrained = str(getattr(recipe.config, "pretrained", ""))
    if pretrained.endswith(".safetensors"):
        if not (file := Path(pretrained)).is_file():
            raise UserError(
                f"params.yaml: methods.{recipe.name}.pretrained: there is no file {file}; put it "
                "there, or leave pretrained empty to train from scratch"
            )
        files.append(file)
    return {str(file): sha256(file) for file in files}


def sha256(file: Path) -> str:
    """Hash of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
