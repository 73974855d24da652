"""Generated sound and frames, the same in every call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import cv2
import numpy as np

from moodring.clock import NS_PER_S
from moodring.types import F32, SAMPLE_RATE_HZ, U8, AudioBlock, VideoFrame


def voice(seconds: float, rate_hz: int = SAMPLE_RATE_HZ, level: float = 0.3) -> F32:
    """Return harmonics of 140 Hz in four syllables a second, float32 [N]; an energy detector finds voice in them."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20) if 140 * k < rate_hz / 2)
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * t)
    return np.asarray(level * syllables * tone / 2, np.float32)


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> F32:
    """Return white noise with a standard deviation of `level`, float32 [N] at 16 kHz."""
    return np.random.default_rng(seed).normal(0, level, round(seconds * SAMPLE_RATE_HZ)).clip(-1, 1).astype(np.float32)


def split_into_blocks(samples: F32, sizes: Iterable[int], start_ns: int = 0) -> Iterator[AudioBlock]:
    """Yield the signal, float32 [N] at 16 kHz, in blocks of the given sizes, and the rest as the last block."""
    position = 0
    for size in (*sizes, samples.size):
        piece = samples[position : position + size]
        yield AudioBlock(piece, start_ns + position * NS_PER_S // SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
        position += piece.size


@cache
def _portrait() -> U8:
    from skimage import data  # noqa: PLC0415  slow to import

    return np.asarray(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY), np.uint8)


def face_frame(index: int, width: int = 320, height: int = 240) -> U8:
    """Return the astronaut's head (public domain), which moves a little with `index`, uint8 [height, width]."""
    dx, dy = 12 * np.sin(index / 9), 6 * np.cos(index / 7)
    scale = height / 260
    shift = np.array([[scale, 0, (-225 + dx) * scale + width / 2], [0, scale, (-120 + dy) * scale + height / 2]], np.float32)
    return np.asarray(cv2.warpAffine(_portrait(), shift, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)


def empty_frame(index: int, width: int = 320, height: int = 240) -> U8:
    """Return a grey gradient without a face, which moves with `index`, uint8 [height, width]."""
    return np.asarray((np.add.outer(np.arange(height), np.arange(width)) // 3 + index) % 256, np.uint8)


def frames(images: Iterable[U8], fps: float = 15.0, start_ns: int = 0) -> Iterator[VideoFrame]:
    """Yield the images as frames with capture times at `fps`."""
    for index, image in enumerate(images):
        yield VideoFrame(image, start_ns + round(index * NS_PER_S / fps), index)
