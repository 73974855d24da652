"""Images and sound in memory: arrays and encoded images as the records that the pipeline processes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Literal

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from moodring.capture.base import error_reason
from moodring.capture.downmix import MAX_CHANNELS
from moodring.capture.grey import grey_frame, luma_plane
from moodring.capture.media.container import PIPE_OPTIONS, sample_aspect_ratio, tracks
from moodring.capture.media.readers import MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ
from moodring.capture.sound import Resampler
from moodring.clock import NS_PER_S
from moodring.errors import MediaError, UsageError
from moodring.types import F32, SAMPLE_RATE_HZ, U8, AudioBlock

Colour = Literal["rgb", "bgr"]

SAMPLE_FORMATS = {"uint8": "u8", "int16": "s16", "int32": "s32", "float32": "flt", "float64": "dbl"}  # of FFmpeg
FRAMES_PER_S = 10  # at least: as FFmpeg reads a WAV file, whose frames have a power of two as their number of samples
MAX_SIDE = 30_000  # pixels of an image


def grey_image(image: NDArray[Any], colour: Colour) -> U8:
    """Return an image array, uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], as grey uint8 [H, W].

    Colours are converted as those of an image file. The fourth channel is ignored. Raises UsageError.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise UsageError(
            f"an image must be uint8 [height, width] or [height, width, 3], got {image.dtype} {list(image.shape)}"
            + ("; sound needs rate_hz" if image.dtype != np.uint8 and image.ndim <= 2 else "")
        )
    if not 0 < min(image.shape[:2]) <= max(image.shape[:2]) <= MAX_SIDE:
        raise UsageError(f"an image must have 1 to {MAX_SIDE} pixels on each side, got {list(image.shape[:2])}")
    if colour not in ("rgb", "bgr"):
        raise UsageError(f"colour must be 'rgb' or 'bgr', got {colour!r}")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.ascontiguousarray(image.reshape(image.shape[:2]))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:, :, :3]), format=f"{colour}24")
    return luma_plane(frame)


def decode_image(data: bytes) -> U8:
    """Return an encoded image, such as the bytes of a JPEG file, as grey uint8 [H, W], upright. Raises MediaError."""
    try:
        with av.open(io.BytesIO(data), mode="r", options=PIPE_OPTIONS, metadata_errors="replace") as container:
            for track in tracks(container, "video")[:1]:
                for frame in container.decode(track):
                    return np.array(grey_frame(frame, sample_aspect_ratio(track), full_size=True)[0])
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{len(data)} bytes cannot be decoded as an image ({error_reason(error)}); check that they are a complete file"
        ) from error
    raise MediaError(f"{len(data)} bytes contain no image; check that they are a complete file")


def check_sound(samples: NDArray[Any], rate_hz: int) -> NDArray[Any]:
    """Return sound as [N, channels]. Raises UsageError for another shape, dtype or rate than documented in `analyze_sound`."""
    if samples.dtype.name not in SAMPLE_FORMATS or samples.ndim not in (1, 2):
        raise UsageError(
            f"sound must be {', '.join(SAMPLE_FORMATS)} [samples] or [samples, channels], got {samples.dtype} "
            f"{list(samples.shape)}"
        )
    if not MIN_SAMPLE_RATE_HZ <= rate_hz <= MAX_SAMPLE_RATE_HZ or int(rate_hz) != rate_hz:
        raise UsageError(
            f"rate_hz must be a whole number in {MIN_SAMPLE_RATE_HZ}..{MAX_SAMPLE_RATE_HZ}, got {rate_hz}"
        )  # fmt: skip
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] <= MAX_CHANNELS < samples.shape[1]:
        samples = samples.T
    if not samples.size:
        raise UsageError("sound must have at least one sample")
    if samples.shape[1] > MAX_CHANNELS:
        raise UsageError(f"sound must have 1 to {MAX_CHANNELS} channels, got {samples.shape[1]}")
    return np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))


def audio_frames(samples: NDArray[Any], rate_hz: int) -> Iterator[av.AudioFrame]:
    """Yield checked sound, [N, channels], in frames for a `Resampler`."""
    channels = samples.shape[1]
    layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    count = 1 << (int(rate_hz) // FRAMES_PER_S).bit_length() - 1
    for start in range(0, len(samples), count):
        piece = samples[start : start + count].reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(piece, format=SAMPLE_FORMATS[samples.dtype.name], layout=layout)
        frame.sample_rate = int(rate_hz)
        yield frame


def audio_blocks(samples: NDArray[Any], rate_hz: int) -> Iterator[AudioBlock]:
    """Yield checked sound, [N, channels], as mono blocks at 16 kHz that start at time 0."""
    count = 0
    for mono in _resampled(samples, rate_hz):
        if mono.size:
            yield AudioBlock(mono, count * NS_PER_S // SAMPLE_RATE_HZ)
            count += mono.size


def _resampled(samples: NDArray[Any], rate_hz: int) -> Iterator[F32]:
    resampler = Resampler(SAMPLE_RATE_HZ)
    yield from map(resampler.push, audio_frames(samples, rate_hz))
    yield resampler.flush()
