"""``timeline.html``: one medium over time as a self-contained page that needs no network.

The page has the report's design: its style sheet comes first and is the only home of the colours.
"""

import base64
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from PIL import Image

from tasks.atomic import replacing
from tasks.media.decoding import FrameSampling, decode, probe
from tasks.predict.answer import Answer, Face
from tasks.report.page.filling import embed, whole_page

#: A medium up to this size goes into the page, which then can be sent alone.
EMBEDDED_BYTES = 12 << 20
_PICTURE_PX = 1280
#: Hours of video have more faces than a page needs to show where they were.
_FACES = 20_000
_POLICY = ("script-src 'unsafe-inline'", "media-src data: file: 'self'")
_NO_FACES: Mapping[str, bytes] = MappingProxyType({})
_JPEG = "data:image/jpeg;base64,"
_MIME = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "webm", "mp3": "mpeg", "wav": "wav",
    "ogg": "ogg", "flac": "flac", "aac": "aac",
}  # fmt: skip


def write_timeline(
    answer: Answer, medium: Path, out: Path, *, portraits: Mapping[str, bytes] = _NO_FACES
) -> None:
    """Write the page.

    A medium of at most 12 MB goes into the page; a larger one is linked, relative to the page.
    Pictures go in as JPEG of at most 1280 pixels.

    Args:
        answer: what is shown; all of its text stays text.
        medium: the file that was looked at.
        out: the page, replaced whole.
        portraits: utterance to a JPEG of its face.
    """
    ours = files("tasks.predict.output") / "page_assets"
    parts = {"SCRIPT": (ours / "timeline.js").read_text(encoding="utf-8")}
    content = _content(answer) | {"source": _source(answer, medium, out)}
    content["portraits"] = {one: _JPEG + _base64(data) for one, data in portraits.items()}
    page = (ours / "timeline.html").read_text(encoding="utf-8")
    style = (ours / "timeline.css").read_text(encoding="utf-8")
    with replacing(out) as temporary:
        parts["DATA"] = embed(content)
        text = whole_page("affectloom timeline", page, parts, style=style, policy=_POLICY)
        temporary.write_bytes(text.encode("utf-8", "replace"))


def _content(answer: Answer) -> dict[str, Any]:
    """The answer in few letters: numbers to the fourth place, a face as a list."""
    found = _short(asdict(replace(answer, faces=())))
    assert isinstance(found, dict)
    faces = [
        [f.utterance, round(f.time_s, 3), f.track, *(round(edge) for edge in f.box_px)]
        for f in _thinned(answer.faces)
    ]
    return found | {"faces": faces}


def _thinned(faces: Sequence[Face]) -> Iterator[Face]:
    """About ``_FACES`` of them at most, of each person evenly: boxes move evenly between."""
    step = -(-len(faces) // _FACES)
    places: Counter[tuple[str, int]] = Counter()
    for face in faces:
        key = (face.utterance, face.track)
        if places[key] % step == 0:
            yield face
        places[key] += 1


def _short(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(inner) for inner in value]
    return value


def _source(answer: Answer, medium: Path, out: Path) -> str | None:
    """Address of the medium for the page; None where there is nothing to show."""
    if answer.medium.kind == "text":
        return None
    if answer.medium.kind == "image":
        return _picture(medium)
    if not medium.is_file():
        return None
    if medium.stat().st_size > EMBEDDED_BYTES:
        link = os.path.relpath(medium.resolve(), out.parent.resolve())
        return quote(link.replace(os.sep, "/"))
    kind = _MIME.get(probe(medium).container, "mp4")
    return f"data:{answer.medium.kind}/{kind};base64," + _base64(medium.read_bytes())


def _picture(medium: Path) -> str | None:
    clip = decode(medium, audio_rate_hz=None, frame_times=FrameSampling(count=1))
    if not len(clip.frames):
        return None
    picture = Image.fromarray(clip.frames[0])
    picture.thumbnail((_PICTURE_PX, _PICTURE_PX))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return _JPEG + _base64(stream.getvalue())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
