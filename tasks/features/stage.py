"""Stage ``features``: one encoder over the utterances of one corpus, into bucket files.

Which clips are computed is decided by the feature store: a clip is computed once for an encoder,
whatever corpus it is in. The table is then put together from the store, so that a run that computed
everything and one that computed nothing write the same bytes. Every utterance gets one row.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from models import registry
from models.encoders.encoder import Settings
from models.encoders.weights import Weights, find_weights
from tasks.context import Context, shard_count
from tasks.features import inputs
from tasks.features.extraction import Extracted, Job, extract
from tasks.features.families import family_constants, load_encoder
from tasks.features.inputs import Item, Modality
from tasks.features.params import EncoderParams, encoder_identity, make_settings
from tasks.features.precision import is_too_large, processor
from tasks.layout import Layout
from tasks.store.buckets import Row, assemble
from tasks.store.compute import Clips, compute
from tasks.store.segments import Entry, Store

#: A clip's cost before any was measured: so much, and so much for each megabyte of weights. A
#: sentence is a few dozen tokens, seconds of sound and a row of faces are many hundred.
_GUESS_S = 0.01
_GUESS_S_PER_MB: dict[Modality, float] = {"audio": 0.001, "video": 0.001, "text": 0.00005}
#: Less work than this is done at once: other processes would take longer to start.
_SPREAD_FROM_S = 30.0


class _Meta(BaseModel):
    """What the store tells about a clip without reading its features; see ``_entry``."""

    model_config = ConfigDict(frozen=True)

    status: str
    reason: str | None
    frames: int
    hop_s: float | None
    pooled_dim: int
    frame_dim: int


def run(
    params: EncoderParams,
    layout: Layout,
    ctx: Context,
    corpus: str,
    encoder: str,
    utterances: pl.DataFrame | None = None,
) -> Path:
    """Features of one encoder for one corpus.

    Args:
        params: the encoder.
        layout: where the tables lie.
        ctx: who does the work and hears of the progress.
        corpus: whose utterances.
        encoder: its key in ``params.yaml: encoders``.
        utterances: what ``inputs.plan`` gets (default: the corpus's table).

    Returns:
        The folder of bucket files.
    """
    if params.family == "imported":  # computed by somebody else; named so that only it depends
        foreign = registry.part("tasks.features.foreign")
        return foreign.run(params, layout, corpus, encoder)
    family = family_constants(params.family)
    checkpoint = params.checkpoint or family.checkpoint
    weights = find_weights(checkpoint, params.pin, layout.cache, layout.project)
    if utterances is None:
        utterances = inputs.read_utterances(layout, corpus)
    work = partial(_extract, params, layout, ctx, corpus, encoder, weights, utterances)
    settings = make_settings(params, weights)
    try:
        return work(settings)
    except _Inexact as error:
        ctx.log(f"{error}; float32 is used instead")
        return work(replace(settings, dtype="float32"), {"dtype_refused": settings.dtype})


class _Inexact(Exception):
    """Reduced precision is wrong on this processor."""


def _extract(
    params: EncoderParams,
    layout: Layout,
    ctx: Context,
    corpus: str,
    encoder: str,
    weights: Weights,
    utterances: pl.DataFrame,
    settings: Settings,
    marks: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """The table in the precision of ``settings``; ``marks`` stand in its metadata."""
    family = family_constants(params.family)
    identity = encoder_identity(params, weights, settings)
    store = Store(layout.store, identity)
    items = inputs.plan(
        family.modality, utterances, layout.faces(corpus), params.context, params.cut_s
    )
    job = partial(Job, params.family, settings, params.sequence, layout, corpus, identity)
    destination = layout.features(corpus, encoder)
    metadata = _metadata(params, encoder, weights, identity)
    metadata |= {"fingerprint": store.fingerprint, **marks}
    guess_s = _GUESS_S + _GUESS_S_PER_MB[family.modality] * weights.size_mb
    costs = _Costs(store, ctx, settings.dtype, guess_s)
    costs.check()

    def write(passing: Mapping[str, Entry]) -> None:
        rows = [_row(store, item, passing) for item in items]
        pooled_dim, frame_dim = _dims(store, items, params.family, settings)
        dim = frame_dim if params.sequence else pooled_dim
        assemble(store, rows, pooled_dim, dim, destination, metadata)
        _tell(ctx, encoder, rows)

    keys = [item.key for item in items if item.key is not None]
    clips = Clips(
        "features",
        keys,
        partial(_cut, items, job, costs),
        extract,
        write,
        costs.hear,
        absent=len(items) - len(keys),
    )
    compute(clips, store, ctx)
    return destination


@dataclass
class _Costs:
    """What a clip costs, and how exact it is: noted beside the entries as shards are done."""

    store: Store
    ctx: Context
    dtype: str
    guess_s: float
    seconds: float = 0.0
    clips: int = 0

    def shards(self, clips: int) -> int:
        """How many shards to cut so many clips into."""
        cost_s = self.store.noted("cost_s") or self.guess_s
        if clips * cost_s < _SPREAD_FROM_S:
            return 1
        return shard_count(clips, cost_s, self.ctx.workers)

    @cached_property
    def _here(self) -> str:
        """Name of the note on this processor's precision."""
        return f"error_{processor()}"

    @property
    def is_exactness_known(self) -> bool:
        """Whether nothing is to be measured: a later clip must not cost a second network."""
        return self.dtype == "float32" or self.store.noted(self._here) is not None

    def check(self) -> None:
        """Raise where this precision was found wrong on this processor before."""
        if self.dtype != "float32" and is_too_large(error := self.store.noted(self._here)):
            raise _Inexact(f"{self.dtype} was off by {100 * (error or 0):.2g} % on this processor")

    def hear(self, done: Extracted) -> None:
        """Take note of a shard."""
        if done.error is not None:
            self.store.note(self._here, done.error.median)
            if done.error.is_too_large:
                raise _Inexact(done.error.sentence(self.dtype))
            self.store.note("error", done.error.median)
            self.ctx.log(done.error.sentence(self.dtype))
        self.seconds += done.seconds
        self.clips += done.clips
        self.store.note("cost_s", self.seconds / self.clips)


def _metadata(
    params: EncoderParams, name: str, weights: Weights, identity: Mapping[str, object]
) -> dict[str, str]:
    """What a table tells about how it was made."""
    return {
        "encoder": name,
        "family": params.family,
        "checkpoint": str(params.checkpoint or family_constants(params.family).checkpoint),
        "revision": params.pin or "none",
        "weights_sha256": weights.sha256,
        "trained": "yes" if weights.trained else "no",
        **({"trained_on": ", ".join(weights.trained_on)} if weights.trained_on else {}),
        "libraries": json.dumps(identity["libraries"], sort_keys=True),
        # languages shape nothing
        "parameters": json.dumps(
            params.model_dump(mode="json", exclude={"languages"}), sort_keys=True
        ),
        "settings": json.dumps(identity["settings"], sort_keys=True),
    }


def _cut(
    items: Sequence[Item],
    job: Callable[[Sequence[Item]], Job],
    costs: _Costs,
    missing: Sequence[str],
) -> list[Job]:
    """Shards of about equal work of what is missing."""
    lacking = set(missing)
    first = {item.key: item for item in reversed(items) if item.key in lacking}
    todo = sorted(first.values(), key=lambda item: item.utterance_id)
    if todo[0].text is not None:  # like lengths together: less padding
        todo.sort(key=lambda item: item.size)
    cuts = np.linspace(0, len(todo), costs.shards(len(todo)) + 1).round().astype(int)
    jobs = [job(todo[low:high]) for low, high in pairwise(cuts) if low < high]
    if not costs.is_exactness_known:  # each process measures before it keeps anything
        jobs = [replace(one, measure=len(todo)) for one in jobs]
    return jobs


def _row(store: Store, item: Item, passing: Mapping[str, Entry]) -> Row:
    """An utterance's row without its features."""
    if item.key is None:
        return Row(item.utterance_id, None, "quarantined", item.reason, 0, None)
    if item.key in passing:
        reason = str(passing[item.key].meta["reason"])
        return Row(item.utterance_id, None, "quarantined", reason, 0, None)
    meta = _Meta.model_validate(store.meta(item.key))
    status, reason = meta.status, meta.reason
    if reason is None and item.reason is not None:  # said of this utterance, not of its content
        status, reason = "degraded", item.reason
    return Row(item.utterance_id, item.key, status, reason, meta.frames, meta.hop_s)


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
