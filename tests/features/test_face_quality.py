"""Face quality decreases with blur, bad exposure, small size and a turned head."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moodring.features.face.geometry import Box
from moodring.features.face.quality import face_image_quality, frontal_pose_score
from tests.support.signals import face_frame

FACE = Box(160, 120, 92)
SHARP = face_frame(0)


def face_quality(grey: np.ndarray, box: Box, neighbours: float) -> float:
    return face_image_quality(grey, box) * frontal_pose_score(neighbours)


def test_sharp_frontal_face_has_full_quality():
    assert face_quality(SHARP, FACE, 20) > 0.95


@pytest.mark.parametrize(
    "degrade",
    [
        lambda image: cv2.GaussianBlur(image, (0, 0), 6),
        lambda image: cv2.convertScaleAbs(image, alpha=0.1, beta=25),  # dim
        lambda image: cv2.convertScaleAbs(image, alpha=0.1),  # dark
        lambda image: cv2.convertScaleAbs(image, alpha=4, beta=100),  # overexposed
        lambda image: np.full_like(image, 128),
    ],
    ids=["blurred", "dim", "dark", "overexposed", "uniform"],
)
def test_degraded_image_reduces_quality(degrade):
    assert face_quality(degrade(SHARP), FACE, 20) < 0.6


def test_small_size_and_turned_head_reduce_quality():
    small = cv2.resize(SHARP, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert face_quality(small, Box(40, 30, 23), 20) < 0.6
    assert face_quality(SHARP, FACE, 2) < 0.4


def test_box_outside_the_frame_has_zero_quality():
    assert face_quality(SHARP, Box(-400, 0, 50), 20) == 0.0
