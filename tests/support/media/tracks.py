"""Media files with several tracks, written with PyAV: several sounds or videos, a cover image, an empty or unknown track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from moodring.types import F32, SAMPLE_RATE_HZ, U8
from tests.support.recordings import encode_sound

FPS = 25


@dataclass(frozen=True, slots=True)
class Sound:
    """A track of sound, float32 [N], in all channels of `layout`; no packet for None."""

    samples: F32 | None
    codec: str = "pcm_s16le"
    layout: str = "mono"
    default: bool = False
    language: str = "und"


@dataclass(frozen=True, slots=True)
class Video:
    """A track of grey images, uint8 [H, W] each, at 25 frames a second; no packet for an empty list."""

    images: Sequence[U8]
    codec: str = "mpeg4"
    default: bool = False
    aspect: Fraction | None = None
    rotation_deg: int = 0


def write_tracks(path: Path, *tracks: Sound | Video, cover: U8 | None = None, options: dict[str, str] | None = None) -> Path:
    """Write a file with these tracks, and with a cover image; return the path."""
    with av.open(str(path), "w", options=options or {}) as container:
        streams = [_add_track(container, track) for track in tracks]
        if cover is not None:
            _add_cover(container, cover)
        container.start_encoding()
        packets: list[Packet[Any]] = []
        for track, stream in zip(tracks, streams, strict=True):
            if isinstance(track, Sound):
                if track.samples is not None:
                    packets += encode_sound(stream, track.samples, SAMPLE_RATE_HZ, track.layout, 0)
            else:
                packets += _encode_images(stream, track.images)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            container.mux(packet)
    return path


def _add_track(container: Any, track: Sound | Video) -> Any:
    if isinstance(track, Sound):
        audio = cast("AudioStream", container.add_stream(track.codec, rate=SAMPLE_RATE_HZ, layout=track.layout))
        audio.metadata["language"] = track.language
        audio.disposition = _disposition(track.default)
        return audio
    video = cast("VideoStream", container.add_stream(track.codec, rate=FPS))
    video.height, video.width = track.images[0].shape if track.images else (64, 64)
    video.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
    if track.aspect is not None:
        video.sample_aspect_ratio = track.aspect
        video.codec_context.sample_aspect_ratio = track.aspect
    if track.rotation_deg:
        video.set_display_rotation(track.rotation_deg)
    video.disposition = _disposition(track.default)
    return video


def _disposition(default: bool) -> Any:
    return av.stream.Disposition.default if default else av.stream.Disposition(0)


def _add_cover(container: Any, image: U8) -> None:
    """Add a cover image, which a file stores as a video track of one packet."""
    cover = cast("VideoStream", container.add_stream("png"))
    cover.height, cover.width = image.shape
    cover.pix_fmt = "gray"
    cover.disposition = av.stream.Disposition.attached_pic
    container.start_encoding()
    frame = av.VideoFrame.from_ndarray(image, format="gray")
    for packet in (*cover.encode(frame), *cover.encode(None)):
        container.mux(packet)


def _encode_images(video: VideoStream, images: Sequence[U8]) -> list[Packet[Any]]:
    packets: list[Packet[Any]] = []
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="gray")
        frame.pts, frame.time_base = index, Fraction(1, FPS)
        packets += video.encode(frame)
    return packets + (list(video.encode(None)) if images else [])


def with_unknown_codec(path: Path, codec_id: bytes) -> Path:
    """Replace the codec of a Matroska track with one that nothing knows; return the path."""
    data = path.read_bytes()
    if data.count(codec_id) != 1:
        raise ValueError(f"{path.name} contains {codec_id!r} {data.count(codec_id)} times")
    path.write_bytes(data.replace(codec_id, codec_id[:2] + b"X" * (len(codec_id) - 2)))
    return path


def to_raw_bytes(samples: F32) -> bytes:
    """Return samples, float32 [N], as int16 without a header, little-endian."""
    return (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
