"""Haar cascade face detector (Viola and Jones 2001).

A full scan of a 640x480 frame costs as much as the rest of the processing of 20 frames. It is therefore divided into slices of
similar cost, and each frame runs a few of them. A known face is searched for only in a region around it, scaled to a fixed
face size.

Three of OpenCV's cascades are used:

- The search cascade (alt2, Lienhart and Maydt 2002) runs both searches. It costs less per window position than the check
  cascade and loses turned faces less often.
- The check cascade verifies a new face. It was trained separately, so both cascades rarely accept the same false positive.
- The profile cascade keeps the track of a face that turns aside. The face keeps its id, but its quality is low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from moodring.errors import BackendError
from moodring.features.face.geometry import Box, rescale
from moodring.types import U8

SEARCH_CASCADE = "haarcascade_frontalface_alt2.xml"
CHECK_CASCADE = "haarcascade_frontalface_default.xml"
PROFILE_CASCADE = "haarcascade_profileface.xml"
SEARCH_BOX_GAIN = 1.07  # ratio of the box sides of the search cascade and the check cascade; centres agree within 1 %
SEARCH_SIDE, CHECK_SIDE, PROFILE_SIDE = 20, 24, 20  # pixels: the window size that each cascade was trained on
SMALLEST_SIDE = 24  # pixels: smaller faces are not searched for
PYRAMID_FACTOR = 1.2  # ratio of consecutive face sizes of a full scan
SLICE_WINDOWS = 4000  # window positions in one slice: 0.5 to 1 ms, or 2 ms where the slice contains a face
SLICE_NEIGHBOURS = 1  # required in one level of the scan; its proposals are verified
REGION_SCALE_FACTOR = 1.1
MASK_FRACTION = 0.6  # of a known face's side: the area of eyes and mouth
STILL_IMAGE_SIDE = 640  # pixels: longer side of a still image after scaling
GROUP_IMAGE_SIDE = 1600  # pixels: the same for an image that may show many small faces; the smallest has a 30th
STILL_IMAGE_NEIGHBOURS = 6
STILL_IMAGE_IOU = 0.4  # of the boxes of a face that both cascades detect


class Detection(NamedTuple):
    """A detected face, and the number of cascade windows that were merged into it."""

    box: Box
    neighbours: int


def load_cascade(name: str = CHECK_CASCADE) -> cv2.CascadeClassifier:
    """Return one of OpenCV's cascades. Raises BackendError if this OpenCV does not include it."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise BackendError(f"OpenCV {cv2.__version__} has no CascadeClassifier; install 'opencv-python-headless>=4.13,<5'")
    path = Path(cv2.__file__).parent / "data" / name
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise BackendError(f"the face cascade {path} is missing or unreadable; reinstall opencv-python-headless")
    return cascade


@dataclass(frozen=True, slots=True)
class RegionSearch:
    """Parameters of a search around an expected face.

    The region is the expected box, extended on each side by `pad` times its side and scaled so that the box has a side of
    `face_side` pixels. `sizes` are the smallest and the largest side searched for, relative to the expected side. A detection
    needs at least `neighbours` windows.
    """

    face_side: int
    pad: float
    sizes: tuple[float, float]
    neighbours: int


QUICK_SEARCH = RegionSearch(34, 0.25, (0.83, 1.2), 2)  # sufficient from one frame to the next
# At this face size, OpenCV evaluates every window position; at that of QUICK_SEARCH, every fourth.
CLOSE_SEARCH = RegionSearch(64, 0.25, (0.75, 1.33), 3)
# A scan gives the face side to within one pyramid level. No change of the side over time is expected.
NEW_FACE_SEARCH = RegionSearch(64, 0.2, (0.83, 1.2), 3)
# A floor or a curtain gets at most four windows, a face in profile eight.
PROFILE_SEARCH = RegionSearch(56, 0.25, (0.75, 1.33), 5)


class Strip(NamedTuple):
    """Rows of one level of the pyramid: faces with a side of `side` frame pixels and a top edge from `first` to `end`."""

    side: float
    first: float
    end: float


ScanSlice = tuple[Strip, ...]


