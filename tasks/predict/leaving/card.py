"""The card of a model that is given away, in the form that model hubs read."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from models.encoders.records import read_sources
from models.encoders.weights import find_weights
from models.encoders.wheels import is_wheel
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.predict.leaving.carried import CARRIED
from tasks.predict.model import Part
from tasks.tables.parquet import read_metadata

#: Terms of data under which a hub knows the same name; anything else is ``other`` there.
_KNOWN = {
    "generated, Apache-2.0 like the project": "apache-2.0",
    "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC BY 4.0": "cc-by-4.0",
    "Open Database License 1.0": "odbl",
}
_TASKS = {"video": "video-classification", "audio": "audio-classification"}
#: Words of terms that do not let everybody have what was learnt from the data.
_BINDING = ("no redistribution", "by agreement", "academic", "research", "belong to")


def terms_of(layout: Layout, corpus: str) -> str:
    """The terms of a corpus in a sentence; empty where nobody told them."""
    return str(_told(layout, corpus).get("licence") or "")


def forbids_passing_on(terms: str) -> bool:
    """Whether terms are unknown or bind those who get what was learnt from the data."""
    return not terms or any(word in terms for word in _BINDING)


def write_card(
    part: Part, entries: Mapping[str, EncoderParams], layout: Layout, more: Sequence[str] = ()
) -> str:
    """What people need to know before they believe a model or pass it on.

    Args:
        part: the networks.
        entries: encoders as the folder names them.
        layout: of the project.
        more: lines about what else is in the folder.
    """
    corpus, _, method = part.name.partition("/")
    card, terms = _told(layout, corpus), terms_of(layout, corpus)
    runs = part.runs
    seeds, folds = {run.seed for run in runs}, {run.fold for run in runs}
    targets = {target.name: target for run in runs for target in run.targets}
    citation = f" ({card['citation']})" if card.get("citation") else ""
    counts = ((seeds, "seed"), (folds, "fold"), (targets, "target"))
    of = ", ".join(_count(len(found), what) for found, what in counts)
    many = f"{_count(len(runs), 'network')} ({of})"
    lines = [
        _front(part, terms, corpus, method),
        f"# {part.name}",
        "",
        f"{many} of the method `{method}`, trained by affectloom on the corpus `{corpus}`"
        f"{citation}. Together they answer with the mean of what they say.",
        "",
        f"Reads: {', '.join(part.modalities) or 'nothing'}. What a medium lacks is masked.",
        "",
        "    affectloom predict MEDIA --model THIS_FOLDER",
        "",
        "## What it predicts, and how well",
        "",
        "| predicts | names | on test rows |",
        "|---|---|---|",
    ]
    scores = _scores(layout, corpus, method)
    for name, target in targets.items():
        lines.append(f"| {name} | {', '.join(target.names)} | {scores.get(name, 'not scored')} |")
    lines += ["", *_protocol(card), "## Encoders", ""]
    lines += [_encoder(name, entry, layout) for name, entry in entries.items()] or ["None."]
    lines += [
        "",
        *more,
        "## Terms and limits",
        "",
        *_limits(corpus, terms, bool(card.get("synthetic"))),
    ]
    return "\n".join([*lines, ""])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _front(part: Part, terms: str, corpus: str, method: str) -> str:
    """What a hub reads of a card."""
    kind = next((_TASKS[name] for name in part.modalities if name in _TASKS), "text-classification")
    front: dict[str, Any] = {
        "library_name": "affectloom",
        "license": _KNOWN.get(terms, "other"),
        "pipeline_tag": kind,
        "tags": ["affectloom", "emotion-recognition", f"corpus:{corpus}", f"method:{method}"],
    }
    if front["license"] == "other":
        front["license_name"] = "terms-of-the-data"
    text = yaml.safe_dump(front, sort_keys=True, allow_unicode=True)
    return f"---\n{text}---\n"


def _told(layout: Layout, corpus: str) -> Mapping[str, Any]:
    """What the corpus's makers published, as ``ingest`` noted it."""
    if not layout.utterances(corpus).exists():
        return {}
    return json.loads(read_metadata(layout.utterances(corpus)).get("card", "{}"))


def _protocol(card: Mapping[str, Any]) -> list[str]:
    splits = f" Splits: {card['splits']}." if card.get("splits") else ""
    return [
        "Epochs were chosen on validation rows; nothing was chosen on test rows. Temperatures and "
        f"ranges in `calibration.json` come from validation rows.{splits}",
        "",
    ]


def _encoder(name: str, entry: EncoderParams, layout: Layout) -> str:
    where = f"`{entry.checkpoint}`" if entry.checkpoint else "no weights"
    if entry.checkpoint == f"{CARRIED}/{name}":
        where = f"weights in this folder, `{entry.checkpoint}`; their licence is their maker's"
    pin = f" at `{entry.pin}`" if entry.pin else ""
    licence = ""
    if is_wheel(entry.checkpoint):
        weights = find_weights(entry.checkpoint, entry.pin, layout.cache, layout.project)
        found = {source.licence for source in read_sources(weights.path)} if weights.path else set()
        licence = f", licence {' and '.join(sorted(found))}" if found else ""
    return f"* {name}: {entry.family}, {where}{pin}{licence}"


def _limits(corpus: str, terms: str, is_synthetic: bool) -> list[str]:
    told = f"`{corpus}`'s terms are: {terms}." if terms else f"Nobody told the terms of `{corpus}`."
    lines = [f"The networks learnt from `{corpus}`. {told} They, and the terms of the encoders, "
             "bind whoever uses the model or passes it on."]  # fmt: skip
    if forbids_passing_on(terms):
        lines += [
            "",
            "**Ask before you pass this on:** the terms of the data may forbid to publish what was "
            "learnt from them.",
        ]
    if is_synthetic:
        lines += ["", "Its people are drawn: of real ones it says nothing."]
    return [
        *lines,
        "",
        "It knows the people, languages and rooms of that corpus; an input that is unlike it is "
        "marked in every answer. What a face or voice shows is not what a person feels.",
    ]


def _scores(layout: Layout, corpus: str, method: str) -> Mapping[str, str]:
    """Target to its headline score on test, with the interval of the leaderboard where it is."""
    file = layout.details(corpus, method)
    if not file.exists():
        return {}
    intervals = _intervals(layout.leaderboard("csv"), corpus, method)
    found = {}
    for name, target in json.loads(file.read_text(encoding="utf-8"))["targets"].items():
        test = target.get("test", {})
        score = test.get("metrics", {}).get(target["headline"], {})
        if score.get("mean") is not None:
            spread = f" ± {score['std']:.3f} over seeds" if score.get("std") is not None else ""
            interval = intervals.get(name, "")
            found[name] = (
                f"{target['headline']} {score['mean']:.3f}{spread}{interval}, {test['n']} rows"
            )
    return found


def _intervals(file: Path, corpus: str, method: str) -> Mapping[str, str]:
    """Target to the interval that the leaderboard has of this method on test."""
    if not file.exists():
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream)
                if (row.get("corpus"), row.get("method"), row.get("split"))
                == (corpus, method, "test") and row.get("ci_low")]  # fmt: skip
    return {r["target"]: f" (95 % interval {r['ci_low']} to {r['ci_high']})" for r in rows}
