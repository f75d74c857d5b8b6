"""What a sound or video file holds, found by decoding the first frame of each track."""

from __future__ import annotations

from itertools import islice

import av
from av.error import FFmpegError

from tasks.media.choosing import Tracks, open_tracks
from tasks.media.formats import explain
from tasks.media.opening import MediaFault, Medium
from tasks.media.pictures import frame_orientation, pixel_aspect, tilt
from tasks.media.sound import frame_phase
from tasks.media.types import Media, Problem

_PROBED_PACKETS = 2000  # a track that gives nothing in so many packets is not waited for

# These have no index: FFmpeg guesses their duration from the first bit rate it meets.
_GUESSED_DURATION = frozenset(
    ("aac", "mp3", "ac3", "eac3", "dts", "amr", "h264", "hevc", "mpegvideo", "m4v", "loas", "obu")
)


def probe_tracks(medium: Medium) -> Media:
    """What a sound or video file holds; the first frame of each track is decoded."""
    with open_tracks(medium) as tracks:
        duration_s = length_of(tracks)
        firsts = _first_frames(tracks)
        picture, sound = firsts.get("video"), firsts.get("audio")
        if picture is None and sound is None:
            raise MediaFault(nothing_found(medium, has_packets=_has_packets(medium)))
        video, audio, problems = tracks.video, tracks.audio, []
        if isinstance(picture, av.VideoFrame):
            problems.extend(tilt(picture, medium))
        if video is not None and picture is None:
            problems.append(Problem("corrupt", f"{medium}: the picture track cannot be decoded"))
        if audio is not None and sound is None:
            problems.append(Problem("corrupt", f"{medium}: the sound track cannot be decoded"))
        media = Media(
            kind="image" if tracks.is_still else "video" if picture is not None else "audio",
            container=tracks.container.format.name,
            duration_s=None if tracks.is_still else duration_s,
            has_audio=sound is not None,
            has_video=picture is not None,
            problems=tuple(problems),
        )
        details: dict[str, object] = {}
        if isinstance(picture, av.VideoFrame) and video is not None:
            turned = frame_orientation(picture)
            width, height = round(picture.width * pixel_aspect(video)), picture.height
            if turned.is_transposed:
                width, height = height, width
            fps = video.average_rate or video.guessed_rate
            details |= {
                "video_codec": video.codec_context.name,
                "fps": float(fps) if fps and not tracks.is_still else None,
                "width_px": width,
                "height_px": height,
                "rotation_deg": turned.rotation_deg,
                "is_mirrored": turned.is_mirrored,
            }
        if isinstance(sound, av.AudioFrame) and audio is not None:
            details |= {
                "audio_codec": audio.codec_context.name,
                "audio_rate_hz": sound.sample_rate,
                "channels": sound.layout.nb_channels,
            }
        return Media(**{**vars(media), **details})


def length_of(tracks: Tracks) -> float:
    """Duration of the file; packets are counted where the container cannot tell."""
    names = set(tracks.container.format.name.split(","))
    if tracks.stated_s is not None and not names & _GUESSED_DURATION:
        return tracks.stated_s
    end_s, unstamped = 0.0, 0
    with open_tracks(tracks.medium) as again:
        streams = [s for s in (again.video, again.audio) if s is not None]
        try:
            for packet in again.container.demux(*streams):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None and packet.time_base is not None:
                    after = (stamp + (packet.duration or 0)) * packet.time_base
                    end_s = max(end_s, float(after) - again.origin_s)
                elif packet.size > 0 and packet.stream.type == "video":
                    unstamped += 1
        except FFmpegError:
            pass  # decoding meets the same damage and reports it
        if again.is_bare and again.video is not None:
            end_s = unstamped / nominal_rate(again.video)
    return end_s


def nominal_rate(video: av.VideoStream) -> float:
    """Frames per second by which pictures follow each other where nothing states their times."""
    return float(video.average_rate or video.guessed_rate or 25)


def _first_frames(tracks: Tracks) -> dict[str, av.VideoFrame | av.AudioFrame]:
    """The first decodable frame of each chosen track."""
    streams = [s for s in (tracks.video, tracks.audio) if s is not None]
    found: dict[str, av.VideoFrame | av.AudioFrame] = {}
    if not streams:
        return found
    demuxed = tracks.container.demux(*streams)
    for _ in range(_PROBED_PACKETS):
        if len(found) == len(streams):
            break
        try:
            packet = next(demuxed)
        except (StopIteration, FFmpegError):
            break
        if packet.stream.type in found:
            continue
        try:
            frames = packet.decode()
        except FFmpegError:
            continue  # a later packet may be whole; a track with none is reported by the caller
        for frame in islice(frames, 1):
            if isinstance(frame, av.VideoFrame | av.AudioFrame):
                found[packet.stream.type] = frame
    return found


def sound_phase(tracks: Tracks) -> tuple[int, int] | None:
    """Where the frames of the sound track begin, from its first three; None for an exact clock."""
    if tracks.audio is None or tracks.audio.time_base is None:
        return None
    rate = tracks.audio.codec_context.sample_rate
    if not rate or tracks.audio.time_base * rate <= 1:
        return None
    with open_tracks(tracks.medium) as again:
        try:
            firsts = islice(again.container.decode(again.audio), 3)
            frames = [frame for frame in firsts if isinstance(frame, av.AudioFrame)]
        except FFmpegError:
            return None  # without the first frames, timestamps alone place the later ones
        return frame_phase(frames, again.origin_us)


def _has_packets(medium: Medium) -> bool:
    with open_tracks(medium) as tracks:
        streams = [s for s in (tracks.video, tracks.audio) if s is not None]
        try:
            return bool(streams) and any(p.size > 0 for p in tracks.container.demux(*streams))
        except FFmpegError:
            return False


def nothing_found(medium: Medium, has_packets: bool) -> Problem:
    """Why an opened file gave neither a frame nor a sample."""
    problem = explain(medium)
    if problem.reason == "truncated" or has_packets:
        return problem
    return Problem("no_content", f"{medium} has a header and nothing after it")
