"""Finding faces with OpenCV's frontal Haar cascades (Viola and Jones 2001), in pieces small enough for a frame's budget.

A full scan of 640x480 costs as much as twenty frames of everything else. So the scan is cut into slices of like cost, of
which a frame pays for a few, and a face that is known is searched for only in a region round it, scaled to a fixed face size.
Both are done by one cascade (alt2, Lienhart and Maydt 2002). What it finds anew is shown to a second one that was trained
apart: what both take for a face is hardly ever a wall. The first one looks at every place for less than the second one does,
and loses turned faces less often. A third one, for profiles, keeps hold of a face that turns aside: it stays the same face,
but is not fit to be read.
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
from moodring.types import U8

SEARCH_CASCADE = "haarcascade_frontalface_alt2.xml"
CHECK_CASCADE = "haarcascade_frontalface_default.xml"
PROFILE_CASCADE = "haarcascade_profileface.xml"
SEARCH_BOX_GAIN = 1.07  # its boxes are so much larger than those of the check; centres agree within a hundredth
SEARCH_SIDE, CHECK_SIDE, PROFILE_SIDE = 20, 24, 20  # pixels: the only face size that each cascade itself knows
SMALLEST_SIDE = 24  # pixels: smaller faces are not looked for
PYRAMID_FACTOR = 1.2  # between the face sizes of a full scan
SLICE_WINDOWS = 4000  # places looked at in one slice: half a millisecond to one, or two where a face is
SLICE_NEIGHBOURS = 1  # in one level of the scan; what it proposes is looked at again
REGION_SCALE_FACTOR = 1.1
MASK_FRACTION = 0.6  # of a known face: its eyes and mouth
STILL_IMAGE_SIDE = 640  # pixels the longer side of a still is scaled to
STILL_IMAGE_NEIGHBOURS = 6
STILL_IMAGE_IOU = 0.4  # of a face that both cascades find


class Box(NamedTuple):
    """A square in pixels of the frame: its centre and side."""

    x: float
    y: float
    side: float

    @property
    def xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in whole pixels."""
        return round(self.x - self.side / 2), round(self.y - self.side / 2), round(self.side), round(self.side)

    def iou(self, other: Box) -> float:
        """Return intersection over union."""
        (x, y, side), (other_x, other_y, other_side) = self, other
        reach, most = (side + other_side) / 2, min(side, other_side)
        dx, dy = reach - abs(x - other_x), reach - abs(y - other_y)
        if dx <= 0.0 or dy <= 0.0:
            return 0.0
        common = min(dx, most) * min(dy, most)
        return common / (side * side + other_side * other_side - common)


class Detection(NamedTuple):
    """A face found, and how many windows of the cascade agreed on it."""

    box: Box
    neighbours: int


