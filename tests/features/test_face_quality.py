"""Quality falls with everything that makes a face harder to read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moodring.features.face.haar import Box
from moodring.features.face.quality import face_image_quality, frontal_pose_score
from tests.support.signals import face_frame

FACE = Box(160, 120, 92)
SHARP = face_frame(0)


def face_quality(grey: np.ndarray, box: Box, neighbours: float) -> float:
    return face_image_quality(grey, box) * frontal_pose_score(neighbours)


def test_a_good_face_has_full_quality():
    assert face_quality(SHARP, FACE, 20) > 0.95


@pytest.mark.parametrize(
    "worse",
    [
        lambda p: cv2.GaussianBlur(p, (0, 0), 6),
        lambda p: cv2.convertScaleAbs(p, alpha=0.1, beta=25),  # dim
        lambda p: cv2.convertScaleAbs(p, alpha=0.1),  # dark
        lambda p: cv2.convertScaleAbs(p, alpha=4, beta=100),  # burnt
        lambda p: np.full_like(p, 128),
    ],
    ids=["blurred", "dim", "dark", "burnt", "flat"],
)
def test_a_face_that_is_hard_to_see_has_less(worse):
    assert face_quality(worse(SHARP), FACE, 20) < 0.6


def test_a_small_face_and_one_turned_away_have_less():
    small = cv2.resize(SHARP, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert face_quality(small, Box(40, 30, 23), 20) < 0.6
    assert face_quality(SHARP, FACE, 2) < 0.4


def test_a_box_outside_the_picture_has_none():
    assert face_quality(SHARP, Box(-400, 0, 50), 20) == 0.0