def plan_scan(shape: tuple[int, ...], smallest: float) -> list[ScanSlice]:
    """Divide the full scan of a frame of `shape` [H, W] into slices of about SLICE_WINDOWS positions, largest faces first.

    `smallest` is the smallest face side in pixels. The plan depends only on `shape` and `smallest`, not on the speed of the
    machine, so every replay searches identically.
    """
    sides = [max(float(SMALLEST_SIDE), smallest)]
    while sides[-1] * PYRAMID_FACTOR <= min(shape):
        sides.append(sides[-1] * PYRAMID_FACTOR)
    slices: list[ScanSlice] = []
    budget = 0.0
    for side in reversed([side for side in sides if side <= min(shape)]):
        rows, columns = (max(1.0, (n - side) * SEARCH_SIDE / side) for n in shape)
        remaining, first, last = rows * columns, 0.0, shape[0] - side
        while remaining:
            if budget < SLICE_WINDOWS / 10:  # too small for a separate strip
                slices.append(())
                budget = SLICE_WINDOWS
            windows = remaining if remaining < 1.1 * budget else budget
            end = last if windows == remaining else first + (last - first) * windows / remaining
            slices[-1] = (*slices[-1], Strip(side, first, end))
            remaining, budget, first = remaining - windows, budget - windows, end
    return slices


class FaceDetector:
    """The three cascades. Searches a slice of the full scan, the region around a known face, or a still image.

    Frames are grey uint8 [H, W]; boxes are in pixels of the frame.
    """

    def __init__(self) -> None:
        self._search = _Cascade(load_cascade(SEARCH_CASCADE), SEARCH_SIDE, SEARCH_BOX_GAIN)
        self._check = _Cascade(load_cascade(CHECK_CASCADE), CHECK_SIDE)
        self._profile = _Cascade(load_cascade(PROFILE_CASCADE), PROFILE_SIDE)

    def scan(
        self, grey: U8, scan_slice: ScanSlice, use_check_cascade: bool = False, known: Sequence[Box] = ()
    ) -> list[Detection]:
        """Search one slice of the full scan.

        The boxes of `known` faces are masked: a cascade spends most of its time on faces. The check cascade takes twice as
        long as the search cascade and finds some faces that the search cascade misses.

        OpenCV evaluates every window position in an image that it reduces to less than half, and every fourth in others.
        Therefore faces are scaled to slightly more than twice the window size of the cascade.
        """
        cascade = self._check if use_check_cascade else self._search
        scaled_side = 2 * cascade.side + 1
        detections = []
        for strip in scan_slice:
            side = cascade.box_gain * strip.side
            top, bottom = max(0, int(strip.first - (side - strip.side) / 2)), math.ceil(strip.end + side) + 1
            sides = (scaled_side - 1, scaled_side + 1)
            query = _Query(scaled_side / side, sides, scaled_side / cascade.side, SLICE_NEIGHBOURS)
            detections += _detect(cascade, grey[top:bottom], query, (0, top), known)
        return detections

    def search(self, grey: U8, box: Box, params: RegionSearch) -> list[Detection]:
        """Search the region around `box` with the search cascade."""
        region, left, top = _crop_region(grey, box, params)
        return _detect(self._search, region, _region_query(box, params, self._search.box_gain), (left, top))

    def check(self, grey: U8, box: Box, params: RegionSearch) -> list[Detection]:
        """Search the region around `box` with the check cascade."""
        region, left, top = _crop_region(grey, box, params)
        return _detect(self._check, region, _region_query(box, params), (left, top))

    def search_profile(self, grey: U8, box: Box, params: RegionSearch) -> list[Detection]:
        """Search the region around `box` for a face in profile, left or right. Its detections have 0 frontal neighbours."""
        region, left, top = _crop_region(grey, box, params)
        query = _region_query(box, params)
        detections = _detect(self._profile, region, query, (left, top))
        if not detections:
            right = left + region.shape[1]
            mirrored = _detect(self._profile, np.ascontiguousarray(region[:, ::-1]), query, (0, top))
            detections = [
                Detection(Box(right - detection.box.x, detection.box.y, detection.box.side), detection.neighbours)
                for detection in mirrored
            ]
        return [Detection(detection.box, 0) for detection in detections]

    def detect_in_image(self, grey: U8) -> list[Box]:
        """Return the faces of a still image, largest first, as `detect_faces` does with a side of STILL_IMAGE_SIDE."""
        return [detection.box for detection in self.detect_faces(grey, STILL_IMAGE_SIDE)]

    def detect_faces(self, grey: U8, image_side: int) -> list[Detection]:
        """Return the faces of a still image, largest first, with the windows of the search cascade.

        The check cascade searches the image, scaled to a longer side of `image_side`, with a replicated border, so that faces
        in small images and faces that fill the image are found. If the search cascade confirms at least one of them, the
        unconfirmed ones, which have 0 windows, are dropped.
        """
        scale = image_side / max(grey.shape)
        pad = STILL_IMAGE_SIDE // 8
        padded = np.asarray(
            cv2.copyMakeBorder(rescale(grey, scale, cv2.INTER_CUBIC), pad, pad, pad, pad, cv2.BORDER_REPLICATE), np.uint8
        )
        smallest = STILL_IMAGE_SIDE // 12
        found = self._check.classifier.detectMultiScale(
            padded, REGION_SCALE_FACTOR, STILL_IMAGE_NEIGHBOURS, minSize=(smallest, smallest)
        )
        sides = found.tolist() if len(found) else []
        boxes = sorted((Box(x + w / 2, y + w / 2, w) for x, y, w, _ in sides), key=lambda box: -box.side)
        found_again = [
            [other.neighbours for other in self.search(padded, box, CLOSE_SEARCH) if other.box.iou(box) > STILL_IMAGE_IOU]
            for box in boxes
        ]
        is_confirmed = any(found_again)
        return [
            Detection(Box((box.x - pad) / scale, (box.y - pad) / scale, box.side / scale), max(neighbours, default=0))
            for box, neighbours in zip(boxes, found_again, strict=True)
            if neighbours or not is_confirmed
        ]


