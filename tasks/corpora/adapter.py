"""What an adapter returns: a corpus in the project's own tables, with its protocol beside it."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol as TypingProtocol

import polars as pl

from models.errors import UserError


@dataclass(frozen=True)
class ProtocolCard:
    """What the corpus's makers published, for checks and for the report.

    Attributes:
        name: the corpus.
        citation: paper or page that describes it.
        licence: terms in one sentence.
        expected_utterances: published count; None where none is known.
        expected_dialogues: published count; None where none is known.
        label_map: raw label to our category; a label mapped to None is set aside on purpose.
        scales: target to (lowest, highest, direction), where direction is 1 or -1, or to the name
            of a scale of ``label_scales.SCALES``, which also knows whole numbers and sentinels.
        kinds: source of judgements to what it holds, where that is not other people's ratings:
            ``self_report``, ``lexicon`` or ``model``.
        splits: one sentence on how the published splits are made.
        synthetic: True where nothing was recorded from people.
    """

    name: str
    citation: str = ""
    licence: str = ""
    expected_utterances: int | None = None
    expected_dialogues: int | None = None
    label_map: Mapping[str, str | None] | None = None
    scales: Mapping[str, tuple[float, float, int] | str] | None = None
    kinds: Mapping[str, str] | None = None
    splits: str = ""
    synthetic: bool = False


@dataclass(frozen=True)
class Corpus:
    """A corpus as an adapter found it.

    Attributes:
        utterances: columns of ``tables.utterances`` except ``media_sha256``, which ingest fills.
            ``media`` is relative to the corpus's folder; ingest puts the corpus's name before it.
            Ids come without the corpus: ``<dialogue>/<utterance>`` and ``<dialogue>``.
        annotations: columns of ``tables.annotations``; values on the raw scale.
        further_annotations: more of them, part after part, where memory may have no room for all;
            to be read once.
        quarantine: columns of ``tables.quarantine``: rows that could not be read, with reasons.
        card: the published protocol.
    """

    utterances: pl.DataFrame
    annotations: pl.DataFrame
    quarantine: pl.DataFrame
    card: ProtocolCard
    further_annotations: Iterable[pl.DataFrame] = ()


class Adapter(TypingProtocol):
    """The function ``read`` that every module of ``tasks.corpora.adapters`` has."""

    def __call__(self, root: Path, options: Mapping[str, object]) -> Corpus:
        """Read the corpus that lies under ``root``; ``options`` come from ``params.yaml``."""
        ...


def find_adapter(name: str) -> Adapter:
    """The ``read`` function of ``tasks/corpora/adapters/<name>.py``."""
    return _module(name).read


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Whether an adapter takes these options; its ``OPTIONS`` are a model, or names and choices."""
    from tasks.corpora.files import parse_options
    from tasks.corpora.source import choose

    known = _module(name).OPTIONS
    if isinstance(known, type):
        parse_options(known, options, name)
    else:
        choose(name, options, known)


def _module(name: str) -> ModuleType:
    folder = Path(__file__).parent / "adapters"
    known = sorted(file.stem for file in folder.glob("[a-z]*.py"))
    if name not in known:
        raise UserError(
            f"params.yaml: no adapter is called '{name}'; known adapters: {', '.join(known)}, and "
            "union of other corpora"
        )
    return importlib.import_module(f"tasks.corpora.adapters.{name}")
