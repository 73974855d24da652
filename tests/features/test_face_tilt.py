"""The limit of tilted heads that docs/face_front_end.md states: share of frames in which the tracker finds a rotated face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moodring.features.face.tracker import HaarTracker
from moodring.types import U8
from tests.support.signals import face_frame, frames

WIDTH, HEIGHT = 640, 480
SIZES = (1.0, 0.7, 0.5)  # of the portrait relative to the frame
FRAMES = 10
HEAD_OFFSET, HEAD_SIDE = 12.0, 195.0  # of the box of the upright head: below the centre of the frame, and its width, in pixels


def tilted_face(index: int, degrees: float, size: float) -> U8:
    """Return a frame with the face rotated counter-clockwise about its centre, on grey, uint8 [480, 640]."""
    rotation = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, size)
    return np.asarray(cv2.warpAffine(face_frame(index, WIDTH, HEIGHT), rotation, (WIDTH, HEIGHT), borderValue=128), np.uint8)


def found_share(degrees: float) -> float:
    """Return the share of frames with a box on the head, not on a part of it, over sizes and both directions."""
    found = []
    for size in SIZES:
        for angle in (degrees, -degrees):
            tracker = HaarTracker()
            for frame in frames(tilted_face(index, angle, size) for index in range(FRAMES)):
                boxes = [face.box_xywh for face in tracker.update(frame)]
                found.append(any(_is_head(box, angle, size) for box in boxes))
    return float(np.mean(found))


def _is_head(box: tuple[float, ...], degrees: float, size: float) -> bool:
    x, y, width, height = box
    offset = HEAD_OFFSET * size
    centre = (
        WIDTH / 2 + offset * np.sin(np.radians(degrees)) - x - width / 2,
        HEIGHT / 2 + offset * np.cos(np.radians(degrees)) - y - height / 2,
    )
    return np.hypot(*centre) < HEAD_SIDE * size / 4 and 0.7 < width / (HEAD_SIDE * size) < 1.4


@pytest.mark.parametrize(
    ("degrees", "least", "most"),
    [(0, 1.0, 1.0), (10, 1.0, 1.0), (15, 0.8, 1.0), (20, 0.4, 0.6), (25, 0.0, 0.0), (30, 0.0, 0.0)],
)
def test_heads_are_found_up_to_the_documented_tilt(degrees: float, least: float, most: float):
    assert least <= found_share(degrees) <= most
