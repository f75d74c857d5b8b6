"""Content-addressed store: what was computed once is read from then on, and checked each time.

Layout under a root::

    <fingerprint>/about.json       what the fingerprint stands for, for people
    <fingerprint>/seg/<name>.seg   immutable segments; the name is the hash of the segment's header
    <fingerprint>/bad/             segments that failed their checksum
    <fingerprint>/<name>           a number worth knowing: what a clip cost, how exact it is

A fingerprint is the hash of everything but the clip (encoder, weights, versions), a key the hash of
everything about the clip. Segments appear whole (temporary name, fsync, rename) and are never
changed, so any number of processes and machines may read and write at once without locks; a
``kill -9`` loses at most the segment in flight. Deleting the store costs time and nothing else.

A segment is ``magic, header length, header, header hash, blobs``. The header lists the entries with
place, size and SHA-256 of their blobs, so that reading one entry reads and checks nothing else.
"""

import contextlib
import hashlib
import json
import os
import shutil
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tasks.atomic import STALE_S, replacing
from tasks.store.passing import may_pass

_MAGIC = b"AFLSEG1\n"
_LENGTH = struct.Struct("<Q")
_DIGEST = 32
#: Headers above this are damage, not content.
_MAX_HEADER = 1 << 30

Json = str | int | float | bool | None


class CorruptSegment(Exception):
    """Bytes of a segment are not those that were written; ``path`` says which segment."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


@dataclass(frozen=True)
class Entry:
    """What is kept for one key.

    An entry without blobs but with a reason is a tombstone: it says why there is nothing.

    Attributes:
        key: hexadecimal hash of the input.
        meta: small values that JSON can hold.
        blobs: named bytes.
    """

    key: str
    meta: Mapping[str, Json]
    blobs: Mapping[str, bytes | memoryview] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an entry lies."""

    segment: Path
    meta: Mapping[str, Json]
    offset: int
    sizes: Mapping[str, int]
    sha256: bytes


@dataclass(frozen=True)
class Usage:
    """One fingerprint's share of a store.

    Attributes:
        fingerprint: its first 32 digits.
        about: what it is the hash of.
        entries: keys that it holds, each counted once.
        segments: files they lie in.
        size_bytes: of those files.
        bad_segments: files that failed their checksum and were set aside.
        used_at: seconds since 1970 when a run last read it.
        error: what was noted about the precision of its entries.
    """

    fingerprint: str
    about: Mapping[str, object]
    entries: int
    segments: int
    size_bytes: int
    bad_segments: int
    used_at: float
    error: float | None = None


