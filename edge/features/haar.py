"""Haar face detection made cheap by tracking, and made quiet by confirmation.

Viola and Jones (2001), with OpenCV's frontal cascade. A full scan is expensive, so once a face is known only a region round
it is searched, scaled so that the face has a fixed size; full scans at a slow cadence find new faces. A face speaks only
after several hits, and keeps its id over short misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.clock import NS_PER_S
from edge.errors import BackendError
from edge.types import U8, Face, VideoFrame

CASCADE = "haarcascade_frontalface_default.xml"
CASCADE_SIDE = 24  # pixels: the smallest face the cascade can see
FULL_SCAN_FACTOR = 1.2
REGION_FACE_SIDE = 48  # pixels a known face is scaled to before its region is searched
REGION_PAD = 0.4  # of the face's side, on every side
REGION_FACTOR = 1.1
NEIGHBOURS = 4
STILL_SIDE = 640  # pixels the longer side of a still is scaled to
STILL_NEIGHBOURS = 6
BOX_GAIN = 0.5  # share of the new box in the smoothed one
SAME_FACE_OVERLAP = 0.3  # of a box found with one that is followed
ONE_FACE_OVERLAP = 0.5  # of two that are followed
PRIMARY_BONUS = 1.2
SHARP_DEVIATION = 40.0  # grey levels: a crop at least this contrasty has full quality

Box = tuple[float, float, float]  # centre x, centre y, side, in pixels of the frame


def load_cascade() -> cv2.CascadeClassifier:
    """Return OpenCV's frontal-face cascade; raise BackendError where this OpenCV has none."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise BackendError(f"OpenCV {cv2.__version__} has no CascadeClassifier; install 'opencv-python-headless>=4.13,<5'")
    path = Path(cv2.__file__).parent / "data" / CASCADE
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise BackendError(f"the face cascade {path} is missing or unreadable; reinstall opencv-python-headless")
    return cascade


