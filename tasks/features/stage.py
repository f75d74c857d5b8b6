"""Stage ``features``: one encoder over the utterances of one corpus, into bucket files.

Which clips are computed is decided by the feature store: a clip is computed once for an encoder,
whatever corpus it is in. The table is then put together from the store, so that a run that computed
everything and one that computed nothing write the same bytes. Every utterance gets one row.
"""

import importlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.encoders.encoder import Dtype, Encoded, Encoder, Layer, Pooling, Settings, Tokens
from models.encoders.weights import Weights, find_weights
from models.errors import UserError
from tasks.context import Context, Progress, shard_count
from tasks.features import inputs
from tasks.features.families import family_constants, load_encoder
from tasks.features.inputs import Item, Loaded, Modality
from tasks.features.precision import PrecisionError, measure
from tasks.layout import Layout
from tasks.store.buckets import Row, assemble
from tasks.store.passing import may_pass
from tasks.store.segments import CorruptSegment, Entry, Store

#: A clip's cost before any was measured: so much, and so much for each megabyte of weights. A
#: sentence is a few dozen tokens, seconds of sound and a row of faces are many hundred.
_GUESS_S = 0.01
_GUESS_S_PER_MB: dict[Modality, float] = {"audio": 0.001, "video": 0.001, "text": 0.00005}
#: Less work than this is done at once: other processes would take longer to start.
_SPREAD_FROM_S = 30.0
#: The store is asked to mend itself this often before the disk is blamed.
_ATTEMPTS = 3
_FP16_MAX = 65504.0
#: Parameters that mean something for one modality only.
_ONLY: dict[str, Modality] = {
    "max_s": "audio",
    "cut_s": "audio",
    "overlap_s": "audio",
    "tokens": "video",
    "max_faces": "video",
    "max_tokens": "text",
    "context": "text",
}


