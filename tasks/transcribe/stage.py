"""Stage ``transcribe``: the words of utterances that come without any, by Whisper.

A clip is listened to once and kept by its content, so that the stage computes again only what
sounds otherwise. Every utterance gets one row; one that has words is not listened to.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from models.encoders.encoder import Sound
from models.encoders.records import RECORD, check_record, hash_once
from models.encoders.weights import Weights, find_weights, locate
from models.errors import UserError
from tasks.context import Context, shard_count
from tasks.features import inputs
from tasks.features.inputs import Item, Loaded
from tasks.layout import Layout
from tasks.store.compute import Clips, Done, Keeper, compute
from tasks.store.segments import Entry, Store
from tasks.tables.parquet import write_table
from tasks.tables.transcripts import TRANSCRIPTS
from tasks.transcribe.params import AsrParams, identity

if TYPE_CHECKING:
    from models.transcription.transcriber import Transcriber

__all__ = ["AsrParams", "run"]

_RATE_HZ = 16000
#: A guess, for cutting shards: so much for each second of sound and megabyte of weights, and as
#: much as for so many seconds for every clip.
_GUESS_S_PER_MB, _CLIP_S = 0.001, 4.0
#: Less work than this is done at once: other processes would take longer to start.
_SPREAD_FROM_S = 30.0
#: Clips that are kept together: what a kill costs at most.
_CHUNK = 8


@dataclass(frozen=True)
class Job:
    """A shard's work, for a worker that may be another process."""

    checkpoint: Path
    tokenizer: Path | None
    layout: Layout
    corpus: str
    identity: Mapping[str, object]
    items: Sequence[Item]