def detect_in_still(cascade: cv2.CascadeClassifier, grey: U8) -> list[tuple[int, int, int, int]]:
    """Return the faces of a single picture as boxes x, y, width, height in its pixels, largest first.

    A small picture is enlarged, and its edge repeated round it, so that a face that fills it is found as well.
    """
    scale = STILL_SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    scaled = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    pad = STILL_SIDE // 8
    padded = cv2.copyMakeBorder(scaled, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    smallest = STILL_SIDE // 12
    found = cascade.detectMultiScale(padded, REGION_FACTOR, STILL_NEIGHBOURS, minSize=(smallest, smallest))
    boxes = [tuple(round(v / scale) for v in (x - pad, y - pad, w, h)) for x, y, w, h in found]
    return sorted(boxes, key=lambda box: -box[2])


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How faces are found and kept. Fractions are of the frame's height."""

    smallest_face: float = 0.12
    confirm_hits: int = 3
    hold_s: float = 0.5
    rescan_s: float = 1.0  # between full scans while a face is known
    search_s: float = 0.2  # between full scans while none is


@dataclass(slots=True)
class _Track:
    id: int
    box: Box
    hits: int
    seen_ns: int


class HaarTracker:
    """The faces of one stream. `update` takes frames in time order."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._cascade = load_cascade()
        self.reset()

    def reset(self) -> None:
        """Forget every face; ids start again at 1."""
        self._tracks: list[_Track] = []
        self._shape: tuple[int, ...] = ()
        self._next_id = 1
        self._primary: int | None = None
        self._last_scan_ns: int | None = None

    def update(self, frame: VideoFrame) -> tuple[Face, ...]:
        """Return the confirmed faces of this frame, the primary one first. A face held over a short miss keeps its last box.

        Primary is the largest, until another is a good deal larger: of two alike it must not be now one, now the other.
        """
        now_ns = frame.capture_time_ns
        if frame.grey.shape != self._shape:  # a source that changes its size: old boxes mean nothing in the new picture
            self._shape, self._tracks, self._last_scan_ns = frame.grey.shape, [], None
        for track in self._tracks:
            self._follow(track, frame)
        self._tracks = _distinct(self._tracks, now_ns)
        if self._scan_due(now_ns):
            self._last_scan_ns = now_ns
            self._scan(frame)
        hold_ns = self.settings.hold_s * NS_PER_S
        # A face that was never confirmed is not held: one miss ends it.
        self._tracks = [
            t for t in self._tracks
            if t.seen_ns == now_ns or (t.hits >= self.settings.confirm_hits and now_ns - t.seen_ns <= hold_ns)
        ]  # fmt: skip
        confirmed = [t for t in self._tracks if t.hits >= self.settings.confirm_hits]
        confirmed.sort(key=lambda t: -t.box[2] * (PRIMARY_BONUS if t.id == self._primary else 1.0))
        self._primary = confirmed[0].id if confirmed else None
        return tuple(Face(t.id, _box_xywh(t.box), _quality(frame.grey, t.box), held=t.seen_ns != now_ns) for t in confirmed)

    def _scan_due(self, now_ns: int) -> bool:
        if self._last_scan_ns is None:
            return True
        interval_s = self.settings.rescan_s if self._tracks else self.settings.search_s
        return now_ns - self._last_scan_ns >= interval_s * NS_PER_S

    def _follow(self, track: _Track, frame: VideoFrame) -> None:
        """Search the region round a known face and move its box there."""
        x, y, side = track.box
        height, width = frame.grey.shape
        reach = side * (0.5 + REGION_PAD)
        left, top = max(0, int(x - reach)), max(0, int(y - reach))
        region = frame.grey[top : min(height, int(y + reach)), left : min(width, int(x + reach))]
        scale = REGION_FACE_SIDE / side
        found = self._detect(region, scale, 0.7 * side, 1.4 * side, REGION_FACTOR)
        if not found:
            return
        fx, fy, fside = min(found, key=lambda box: abs(box[0] + left - x) + abs(box[1] + top - y))
        new = (fx + left, fy + top, fside)
        track.box = tuple(BOX_GAIN * n + (1 - BOX_GAIN) * o for n, o in zip(new, track.box, strict=True))  # type: ignore[assignment]
        track.hits += 1
        track.seen_ns = frame.capture_time_ns

    def _scan(self, frame: VideoFrame) -> None:
        """Search the whole frame and start a track for each face that none follows yet."""
        smallest = max(CASCADE_SIDE, self.settings.smallest_face * frame.grey.shape[0])
        for box in self._detect(frame.grey, CASCADE_SIDE / smallest, smallest, None, FULL_SCAN_FACTOR):
            if all(_overlap(box, track.box) < SAME_FACE_OVERLAP for track in self._tracks):
                self._tracks.append(_Track(self._next_id, box, 1, frame.capture_time_ns))
                self._next_id += 1

    def _detect(self, grey: U8, scale: float, smallest: float, largest: float | None, factor: float) -> list[Box]:
        """Return the boxes found in a picture that is scaled first; sizes and results in the picture's own pixels."""
        if scale < 1.0 or grey.shape[0] * scale * grey.shape[1] * scale < 500_000:
            size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
            scaled = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR)
        else:
            scale, scaled = 1.0, grey
        if min(scaled.shape) < CASCADE_SIDE:
            return []
        low = max(CASCADE_SIDE, int(smallest * scale))
        high = (int(largest * scale) + 1,) * 2 if largest else (0, 0)  # OpenCV reads 0 as no limit
        found: Sequence[Sequence[int]] = self._cascade.detectMultiScale(
            scaled, factor, NEIGHBOURS, minSize=(low, low), maxSize=high
        )
        return [((x + w / 2) / scale, (y + h / 2) / scale, w / scale) for x, y, w, h in found]


def _distinct(tracks: list[_Track], now_ns: int) -> list[_Track]:
    """Where two tracks have come to follow one face, as when people cross, leave it to the one seen more often."""
    kept: list[_Track] = []
    for track in sorted(tracks, key=lambda t: (t.seen_ns != now_ns, -t.hits)):
        if all(_overlap(track.box, other.box) < ONE_FACE_OVERLAP for other in kept):
            kept.append(track)
    return kept


def _box_xywh(box: Box) -> tuple[int, int, int, int]:
    x, y, side = box
    return round(x - side / 2), round(y - side / 2), round(side), round(side)


def _overlap(a: Box, b: Box) -> float:
    """Return intersection over union of two square boxes."""
    dx = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    dy = min(a[1] + a[2] / 2, b[1] + b[2] / 2) - max(a[1] - a[2] / 2, b[1] - b[2] / 2)
    common = max(0.0, dx) * max(0.0, dy)
    return common / (a[2] ** 2 + b[2] ** 2 - common)


def _quality(grey: U8, box: Box) -> float:
    """Return how fit a face is to be read, in [0, 1]: enough pixels and enough contrast."""
    x, y, w, h = _box_xywh(box)
    pixels = grey[max(0, y) : y + h : 4, max(0, x) : x + w : 4]
    if not pixels.size:
        return 0.0
    return float(min(1.0, w / REGION_FACE_SIDE) * min(1.0, float(np.std(pixels)) / SHARP_DEVIATION))