class EncoderParams(BaseModel):
    """One entry of ``params.yaml: encoders``; see ``models.encoders.encoder.Settings``.

    Attributes:
        checkpoint: see ``models.encoders.weights``.
        revision: commit of a hub checkpoint.
        pooling: default: the family's first, mostly ``mean``.
        sequence: keep every frame as well as the pooled vector.
        dtype: ``auto`` takes bfloat16 where the processor has it in hardware.
        cut_s: of longer sound only so many seconds from its beginning are read (default: all).
        context: turns before the utterance that a text encoder reads with it.
        corpora: run on these only (default: on all).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    checkpoint: str | None = None
    revision: str | None = None
    layer: Layer = "last"
    layer_weights: tuple[float, ...] = ()
    pooling: Pooling | None = None
    tokens: Tokens = "cls"
    sequence: bool = False
    dtype: Literal["auto"] | Dtype = "auto"
    max_s: float = Field(30.0, gt=0)
    cut_s: float | None = Field(None, gt=0)
    overlap_s: float = Field(2.0, gt=0)
    max_faces: int = Field(16, ge=1)
    max_tokens: int | None = Field(None, ge=8)
    context: int = Field(0, ge=0)
    unit_norm: bool = False
    corpora: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _fits_its_family(self) -> "EncoderParams":
        family = family_constants(self.family)
        if family.checkpoint == "required" and self.checkpoint is None:
            raise ValueError(f"{self.family} needs a checkpoint")
        if self.pooling is not None and self.pooling not in family.poolings:
            raise ValueError(
                f"{self.family} has no pooling '{self.pooling}'; it has "
                f"{', '.join(family.poolings)}"
            )
        for name, modality in _ONLY.items():
            if name in self.model_fields_set and modality != family.modality:
                raise ValueError(f"{name} is for {modality}; {self.family} reads {family.modality}")
        if self.layer == "all" and (self.sequence or self.pooling not in {None, "mean"}):
            raise ValueError("layer 'all' keeps statistics only: leave sequence and pooling out")
        return self


def make_settings(params: EncoderParams, weights: Weights) -> Settings:
    """What the family gets: weights found, precision decided."""
    dtype = params.dtype
    if family_constants(params.family).checkpoint is None:
        dtype = "float32"  # a fixed computation: the processor has no say in its fingerprint
    elif dtype == "auto":
        dtype = importlib.import_module("models.encoders.hidden").best_dtype()
    return Settings(
        checkpoint=weights.path,
        seed=weights.seed,
        layer=params.layer,
        layer_weights=params.layer_weights,
        pooling=params.pooling or family_constants(params.family).poolings[0],
        tokens=params.tokens,
        dtype=dtype,
        max_s=params.max_s,
        overlap_s=params.overlap_s,
        max_faces=params.max_faces,
        max_tokens=params.max_tokens,
        unit_norm=params.unit_norm,
    )


def encoder_identity(params: EncoderParams, weights: Weights, settings: Settings) -> dict:
    """Everything but the clip that shapes a feature; its hash is the store's fingerprint.

    Library versions belong to it, so that no table claims versions that did not make it. Batch
    size, device, workers and the encoder's name do not.
    """
    family = family_constants(params.family)
    libraries = sorted({*family.libraries, *inputs.LIBRARIES[family.modality]})
    chosen = {
        name: value
        for name, value in asdict(settings).items()
        if name not in {"checkpoint", "seed", "device"}
        and _ONLY.get(name, family.modality) == family.modality
    }
    return {
        "family": params.family,
        "feature_version": family.feature_version,
        "input_version": inputs.INPUT_VERSION,
        "weights_sha256": weights.sha256,
        "libraries": {name: version(name) for name in libraries},
        "settings": chosen | {"sequence": params.sequence},
    }


class _Meta(BaseModel):
    """What the store tells about a clip without reading its features; see ``_entry``."""

    model_config = ConfigDict(frozen=True)

    status: str
    reason: str | None
    frames: int
    hop_s: float | None
    pooled_dim: int
    frame_dim: int


@dataclass(frozen=True)
class _Job:
    """A shard's work, for a worker that may be another process."""

    family: str
    settings: Settings
    sequence: bool
    layout: Layout
    corpus: str
    identity: Mapping[str, object]
    items: Sequence[Item]
    measure: int = 0  #: clips to compute in all, where precision is to be measured


@dataclass(frozen=True)
class _Done:
    """What became of a shard. ``passing`` holds the reasons that must not be remembered."""

    clips: int
    degraded: int
    quarantined: int
    seconds: float
    passing: Mapping[str, str] = field(default_factory=dict)
    error: PrecisionError | None = None


def extract(job: _Job) -> _Done:
    """Compute a shard's clips and put them into the store, chunk by chunk."""
    started = time.monotonic()
    family = family_constants(job.family)
    encoder = load_encoder(job.family, job.settings)
    store = Store(job.layout.store, job.identity)
    states: Counter[str] = Counter()
    passing: dict[str, str] = {}
    error: PrecisionError | None = None
    loader = inputs.Loader(
        family.modality,
        family.rate_hz,
        job.layout.media_root,
        job.layout.faces(job.corpus),
        job.settings.max_faces,
    )
    for group in loader.groups(job.items, family.chunk):
        entries = []
        contents = [loaded.content for loaded in group if loaded.content is not None]
        encoded = encoder.encode(contents)
        if job.measure and error is None:
            error = measure(job.family, job.settings, contents, encoded, job.measure)
        for entry in _entries(encoder, group, encoded, job.sequence):
            states[str(entry.meta["status"])] += 1
            if may_pass(entry.meta):
                passing[entry.key] = str(entry.meta["reason"])
            else:
                entries.append(entry)
        store.write(entries)
    return _Done(
        len(job.items),
        states["degraded"],
        states["quarantined"],
        time.monotonic() - started,
        passing,
        error,
    )


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
    job = partial(_Job, params.family, settings, params.sequence, layout, corpus, identity)
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
