"""HEIF pictures as phones write them: one HEVC frame, or tiles that a grid puts together."""

import io
import struct
from pathlib import Path

import av
import numpy as np


def write_heif(path: Path, picture: np.ndarray, tiles: int = 1) -> None:
    """Write an (H, W, 3) picture; with more tiles, so many copies of it side by side."""
    box, frame = _encoded(picture)
    height, width = picture.shape[:2]
    items = [*range(1, tiles + 1)] if tiles == 1 else [*range(1, tiles + 2)]
    kinds = [b"hvc1"] * tiles + [b"grid"] * (tiles > 1)
    grid = struct.pack(">BBBBHH", 0, 0, 0, tiles - 1, tiles * width, height)
    parts = [frame] * tiles + [grid] * (tiles > 1)
    sizes = [(width, height)] * tiles + [(tiles * width, height)] * (tiles > 1)

    def meta(first: int) -> bytes:
        starts = [first + sum(map(len, parts[:n])) for n in range(len(parts))]
        places = b"".join(
            struct.pack(">HHHII", item, 0, 1, start, len(part))
            for item, start, part in zip(items, starts, parts, strict=True)
        )
        entries = b"".join(
            _box(b"infe", struct.pack(">IHH", 2 << 24, item, 0) + kind + b"\0")
            for item, kind in zip(items, kinds, strict=True)
        )
        sides = b"".join(_box(b"ispe", struct.pack(">III", 0, *size)) for size in sizes)
        links = b"".join(
            struct.pack(">HB", item, 1 + (kind == b"hvc1")) + bytes([2 + n])
            + (b"\x81" if kind == b"hvc1" else b"")
            for n, (item, kind) in enumerate(zip(items, kinds, strict=True))
        )  # fmt: skip
        joins = struct.pack(">HH", items[-1], tiles) + struct.pack(f">{tiles}H", *items[:tiles])
        return _box(
            b"meta",
            bytes(4)
            + _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
            + _box(b"pitm", struct.pack(">IH", 0, items[-1]))
            + _box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(items)) + places)
            + _box(b"iinf", struct.pack(">IH", 0, len(items)) + entries)
            + (_box(b"iref", bytes(4) + _box(b"dimg", joins)) if tiles > 1 else b"")
            + _box(
                b"iprp",
                _box(b"ipco", box + sides)
                + _box(b"ipma", struct.pack(">II", 0, len(items)) + links),
            ),
        )

    head = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    first = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(first) + _box(b"mdat", b"".join(parts)))


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def _encoded(picture: np.ndarray) -> tuple[bytes, bytes]:
    """The box that describes an HEVC frame, and the frame, out of an MP4 that FFmpeg writes."""
    stream = io.BytesIO()
    shown = av.VideoFrame.from_ndarray(picture)
    shown.pts = 0
    with av.open(stream, "w", format="mp4") as container:
        track = container.add_stream("libx265", rate=1, options={"x265-params": "log-level=none"})
        track.height, track.width, track.pix_fmt = *picture.shape[:2], "yuv420p"
        for packet in (*track.encode(shown), *track.encode(None)):
            packet.dts = packet.pts  # which x265 leaves to chance for a single frame
            container.mux(packet)
    content = stream.getvalue()
    at = content.index(b"hvcC") - 4
    box = content[at : at + int.from_bytes(content[at : at + 4], "big")]
    with av.open(io.BytesIO(content)) as container:
        frame = next(bytes(packet) for packet in container.demux(video=0) if packet.size)
    return box, frame
