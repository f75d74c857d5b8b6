"""What a model hub keeps beside git: large files, which come by Git LFS or by Xet.

A file is large as on the hub: weights always, others above 10 MB. With Xet the library's own client
writes chunks and shards (into a folder here, where the hub has a server), and the hub finds a file
by its SHA-256 in the shards.
"""

import hashlib
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGE_BYTES = 10_000_000
#: Of a part, where a file is sent in several.
PART_BYTES = 5_000_000
_RECORD = 48


@dataclass(frozen=True)
class Pointer:
    """What git has of a large file."""

    oid: str
    size: int


def is_large(name: str, size: int) -> bool:
    return name.endswith((".safetensors", ".onnx")) or size > LARGE_BYTES


@dataclass
class Storage:
    """Large files by the SHA-256 of their content.

    Attributes:
        chunks: where Xet's client keeps what it uploads.
        objects: files.
        parts: of files that are on their way.
        refused: why no file is taken by LFS; empty: all are.
    """

    chunks: Path
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    refused: str = ""

    def has(self, file: Pointer) -> bool:
        """Whether a file was uploaded; one that came by Xet is put together of its chunks."""
        if file.oid not in self.objects and (name := self.xet_name(file.oid)):
            import hf_xet

            whole, where = self.chunks / f"{file.oid}.file", f"local://{self.chunks}"
            with hf_xet.XetSession().new_file_download_group(endpoint=where) as group:
                group.start_download_file(hf_xet.XetFileInfo(name, file.size), str(whole))
            self._keep(file.oid, whole.read_bytes())
        return len(self.objects.get(file.oid, b"")) == file.size

    def _keep(self, oid: str, content: bytes) -> bool:
        is_it = hashlib.sha256(content).hexdigest() == oid
        if is_it:
            self.objects[oid] = content
        return is_it

    def xet_name(self, oid: str) -> str | None:
        """How Xet calls a file, out of the shards that the client wrote."""
        found: dict[str, str] = {}
        for shard in self.chunks.rglob("*.mdb"):
            found |= _files_of(shard.read_bytes())
        return found.get(oid)

    def offer(self, asked: dict[str, Any], url: str) -> dict[str, Any]:
        """Answer to a batch of LFS: where each file goes, in one piece or in parts."""
        assert (asked["operation"], asked["hash_algo"]) == ("upload", "sha256")
        answers = []
        for one in asked["objects"]:
            answer, place = dict(one), f"{url}/lfs/{one['oid']}"
            if self.refused:
                answer["error"] = {"code": 507, "message": self.refused}
            elif one["oid"] not in self.objects:
                upload: dict[str, Any] = {"href": place}
                if one["size"] > PART_BYTES:
                    count = -(-one["size"] // PART_BYTES)
                    links = {str(n): f"{place}/{n}" for n in range(1, count + 1)}
                    upload = {
                        "href": f"{place}/complete",
                        "header": {"chunk_size": str(PART_BYTES), **links},
                    }
                answer["actions"] = {"upload": upload, "verify": {"href": f"{place}/verify"}}
            answers.append(answer)
        return {"transfer": "multipart", "objects": answers}

    def put(self, path: list[str], content: bytes) -> str | None:
        """Take a file or a part; the tag of it, or None where it is not what it was said to be."""
        if len(path) == 2:
            self.parts[path[0], int(path[1])] = content
            return hashlib.md5(content).hexdigest()
        return path[0] if self._keep(path[0], content) else None

    def finish(self, path: list[str], told: dict[str, Any]) -> bool:
        """Put the parts together, or say whether a file is there as it was said to be."""
        oid, step = path
        if step == "verify":
            return self.has(Pointer(oid, told["size"]))
        parts = [self.parts.pop((oid, one["partNumber"])) for one in told["parts"]]
        return self._keep(oid, b"".join(parts))

    def xet_access(self) -> dict[str, Any]:
        """What lets a client of Xet in."""
        return {
            "accessToken": "of the test",
            "exp": int(time.time()) + 3600,
            "casUrl": f"local://{self.chunks}",
        }


def _files_of(shard: bytes) -> dict[str, str]:
    """SHA-256 to the name of Xet, of the files in a shard.

    After a header of one record, each file has a record of its name, flags and number of segments,
    the segments, as many proofs (flag 31), and its SHA-256 (flag 30).
    """
    found, at = {}, _RECORD
    while shard[at : at + 32] != b"\xff" * 32:
        name = _spelt(shard[at : at + 32])
        flags, segments = struct.unpack_from("<II", shard, at + 32)
        at += _RECORD * (1 + segments * (2 if flags >> 31 else 1))
        if flags >> 30 & 1:
            found[_spelt(shard[at : at + 32])] = name
            at += _RECORD
    return found


def _spelt(number: bytes) -> str:
    """Four little-endian numbers as Xet writes them."""
    return b"".join(number[n : n + 8][::-1] for n in range(0, 32, 8)).hex()
