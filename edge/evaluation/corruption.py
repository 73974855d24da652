"""What goes wrong with a face crop, done to many crops at once: uint8 [N, S, S] in, the same out. Strengths say their unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cv2
import numpy as np

from moodring.types import U8

T = TypeVar("T", bound="np.ndarray[Any, Any]")

EYE_ROWS = (0.28, 0.50)  # rows of a FER2013 crop that hold the eyes, as shares of its height
MOUTH_ROWS = (0.66, 0.92)
FULL_WELL_PHOTONS = 400.0  # photons that a pixel of a small sensor counts at white, for the noise of low light


@dataclass(frozen=True, slots=True)
class Corruption(Generic[T]):
    """`change(data, strength, rng)` returns what is disturbed, a copy; `strengths` are those reported, the mildest first."""

    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[T, float, np.random.Generator], T]


def occlude_square(faces: U8, share: float, rng: np.random.Generator) -> U8:
    """Cover a square of this share of the area, anywhere inside, with mid grey."""
    side = faces.shape[1]
    patch = round(side * share**0.5)
    out = faces.copy()
    for face in out:
        top, left = rng.integers(0, side - patch + 1, 2)
        face[top : top + patch, left : left + patch] = 128
    return out


def occlude_rows(faces: U8, rows: tuple[float, float]) -> U8:
    """Cover a band from side to side with mid grey: sunglasses, a mask."""
    side = faces.shape[1]
    out = faces.copy()
    out[:, round(rows[0] * side) : round(rows[1] * side)] = 128
    return out


def blur(faces: U8, sigma: float, _rng: np.random.Generator) -> U8:
    return np.stack([np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8) for face in faces])


def downsample(faces: U8, pixels: float, _rng: np.random.Generator) -> U8:
    """Bring the face down to `pixels` of side and back: a face far away."""
    side, small = faces.shape[1], int(pixels)
    down = (cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA) for face in faces)
    return np.stack([np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8) for face in down])


def darken(faces: U8, gain: float, rng: np.random.Generator) -> U8:
    """Let in this share of the light, with the photons' own noise and eight bits to tell it in."""
    photons = rng.poisson(faces.astype(np.float64) / 255.0 * FULL_WELL_PHOTONS * gain)
    return np.clip(np.round(photons / FULL_WELL_PHOTONS * 255.0), 0, 255).astype(np.uint8)


def warp_affine(faces: U8, rng: np.random.Generator, *, degrees: float = 0.0, shift: float = 0.0, scale: float = 0.0) -> U8:
    """Turn, shift and rescale about the centre, each by its strength one way or the other; edges are repeated."""
    side = faces.shape[1]
    centre = (side - 1) / 2.0
    out = np.empty_like(faces)
    for face, changed in zip(faces, out, strict=True):
        zoom = 1.0 + scale * rng.choice((-1.0, 1.0))
        matrix = cv2.getRotationMatrix2D((centre, centre), degrees * rng.choice((-1.0, 1.0)), zoom)
        direction = rng.uniform(0.0, 2.0 * np.pi)
        matrix[:, 2] += shift * side * np.array([np.cos(direction), np.sin(direction)])
        cv2.warpAffine(face, matrix, (side, side), changed, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
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
