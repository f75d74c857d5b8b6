"""Features of a shard of clips, into the store, chunk by chunk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakSet

import numpy as np

from models.encoders.encoder import Encoded, Encoder, Settings
from tasks.features import inputs
from tasks.features.families import family_constants, load_encoder
from tasks.features.inputs import Item, Loaded
from tasks.features.precision import PrecisionError, measure
from tasks.layout import Layout
from tasks.store.compute import Done, Keeper
from tasks.store.segments import Entry, Store

_FP16_MAX = 65504.0


@dataclass(frozen=True)
class Job:
    """A shard's work, for a worker that may be another process."""

    family: str
    settings: Settings
    sequence: bool
    layout: Layout
    corpus: str
    identity: Mapping[str, object]
    items: Sequence[Item]
    measure: int = 0  #: clips to compute in all, where precision is to be measured first


@dataclass(frozen=True)
class Extracted(Done):
    """What became of a shard, and what reduced precision costs, where that was measured.

    Where that is too much, nothing was computed after it and nothing kept.
    """

    error: PrecisionError | None = None


#: Encoders of this process whose precision was measured.
_measured: WeakSet[Encoder] = WeakSet()


def extract(job: Job) -> Extracted:
    """Compute a shard's clips and put them into the store, chunk by chunk."""
    keeper = Keeper(Store(job.layout.store, job.identity))
    family = family_constants(job.family)
    encoder = load_encoder(job.family, job.settings)
    error: PrecisionError | None = None
    is_due = job.measure > 0 and encoder not in _measured
    loader = inputs.Loader(
        family.modality,
        family.rate_hz,
        job.layout.media_root,
        job.layout.faces(job.corpus),
        job.settings.max_faces,
        job.settings.trim_db,
    )
    for group in loader.groups(job.items, family.chunk):
        contents = [loaded.content for loaded in group if loaded.content is not None]
        encoded = encoder.encode(contents)
        if is_due and error is None:
            error = measure(job.family, job.settings, contents, encoded, job.measure)
            if error is not None and error.is_too_large:
                break
            _measured.add(encoder)
        keeper.keep(list(_entries(encoder, group, encoded, job.sequence)))
    return Extracted(**vars(keeper.done()), error=error)


def _entries(
    encoder: Encoder, group: Sequence[Loaded], encoded: Sequence[Encoded], sequence: bool
) -> Iterator[Entry]:
    """An entry for each, with or without content, in order."""
    results = iter(encoded)
    for loaded in group:
        result = Encoded(None) if loaded.content is None else next(results)
        yield _entry(loaded, result, encoder, sequence)


def _entry(loaded: Loaded, result: Encoded, encoder: Encoder, sequence: bool) -> Entry:
    reasons = [reason for reason in (result.reason, loaded.reason) if reason]
    frames = result.sequence if sequence else None
    pooled = result.pooled
    if pooled is not None and not np.isfinite(pooled).all():
        pooled, frames, reasons = None, None, ["not_finite", *reasons]
    if frames is not None and not (np.abs(frames) <= _FP16_MAX).all():
        # clipping would change features in silence; the pooled vector is still exact
        frames, reasons = None, ["sequence_beyond_fp16", *reasons]
    status = "quarantined" if pooled is None else "degraded" if reasons else "ok"
    meta = {
        "status": status,
        "reason": reasons[0] if reasons else None,
        "detail": loaded.detail,
        "frames": 0 if frames is None else len(frames),
        "hop_s": None if pooled is None else result.hop_s,
        "pooled_dim": encoder.pooled_dim,
        "frame_dim": encoder.frame_dim,
    }
    blobs = {}
    if pooled is not None:
        blobs["pooled"] = pooled.astype("<f4").tobytes()
    if frames is not None:
        blobs["sequence"] = frames.astype("<f2").tobytes()
    return Entry(str(loaded.item.key), meta, blobs)
