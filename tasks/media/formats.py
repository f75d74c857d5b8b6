"""Tell a media file's format by its first bytes, and by its headers whether it is whole."""

from __future__ import annotations

from tasks.media.opening import MediaFault, Medium
from tasks.media.types import Problem

# A picture format is read by Pillow; everything else goes through FFmpeg.
_PICTURES = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"\0\0\0\x0cjP  ": "jpeg2000",
}
_SOUND_OR_VIDEO = (
    *(b"RIFF", b"RIFX", b"RF64", b"FORM", b"OggS", b"fLaC", b"ID3", b"caff", b"FLV\x01", b"#!AMR"),
    *(b"\x1aE\xdf\xa3", b"0&\xb2u", b".RMF", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"wvpk", b"MAC "),
)
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def picture_format(medium: Medium) -> str | None:
    """Name of the picture format by the first bytes; None where it is no picture for Pillow."""
    head = medium.head
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS:
        return "avif"
    return next((name for magic, name in _PICTURES.items() if head.startswith(magic)), None)


def explain(medium: Medium, error: Exception | None = None) -> Problem:
    """Why a file of which nothing could be decoded is so: cut short, damaged or no media."""
    head = medium.head
    name = picture_format(medium)
    if not (name or head[4:8] in _ISO_BOXES or head.startswith(_SOUND_OR_VIDEO)):
        return Problem("not_media", f"{medium} does not begin like any known media format")
    if (cut := cut_short(medium)) is not None:
        return Problem("truncated", f"{medium} {cut}")
    if isinstance(error, EOFError):
        return Problem("no_content", f"{medium} ends right after its header")
    because = f" ({error.strerror if isinstance(error, OSError) else error})" if error else ""
    return Problem("unreadable", f"{medium} cannot be decoded{because}")


def cut_short(medium: Medium) -> str | None:
    """In what way the file is shorter than its own headers say, or None."""
    head, size = medium.head, medium.size
    if head[:4] == b"RIFF":
        stated = 8 + int.from_bytes(head[4:8], "little")
        # Programs that write into a pipe leave the largest number they can instead of a size.
        # Others count their own header in, which is wrong by a few bytes only.
        is_known = stated < 0x7FFF0000
        return f"has {size} of {stated} bytes" if is_known and stated > size + 16 else None
    if head.startswith(b"\x89PNG"):
        return _cut_chunks(medium)
    if head.startswith(b"\xff\xd8\xff"):
        end = medium.read_at(max(0, size - 65536), 65536)
        return None if b"\xff\xd9" in end else "lacks the mark that ends a JPEG"
    return _cut_boxes(medium) if head[4:8] in _ISO_BOXES else None


def check_whole_png(medium: Medium) -> None:
    """Raise `MediaFault` for a PNG file without its end, which Pillow may accept."""
    if (cut := _cut_chunks(medium)) is not None:
        raise MediaFault(Problem("truncated", f"{medium} {cut}"))


def _cut_chunks(medium: Medium) -> str | None:
    """Walk the chunks of a PNG file."""
    at = 8
    while at + 12 <= medium.size:
        header = medium.read_at(at, 8)
        if header[4:] == b"IEND":
            return None
        at += 12 + int.from_bytes(header[:4], "big")
    return "lacks the chunk that ends a PNG"


def _cut_boxes(medium: Medium) -> str | None:
    """Walk the top-level boxes of an MP4 or MOV file."""
    at, size, seen = 0, medium.size, set()
    while at + 8 <= size:
        header = medium.read_at(at, 16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        seen.add(name)
        if length == 0:  # by definition: up to the end of the file
            break
        if length < 8:
            return None
        if at + length > size:
            return f"has {size} of at least {at + length} bytes"
        at += length
    has_index = b"moov" in seen or b"meta" in seen
    return None if has_index or b"mdat" not in seen else "lost its index (no moov box)"
