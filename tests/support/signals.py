"""Sound and pictures made by arithmetic, the same ones every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import cv2
import numpy as np

from moodring.clock import NS_PER_S
from moodring.types import AudioBlock, VideoFrame

RATE_HZ = 16_000


def voice(seconds: float, rate_hz: int = RATE_HZ, level: float = 0.3) -> np.ndarray:
    """Harmonics of 140 Hz in four syllables a second, float32 [N]: voice enough for an energy detector."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20) if 140 * k < rate_hz / 2)
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * t)
    return (level * syllables * tone / 2).astype(np.float32)


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE_HZ)).clip(-1, 1).astype(np.float32)


def split_into_blocks(samples: np.ndarray, sizes: Iterable[int], start_ns: int = 0) -> Iterator[AudioBlock]:
    """Cut a signal into blocks of the given sizes, the rest being the last one."""
    position = 0
    for size in (*sizes, samples.size):
        piece = samples[position : position + size]
        yield AudioBlock(piece, start_ns + position * NS_PER_S // RATE_HZ, RATE_HZ)
        position += piece.size


@cache
def _portrait() -> np.ndarray:
    from skimage import data  # noqa: PLC0415  heavy

    return cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)


def face_frame(index: int, width: int = 320, height: int = 240) -> np.ndarray:
    """The astronaut's head (public domain), drifting a little with `index`, uint8 [height, width]."""
    dx, dy = 12 * np.sin(index / 9), 6 * np.cos(index / 7)
    scale = height / 260
    shift = np.float32([[scale, 0, (-225 + dx) * scale + width / 2], [0, scale, (-120 + dy) * scale + height / 2]])
    return cv2.warpAffine(_portrait(), shift, (width, height), borderMode=cv2.BORDER_REFLECT)


def empty_frame(index: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A slope of grey without a face, moving with `index`."""
    return np.asarray((np.add.outer(np.arange(height), np.arange(width)) // 3 + index) % 256, np.uint8)


def frames(images: Iterable[np.ndarray], fps: float = 15.0, start_ns: int = 0) -> Iterator[VideoFrame]:
    for index, image in enumerate(images):
        yield VideoFrame(image, start_ns + round(index * NS_PER_S / fps), index)
