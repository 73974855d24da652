"""Quality of a face image in [0, 1]: size, sharpness, contrast, exposure and frontal pose."""

from __future__ import annotations

import cv2
import numpy as np

from moodring.features.face.geometry import Box, halve
from moodring.types import U8

EVALUATION_SIDE = 32  # pixels: the face is scaled to this side before it is evaluated
FULL_SCORE_SIDE = 48.0  # pixels of the frame: a face of at least this side gets the full score
# Standard deviation of the Laplacian relative to that of the image: 0.9 to 1.4 in sharp faces, 0.2 to 0.4 in blurred ones.
FULL_SCORE_SHARPNESS = 0.6
FULL_SCORE_CONTRAST = 30.0  # grey levels
UNDEREXPOSED_LEVEL, OVEREXPOSED_LEVEL = np.array(20.0), np.array(233.0)  # grey levels: no detail is visible beyond them
FRONTAL_NEIGHBOURS = 6.0  # windows of the frontal cascade on a face that is turned to the camera


def frontal_pose_score(neighbours: float) -> float:
    """Return the score in [0, 1] of a face's pose, from its mean number of neighbours in the frontal cascade."""
    return min(1.0, neighbours / FRONTAL_NEIGHBOURS)


def face_image_quality(grey: U8, box: Box) -> float:
    """Return the quality in [0, 1] of the face in `box` of a frame uint8 [H, W], without its pose; 0 outside the frame."""
    x, y, side, _ = box.xywh
    pixels = grey[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
    if not pixels.size:
        return 0.0
    while min(pixels.shape) >= 2 * EVALUATION_SIDE:
        pixels = halve(pixels)
    small = cv2.resize(pixels, (EVALUATION_SIDE, EVALUATION_SIDE), interpolation=cv2.INTER_LINEAR)
    _, deviation = cv2.meanStdDev(small)
    _, detail = cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_16S))
    contrast = max(1.0, float(deviation[0, 0]))
    well_exposed_fraction = cv2.countNonZero(cv2.inRange(small, UNDEREXPOSED_LEVEL, OVEREXPOSED_LEVEL)) / small.size
    return float(
        min(1.0, side / FULL_SCORE_SIDE)
        * min(1.0, float(detail[0, 0]) / contrast / FULL_SCORE_SHARPNESS)
        * min(1.0, contrast / FULL_SCORE_CONTRAST)
        * well_exposed_fraction
    )
