"""The one geometry by which a face box becomes the face branch's picture, and a picture becomes numbers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from moodring.features.face.haar import halve
from moodring.features.spec import FaceSpec
from moodring.types import F32, U8


def crop_face(grey: U8, box_xywh: tuple[int, int, int, int], spec: FaceSpec) -> U8:
    """Cut a square of the box's centre, its longer side plus the spec's margin on every side, as uint8 [S, S].

    Where the square leaves the picture, the picture's edge is repeated. Raises ValueError on a box without area or one that
    lies wholly outside.
    """
    x, y, w, h = box_xywh
    height, width = grey.shape
    if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(f"face box {box_xywh} has no part inside the {width}x{height} picture")
    side = max(2, round(max(w, h) * (1.0 + 2.0 * spec.margin)))
    left, top = x + (w - side) // 2, y + (h - side) // 2
    patch = grey[max(top, 0) : min(top + side, height), max(left, 0) : min(left + side, width)]
    if patch.shape != (side, side):
        patch = cv2.copyMakeBorder(
            patch,
            max(-top, 0),
            max(top + side - height, 0),
            max(-left, 0),
            max(left + side - width, 0),
            cv2.BORDER_REPLICATE,
        )
    return resize_crop(patch, spec.size)


def resize_crop(crop: U8, size: int) -> U8:
    """Bring a square picture to uint8 [size, size]: averaging where it shrinks, by halves first; bilinear where it grows."""
    if crop.shape == (size, size):
        return crop.copy()
    while crop.shape[0] >= 2 * size:
        crop = halve(crop)
    interpolation = cv2.INTER_AREA if crop.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=interpolation), np.uint8)


def normalize_crops(pixels: NDArray[np.uint8]) -> F32:
    """Turn uint8 [N, S, S] into the network's float32 [N, 1, S, S]: each picture with zero mean and unit deviation."""
    normalized = np.empty((len(pixels), 1, *pixels.shape[1:]), np.float32)
    for crop_pixels, out in zip(pixels, normalized[:, 0], strict=True):
        mean, deviation = cv2.meanStdDev(crop_pixels)  # NumPy takes twenty times as long
        scale = 1.0 / max(deviation.item(), 1.0)  # a flat picture stays flat
        cv2.addWeighted(crop_pixels, scale, crop_pixels, 0.0, -mean.item() * scale, out, cv2.CV_32F)
    return normalized
