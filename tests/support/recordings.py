"""Media files made on the spot with PyAV."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support.signals import RATE_HZ, face_frame, voice

MILLISECONDS = Fraction(1, 1000)


def write_recording(
    path: Path,
    *,
    video_frames: Iterable[np.ndarray] | None = None,
    times_ms: Iterable[int] | None = None,
    last_frame_ms: int | None = None,
    fps: int = 25,
    sound: np.ndarray | None = None,
    rate_hz: int = RATE_HZ,
    layout: str = "mono",
    sound_start_ms: int = 0,
    sound_frame_samples: int = 4096,
    video_codec: str = "mpeg4",
    audio_codec: str | None = None,
    rotation_deg: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write grey pictures (at `fps` or `times_ms`, the last for `last_ms`) and/or sound float32 [N], alike in all channels."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        video_frames = None if video_frames is None else list(video_frames)
        if video_frames is not None:
            video = container.add_stream(video_codec, rate=fps)
            video.height, video.width = video_frames[0].shape
            video.pix_fmt = "yuv420p" if video_codec != "ffv1" else "gray"
            video.codec_context.time_base = MILLISECONDS
            if rotation_deg:
                video.set_display_rotation(rotation_deg)
        if sound is not None:
            audio = container.add_stream(audio_codec or _default_codec(path), rate=rate_hz, layout=layout)
        packets = []
        if video is not None:
            times = list(times_ms) if times_ms is not None else [1000 * i // fps for i in range(len(video_frames))]
            for image, time_ms in zip(video_frames, times, strict=True):
                frame = av.VideoFrame.from_ndarray(image, format="gray")
                frame.pts, frame.time_base = time_ms, MILLISECONDS
                packets += video.encode(frame)
            packets += video.encode(None)
            if last_frame_ms is not None:
                packets[-1].duration = int(last_frame_ms * MILLISECONDS / packets[-1].time_base)
        if audio is not None:
            packets += encode_sound(audio, sound, rate_hz, layout, sound_start_ms, frame_samples=sound_frame_samples)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            container.mux(packet)
    return path


def _default_codec(path: Path) -> str:
    return {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "mp3", ".mkv": "pcm_s16le"}.get(path.suffix, "aac")


def encode_sound(
    audio, sound: np.ndarray, rate_hz: int, layout: str, start_ms: int, flush: bool = True, frame_samples: int = 4096
) -> list:
    channels = av.AudioLayout(layout).nb_channels
    resampler = av.AudioResampler(audio.format, layout, rate_hz, audio.frame_size or None)
    packets = []
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


def write_talking_face(path: Path, seconds: float = 3.0, **options) -> Path:
    """A face that moves and a voice that speaks."""
    video_frames = (face_frame(index) for index in range(round(25 * seconds)))
    return write_recording(path, video_frames=video_frames, sound=voice(seconds), **options)


def write_empty_wav(path: Path) -> Path:
    """A header, and not one sample."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
    return path
