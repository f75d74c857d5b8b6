"""``affectloom import``: files of other projects become tables and features of this one.

Everything goes below ``data/raw/<corpus>/imported``: ``utterances.parquet``,
``annotations.parquet``, ``quarantine.parquet`` for the adapter ``imported``, one
``<encoder>.parquet`` a block of features for the encoder family ``imported``, and
``manifest.json``, which says where all of it came from. From there on an imported corpus is like
any other: DVC tracks its raw folder, and ingest, labels, splits and features do the rest.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from models.errors import UserError
from tasks.atomic import write_json
from tasks.corpora.imports import safe_pickle
from tasks.corpora.imports.csd import read_csd
from tasks.corpora.imports.dialogue_pickles import read_dialogues
from tasks.corpora.imports.found import UTTERANCES_OF_IMPORT, Block, Found
from tasks.corpora.imports.mmsa import read_mmsa
from tasks.corpora.imports.plain_tables import read_arrays, read_frame
from tasks.corpora.imports.writing import write_features
from tasks.corpora.raw_folders import check_file
from tasks.corpora.source import IMPORTS
from tasks.layout import Layout
from tasks.media.hashes import hash_file
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import read_table, write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES

Format = Literal["auto", "dialogues", "mmsa", "csd", "npy", "table"]
FORMATS: tuple[Format, ...] = ("auto", "dialogues", "mmsa", "csd", "npy", "table")
#: Raised when the same file gives other tables.
IMPORTER_VERSION = 2

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_PICKLES = (".pkl", ".pickle", ".p")
_HDF5 = (".csd", ".h5", ".hdf5")
_TABLES = (".csv", ".parquet", ".arff")


@dataclass(frozen=True)
class ImportOptions:
    """How a file is read.

    Attributes:
        format: which reader; ``auto`` goes by suffix and content.
        names: encoder names; ``block=name``, or one name a block in the file's order.
        modality: audio, video or text, for files that do not say it.
        labels: what label numbers mean; see ``import_dialogues.LABELS``.
        features_only: the corpus is there already; take features for its utterances.
        replace: put this import in the place of an earlier one.
        keep_sequences: keep frames, not only their mean.
    """

    format: Format = "auto"
    names: Sequence[str] = ()
    modality: str | None = None
    labels: str | None = None
    features_only: bool = False
    replace: bool = False
    keep_sequences: bool = True


@dataclass(frozen=True)
class Features:
    """One block as it was written.

    Attributes:
        modality: of the block.
        dim: width.
        rows: utterances by status and reason.
        has_frames: some utterance has a sequence.
    """

    modality: str
    dim: int
    rows: dict[str, int]
    has_frames: bool


@dataclass
class Summary:
    """What came of an import.

    Attributes:
        format: the form that was found.
        utterances: how many; 0 where only features were taken.
        dialogues: how many.
        splits: utterances by published split.
        judgements: by target.
        features: by encoder.
        quarantined: what could not be read, by reason.
        left_out: parts of the file that were not imported, and why.
        unmatched: utterances of the file that the corpus does not have.
    """

    format: str
    utterances: int = 0
    dialogues: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    judgements: dict[str, int] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unmatched: int = 0


def folder(layout: Layout, corpus: str) -> Path:
    """Where imports of a corpus lie."""
    return layout.raw(corpus) / IMPORTS


def run(
    layout: Layout,
    source: Path,
    corpus: str,
    options: ImportOptions,
    progress: Callable[[str, int, int], None] = lambda block, done, total: None,
) -> Summary:
    """Import ``source`` as ``corpus`` below the current folder.

    Args:
        source: file or folder.
        corpus: its name: lower case letters, digits and ``_``.
        options: how to read it.
        progress: hears block, utterances written, utterances in all.
    """
    if not _NAME.match(corpus):
        raise UserError(
            f"--corpus {corpus}: a corpus's name has lower case letters, digits and _ only"
        )
    if not source.exists():
        raise UserError(f"{source} does not exist")
    check_file(source)
    destination = folder(layout, corpus)
    manifest = _read_manifest(destination)
    if "card" in manifest and not (options.features_only or options.replace):
        raise UserError(
            f"{destination} holds an import of {corpus} already; add --features-only to take "
            "features for its utterances, or --replace to put this import in its place"
        )
    found = read(source, options)
    _check_content(source, found)
    names = _encoder_names(found.blocks, options.names, corpus)
    rename = _match(layout, found, corpus) if options.features_only else {}
    if options.replace:
        _remove(destination, manifest)
        manifest = {}
    summary = Summary(found.format, left_out=dict(found.left_out))
    summary.unmatched = sum(known is None for known in rename.values())
    digest = _hash(source)
    provenance = {"file": source.name, "sha256": digest, "format": found.format}
    if not options.features_only:
        _write_tables(found, destination, summary)
        card = asdict(found.card(corpus, source.name))
        manifest |= {"card": card, "tables": provenance}
    features = dict(manifest.get("features", {}))
    for block, name in zip(found.blocks, names, strict=True):
        metadata = {
            "corpus": corpus,
            "encoder": name,
            "modality": block.modality,
            "block": block.name,
            "source": source.name,
            "source_sha256": digest,
            "format": found.format,
            "importer_version": str(IMPORTER_VERSION),
            "trained": "unknown",
        }
        written = destination / f"{name}.parquet"
        counts = write_features(
            block,
            rename,
            corpus,
            written,
            metadata,
            options.keep_sequences,
            lambda done, total, name=name: progress(name, done, total),
        )
        told = {f"{s}: {r}" if r else s: count for (s, r), count in sorted(counts.items())}
        features[name] = {"modality": block.modality, "dim": block.dim, **provenance}
        has_frames = bool(pl.read_parquet(written, columns=["frames"]).to_series().sum())
        summary.features[name] = Features(block.modality, block.dim, told, has_frames)
    manifest |= {"importer_version": IMPORTER_VERSION, "features": features}
    write_json(destination / "manifest.json", manifest)
    return summary


def read(source: Path, options: ImportOptions) -> Found:
    """What ``source`` holds, by the reader that its form asks for."""
    suffix, form = source.suffix.lower(), options.format
    if form == "csd" or (form == "auto" and (suffix in _HDF5 or _holds(source, _HDF5))):
        return read_csd(source, options.modality)
    if source.is_dir():
        if form not in ("auto", "npy"):
            raise UserError(f"{source} is a folder; a {form} is a file")
        return read_arrays(source, options.modality)
    if form == "table" or (form == "auto" and suffix in _TABLES):
        return read_frame(source, options.modality)
    if form == "npy" or (form == "auto" and suffix not in _PICKLES):
        raise UserError(
            f"{source}: '{suffix}' is no form that can be imported; there are "
            f"{', '.join((*_PICKLES, *_HDF5, *_TABLES))} and folders of .npy"
        )
    content = safe_pickle.load(source)
    found = None
    if form in ("auto", "mmsa"):
        found = read_mmsa(source, content)
    if found is None and form in ("auto", "dialogues"):
        found = read_dialogues(source, content, options.labels)
    if found is None:
        raise UserError(
            f"{source}: holds {_outline(content)}, which is none of the known forms: tuples of "
            "DialogueRNN, DialogueGCN, MMGCN, MM-DFN and COSMIC, samples of COGMEN and CORECT, "
            "splits of MMSA; save it as CSV or as .npy files instead"
        )
    return found


def _check_content(source: Path, found: Found) -> None:
    """Raise where nothing of a file can be imported."""
    if found.utterances.height or any(len(block.ids) for block in found.blocks):
        return
    problem = ""
    if found.quarantine.height:
        first = found.quarantine.row(0, named=True)
        problem = f": {found.quarantine.height} parts were set aside, the first: {first['detail']}"
    raise UserError(f"{source}: no utterance in it can be used{problem}; mend the file")


def _holds(source: Path, suffixes: Sequence[str]) -> bool:
    return source.is_dir() and any(f.suffix.lower() in suffixes for f in source.iterdir())


def _outline(content: object) -> str:
    """The form of something unknown, in words."""
    kind = type(content).__name__
    if isinstance(content, dict):
        return f"a dict with {', '.join(sorted(map(str, content))[:8]) or 'nothing'}"
    if isinstance(content, list | tuple):
        parts = ", ".join(type(part).__name__ for part in content[:12])
        return f"a {kind} of {len(content)} ({parts})"
    return f"a {kind}"


def _encoder_names(blocks: Sequence[Block], given: Sequence[str], corpus: str) -> list[str]:
    known = [block.name for block in blocks]
    names = {block: f"{corpus}_{block}" for block in known}
    plain = [name for name in given if "=" not in name]
    if plain and len(plain) != len(known):
        raise UserError(
            f"--encoder-name: the file has {len(known)} blocks ({', '.join(known)}), but "
            f"{len(plain)} names are given; name each, or write block=name"
        )
    names |= dict(zip(known, plain, strict=True)) if plain else {}
    for pair in given:
        block, is_pair, name = pair.partition("=")
        if is_pair and block not in names:
            raise UserError(f"--encoder-name {pair}: the file has the blocks {', '.join(known)}")
        if is_pair:
            names[block] = name
    for name in names.values():
        if not _NAME.match(name):
            raise UserError(
                f"--encoder-name {name}: a name has lower case letters, digits and _ only"
            )
    if len(set(names.values())) < len(names):
        raise UserError("--encoder-name: two blocks have the same name; give each its own")
    return [names[block] for block in known]


def _match(layout: Layout, found: Found, corpus: str) -> dict[str, str | None]:
    """Ids of the file to ids of the corpus: the same id, the same dialogue of one turn, or the
    same last part where only one utterance of the corpus has it."""
    table = layout.utterances(corpus)
    brought = folder(layout, corpus) / "utterances.parquet"
    if table.exists():
        ids = read_table(UTTERANCES, table, ["utterance_id"])["utterance_id"]
        known = [name.removeprefix(f"{corpus}/") for name in ids]
    elif brought.is_file():
        known = read_table(UTTERANCES_OF_IMPORT, brought, ["utterance_id"])[
            "utterance_id"
        ].to_list()
    else:
        raise UserError(
            f"--features-only: {corpus} has no utterances yet; run `affectloom run "
            f"ingest@{corpus}` first, or import its tables without --features-only"
        )
    by_name: dict[str, list[str]] = {}
    for name in known:
        dialogue, last = name.rsplit("/", 1)
        for key in {name, last} if last != "0" else {name, dialogue, dialogue.rsplit("/", 1)[-1]}:
            by_name.setdefault(key, []).append(name)
    exact = set(known)
    matched: dict[str, str | None] = {}
    for block in found.blocks:
        for name in block.ids:
            short = name.removesuffix("/0")
            tries = [name, short, short.rsplit("/", 1)[-1]]
            hits = [by_name[key][0] for key in tries if len(by_name.get(key, ())) == 1]
            matched[name] = name if name in exact else (hits[0] if hits else None)
    if not any(matched.values()):
        raise UserError(
            f"--features-only: none of the {len(matched)} utterances of the file is one of "
            f"{corpus}'s; the file's first is {next(iter(matched))}, {corpus}'s {known[0]}"
        )
    return matched


def _write_tables(found: Found, destination: Path, summary: Summary) -> None:
    write_table(UTTERANCES_OF_IMPORT, found.utterances, destination / "utterances.parquet")
    write_table(ANNOTATIONS, found.annotations, destination / "annotations.parquet")
    write_table(QUARANTINE, found.quarantine.unique(), destination / "quarantine.parquet")
    rows = found.utterances
    split = pl.col("published_split").fill_null("none")
    summary.utterances = rows.height
    summary.dialogues = rows["dialogue_id"].n_unique()
    summary.splits = _count(rows.select(split), "published_split")
    summary.judgements = _count(found.annotations, "target")
    summary.quarantined = _count(found.quarantine, "reason")


def _count(frame: pl.DataFrame, column: str) -> dict[str, int]:
    counts = frame.group_by(column).len().sort(column)
    return dict(counts.iter_rows())


def _hash(source: Path) -> str:
    """Of a file its bytes; of a folder the names and bytes of all its files."""
    if source.is_file():
        return hash_file(source)
    total = hashlib.sha256()
    for file in sorted(f for f in source.rglob("*") if f.is_file()):
        total.update(f"{file.relative_to(source).as_posix()}\0{hash_file(file)}\n".encode())
    return total.hexdigest()


def _read_manifest(destination: Path) -> dict:
    file = destination / "manifest.json"
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file}: not readable ({error}); remove {destination}") from error


def _remove(destination: Path, manifest: Mapping[str, object]) -> None:
    """Take away what an earlier import wrote, and nothing else."""
    names = ["utterances", "annotations", "quarantine"]
    features = manifest.get("features")
    names += list(features) if isinstance(features, dict) else []
    for name in names:
        (destination / f"{name}.parquet").unlink(missing_ok=True)
