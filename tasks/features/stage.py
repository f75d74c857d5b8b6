"""Stage ``features``: one encoder over the utterances of one corpus, into bucket files.

Which clips are computed is decided by the feature store: a clip is computed once for an encoder,
whatever corpus it is in. The table is then put together from the store, so that a run that computed
everything and one that computed nothing write the same bytes. Every utterance gets one row.
"""

import importlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.encoders.encoder import Settings
from models.encoders.weights import Weights, find_weights
from models.errors import UserError
from tasks.context import Context, Progress, shard_count
from tasks.features import inputs
from tasks.features.extraction import Job, extract
from tasks.features.families import family_constants, load_encoder
from tasks.features.inputs import Item, Modality
from tasks.features.params import EncoderParams, encoder_identity, make_settings
from tasks.layout import Layout
from tasks.store.buckets import Row, assemble
from tasks.store.segments import CorruptSegment, Store

#: A clip's cost before any was measured: so much, and so much for each megabyte of weights. A
#: sentence is a few dozen tokens, seconds of sound and a row of faces are many hundred.
_GUESS_S = 0.01
_GUESS_S_PER_MB: dict[Modality, float] = {"audio": 0.001, "video": 0.001, "text": 0.00005}
#: Less work than this is done at once: other processes would take longer to start.
_SPREAD_FROM_S = 30.0
#: The store is asked to mend itself this often before the disk is blamed.
_ATTEMPTS = 3


class _Meta(BaseModel):
    """What the store tells about a clip without reading its features; see ``_entry``."""

    model_config = ConfigDict(frozen=True)

    status: str
    reason: str | None
    frames: int
    hop_s: float | None
    pooled_dim: int
    frame_dim: int


def run(params: EncoderParams, layout: Layout, ctx: Context, corpus: str, encoder: str) -> Path:
    """Features of one encoder for one corpus.

    Args:
        params: the encoder.
        layout: where the tables lie.
        ctx: who does the work and hears of the progress.
        corpus: whose utterances.
        encoder: its key in ``params.yaml: encoders``.

    Returns:
        The folder of bucket files.
    """
    if params.family == "imported":  # computed by somebody else; named so that only it depends
        foreign = importlib.import_module("tasks.features.foreign")
        return foreign.run(params, layout, corpus, encoder)
    family = family_constants(params.family)
    checkpoint = params.checkpoint or family.checkpoint
    weights = find_weights(checkpoint, params.revision, layout.cache, layout.project)
    settings = make_settings(params, weights)
    identity = encoder_identity(params, weights, settings)
    store = Store(layout.store, identity)

    utterances = inputs.read_utterances(layout, corpus)
    items = inputs.plan(
        family.modality, utterances, layout.faces(corpus), params.context, params.cut_s
    )
    job = partial(Job, params.family, settings, params.sequence, layout, corpus, identity)
    destination = layout.features(corpus, encoder)
    metadata = _metadata(params, encoder, weights, identity) | {"fingerprint": store.fingerprint}
    guess_s = _GUESS_S + _GUESS_S_PER_MB[family.modality] * weights.size_mb
    cost_s = store.noted("cost_s") or guess_s
    for _ in range(_ATTEMPTS):
        passing = _compute_missing(store, items, job, ctx, cost_s)
        rows = [_row(store, item, passing) for item in items]
        pooled_dim, frame_dim = _dims(store, items, params.family, settings)
        dim = frame_dim if params.sequence else pooled_dim
        try:
            assemble(store, rows, pooled_dim, dim, destination, metadata)
        except CorruptSegment as damage:
            ctx.log(f"{damage}; set aside, its clips are computed again")
            store.set_aside(damage.path)
            continue
        store.touch()
        _tell(ctx, encoder, rows)
        return destination
    raise UserError(
        f"{store.folder}: segments of the feature store were damaged {_ATTEMPTS} times in a row; "
        "check the disk, or set AFFECTLOOM_CACHE to a folder on another one"
    )


