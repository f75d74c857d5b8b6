"""Every corpus through ingest, labels and splits: utterances, labelled, quarantined, splits.

Run ``python -m benchmarks.corpora [--fixtures-only]`` in the root of the repository. The trees that
the tests of the adapters generate come first: they hold awkward rows on purpose. With real data
beside the project (``../shared/data``, or ``AFFECTLOOM_SHARED``) these follow.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.corpora.adapters import emotic
from tasks.ingest import stage as ingest
from tasks.labels import stage as labels
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.sample.stage import SampleParams
from tasks.sample.stage import make as make_sample
from tasks.splits import stage as splits
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.tables.words import SPLITS
from tests.places import QUIET
from tests.tasks.corpora import trees_conversation as talk
from tests.tasks.corpora import trees_media as media

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"
VAD_1_TO_5 = {name: [1, 5] for name in ("valence", "arousal", "dominance")}
AFFECTNET = {"scales": {"valence": "affectnet", "arousal": "affectnet"}}
FER_VAD = {"scales": dict.fromkeys(VAD_1_TO_5, "fer_vad")}
#: For trees of three dialogues.
THREE = {"protocol": "group_kfold", "group": "dialogue", "folds": 3}
EMOTIC = {"multilabels": list(emotic.LABELS)}


@dataclass(frozen=True)
class Case:
    """A corpus to read: how it is grown or linked below its raw folder, and its parameters."""

    name: str
    adapter: str
    grow: Callable[[Path], object]
    options: Mapping[str, object] = field(default_factory=dict)
    labels: Mapping[str, object] = field(default_factory=dict)
    splits: Mapping[str, object] = field(default_factory=dict)


def fixtures() -> list[Case]:
    """One case for each layout of each adapter."""
    return [
        Case("sample", "sample", _sample, splits={"protocol": "leave_one_session_out"}),
        Case("iemocap", "iemocap", talk.iemocap, splits=THREE),
        Case("meld", "meld", talk.meld),
        Case("mosi, label.csv", "mosi", talk.common),
        Case("mosi, release", "mosi", _mosi_release, {"folds": "folds.py"}),
        Case("mosei, label.csv", "mosei", talk.common),
        Case("mosei, release", "mosei", talk.mosei_release),
        Case("affectnet, release", "affectnet", media.grow_affectnet_release, labels=AFFECTNET),
        Case("affectnet, crops", "affectnet", media.grow_affectnet_crops),
        Case("emotic, .mat", "emotic", media.grow_emotic, labels=EMOTIC),
        Case("emotic, tables", "emotic", media.grow_emotic_tables, labels=EMOTIC),
        Case("fer2013, folders", "fer2013", media.grow_fer2013_folders),
        Case("fer2013, csv", "fer2013", media.grow_fer2013_csv),
        Case("fer2013, VAD", "fer2013", media.grow_fer2013_vad, labels=FER_VAD),
        Case("hume_vidmimic", "hume_vidmimic", media.grow_hume_vidmimic),
        Case("ravdess", "ravdess", media.grow_ravdess),
        Case("crema_d", "crema_d", media.grow_crema_d, splits=THREE),
        Case("emodb", "emodb", media.grow_emodb),
        Case("table", "table", _grow_table, TABLE),
    ]


def real() -> list[Case]:
    """Cases of the files beside the project."""
    return [
        Case("IEMOCAP text", "table", _link("iemocap_text.parquet"), IEMOCAP),
        Case("MOSI", "table", _link("mosi_bclstm.parquet"), MOSI, splits={"stratify": "sentiment"}),
        Case("EmoBank", "table", _link("emobank_vad.parquet"), EMOBANK),
        Case("RAVDESS names", "ravdess", _ravdess),
        *(
            Case(f"CREMA-D {kind}", "crema_d", _crema_d, {"labels": kind})
            for kind in ("audio", "video", "audiovisual")
        ),
        Case("FER2013 subset", "fer2013", _fer2013),
    ]


TABLE = {
    "file": "clips.csv",
    "columns": {"utterance": "id", "dialogue": "talk", "speaker": "who", "split": "part"},
    "labels": {
        "targets": {
            "valence": {"columns": {"ann": "v_ann", "bob": "v_bob"}, "scale": [1, 5]},
            "category": {"column": "emotion"},
        }
    },
}
IEMOCAP = {
    "file": "iemocap_text.parquet",
    "columns": {
        "utterance": "utterance_id",
        "dialogue": "dialogue_id",
        "turn": "turn",
        "speaker": "speaker_id",
        "session": "session",
        "start_s": "start_time",
        "end_s": "end_time",
        "text": "text",
        "split": "split",
    },
    "labels": {
        "targets": {
            "category": {"column": "label"},
            "valence": {"column": "valence", "scale": [1, 5]},
            "arousal": {"column": "activation", "scale": [1, 5]},
            "dominance": {"column": "dominance", "scale": [1, 5]},
        }
    },
}
MOSI = {
    "file": "mosi_bclstm.parquet",
    "columns": {
        "utterance": "utterance_id",
        "dialogue": "video_id",
        "turn": "order",
        "speaker": "video_id",
        "text": "transcript",
        "split": "split_merbench",
    },
    "labels": {"targets": {"sentiment": {"column": "sentiment", "scale": [-3, 3]}}},
}
EMOBANK = {
    "file": "emobank_vad.parquet",
    "columns": {"utterance": "id", "text": "text", "split": "split"},
    "labels": {
        "targets": {name: {"column": name, "scale": ends} for name, ends in VAD_1_TO_5.items()}
    },
}


def _grow_table(root: Path) -> None:
    """Awkward: a valence of 6 on a scale to 5, an id twice."""
    media.write_text(
        root / "clips.csv",
        "id,talk,who,part,emotion,v_ann,v_bob\n"
        "a,t1,ann,train,joy,4,5\nb,t1,bob,train,anger,1,\nc,t2,ann,dev,joy,6,3\n"
        "d,t3,eve,test,anger,2,1\ne,t4,eve,test,joy,4,4\ne,t4,eve,test,joy,4,4\n",
    )


def _sample(root: Path) -> None:
    make_sample(SampleParams(dialogues=10), root)


def _mosi_release(root: Path) -> None:
    talk.mosi_release(root)
    talk.write_folds(root / "folds.py")


def _link(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).symlink_to(SHARED / name)


def _ravdess(root: Path) -> None:
    clips = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet")
    for name, actor, sound in clips.select("file", "actor", "audio_flac").iter_rows():
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.wav").write_bytes(sound[:4096])  # only hashed here


def _crema_d(root: Path) -> None:
    votes = pl.read_parquet(SHARED / "cremad_human_votes.parquet")
    for clip in votes["clip"].unique():
        media.write_bytes(root / "VideoFlash" / f"{clip}.flv")
    number = {"audio": 100_000, "video": 200_000, "audiovisual": 300_000}
    counts = [f"n_{name}" for name in ("anger", "disgust", "fear", "happy", "neutral", "sad")]
    rows = votes.select(
        pl.col("modality").replace_strict(number) + pl.int_range(1, pl.len() + 1) % 100_000,
        *counts,
        "clip",
    )
    media.write_votes(root, rows.iter_rows())


def _fer2013(root: Path) -> None:
    faces = pl.read_parquet(SHARED / "fer2013_subset.parquet")
    folder = {"train": "train", "val": "validation", "test": "test"}
    for row in faces.select("file", "split", "label", "image_jpeg").iter_rows(named=True):
        path = root / folder[row["split"]] / row["label"] / row["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image_jpeg"])


def measure(case: Case) -> dict[str, object]:
    """A row of the table, from a temporary project."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["AFFECTLOOM_CACHE"] = str(Path(folder) / "cache")
        root = Layout().raw(case.adapter)
        if case.adapter != "sample":  # its generator makes the folder itself
            root.mkdir(parents=True)
        case.grow(root)
        started = time.monotonic()
        params = ingest.IngestParams(
            adapter=case.adapter, options=dict(case.options), max_quarantine_fraction=1.0
        )
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            ingest.run(params, Layout(), PlainContext(stage="ingest"), case.adapter)
        rules = {"max_quarantine_fraction": 1.0, **case.labels}
        merging = labels.LabelsParams.model_validate(rules)
        labels.run(merging, Layout(), QUIET, case.adapter)
        ingested = read_table(QUARANTINE, Layout().quarantine(case.adapter))
        merged = read_table(QUARANTINE, Layout().labels_quarantine(case.adapter))
        known = read_table(LABELS, Layout().labels(case.adapter))
        return {
            "corpus": case.name,
            "utterances": known.height,
            "labelled": known.filter(pl.col("n_raters") > 0).height,
            "set aside by ingest": _reasons(ingested),
            "set aside by labels": _reasons(merged),
            "splits": _split(case, merging),
            "seconds": round(time.monotonic() - started, 1),
        }