def fingerprint(content: Mapping[str, object]) -> str:
    """SHA-256 of a mapping, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """The entries of one fingerprint.

    Args:
        root: folder of the store.
        about: what the fingerprint is the hash of.
    """

    def __init__(self, root: Path, about: Mapping[str, object]) -> None:
        self.fingerprint = fingerprint(about)
        self.folder = root / self.fingerprint[:32]
        self._about = about
        self._places: dict[str, _Place] = {}
        self._seen: set[str] = set()
        self._alike: dict[str, Mapping] = {}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` that are not here, in order and once each."""
        self.refresh()
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def has(self, key: str) -> bool:
        """Whether an entry was here when segments were last looked at."""
        return key in self._places

    def meta(self, key: str) -> Mapping[str, Json]:
        """The small values of an entry that is here, from the checked header."""
        return self._places[key].meta

    def refresh(self) -> None:
        """Take notice of segments that have appeared; damaged ones are set aside."""
        for path in _segments(self.folder):
            if path.name in self._seen:
                continue
            try:
                places = _read_header(path, self._alike)
            except CorruptSegment:
                self.set_aside(path)
                continue
            except FileNotFoundError:  # set aside by another process in this moment
                continue
            self._seen.add(path.name)
            for key, place in places.items():
                if not may_pass(place.meta):  # kept before all stages left such failures out
                    self._places.setdefault(key, place)

    def read(self, keys: Sequence[str]) -> Iterator[Entry]:
        """Entries in the order of ``keys``, each checked against its hash.

        Raises ``CorruptSegment`` on the first damaged one; ``set_aside`` that segment, and its
        entries are missing from then on.
        """
        streams: dict[Path, BinaryIO] = {}
        try:
            for key in keys:
                place = self._places[key]
                if place.segment not in streams:
                    try:
                        streams[place.segment] = place.segment.open("rb")
                    except FileNotFoundError as error:
                        raise CorruptSegment(place.segment, "gone") from error
                yield _read_entry(streams[place.segment], key, place)
        finally:
            for stream in streams.values():
                stream.close()

    def write(self, entries: Sequence[Entry]) -> None:
        """Keep ``entries`` as one new segment."""
        if not entries:
            return
        self._write_about()
        header, blobs = _pack(entries)
        name = hashlib.sha256(header).hexdigest()[:32]
        path = self.folder / "seg" / f"{name}.seg"
        with replacing(path) as temporary, temporary.open("wb") as stream:
            stream.write(_MAGIC + _LENGTH.pack(len(header)) + header)
            stream.write(hashlib.sha256(header).digest())
            stream.writelines(blobs)

    def set_aside(self, segment: Path) -> None:
        """Move a damaged segment out of the way and forget what it held."""
        _set_aside(segment)
        self._seen.discard(segment.name)
        self._places = {
            key: place for key, place in self._places.items() if place.segment != segment
        }
        # another segment may hold the same keys
        self._seen.clear()

    def touch(self) -> None:
        """Note that this fingerprint was used now, for ``prune``."""
        if (self.folder / "about.json").exists():
            os.utime(self.folder / "about.json")

    def noted(self, name: str) -> float | None:
        """A number noted beside the entries; None: never noted."""
        return _noted(self.folder, name)

    def note(self, name: str, value: float) -> None:
        """Keep a number beside the entries; no entry and no table depends on it."""
        with replacing(self.folder / name) as temporary:
            temporary.write_text(f"{value:.6g}\n", encoding="ascii")

    def _write_about(self) -> None:
        path = self.folder / "about.json"
        if path.exists():
            return
        with replacing(path) as temporary:
            text = json.dumps(self._about, sort_keys=True, indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")


def stats(root: Path) -> list[Usage]:
    """What each fingerprint holds, largest first."""
    found = []
    for folder in _folders(root):
        segments = _segments(folder)
        about = folder / "about.json"
        keys: set[str] = set()
        for segment in segments:
            try:
                keys.update(_read_header(segment))
            except (CorruptSegment, FileNotFoundError):
                continue
        found.append(
            Usage(
                folder.name,
                json.loads(about.read_text(encoding="utf-8")) if about.exists() else {},
                len(keys),
                len(segments),
                sum(segment.stat().st_size for segment in segments),
                sum(1 for _ in (folder / "bad").glob("*")),
                about.stat().st_mtime if about.exists() else folder.stat().st_mtime,
                _noted(folder, "error"),
            )
        )
    return sorted(found, key=lambda usage: (-usage.size_bytes, usage.fingerprint))


def verify(root: Path) -> list[str]:
    """Read and check everything; set damaged segments aside and tell what was wrong with each."""
    problems = []
    for folder in _folders(root):
        for segment in _segments(folder):
            try:
                places = _read_header(segment)
                with segment.open("rb") as stream:
                    for key, place in places.items():
                        _read_entry(stream, key, place)
            except CorruptSegment as error:
                _set_aside(segment)
                problems.append(str(error))
            except FileNotFoundError:
                continue
    return problems


def prune(root: Path, keep: Iterable[str] | None = None, unused_days: float | None = None) -> int:
    """Delete fingerprints nobody needs, damaged segments and orphaned temporary files.

    Args:
        root: folder of the store.
        keep: fingerprints that stay, in full or their first 32 digits; None: all stay.
        unused_days: of the others delete only those not used for so long; None: all of them.

    Returns:
        Bytes set free.
    """
    kept = None if keep is None else {name[:32] for name in keep}
    now, freed = time.time(), 0
    for usage in stats(root):
        folder = root / usage.fingerprint
        is_kept = usage.fingerprint in kept if kept is not None else unused_days is None
        is_old = unused_days is None or now - usage.used_at > 86400 * unused_days
        if is_old and not is_kept:
            freed += _size(folder)
            shutil.rmtree(folder)
            continue
        freed += _size(folder / "bad")
        shutil.rmtree(folder / "bad", ignore_errors=True)
        for orphan in folder.rglob(".*.tmp"):
            if now - orphan.stat().st_mtime > STALE_S:
                freed += orphan.stat().st_size
                orphan.unlink(missing_ok=True)
    return freed


def _noted(folder: Path, name: str) -> float | None:
    try:
        return float((folder / name).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


def _folders(root: Path) -> list[Path]:
    if not root.exists():
        return []
    return sorted(folder for folder in root.iterdir() if (folder / "seg").is_dir())


def _segments(folder: Path) -> list[Path]:
    return sorted((folder / "seg").glob("*.seg"))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _set_aside(segment: Path) -> None:
    bad = segment.parent.parent / "bad"
    bad.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        segment.replace(bad / f"{segment.name}.{time.time_ns()}")


def _pack(entries: Sequence[Entry]) -> tuple[bytes, list[bytes]]:
    """The header, and the blobs in the order it lists them."""
    rows, blobs, offset = [], [], 0
    for entry in sorted(entries, key=lambda entry: entry.key):
        parts = [entry.blobs[name] for name in sorted(entry.blobs)]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        sizes = {name: len(entry.blobs[name]) for name in sorted(entry.blobs)}
        rows.append([entry.key, dict(entry.meta), offset, sizes, digest.hexdigest()])
        blobs += parts
        offset += sum(sizes.values())
    content = {"entries": rows, "size": offset}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode(), blobs


def _read_header(path: Path, alike: dict[str, Mapping] | None = None) -> dict[str, _Place]:
    """Entries of a segment; what many say in the same words is kept once, in ``alike``."""
    known = {} if alike is None else alike
    with path.open("rb") as stream:
        start = stream.read(len(_MAGIC) + _LENGTH.size)
        if len(start) < len(_MAGIC) + _LENGTH.size or not start.startswith(_MAGIC):
            raise CorruptSegment(path, "is no segment")
        (length,) = _LENGTH.unpack(start[len(_MAGIC) :])
        if length > _MAX_HEADER:
            raise CorruptSegment(path, "its header's length is damaged")
        header, digest = stream.read(length), stream.read(_DIGEST)
        base, end = stream.tell(), os.fstat(stream.fileno()).st_size
    if hashlib.sha256(header).digest() != digest:
        raise CorruptSegment(path, "its header is damaged")
    content = json.loads(header)
    if base + content["size"] != end:
        raise CorruptSegment(path, f"it has {end} bytes instead of {base + content['size']}")
    return {
        key: _Place(
            path,
            known.setdefault(repr(meta), meta),
            base + offset,
            known.setdefault(repr(sizes), sizes),
            bytes.fromhex(sha256),
        )
        for key, meta, offset, sizes, sha256 in content["entries"]
    }


def _read_entry(stream: BinaryIO, key: str, place: _Place) -> Entry:
    stream.seek(place.offset)
    content = stream.read(sum(place.sizes.values()))
    if hashlib.sha256(content).digest() != place.sha256:
        raise CorruptSegment(place.segment, f"entry {key[:16]} is damaged")
    if len(place.sizes) == 1:
        return Entry(key, place.meta, {name: content for name in place.sizes})
    blobs, start, view = {}, 0, memoryview(content)
    for name, size in place.sizes.items():
        blobs[name] = view[start : start + size]  # no copy: sequences are long
        start += size
    return Entry(key, place.meta, blobs)
