"""The command ``affectloom import``; ``flows/cli/main.py`` registers it."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import UserError
from tasks.layout import Layout

if TYPE_CHECKING:  # the command line must start fast
    from tasks.corpora.imports.reading import Summary

EPILOG = "Example: affectloom import IEMOCAP_features.pkl --corpus iemocap_dgcn"


def import_files(
    path: Annotated[Path, typer.Argument(help="Pickle, .csd, CSV, Parquet, ARFF, or folder.")],
    corpus: Annotated[str, typer.Option(help="Name of the corpus.")],
    form: Annotated[
        str, typer.Option("--format", help="auto, dialogues, mmsa, csd, npy or table.")
    ] = "auto",
    encoder_name: Annotated[
        list[str] | None,
        typer.Option(help="Name of the features: block=name, or a name for each block."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="audio, video or text, where the file does not say it.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="What label numbers mean: iemocap6, iemocap4, meld, ... or a,b,c."),
    ] = None,
    features_only: Annotated[
        bool, typer.Option("--features-only", help="Only features, for a corpus that is there.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of an earlier import.")
    ] = False,
    sequences: Annotated[bool, typer.Option(help="Keep frames, not only their mean.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Bring in features and labels that another project saved; pickles are read safely."""
    from dataclasses import asdict

    from tasks.corpora.imports import reading
    from tasks.tables.words import MODALITIES

    if form not in reading.FORMATS:
        raise UserError(f"--format {form}: choose one of {', '.join(reading.FORMATS)}")
    if modality is not None and modality not in MODALITIES:
        raise UserError(f"--modality {modality}: choose one of {', '.join(MODALITIES)}")
    options = reading.ImportOptions(
        format=form,
        names=tuple(encoder_name or ()),
        modality=modality,
        labels=labels,
        features_only=features_only,
        replace=replace,
        keep_sequences=sequences,
    )
    # the command settles in the repository's root; the path was meant from where it was called
    source = path if path.is_absolute() else Path(os.environ.get("PWD", ".")) / path
    summary = reading.run(Layout(), source if source.exists() else path, corpus, options, _progress)
    if as_json:
        print(json.dumps(asdict(summary), indent=1))
        return
    for line in _told(summary):
        print(line)
    print("\nIn params.yaml:")
    for line in snippet(corpus, summary, features_only):
        print(f"  {line}")


def _progress(block: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{block}: {done:,} of {total:,} utterances", end=end, file=sys.stderr, flush=True)


def _told(summary: "Summary") -> list[str]:
    """The summary for a person."""
    lines = [f"{summary.format}"]
    if summary.utterances:
        splits = ", ".join(f"{count:,} {name}" for name, count in summary.splits.items())
        lines.append(
            f"{summary.utterances:,} utterances, {summary.dialogues:,} dialogues: {splits}"
        )
    for target, count in summary.judgements.items():
        lines.append(f"{count:,} judgements of {target}")
    for name, about in summary.features.items():
        rows = ", ".join(f"{count:,} {what}" for what, count in about.rows.items())
        lines.append(f"features {name}: {about.modality}, width {about.dim}: {rows}")
    for reason, count in summary.quarantined.items():
        lines.append(f"set aside: {count:,} {reason}")
    for part, why in summary.left_out.items():
        lines.append(f"left out: {part}: {why}")
    if summary.unmatched:
        lines.append(f"{summary.unmatched:,} utterances of the file are not the corpus's")
    return lines


def snippet(corpus: str, summary: "Summary", features_only: bool) -> list[str]:
    """Lines for ``params.yaml`` that put the import to use.

    Imported features exist for their own corpus alone, so the encoders are limited to it and the
    corpus names its own inputs: the first block of each modality. Frames that came are kept.
    """
    lines = [] if features_only else _corpus_lines(corpus, summary)
    lines.append("encoders:")
    for name, about in summary.features.items():
        place = f"data/raw/{corpus}/imported/{name}.parquet"
        entry = f"family: imported, checkpoint: {place}, corpora: [{corpus}]"
        lines.append(f"  {name}: {{{entry}{', sequence: true' if about.has_frames else ''}}}")
    return lines


def _corpus_lines(corpus: str, summary: "Summary") -> list[str]:
    inputs: dict[str, str] = {}
    for name, about in summary.features.items():
        inputs.setdefault(about.modality, name)
    chosen = ", ".join(f"{modality}: {name}" for modality, name in sorted(inputs.items()))
    published = {"train", "test"} <= set(summary.splits)
    protocol = "published" if published else "group_kfold, group: dialogue"
    lines = ["corpora:", f"  {corpus}:", "    adapter: imported"]
    lines += [f"    inputs: {{{chosen}}}"] if chosen else []
    return [*lines, f"    splits: {{protocol: {protocol}}}"]
