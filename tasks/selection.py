"""Which encoders, methods and inputs a corpus has: all of params.yaml unless it says less."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import encoders, registry
from models.errors import UserError
from tasks.params.inputs import Named, names_in
from tasks.params.method_reads import method_reads
from tasks.params.unions import parts_of, share_rows


def registered(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Encoders that may run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("encoders") or {}, corpus)


def encoders_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Encoders that run on ``corpus``: those that its inputs, methods and labels name."""
    wanted = [inputs_of(raw, corpus), *(inputs_of(raw, corpus, m) for m in methods_of(raw, corpus))]
    named = {name for inputs in wanted for one in inputs.values() for name in names_in(one)}
    named.add(str((labels_of(raw, corpus).get("teacher") or {}).get("encoder")))
    return [name for name in registered(raw, corpus) if name in named]


def labels_of(raw: Mapping[str, Any], corpus: str) -> dict[str, Any]:
    """How a corpus is labelled: the section, and over it its own keys; nothing of a union."""
    if parts_of(raw, corpus):
        return {}
    own = ((raw.get("corpora") or {}).get(corpus) or {}).get("labels") or {}
    return {**(raw.get("labels") or {}), **own}


def seen_corpora(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Corpora whose faces are looked for: one of their encoders or methods sees pictures."""
    entries = raw.get("methods") or {}
    return [
        {"corpus": corpus}
        for corpus in raw.get("corpora") or {}
        if any(modality_of(raw, name) == "video" for name in encoders_of(raw, corpus))
        or any("images" in method_reads(m, entries[m]).needs for m in methods_of(raw, corpus))
    ]


def heard_corpora(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Corpora whose words are listened for, where nobody wrote them down: those with ``asr``."""
    entries = raw.get("corpora") or {}
    return [{"corpus": corpus} for corpus, entry in entries.items() if (entry or {}).get("asr")]


def modality_of(raw: Mapping[str, Any], encoder: str) -> str:
    """What an encoder reads, by its family: audio, video or text, or ``imported``."""
    family = str((raw["encoders"][encoder] or {}).get("family"))
    # wherever Python finds the package; listed, since a name may be one that no file can have
    files = {
        file.stem: file for place in encoders.__path__ for file in Path(place).glob("[a-z]*.py")
    }
    if family not in files:
        known = sorted(
            name
            for name, file in files.items()
            if "\nMODALITY = " in file.read_text(encoding="utf-8")
        )
        raise UserError(
            f"params.yaml: encoders.{encoder}.family is '{family}'; "
            f"known families: {', '.join(known)}"
        )
    return registry.constant(files[family], "MODALITY")


def methods_of(raw: Mapping[str, Any], corpus: str) -> list[str]:
    """Methods that run on ``corpus``; an entry's ``corpora`` limits it to those."""
    return _of(raw.get("methods") or {}, corpus)


def features_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every corpus with every encoder that runs on it."""
    return [
        {"corpus": corpus, "encoder": encoder}
        for corpus in raw.get("corpora") or {}
        for encoder in encoders_of(raw, corpus)
    ]


def extractable(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every corpus with every encoder that may run on it, read by something or not."""
    return [
        {"corpus": corpus, "encoder": encoder}
        for corpus in raw.get("corpora") or {}
        for encoder in registered(raw, corpus)
    ]


def methods_on(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every corpus with every method that runs on it."""
    return [
        {"corpus": corpus, "method": method}
        for corpus in raw.get("corpora") or {}
        for method in methods_of(raw, corpus)
    ]


def searches_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Corpus and method of every entry whose options are searched."""
    entries = raw.get("methods") or {}
    return [
        ids for ids in methods_on(raw) if (entries[ids["method"]] or {}).get("search") is not None
    ]


def inputs_of(raw: Mapping[str, Any], corpus: str, method: str | None = None) -> dict[str, Named]:
    """Modality or further input to what is named for it.

    ``corpora.<corpus>.inputs`` takes the place of ``inputs`` as a whole; of these,
    ``methods.<method>.inputs`` replaces those that it names.
    """
    own = ((raw.get("corpora") or {}).get(corpus) or {}).get("inputs")
    found = dict(raw.get("inputs") or {}) if own is None else dict(own)
    if method is not None:
        found |= (raw["methods"][method] or {}).get("inputs") or {}
    return found


def read_by(raw: Mapping[str, Any], corpus: str, method: str) -> dict[str, tuple[str, ...]]:
    """Those modalities whose features a method reads, with their encoders."""
    entry = raw["methods"][method] or {}
    reads = method_reads(method, entry)
    if not reads.has_features:
        return {}
    usable = reads.can_use & set(entry.get("modalities") or reads.can_use)
    inputs = inputs_of(raw, corpus, method).items()
    return {modality: names_in(named) for modality, named in inputs if modality in usable}


def transfers_of(raw: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every ``corpus``, ``method`` and other corpus ``onto`` that has the encoders which it reads.

    Methods on pictures read none, but both need faces. A union is not tested on its parts, nor
    they on it: they share rows. Empty with a single corpus, or where ``transfer.enabled`` is false.
    """
    corpora = list(raw.get("corpora") or {})
    if len(corpora) < 2 or not (raw.get("transfer") or {}).get("enabled", True):
        return []
    found = []
    for corpus in corpora:
        for method in methods_of(raw, corpus):
            mine = _compared(raw, corpus, method)
            found += [
                {"corpus": corpus, "method": method, "onto": onto}
                for onto in corpora
                if not share_rows(raw, corpus, onto)
                and mine is not None
                and _compared(raw, onto, method) == mine
                and not _lacking(raw, onto, mine)
            ]
    return found


def _lacking(raw: Mapping[str, Any], corpus: str, read: Mapping[str, Sequence[str]]) -> set[str]:
    """Encoders of a method that nothing on the corpus reads, so that they do not run there."""
    named = {name for names in read.values() for name in names}
    return (named & set(raw.get("encoders") or {})) - set(encoders_of(raw, corpus))


def _compared(
    raw: Mapping[str, Any], corpus: str, method: str
) -> dict[str, tuple[str, ...]] | None:
    """What a method reads; None where it needs an encoder, or faces, and has none.

    Further inputs may be absent and do not count.
    """
    reads, found = method_reads(method, raw["methods"][method]), read_by(raw, corpus, method)
    if "images" in reads.needs and {"corpus": corpus} not in seen_corpora(raw):
        return None
    return found if found or "images" in reads.needs or reads.is_blind else None


def _of(entries: Mapping[str, Any], corpus: str) -> list[str]:
    return [
        name
        for name, entry in entries.items()
        if (entry or {}).get("corpora") is None or corpus in entry["corpora"]
    ]