def _metadata(
    params: EncoderParams, name: str, weights: Weights, identity: Mapping[str, object]
) -> dict[str, str]:
    """What a table tells about how it was made."""
    return {
        "encoder": name,
        "family": params.family,
        "checkpoint": str(params.checkpoint or family_constants(params.family).checkpoint),
        "revision": params.revision or "none",
        "weights_sha256": weights.sha256,
        "trained": "yes" if weights.trained else "no",
        "libraries": json.dumps(identity["libraries"], sort_keys=True),
        "parameters": json.dumps(params.model_dump(mode="json"), sort_keys=True),
        "settings": json.dumps(identity["settings"], sort_keys=True),
    }


def _compute_missing(
    store: Store, items: Sequence[Item], job: partial, ctx: Context, cost_s: float
) -> dict[str, str]:
    """Bring the store up to date; returns the clips that failed for a passing reason."""
    keys = [item.key for item in items if item.key is not None]
    missing = set(store.missing(keys))
    first = {item.key: item for item in reversed(items) if item.key in missing}
    # like lengths together: less padding, and shards of equal work
    todo = sorted(first.values(), key=lambda item: item.utterance_id)
    if todo and todo[0].text is not None:
        todo.sort(key=lambda item: item.size)
    states = Counter(
        "quarantined" if item.key is None else str(store.meta(item.key)["status"])
        for item in items
        if item.key not in missing
    )
    done = known = states.total()
    total = done + len(todo)

    def tell() -> None:
        degraded, quarantined = states["degraded"], states["quarantined"]
        ctx.progress(Progress(done, total, "clips", degraded, quarantined, known))

    tell()
    if not todo:
        return {}
    is_worth = len(todo) * cost_s >= _SPREAD_FROM_S
    shards = shard_count(len(todo), cost_s, ctx.workers) if is_worth else 1
    cuts = np.linspace(0, len(todo), shards + 1).round().astype(int)
    jobs = [job(todo[low:high]) for low, high in pairwise(cuts) if low < high]
    # once for each encoder: a clip that is added later must not cost a second network
    if jobs[0].settings.dtype != "float32" and store.noted("error") is None:
        jobs[0] = replace(jobs[0], measure=len(todo))
    ctx.log(f"{len(todo)} of {total} clips to compute, in {len(jobs)} shards")
    passing: dict[str, str] = {}
    seconds = 0.0
    for result in ctx.map(extract, jobs, "features"):
        done += result.clips
        seconds += result.seconds
        states["degraded"] += result.degraded
        states["quarantined"] += result.quarantined
        passing |= result.passing
        if result.error is not None:
            store.note("error", result.error.median)
            ctx.log(result.error.sentence(jobs[0].settings.dtype))
        tell()
    store.note("cost_s", seconds / len(todo))
    store.refresh()
    return passing


def _row(store: Store, item: Item, passing: Mapping[str, str]) -> Row:
    """An utterance's row without its features."""
    if item.key is None:
        return Row(item.utterance_id, None, "quarantined", item.reason, 0, None)
    if item.key in passing:
        return Row(item.utterance_id, None, "quarantined", passing[item.key], 0, None)
    meta = _Meta.model_validate(store.meta(item.key))
    return Row(item.utterance_id, item.key, meta.status, meta.reason, meta.frames, meta.hop_s)


def _dims(store: Store, items: Sequence[Item], family: str, settings: Settings) -> tuple[int, int]:
    """Widths of pooled vectors and of frames: from any entry, else from the encoder itself."""
    for item in items:
        if item.key is not None and store.has(item.key):
            meta = _Meta.model_validate(store.meta(item.key))
            return meta.pooled_dim, meta.frame_dim
    encoder = load_encoder(family, settings)
    return encoder.pooled_dim, encoder.frame_dim


def _tell(ctx: Context, name: str, rows: Sequence[Row]) -> None:
    """Count every utterance for a person."""
    counts = Counter((row.status, row.reason or "") for row in rows)
    ctx.table(
        f"features of {name}",
        [
            {"status": status, "reason": reason, "clips": count}
            for (status, reason), count in sorted(counts.items())
        ],
    )
