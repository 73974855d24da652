"""Media files that tests generate with PyAV."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from moodring.types import F32, SAMPLE_RATE_HZ, U8
from tests.support.signals import face_frame, voice

MILLISECONDS = Fraction(1, 1000)


def write_recording(
    path: Path,
    *,
    video_frames: Iterable[U8] | None = None,
    times_ms: Iterable[int] | None = None,
    last_frame_ms: int | None = None,
    fps: int = 25,
    sound: F32 | None = None,
    rate_hz: int = SAMPLE_RATE_HZ,
    layout: str = "mono",
    sound_start_ms: int = 0,
    sound_frame_samples: int = 4096,
    video_codec: str = "mpeg4",
    audio_codec: str | None = None,
    rotation_deg: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write grey frames uint8 [H, W] and/or sound float32 [N], the same in all channels; return the path.

    The frames are at `times_ms`, by default at `fps`; the last one lasts `last_frame_ms`.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        images = None if video_frames is None else list(video_frames)
        video = None if images is None else _add_video(container, video_codec, fps, images[0].shape, rotation_deg)
        audio = None if sound is None else _add_audio(container, audio_codec or _default_codec(path), rate_hz, layout)
        packets: list[Packet[Any]] = []
        if video is not None and images is not None:
            times = list(times_ms) if times_ms is not None else [1000 * i // fps for i in range(len(images))]
            packets += _encode_video(video, images, times, last_frame_ms)
        if audio is not None and sound is not None:
            packets += encode_sound(audio, sound, rate_hz, layout, sound_start_ms, frame_samples=sound_frame_samples)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            container.mux(packet)
    return path


def _add_video(container: OutputContainer, codec: str, fps: int, shape: tuple[int, ...], rotation_deg: int) -> VideoStream:
    video = cast("VideoStream", container.add_stream(codec, rate=fps))
    video.height, video.width = shape
    video.pix_fmt = "yuv420p" if codec != "ffv1" else "gray"
    video.codec_context.time_base = MILLISECONDS
    if rotation_deg:
        video.set_display_rotation(rotation_deg)
    return video


def _add_audio(container: OutputContainer, codec: str, rate_hz: int, layout: str) -> AudioStream:
    return cast("AudioStream", container.add_stream(codec, rate=rate_hz, layout=layout))


def _encode_video(video: VideoStream, images: list[U8], times_ms: list[int], last_frame_ms: int | None) -> list[Packet[Any]]:
    packets: list[Packet[Any]] = []
    for image, time_ms in zip(images, times_ms, strict=True):
        frame = av.VideoFrame.from_ndarray(image, format="gray")
        frame.pts, frame.time_base = time_ms, MILLISECONDS
        packets += video.encode(frame)
    packets += video.encode(None)
    if last_frame_ms is not None:
        packets[-1].duration = int(last_frame_ms * MILLISECONDS / packets[-1].time_base)
    return packets


def _default_codec(path: Path) -> str:
    return {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "mp3", ".mkv": "pcm_s16le"}.get(path.suffix, "aac")


def encode_sound(
    audio: AudioStream,
    sound: F32,
    rate_hz: int,
    layout: str,
    start_ms: int,
    *,
    flush: bool = True,
    frame_samples: int = 4096,
) -> list[Packet[Any]]:
    """Encode sound float32 [N] in frames of `frame_samples`, with the first sample at `start_ms`; return the packets."""
    channels = av.AudioLayout(layout).nb_channels
    resampler = av.AudioResampler(audio.format, layout, rate_hz, audio.frame_size or None)
    packets: list[Packet[Any]] = []
    start = start_ms * rate_hz // 1000
    for position in range(0, sound.size, frame_samples):
        piece = np.tile(sound[position : position + frame_samples], (channels, 1))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece, np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start + position, Fraction(1, rate_hz)
        for ready in resampler.resample(frame):
            packets += audio.encode(ready)
    if sound.size:
        for ready in resampler.resample(None):
            packets += audio.encode(ready)
    return packets + (list(audio.encode(None)) if flush else [])


def write_talking_face(path: Path, seconds: float = 3.0, **options: Any) -> Path:
    """Write a video of a moving face with a voice, at 25 frames a second."""
    video_frames = (face_frame(index) for index in range(round(25 * seconds)))
    return write_recording(path, video_frames=video_frames, sound=voice(seconds), **options)


def write_empty_wav(path: Path) -> Path:
    """Write a WAV file with a header and no samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
    return path