def run(params: AsrParams, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Write down what is said in a corpus.

    Args:
        params: what listens.
        layout: where the tables lie.
        ctx: who does the work and hears of the progress.
        corpus: whose utterances.

    Returns:
        The table of transcripts.
    """
    weights, tokenizer = _found(params, layout)
    about = identity(
        weights.sha256,
        None if tokenizer is None else hash_once(tokenizer / "tokenizer.json", layout.cache),
    )
    store = Store(layout.store, about)
    items = plan(inputs.read_utterances(layout, corpus), layout.faces(corpus))
    assert weights.path is not None  # random weights are no checkpoint here
    job = partial(Job, weights.path, tokenizer, layout, corpus, about)
    path = layout.transcripts(corpus)

    def cut(missing: Sequence[str]) -> list[Job]:
        first = {item.key: item for item in reversed(items) if item.key in set(missing)}
        todo = sorted(first.values(), key=lambda item: item.utterance_id)
        return [job(some) for some in _shards(todo, weights.size_mb, ctx.workers)]

    def write(passing: Mapping[str, Entry]) -> None:
        rows = [_row(item, store, passing) for item in items]
        metadata = _metadata(params, weights, about) | {"fingerprint": store.fingerprint}
        write_table(TRANSCRIPTS, TRANSCRIPTS.frame(rows), path, metadata)
        _tell(rows, ctx)

    keys = [item.key for item in items if item.key is not None]
    compute(
        Clips("transcribe", keys, cut, listen, write, absent=len(items) - len(keys)), store, ctx
    )
    return path


def plan(utterances: pl.DataFrame, faces: Path) -> list[Item]:
    """One item per utterance; those that have words, or no sound, are not listened to."""
    items = inputs.plan("audio", utterances, faces, context=0)
    texts = utterances.get_column("text")
    return [
        Item(None, item.utterance_id, reason="has_words") if (text or "").strip() else item
        for item, text in zip(items, texts, strict=True)
    ]


def _found(params: AsrParams, layout: Layout) -> tuple[Weights, Path | None]:
    """Checkpoint and tokenizer, checked; fetched where they are not here yet."""
    if params.checkpoint.startswith("random:"):
        raise UserError("params.yaml: asr: words by random weights are no words; name a checkpoint")
    weights = find_weights(params.checkpoint, params.pin, layout.cache, layout.project)
    if params.tokenizer is None:
        return weights, None
    sum_ = params.tokenizer_sha256
    folder = locate(params.tokenizer, sum_, layout.cache, layout.project).resolve()
    if (folder / RECORD).is_file():
        check_record(folder, params.tokenizer, layout.cache)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"params.yaml: asr: {params.tokenizer} holds no tokenizer.json")
    return weights, folder


def _shards(todo: Sequence[Item], size_mb: float, workers: int) -> Iterator[Sequence[Item]]:
    """Neighbours together, about as much work in each."""
    cost = np.cumsum([(item.size + _CLIP_S) * _GUESS_S_PER_MB * size_mb for item in todo])
    count = 1
    if cost[-1] >= _SPREAD_FROM_S:
        count = shard_count(len(todo), float(cost[-1]) / len(todo), workers)
    ends = np.searchsorted(cost, cost[-1] * np.arange(1, count) / count)
    for low, high in pairwise([0, *ends.tolist(), len(todo)]):
        if low < high:
            yield todo[low:high]


def listen(job: Job) -> Done:
    """Write down a shard's clips into the store, chunk by chunk."""
    keeper = Keeper(Store(job.layout.store, job.identity))
    writer = transcriber_for(job.checkpoint, job.tokenizer)
    loader = inputs.Loader(
        "audio", _RATE_HZ, job.layout.media_root, job.layout.faces(job.corpus), max_faces=1
    )
    for group in loader.groups(job.items, _CHUNK):
        keeper.keep([_entry(loaded, writer) for loaded in group])
    return keeper.done()


_loading = threading.Lock()
_loaded: dict[tuple[Path, Path | None], "Transcriber"] = {}


def transcriber_for(checkpoint: Path, tokenizer: Path | None) -> "Transcriber":
    """The network, kept for the next shard of this process."""
    from models.transcription.transcriber import Transcriber

    with _loading:
        if (checkpoint, tokenizer) not in _loaded:
            _loaded.clear()
            _loaded[checkpoint, tokenizer] = Transcriber(checkpoint, tokenizer)
        return _loaded[checkpoint, tokenizer]


def _entry(loaded: Loaded, writer: "Transcriber") -> Entry:
    key = str(loaded.item.key)
    if not isinstance(loaded.content, Sound):
        meta = {"status": "quarantined", "reason": loaded.reason, "detail": loaded.detail}
        return Entry(key, meta)
    found = writer.write(loaded.content.samples)
    reason = found.reason or loaded.reason
    status = "quarantined" if not found.words else "degraded" if reason else "ok"
    meta = {"status": status, "reason": reason, "detail": loaded.detail}
    return Entry(key, meta, {"written": json.dumps(asdict(found)).encode()})


def _row(item: Item, store: Store, passing: Mapping[str, Entry]) -> dict[str, object]:
    name = {"utterance_id": item.utterance_id}
    if item.key is None:
        status = "ok" if item.reason == "has_words" else "quarantined"
        return {**name, "status": status, "reason": item.reason}
    entry = passing[item.key] if item.key in passing else next(iter(store.read([item.key])))
    row = {**name, "status": entry.meta["status"], "reason": entry.meta["reason"]}
    if "written" not in entry.blobs:
        return row
    found: dict[str, Any] = json.loads(bytes(entry.blobs["written"]))
    if not found["words"]:
        return row
    start_s = 0.0 if item.span is None else item.span.start_s or 0.0
    words = [
        {
            "word": word["text"],
            "start_s": round(start_s + word["start_s"], 3),
            "end_s": round(start_s + word["end_s"], 3),
            "confidence": word["confidence"],
        }
        for word in found["words"]
    ]
    told = ("text", "language", "language_confidence", "confidence")
    return row | {"words": words} | {key: found[key] for key in told}


def _metadata(params: AsrParams, weights: Weights, about: Mapping[str, object]) -> dict[str, str]:
    return {
        "stage": "transcribe",
        "checkpoint": params.checkpoint,
        "revision": params.pin or "none",
        "weights_sha256": weights.sha256,
        "trained": "yes" if weights.trained else "no",
        "version": str(about["version"]),
        "libraries": json.dumps(about["libraries"], sort_keys=True),
    }


def _tell(rows: Sequence[Mapping[str, object]], ctx: Context) -> None:
    counts = Counter((str(row["status"]), str(row["reason"] or "")) for row in rows)
    ctx.table(
        "transcripts",
        [
            {"status": status, "reason": reason, "clips": count}
            for (status, reason), count in sorted(counts.items())
        ],
    )
