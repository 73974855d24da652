"""Corruptions of face crops: each takes a batch uint8 [N, S, S] and returns a corrupted copy of the same shape and dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cv2
import numpy as np

from moodring.types import U8

T = TypeVar("T", bound="np.ndarray[Any, Any]")

EYE_ROWS = (0.28, 0.50)  # the rows of a FER2013 crop that show the eyes, as shares of its height
MOUTH_ROWS = (0.66, 0.92)  # the rows that show the mouth
FULL_WELL_PHOTONS = 400.0  # photons that one pixel of a small sensor counts at white; sets the shot noise


@dataclass(frozen=True, slots=True)
class Corruption(Generic[T]):
    """One kind of corruption.

    `apply(data, strength, rng)` returns a corrupted copy of the data. `strengths` are the reported strengths in `unit`, mildest
    first.
    """

    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[T, float, np.random.Generator], T]


def occlude_square(faces: U8, share: float, rng: np.random.Generator) -> U8:
    """Cover a square at a random position in each crop with mid grey. `share` is its share of the crop's area."""
    side = faces.shape[1]
    patch = round(side * share**0.5)
    out = faces.copy()
    for face in out:
        top, left = rng.integers(0, side - patch + 1, 2)
        face[top : top + patch, left : left + patch] = 128
    return out


def occlude_rows(faces: U8, rows: tuple[float, float]) -> U8:
    """Cover full rows with mid grey, as sunglasses or a mask do. `rows` are the first and last row as shares of the height."""
    side = faces.shape[1]
    out = faces.copy()
    out[:, round(rows[0] * side) : round(rows[1] * side)] = 128
    return out


def blur(faces: U8, sigma: float, _rng: np.random.Generator) -> U8:
    """Apply a Gaussian blur; `sigma` is in pixels."""
    return np.stack([np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8) for face in faces])


def downsample(faces: U8, pixels: float, _rng: np.random.Generator) -> U8:
    """Shrink each crop to a side of `pixels` and enlarge it again, as for a distant face."""
    side, small = faces.shape[1], int(pixels)
    down = (cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA) for face in faces)
    return np.stack([np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8) for face in down])


def darken(faces: U8, gain: float, rng: np.random.Generator) -> U8:
    """Reduce the light to a share `gain`, with Poisson shot noise, and quantise to eight bits."""
    photons = rng.poisson(faces.astype(np.float64) / 255.0 * FULL_WELL_PHOTONS * gain)
    return np.clip(np.round(photons / FULL_WELL_PHOTONS * 255.0), 0, 255).astype(np.uint8)


def warp_affine(faces: U8, rng: np.random.Generator, *, degrees: float = 0.0, shift: float = 0.0, scale: float = 0.0) -> U8:
    """Rotate, shift and scale each crop about its centre, in a random direction; repeat the edge pixels.

    `degrees` is the rotation angle, `shift` a share of the side, `scale` the change of the zoom factor 1.
    """
    side = faces.shape[1]
    centre = (side - 1) / 2.0
    out = np.empty_like(faces)
    for face, warped in zip(faces, out, strict=True):
        zoom = 1.0 + scale * rng.choice((-1.0, 1.0))
        matrix = cv2.getRotationMatrix2D((centre, centre), degrees * rng.choice((-1.0, 1.0)), zoom)
        direction = rng.uniform(0.0, 2.0 * np.pi)
        matrix[:, 2] += shift * side * np.array([np.cos(direction), np.sin(direction)])
        cv2.warpAffine(face, matrix, (side, side), warped, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    return out


CORRUPTIONS: dict[str, Corruption[U8]] = {
    "occlusion": Corruption("share of the area", (0.1, 0.2, 0.3, 0.4, 0.5), occlude_square),
    "eyes covered": Corruption("", (1.0,), lambda faces, _s, _r: occlude_rows(faces, EYE_ROWS)),
    "mouth covered": Corruption("", (1.0,), lambda faces, _s, _r: occlude_rows(faces, MOUTH_ROWS)),
    "blur": Corruption("sigma in pixels", (0.5, 1.0, 1.5, 2.0), blur),
    "low light": Corruption("share of the light", (0.5, 0.25, 0.1, 0.05), darken),
    "low resolution": Corruption("pixels of side", (32, 24, 16, 12), downsample),
    "rotation": Corruption("degrees", (5, 10, 20, 30), lambda faces, s, rng: warp_affine(faces, rng, degrees=s)),
    "crop shifted": Corruption(
        "share of the side", (0.05, 0.1, 0.15, 0.2), lambda faces, s, rng: warp_affine(faces, rng, shift=s)
    ),
    "crop too wide or narrow": Corruption(
        "share of the side", (0.05, 0.1, 0.15, 0.2), lambda faces, s, rng: warp_affine(faces, rng, scale=s)
    ),
}
