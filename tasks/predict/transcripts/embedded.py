"""Subtitles that a video file carries inside itself."""

from pathlib import Path

import av
from av.error import FFmpegError
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from models.errors import UserError
from tasks.media.formats import explain
from tasks.media.opening import MediaFault, Medium, open_medium
from tasks.predict.transcripts.subtitles import without_style
from tasks.predict.transcripts.turns import Row, Turn, checked

_TEXTUAL = {"subrip", "srt", "mov_text", "ass", "ssa", "webvtt", "text"}


def embedded_subtitles(medium: Path) -> list[Turn]:
    """Turns of the track a player would show; empty where there is none, or only of pictures."""
    try:
        with open_medium(medium) as opened:
            rows = _rows(opened)
    except MediaFault as fault:
        raise UserError(f"{fault.problem.detail}; give another file") from fault
    # nobody wrote these by hand: what cannot be used is passed over, never an error
    spoken = [row for row in rows if row is not None and row.text.strip()]
    timed = [row for row in spoken if row.end_s is not None and row.end_s > row.start_s]
    if not timed:
        return []
    return checked(f"subtitles of {medium.name}", timed, None, lambda sentence: None)


def _rows(medium: Medium) -> list[Row | None]:
    try:
        with av.open(medium.reader(), "r", metadata_errors="replace") as container:
            tracks = [
                stream for stream in container.streams.subtitles
                if stream.codec_context is not None and stream.codec_context.name in _TEXTUAL
            ]  # fmt: skip
            if not tracks:
                return []
            track = max(tracks, key=lambda s: (bool(s.disposition & Disposition.default), -s.index))
            origin_s = (container.start_time or 0) / av.time_base
            return [_row(track, packet, origin_s) for packet in container.demux(track)]
    except (FFmpegError, OSError, IndexError, ValueError) as error:
        raise MediaFault(explain(medium, error)) from error


def _row(track: SubtitleStream, packet: av.Packet, origin_s: float) -> Row | None:
    """The cue of a packet; None for one that only clears the screen or marks the end."""
    if packet.pts is None or not packet.size or packet.time_base is None:
        return None
    lines = [
        piece.dialogue.decode("utf-8", "replace")
        for piece in track.decode(packet)
        if isinstance(piece, AssSubtitle)
    ]
    start_s = float(packet.pts * packet.time_base) - origin_s
    end_s = start_s + float((packet.duration or 0) * packet.time_base)
    words = "\n".join(without_style(line.replace("\\N", "\n")) for line in lines)
    return Row(f"cue at {start_s:.3f} s", max(start_s, 0.0), end_s, None, words)