def _reasons(quarantine: pl.DataFrame) -> str:
    counts = quarantine.group_by("reason").len().sort("reason")
    return ", ".join(f"{count} {reason}" for reason, count in counts.iter_rows()) or "none"


def _split(case: Case, merging: labels.LabelsParams) -> str:
    """Splits of the published protocol where there is one, else by speaker, else by dialogue."""
    rows = read_table(UTTERANCES, Layout().utterances(case.adapter))
    published = {"train", "test"} <= set(rows["published_split"].drop_nulls())
    has_speaker = rows["speaker"].drop_nulls().n_unique() > 2
    group = "speaker" if has_speaker else "dialogue"
    chosen: dict[str, object] = {"protocol": "published" if published else "group_kfold"}
    chosen |= {"group": "dialogue" if published else group, **case.splits}
    try:
        asked = splits.ForSplits(splits.SplitsParams.model_validate(chosen), merging)
        splits.run(asked, Layout(), QUIET, case.adapter)
    except UserError as error:
        return f"too small to split ({str(error).split(';')[0]})"
    path = Layout().splits(case.adapter)
    table = read_table(SPLIT, path)
    by = "published" if chosen["protocol"] == "published" else read_metadata(path)["group"]
    first = table.filter(pl.col("fold") == 0)
    sizes = "/".join(str(first.filter(pl.col("split") == name).height) for name in SPLITS)
    folds = table["fold"].n_unique()
    return f"{sizes} {by}" + (f", first of {folds} folds" if folds > 1 else "")


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description="Every corpus through the first stages.")
    parser.add_argument("--fixtures-only", action="store_true", help="leave out the real files")
    arguments = parser.parse_args()
    cases = [("generated", case) for case in fixtures()]
    if not arguments.fixtures_only and SHARED.is_dir():
        cases += [("real", case) for case in real()]
    for number, (kind, case) in enumerate(cases):
        row = {"data": kind, **measure(case)}
        if not number:
            print(f"| {' | '.join(row)} |\n|{' --- |' * len(row)}")
        print(f"| {' | '.join(str(value) for value in row.values())} |", flush=True)


if __name__ == "__main__":
    main()
