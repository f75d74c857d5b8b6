"""SHA-256 of media files: streamed, side by side, remembered by path, size and time of change."""

import hashlib
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tasks.atomic import replacing
from tasks.context import Context, Progress, shard_count
from tasks.layout import Layout

#: Files changed so recently may change again without a new modification time: never remembered.
_SETTLED_S = 2.0
_BLOCK_BYTES = 1 << 20
_LFS_MARK = b"version https://git-lfs"
#: Pointers of Git LFS are about 130 bytes long.
_LFS_MAX_BYTES = 1024

_SCHEMA = {"path": pl.String, "size": pl.Int64, "mtime_ns": pl.Int64, "sha256": pl.String}


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; memory stays at one block."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def hash_media(layout: Layout, media: Sequence[str], ctx: Context, memory: str) -> pl.DataFrame:
    """Hash files and say what is wrong with those that cannot be used.

    Args:
        layout: where media lie, and where hashes are remembered between runs.
        media: file names, each once.
        ctx: spreads the work and shows progress.
        memory: name under which they are remembered.

    Returns:
        Columns media, sha256 (null where unusable), reason (null where usable), detail.
    """
    root = layout.media_root
    found = [_stat(root, name) for name in media]
    frame = pl.DataFrame(
        {
            "media": list(media),
            "path": [str((root / name).resolve()) for name in media],
            "size": [row[0] for row in found],
            "mtime_ns": [row[1] for row in found],
            "reason": [row[2] for row in found],
            "detail": [row[3] for row in found],
        },
        schema={
            "media": pl.String,
            **{name: kind for name, kind in _SCHEMA.items() if name != "sha256"},
            "reason": pl.String,
            "detail": pl.String,
        },
    )
    remembered = _recall(layout, memory)
    frame = frame.join(
        remembered, on=["path", "size", "mtime_ns"], how="left", maintain_order="left"
    )
    todo = frame.filter(pl.col("reason").is_null() & pl.col("sha256").is_null())
    fresh = _hash_side_by_side(todo.get_column("path").to_list(), ctx)
    frame = frame.join(fresh, on="path", how="left", maintain_order="left").select(
        "media",
        "path",
        "size",
        "mtime_ns",
        sha256=pl.coalesce("sha256", "fresh_sha256"),
        reason=pl.coalesce(
            "reason", pl.when(pl.col("error").is_not_null()).then(pl.lit("unreadable_media"))
        ),
        detail=pl.coalesce("detail", "error"),
    )
    if todo.height:
        _remember(layout, memory, frame, remembered)
    return frame.select("media", "sha256", "reason", "detail")


def _stat(root: Path, name: str) -> tuple[int | None, int | None, str | None, str | None]:
    """Size, modification time, and reason and detail where the file is of no use."""
    path = root / name
    if path.is_dir():
        return None, None, "missing_media", f"{path} is a folder; name a file in it"
    if not path.is_file():
        return None, None, "missing_media", f"{path} does not exist; {_remedy(root, name)}"
    stat = path.stat()
    if stat.st_size == 0:
        return None, None, "empty_media", f"{path} holds no bytes; copy the file again"
    if stat.st_size <= _LFS_MAX_BYTES and path.read_bytes().startswith(_LFS_MARK):
        detail = f"{path} is a Git LFS pointer, not the file; run 'git lfs pull' in its repository"
        return None, None, "lfs_pointer", detail
    return stat.st_size, stat.st_mtime_ns, None, None


def _remedy(root: Path, name: str) -> str:
    """What to do about a missing file: names that only look alike are told apart."""
    for form in ("NFC", "NFD"):
        twin = unicodedata.normalize(form, name)
        if twin != name and (root / twin).is_file():
            return (
                f"the file there looks the same, but its letters are written in another Unicode "
                f"form ({form}); write the name in the source so too"
            )
    if (root / name.replace("\\", "/")).is_file():
        return "write '/' for '\\' in the source"
    return "put the file there or mend the name in the source"


def _hash_shard(files: list[str]) -> list[tuple[str, str | None, str | None]]:
    """Path, hash and error of each file; one of the two is None."""
    rows: list[tuple[str, str | None, str | None]] = []
    for file in files:
        try:
            rows.append((file, hash_file(Path(file)), None))
        except OSError as error:
            why = f"{file} cannot be read ({error.strerror or error}); check its permissions"
            rows.append((file, None, why))
    return rows


def _hash_side_by_side(files: list[str], ctx: Context) -> pl.DataFrame:
    # about 20 ms a clip from a disk that was not read before
    count = shard_count(len(files), 0.02, ctx.workers) if files else 0
    rows: list[tuple[str, str | None, str | None]] = []
    for shard in ctx.map(
        _hash_shard, [files[start::count] for start in range(count)], "hash media"
    ):
        rows += shard
        ctx.progress(Progress(len(rows), len(files), unit="files"))
    return pl.DataFrame(
        rows,
        schema={"path": pl.String, "fresh_sha256": pl.String, "error": pl.String},
        orient="row",
    )


def _memory_file(layout: Layout, memory: str) -> Path:
    return layout.cache / "media_hashes" / f"{memory}.parquet"


def _recall(layout: Layout, memory: str) -> pl.DataFrame:
    file = _memory_file(layout, memory)
    if not file.exists():
        return pl.DataFrame(schema=_SCHEMA)
    try:
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError):
        # a cache is safe to lose: the files are hashed again and the broken cache is replaced
        return pl.DataFrame(schema=_SCHEMA)
    return frame if frame.schema == pl.Schema(_SCHEMA) else pl.DataFrame(schema=_SCHEMA)


def _remember(layout: Layout, memory: str, frame: pl.DataFrame, remembered: pl.DataFrame) -> None:
    settled_ns = int((time.time() - _SETTLED_S) * 1e9)
    usable = frame.filter(
        pl.col("sha256").is_not_null() & (pl.col("mtime_ns") < settled_ns)
    ).select(list(_SCHEMA))
    kept = pl.concat([remembered.join(usable, on="path", how="anti"), usable]).sort("path")
    with replacing(_memory_file(layout, memory)) as temporary:
        kept.write_parquet(temporary)