@dataclass(frozen=True, slots=True)
class _Cascade:
    """A cascade, its window size in pixels, and the ratio of its box sides to the sides returned."""

    classifier: cv2.CascadeClassifier
    side: int
    box_gain: float = 1.0


class _Query(NamedTuple):
    """Parameters of a detection: scale of the image, smallest and largest side after scaling, pyramid factor, neighbours."""

    scale: float
    sides: tuple[int, int]
    factor: float
    neighbours: int


def _region_query(box: Box, params: RegionSearch, box_gain: float = 1.0) -> _Query:
    """Return the query for the face expected in `box`, for a cascade whose boxes are larger by `box_gain`."""
    side = params.face_side * box_gain
    sides = (round(params.sizes[0] * side), round(params.sizes[1] * side))
    return _Query(params.face_side / box.side, sides, REGION_SCALE_FACTOR, params.neighbours)


def _detect(cascade: _Cascade, grey: U8, query: _Query, origin: tuple[int, int], known: Sequence[Box] = ()) -> list[Detection]:
    """Return the faces in a part of a frame, except the `known` ones. `origin` is the left and top of the part in the frame."""
    scale, (left, top) = query.scale, origin
    if min(grey.shape) * scale < SMALLEST_SIDE:
        return []
    scaled = rescale(grey, scale, cv2.INTER_LINEAR)
    if known:
        scaled = _mask_faces(scaled, [Box((x - left) * scale, (y - top) * scale, side * scale) for x, y, side in known])
    smallest, largest = query.sides
    found, counts = cascade.classifier.detectMultiScale2(
        scaled, query.factor, query.neighbours, minSize=(smallest, smallest), maxSize=(largest, largest)
    )
    if not len(found):
        return []
    return [  # tolist(): with NumPy scalars, all later arithmetic on boxes would be slower
        Detection(Box((x + w / 2) / scale + left, (y + w / 2) / scale + top, w / scale / cascade.box_gain), count)
        for (x, y, w, _), count in zip(found.tolist(), counts.tolist(), strict=True)
    ]


def _mask_faces(image: U8, boxes: Sequence[Box]) -> U8:
    """Return a copy of the image in which the middle of each box is replaced by its mean."""
    image = image.copy()
    for x, y, side in boxes:
        reach = MASK_FRACTION * side / 2
        middle = image[max(0, int(y - reach)) : max(0, int(y + reach)), max(0, int(x - reach)) : max(0, int(x + reach))]
        if middle.size:
            middle[:] = round(cv2.mean(middle)[0])
    return image


def _crop_region(grey: U8, box: Box, params: RegionSearch) -> tuple[U8, int, int]:
    """Return the part of a frame around a box, and its left and top."""
    height, width = grey.shape
    reach = box.side * (0.5 + params.pad)
    left, top = max(0, int(box.x - reach)), max(0, int(box.y - reach))
    return grey[top : min(height, int(box.y + reach)), left : min(width, int(box.x + reach))], left, top
