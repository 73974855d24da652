"""Media files and URLs through PyAV: opening, the choice of a track, and decoding of its packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.container
import av.error

from moodring.address import check_path, is_pipe, is_url
from moodring.capture.base import error_reason
from moodring.capture.media.joined import part_end
from moodring.capture.pipe import PipeInterrupted, PipeReader
from moodring.capture.selection import DEFAULT_SELECTION, RawAudio, Selection
from moodring.clock import NS_PER_S
from moodring.errors import MediaError, UsageError, printable

Kind = Literal["video", "audio"]

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
PIPE_OPTIONS = {"protocol_whitelist": "file,crypto,data"}  # as FFmpeg does for files: a playlist cannot open a connection
NO_TIME_STAMPS = 0x80  # AVFMT_NOTIMESTAMPS of FFmpeg: the container stores no time stamps
DISCONTINUOUS = 0x200  # AVFMT_TS_DISCONT: time stamps can start anywhere and start again
EXACT_DURATION_FORMATS = ("mp4", "matroska", "flac")  # containers whose stated duration is reliable
TRUNCATION_TOLERANCE_NS = NS_PER_S // 2
DEFAULT_FRAME_RATE = 25.0
MIN_FRAME_RATE, MAX_FRAME_RATE = 0.1, 1000.0  # a codec that states another one is damaged
# Tracks that are no alternative to the main one: they come after the others unless they are marked as the default.
SECONDARY = ("comment", "hearing_impaired", "visual_impaired", "karaoke", "clean_effects", "descriptions")


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Which kinds of tracks a recording contains."""

    source: str
    has_video: bool
    has_audio: bool


def open_container(source: str, raw_audio: RawAudio | None = None, start: int = 0) -> av.container.InputContainer:
    """Open a file or URL for reading; a file from the byte `start` on.

    Raises UsageError for a missing file, MediaError if PyAV cannot open it.
    """
    check_path(source)
    options, raw_format = {}, None
    if raw_audio is not None:
        layout = "mono" if raw_audio.channels == 1 else f"{raw_audio.channels} channels"
        options, raw_format = {"sample_rate": str(raw_audio.rate_hz), "ch_layout": layout}, raw_audio.format
    try:
        if is_pipe(source):
            return av.open(
                PipeReader(source), mode="r", format=raw_format, options=options | PIPE_OPTIONS, metadata_errors="replace"
            )  # fmt: skip
        address = source if is_url(source) else f"file:{source}"  # FFmpeg takes a name with a colon for an address
        end = None if is_url(source) else part_end(source, start)
        if start or end:
            address = f"subfile,,start,{start},end,{end or 0},,:{address}"
        timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
        container = av.open(address, format=raw_format, options=options, metadata_errors="replace", timeout=timeout)
        if container.format.name != "avi" or _has_whole_index(container):
            return container
        container.close()
        return av.open(address, options={"seekable": "0"}, metadata_errors="replace", timeout=timeout)  # without the index
    except PipeInterrupted as error:
        raise KeyboardInterrupt from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        advice = (
            "check the address and that the server is up" if is_url(source)
            else "a pipe needs a format that can be read in one pass, such as MPEG-TS or Matroska" if is_pipe(source)
            else "check that it is a complete media file; samples without a header need --raw-audio"
        )  # fmt: skip
        name = printable(source)
        raise MediaError(f"{name} cannot be opened as video or audio ({error_reason(error)}); {advice}") from error


def _has_whole_index(container: av.container.InputContainer) -> bool:
    """Return whether the index of an AVI file reaches its second half. FFmpeg ends where a truncated one ends."""
    entries = [track.index_entries for track in container.streams if len(track.index_entries)]
    return container.size <= 0 or max((e[len(e) - 1].pos for e in entries), default=0) > container.size // 2


def probe(source: str, selection: Selection = DEFAULT_SELECTION) -> MediaInfo:
    """Return which kinds of tracks a file or URL contains.

    Raises MediaError if it contains neither video nor audio, and UsageError for a selected track that does not exist.
    """
    with open_container(source, selection.raw_audio) as container:
        info = MediaInfo(source, bool(tracks(container, "video")), bool(tracks(container, "audio")))
        if info.has_video:
            select_track(container, "video", selection.video_track, printable(source))
        if info.has_audio:
            select_track(container, "audio", selection.audio_track, printable(source))
    if not (info.has_video or info.has_audio):
        raise MediaError(f"{printable(source)} contains neither video nor audio; name another file")
    return info