def load_cascade(name: str = CHECK_CASCADE) -> cv2.CascadeClassifier:
    """Return one of OpenCV's cascades; raise BackendError where this OpenCV has none."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise BackendError(f"OpenCV {cv2.__version__} has no CascadeClassifier; install 'opencv-python-headless>=4.13,<5'")
    path = Path(cv2.__file__).parent / "data" / name
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise BackendError(f"the face cascade {path} is missing or unreadable; reinstall opencv-python-headless")
    return cascade


@dataclass(frozen=True, slots=True)
class RegionSearch:
    """How a region is searched: the face scaled to `face_side` pixels, the region wider by `pad` of its side all round.

    `sizes` are the smallest and largest face looked for, in the expected one's side; `neighbours` windows must agree on it.
    """

    face_side: int
    pad: float
    sizes: tuple[float, float]
    neighbours: int


QUICK_SEARCH = RegionSearch(34, 0.25, (0.83, 1.2), 2)  # enough from one frame to the next
CLOSE_SEARCH = RegionSearch(
    64, 0.25, (0.75, 1.33), 3
)  # OpenCV looks at every place of a picture this large, not at every fourth
NEW_FACE_SEARCH = RegionSearch(
    64, 0.2, (0.83, 1.2), 3
)  # where a scan proposes a face its side is known to a level, not as it will change
PROFILE_SEARCH = RegionSearch(
    56, 0.25, (0.75, 1.33), 5
)  # a floor or a curtain gets four windows at most, a face turned aside eight


class Strip(NamedTuple):
    """Some rows of one level of the pyramid: faces of `side` pixels of the frame whose tops lie from `first` to `end`."""

    side: float
    first: float
    end: float


ScanSlice = tuple[Strip, ...]


def plan_scan(shape: tuple[int, ...], smallest: float) -> list[ScanSlice]:
    """Cut the full scan of a frame of `shape` [H, W] into slices of about `SLICE_WINDOWS` places each, large faces first.

    The plan depends on the frame's size alone, never on how fast this machine is: a replay always searches alike.
    """
    sides = [max(float(SMALLEST_SIDE), smallest)]
    while sides[-1] * PYRAMID_FACTOR <= min(shape):
        sides.append(sides[-1] * PYRAMID_FACTOR)
    slices: list[ScanSlice] = []
    budget = 0.0
    for side in reversed([side for side in sides if side <= min(shape)]):
        rows, columns = (max(1.0, (n - side) * SEARCH_SIDE / side) for n in shape)
        left, first, last = rows * columns, 0.0, shape[0] - side
        while left:
            if budget < SLICE_WINDOWS / 10:  # too little to be worth a strip of its own
                slices.append(())
                budget = SLICE_WINDOWS
            taken = left if left < 1.1 * budget else budget
            end = last if taken == left else first + (last - first) * taken / left
            slices[-1] = (*slices[-1], Strip(side, first, end))
            left, budget, first = left - taken, budget - taken, end
    return slices


class FaceDetector:
    """The cascades, asked about a slice of the full scan or about the region round a known face."""

    def __init__(self) -> None:
        self._search = _Cascade(load_cascade(SEARCH_CASCADE), SEARCH_SIDE, SEARCH_BOX_GAIN)
        self._check = _Cascade(load_cascade(CHECK_CASCADE), CHECK_SIDE)
        self._profile = _Cascade(load_cascade(PROFILE_CASCADE), PROFILE_SIDE)

    def scan(
        self, grey: U8, scan_slice: ScanSlice, use_check_cascade: bool = False, known: Sequence[Box] = ()
    ) -> list[Detection]:
        """Search one slice of the full scan of uint8 [H, W]; sizes and results in the frame's own pixels.

        The faces in `known` are covered: a cascade spends most of its time on faces, and these would be no news.

        OpenCV looks at every place of a picture that it shrinks to less than half, at every fourth of others: so faces are
        brought to just more than twice the cascade's own side. The `checking` cascade takes twice as long as the other, and
        finds some faces that the other misses.
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
        """Search the region round `box`."""
        region, left, top = _crop_region(grey, box, params)
        return _detect(self._search, region, _region_query(box, params, self._search.box_gain), (left, top))

    def check(self, grey: U8, box: Box, params: RegionSearch) -> list[Detection]:
        """Search the region round `box` with the checking cascade: a second opinion."""
        region, left, top = _crop_region(grey, box, params)
        return _detect(self._check, region, _region_query(box, params), (left, top))

    def search_profile(self, grey: U8, box: Box, params: RegionSearch) -> list[Detection]:
        """Search the region round `box` for a face turned to either side; its hits have no frontal neighbours."""
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
        """Return the faces of a single picture, largest first.

        A small picture is enlarged, and its edge repeated round it, so that a face that fills it is found as well. Where both
        cascades agree on some faces, what only the checking one took for one is left out.
        """
        scale = STILL_IMAGE_SIDE / max(grey.shape)
        pad = STILL_IMAGE_SIDE // 8
        padded = np.asarray(
            cv2.copyMakeBorder(_rescale(grey, scale, cv2.INTER_CUBIC), pad, pad, pad, pad, cv2.BORDER_REPLICATE), np.uint8
        )
        smallest = STILL_IMAGE_SIDE // 12
        found = self._check.classifier.detectMultiScale(
            padded, REGION_SCALE_FACTOR, STILL_IMAGE_NEIGHBOURS, minSize=(smallest, smallest)
        )
        boxes = sorted((Box(x + w / 2, y + w / 2, w) for x, y, w, _ in found), key=lambda box: -box.side)
        agreed = [
            box
            for box in boxes
            if any(detection.box.iou(box) > STILL_IMAGE_IOU for detection in self.search(padded, box, CLOSE_SEARCH))
        ]
        return [Box((box.x - pad) / scale, (box.y - pad) / scale, box.side / scale) for box in agreed or boxes]


