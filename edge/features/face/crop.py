"""Face crops: cut from a frame, resized and normalised. Training, evaluation and runtime all use these functions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from moodring.features.face.geometry import halve
from moodring.features.spec import FaceSpec
from moodring.types import F32, U8


def crop_face(grey: U8, box_xywh: tuple[int, int, int, int], spec: FaceSpec) -> U8:
    """Return the square crop of a box in a frame uint8 [H, W], resized to uint8 [S, S] with S = `spec.size`.

    The square has the centre of the box. Its side is the longer side of the box plus the spec's margin on both sides. Outside
    the frame, the edge of the frame is replicated. Raises ValueError if no part of the box is inside the frame.
    """
    x, y, w, h = box_xywh
    height, width = grey.shape
    if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(f"face box {box_xywh} has no area inside the {width}x{height} frame")
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
    """Resize a square image uint8 [S, S] to uint8 [size, size], always a copy.

    Reduction halves the image as often as possible, then averages areas. Enlargement is bilinear.
    """
    if crop.shape == (size, size):
        return crop.copy()
    while crop.shape[0] >= 2 * size:
        crop = halve(crop)
    interpolation = cv2.INTER_AREA if crop.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size, size), interpolation=interpolation), np.uint8)


def normalize_crops(pixels: NDArray[np.uint8]) -> F32:
    """Return network inputs float32 [N, 1, S, S] of crops uint8 [N, S, S], each with zero mean and unit standard deviation."""
    normalized = np.empty((len(pixels), 1, *pixels.shape[1:]), np.float32)
    for crop_pixels, out in zip(pixels, normalized[:, 0], strict=True):
        mean, deviation = cv2.meanStdDev(crop_pixels)  # 20 times faster than NumPy
        scale = 1.0 / max(deviation.item(), 1.0)  # a uniform crop gives zeros
        cv2.addWeighted(crop_pixels, scale, crop_pixels, 0.0, -mean.item() * scale, out, cv2.CV_32F)
    return normalized