def tracks(container: Any, kind: Kind) -> list[Any]:
    """Return the tracks of one kind. An attached cover image does not count as video."""
    found = container.streams.video if kind == "video" else container.streams.audio
    not_video = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [track for track in found if not track.disposition & not_video]


def select_track(container: Any, kind: Kind, index: int | None, name: str) -> Any:
    """Return the track with this index among those of its kind, or the default track; None if there is no track of the kind.

    The default is the first track that is marked as default, else the first. A track without a decoder comes last, a track for
    impaired listeners or with comments after the others. Raises UsageError if the index does not exist; it calls the source
    `name`.
    """
    found = tracks(container, kind)
    if index is not None:
        if index >= len(found):
            listed = ", ".join(f"{i} ({describe(track)})" for i, track in enumerate(found)) or "none"
            raise UsageError(f"{name} has no {kind} track {index}; its {kind} tracks are: {listed}")
        return found[index]

    def rank(track: Any) -> tuple[bool, bool, bool]:
        is_default = bool(track.disposition & av.stream.Disposition.default)
        secondary = any(track.disposition & getattr(av.stream.Disposition, name) for name in SECONDARY)
        return track.codec_context is None, not is_default, secondary

    return min(found, key=rank, default=None)


def discard_others(container: Any, track: Any) -> None:
    """Do not read the other tracks: in a truncated file, their missing data would end this track as well (PyAV 18)."""
    if hasattr(av.stream, "Discard"):
        for other in container.streams:
            if other.index != track.index:
                other.discard = av.stream.Discard.all


def describe(track: Any) -> str:
    """Return the codec, the channels and the language of a track, as far as they are known."""
    context = track.codec_context
    if context is None:
        return "unknown codec"
    layout = ""
    if track.type == "audio":
        layout = " mono" if context.layout.nb_channels == 1 else f" {context.layout.name}"
    language = track.metadata.get("language", "und")
    return str(context.name) + layout + ("" if language == "und" else f" {language}")


def frame_rate(track: Any, chosen: float | None) -> float:
    """Return the frame rate of a video track: the chosen one, else what the codec or the container states, else 25."""
    rates = (chosen, track.codec_context.framerate, track.guessed_rate, track.average_rate)
    stated = (float(rate) for rate in rates if rate)
    return next((rate for rate in stated if MIN_FRAME_RATE <= rate <= MAX_FRAME_RATE), DEFAULT_FRAME_RATE)


def sample_aspect_ratio(track: Any) -> float:
    """Return the width of a pixel relative to its height; 1.0 where it is not stated."""
    ratio: Fraction | None = track.sample_aspect_ratio or track.codec_context.sample_aspect_ratio
    return float(ratio) if ratio else 1.0


def stated_end_ns(container: Any, track: Any) -> int | None:
    """Return the end that the container states for a track, in ns since its start; None where it states none."""
    start_ns = (container.start_time or 0) * 1000
    if track.duration is not None and track.time_base is not None:
        end_ns: int = round(((track.start_time or 0) + track.duration) * track.time_base * NS_PER_S)
        return end_ns - start_ns
    return None if container.duration is None else int(container.duration) * 1000


def missing_end(container: Any, track: Any, source: str, end_ns: int) -> str | None:
    """Return in words how far before its stated duration a track ended, at `end_ns`; None where it is complete."""
    if container is None or track.duration is None or is_url(source):
        return None
    if not any(name in container.format.name for name in EXACT_DURATION_FORMATS):
        return None
    stated_ns = stated_end_ns(container, track)
    if stated_ns is None or stated_ns - end_ns <= TRUNCATION_TOLERANCE_NS + stated_ns // 20:
        return None
    return (
        f"ends after {end_ns / NS_PER_S:.1f} s of {stated_ns / NS_PER_S:.1f} s of {track.type}: "
        "the file is truncated or damaged; everything before that point was processed"
    )


def decode_packets(container: Any, track: Any, source: str) -> Iterator[tuple[int, list[Any] | None]]:
    """Yield for each packet of a track its end in bytes of the file, and its frames, or None if it cannot be decoded.

    The end is 0 where it is not known. Raises MediaError if the file or the connection fails before the end.
    """
    try:
        for packet in container.demux(track):
            end = 0 if packet.pos is None else packet.pos + packet.size
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, ValueError):
                frames = None
            yield end, frames
    except IndexError:  # PyAV flushes a track that appeared after the file was opened; all packets were delivered
        return
    except PipeInterrupted as error:
        raise KeyboardInterrupt from error
    except (av.error.FFmpegError, OSError) as error:
        name, advice = printable(source), "check that the file is intact or the server is up"
        raise MediaError(f"{name} cannot be read to its end ({error_reason(error)}); {advice}") from error
