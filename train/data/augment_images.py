"""Random augmentation of batches of images: rotation, zoom, shift, flip, gamma, blur, erased patches, mixup.

Geometry, gamma and blur act on grey values, before `normalize_crops`. Mixup acts on the normalised crops. Erasing can act on
either.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moodring.train.recipe import FaceRecipe
from moodring.types import F32, U8

Images = TypeVar("Images", U8, F32)


def warp_faces(faces: U8, rng: np.random.Generator, recipe: FaceRecipe) -> U8:
    """Rotate, zoom, shift and flip images uint8 [B, S, S] and change their gamma, with random values for each image."""
    count = len(faces)
    angle = np.deg2rad(rng.uniform(-recipe.rotation_degrees, recipe.rotation_degrees, count))
    scale = rng.uniform(1 - recipe.zoom, 1 + recipe.zoom, count)
    flip = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    theta = np.empty((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = flip * scale * np.cos(angle), -scale * np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = flip * scale * np.sin(angle), scale * np.cos(angle)
    theta[:, :, 2] = 2 * rng.uniform(-recipe.shift, recipe.shift, (count, 2))
    images = torch.from_numpy(faces).float()[:, None]  # [B, 1, S, S]
    grid = functional.affine_grid(torch.from_numpy(theta), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gamma = torch.from_numpy(np.exp(rng.uniform(-recipe.light, recipe.light, (count, 1, 1, 1))).astype(np.float32))
    lit = (moved.clamp(0, 255) / 255.0).pow(gamma) * 255.0
    return lit.round().clamp(0, 255).to(torch.uint8)[:, 0].numpy()


def blur_faces(faces: U8, rng: np.random.Generator, share: float = 0.2) -> U8:
    """Simulate small faces, in place: resize a random `share` of images uint8 [B, S, S] to 20..39 pixels and back."""
    for index in np.flatnonzero(rng.random(len(faces)) < share):
        side = int(rng.integers(20, 40))
        small = cv2.resize(faces[index], (side, side), interpolation=cv2.INTER_AREA)
        faces[index] = cv2.resize(small, faces[index].shape[::-1], interpolation=cv2.INTER_LINEAR)
    return faces


def erase_patches(images: Images, rng: np.random.Generator, recipe: FaceRecipe) -> Images:
    """Fill random rectangles with noise or one grey value, in place.

    `images` is uint8 [B, S, S] or normalised float32 [B, 1, S, S]. `recipe.erase` is the probability for each image.
    """
    side = images.shape[-1]
    for index in np.flatnonzero(rng.random(len(images)) < recipe.erase):
        height, width = rng.integers(side // 6, round(side * recipe.erase_side), 2)
        top, left = rng.integers(0, side - height), rng.integers(0, side - width)
        is_noise = rng.random() < 0.5
        if images.dtype == np.uint8:
            patch = rng.integers(0, 256, (height, width) if is_noise else (1, 1), np.uint8)
        else:
            patch = rng.standard_normal((height, width), np.float32) if is_noise else np.array(rng.normal())
        images[index, ..., top : top + height, left : left + width] = patch
    return images


def apply_mixup(parts: tuple[Tensor, ...], rng: np.random.Generator, alpha: float) -> tuple[Tensor, ...]:
    """Mix every row with a random other row, with the same weight in every part (Zhang et al. 2018).

    The weight has the distribution Beta(alpha, alpha); `alpha` 0 disables mixup.
    """
    if alpha <= 0:
        return parts
    count = len(parts[0])
    order = torch.from_numpy(rng.permutation(count))
    weight = torch.from_numpy(rng.beta(alpha, alpha, count).astype(np.float32))
    mixed = []
    for part in parts:
        row_weight = weight.view(-1, *([1] * (part.ndim - 1)))
        mixed.append(part * row_weight + part[order] * (1 - row_weight))
    return tuple(mixed)


def shuffle_patches(faces: U8, rng: np.random.Generator, patch: int = 12) -> U8:
    """Shuffle square patches of faces uint8 [N, S, S]: the result has the texture of a face but is not a face."""
    count, side = len(faces), faces.shape[1]
    cells = side // patch
    tiles = faces.reshape(count, cells, patch, cells, patch).swapaxes(2, 3).reshape(count, cells * cells, patch, patch)
    order = rng.permuted(np.tile(np.arange(cells * cells), (count, 1)), axis=1)
    tiles = np.take_along_axis(tiles, order[:, :, None, None], axis=1)
    return tiles.reshape(count, cells, cells, patch, patch).swapaxes(2, 3).reshape(count, side, side)


def textures(count: int, side: int, rng: np.random.Generator) -> U8:
    """Return images uint8 [N, S, S] of noise at several scales, gradients and stripes, some almost flat."""
    out = np.empty((count, side, side), np.uint8)
    for index in range(count):
        kind = rng.integers(4)
        low, high = np.sort(rng.uniform(0, 255, 2))
        if kind <= 1:  # noise at one scale, or the sum of two
            field = np.zeros((side, side), np.float32)
            for _ in range(kind + 1):
                grain = int(rng.choice([2, 3, 5, 8, 16, 48]))
                field += cv2.resize(rng.random((grain, grain), np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        else:
            y, x = np.mgrid[0:side, 0:side] / side
            angle = rng.uniform(0, 2 * np.pi)
            field = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)
            if kind == 3:
                field = np.sin(field * rng.uniform(4, 60)).astype(np.float32)
        field = (field - field.min()) / max(1e-6, float(np.ptp(field)))
        noise = rng.normal(0, rng.uniform(0, 12), (side, side))
        out[index] = np.clip(low + field * (high - low) + noise, 0, 255)
    return out
