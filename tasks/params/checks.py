"""What ``params.yaml`` says that is well-formed and still cannot work."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from models.encoders.weights import check_local
from models.encoders.wheels import joined
from models.errors import UserError, hint
from tasks.corpora.adapter import check_options
from tasks.layout import Layout
from tasks.params.inputs import names_in
from tasks.params.unions import UNION
from tasks.selection import methods_of, modality_of, read_by, registered
from tasks.tables.labels import LABELS
from tasks.tables.words import MODALITIES
from tasks.targets import TARGETS

#: A name becomes a folder, a key of DVC and a word on command lines.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def check_names(raw: Mapping[str, Any]) -> None:
    """Corpora, encoders, transcribers and methods have names that can be folders."""
    for section in ("corpora", "encoders", "asr", "methods"):
        for name in raw.get(section) or {}:
            is_name = isinstance(name, str) and _NAME.fullmatch(name) is not None
            if not isinstance(name, str) or (is_name and yaml.safe_load(name) != name):
                raise UserError(
                    f"params.yaml: {section} has the name {name!r}, which YAML reads as something "
                    "else than text; write another name"
                )
            if not is_name:
                shown = name if len(name) <= 100 else f"{name[:100]}..."
                raise UserError(
                    f"params.yaml: {section} has the name {shown!r}; names are up to 100 letters "
                    "from a to z, digits, _ and -, and do not begin with -"
                )


def check_modalities(raw: Mapping[str, Any], where: str, inputs: Mapping[str, Any]) -> None:
    """An input of a modality names encoders that read it; imported features may be any."""
    for modality, named in inputs.items():
        for encoder in names_in(named) if modality in MODALITIES else ():
            found = modality_of(raw, encoder)
            if found not in (modality, "imported"):
                raise UserError(
                    f"params.yaml: {where}.{modality} is '{encoder}', which reads {found}; write "
                    f"it under {found}, or name an encoder of {modality}"
                )


def check_encoders(raw: Mapping[str, Any]) -> None:
    """Every encoder that a method reads on a corpus may run there."""
    for corpus in raw.get("corpora") or {}:
        known = registered(raw, corpus)
        for method in methods_of(raw, corpus):
            for modality, names in read_by(raw, corpus, method).items():
                for encoder in names:
                    if encoder not in known:
                        raise UserError(
                            f"params.yaml: methods.{method} reads {modality} of corpus {corpus} "
                            f"with '{encoder}', but encoders.{encoder}.corpora leaves {corpus} "
                            f"out; add it there, name another encoder in corpora.{corpus}.inputs, "
                            f"or give methods.{method} corpora without {corpus}"
                        )


def check_targets(raw: Mapping[str, Any]) -> None:
    """Targets and columns of labels that are named exist."""
    asked = {"train.targets": (raw.get("train") or {}).get("targets")}
    for name, entry in (raw.get("methods") or {}).items():
        asked[f"methods.{name}.targets"] = (entry or {}).get("targets")
    for where, targets in asked.items():
        for target in targets or ():
            if target not in TARGETS:
                raise UserError(
                    f"params.yaml: {where} names '{target}'; {hint(str(target), list(TARGETS))}"
                )
    parts = {"splits": raw.get("splits")}
    for name, entry in (raw.get("corpora") or {}).items():
        parts[f"corpora.{name}.splits"] = (entry or {}).get("splits")
    for where, part in parts.items():
        column = (part or {}).get("stratify")
        if column is not None and column not in LABELS.columns:
            known = list(LABELS.columns)
            raise UserError(
                f"params.yaml: {where}.stratify is '{column}'; {hint(str(column), known)}"
            )


def check_outside(raw: Mapping[str, Any]) -> None:
    """Adapters take the options that they are given; tables and local checkpoints exist."""
    for name, entry in (raw.get("corpora") or {}).items():
        found = entry or {}
        adapter, options = str(found.get("adapter", name)), found.get("options") or {}
        if adapter == UNION:  # takes none, and reads no files
            continue
        check_options(adapter, options)
        if adapter == "table":
            _check_tables(str(name), options)
    for name, entry in (raw.get("encoders") or {}).items():
        if (entry or {}).get("family") == "imported":
            continue  # a part of the corpus's data, which a pull may bring
        try:
            check_local(joined((entry or {}).get("checkpoint")))
        except UserError as error:
            raise UserError(f"params.yaml: encoders.{name}: {error}") from error


def _check_tables(corpus: str, options: Mapping[str, Any]) -> None:
    """DVC reads them before ingest does, and has no remedy where one is not there."""
    folder = Layout().raw(corpus)
    labels = options.get("labels") or {}
    for key, name in (("file", options.get("file")), ("labels.file", labels.get("file"))):
        if name is None or not folder.is_dir() or (folder / name).exists():
            continue
        brought = (p.with_name(f"{p.name}.dvc") for p in (folder / name, folder))
        if any(path.exists() for path in brought):  # by a pull
            continue
        there = sorted(file.name for file in folder.iterdir() if file.is_file())
        raise UserError(
            f"params.yaml: corpora.{corpus}.options.{key} is '{name}', but {folder} has no such "
            f"file; {hint(name, there, 'put it there, or correct the name')}"
        )