@dataclass(frozen=True, slots=True)
class _Cascade:
    """A cascade, the face size in pixels that it itself knows, and how much larger its boxes are than those given out."""

    classifier: cv2.CascadeClassifier
    side: int
    box_gain: float = 1.0


class _Query(NamedTuple):
    """What a cascade is asked: boxes of `sides` pixels in a picture that is scaled first, in steps of `factor`."""

    scale: float
    sides: tuple[int, int]
    factor: float
    neighbours: int


def _region_query(box: Box, params: RegionSearch, box_gain: float = 1.0) -> _Query:
    """Ask a cascade whose boxes are `gain` times as large for the face that is expected in `box`."""
    side = params.face_side * box_gain
    sides = (round(params.sizes[0] * side), round(params.sizes[1] * side))
    return _Query(params.face_side / box.side, sides, REGION_SCALE_FACTOR, params.neighbours)


def _detect(cascade: _Cascade, grey: U8, query: _Query, origin: tuple[int, int], known: Sequence[Box] = ()) -> list[Detection]:
    """Return the faces but the `known` ones in a part of a frame whose upper left is at `corner`; in pixels of the frame."""
    scale, (left, top) = query.scale, origin
    if min(grey.shape) * scale < SMALLEST_SIDE:
        return []
    scaled = _rescale(grey, scale, cv2.INTER_LINEAR)
    if known:
        scaled = _mask_faces(scaled, [Box((x - left) * scale, (y - top) * scale, side * scale) for x, y, side in known])
    smallest, largest = query.sides
    found, counts = cascade.classifier.detectMultiScale2(
        scaled, query.factor, query.neighbours, minSize=(smallest, smallest), maxSize=(largest, largest)
    )
    if not len(found):
        return []
    return [  # in Python's own numbers: NumPy's make every step that a box is used in slower
        Detection(Box((x + w / 2) / scale + left, (y + w / 2) / scale + top, w / scale / cascade.box_gain), count)
        for (x, y, w, _), count in zip(found.tolist(), counts.tolist(), strict=True)
    ]


def _mask_faces(image: U8, boxes: Sequence[Box]) -> U8:
    """Return a copy of a picture with the middle of each box in one grey."""
    image = image.copy()
    for x, y, side in boxes:
        reach = MASK_FRACTION * side / 2
        middle = image[max(0, int(y - reach)) : max(0, int(y + reach)), max(0, int(x - reach)) : max(0, int(x + reach))]
        if middle.size:
            middle[:] = round(cv2.mean(middle)[0])
    return image


def _crop_region(grey: U8, box: Box, params: RegionSearch) -> tuple[U8, int, int]:
    """Return the part of a frame round a box, and where it begins."""
    height, width = grey.shape
    reach = box.side * (0.5 + params.pad)
    left, top = max(0, int(box.x - reach)), max(0, int(box.y - reach))
    return grey[top : min(height, int(box.y + reach)), left : min(width, int(box.x + reach))], left, top


def halve(grey: U8) -> U8:
    """Average uint8 [H, W] over squares of two pixels: OpenCV does that twenty times faster than it averages over others."""
    wide, high = grey.shape[1] // 2, grey.shape[0] // 2
    return np.asarray(cv2.resize(grey[: 2 * high, : 2 * wide], (wide, high), interpolation=cv2.INTER_AREA), np.uint8)


def _rescale(grey: U8, scale: float, upscale_interpolation: int) -> U8:
    """Bring a picture to `scale` times its size: halved as often as it goes, then bilinear; `enlarge` where it grows.

    Averaging over the last step as well takes OpenCV four times as long and finds the same faces.
    """
    while scale <= 0.5 and min(grey.shape) >= 2:
        grey = halve(grey)
        scale *= 2
    if scale == 1.0:
        return grey
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(
        cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR if scale < 1.0 else upscale_interpolation), np.uint8
    )
