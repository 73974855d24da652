"""Search for new faces: selects the slices of the full scan that each frame runs, within a bounded cost per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from moodring.clock import NS_PER_S
from moodring.features.face.geometry import Box
from moodring.features.face.haar import FaceDetector, ScanSlice, plan_scan
from moodring.types import U8

NEW_SCENE_SLICES = 10  # slices per frame of a new scene: 5 to 10 ms
EARLY_STOP_NEIGHBOURS = 4  # a detection with this many windows stops the search of the frame: it is verified first
RESCAN_SLICES = 3  # slices per turn of the periodic rescan; two frames in three run none
RESCAN_SLICES_WHILE_TRACKING = 4  # the same while a known face is detected, which is not delayed; four frames in five run none
# Number of frames over which a full scan is spread, without a known face and with one.
FULL_SCAN_FRAMES, FULL_SCAN_FRAMES_WHILE_TRACKING = 4, 6
MOTION_SIDE = 64  # pixels: side of the reduced frame that motion detection compares
MOTION_THRESHOLD = 6  # grey levels: smaller changes are noise
CUT_GRID_SIDE = 16  # pixels in each direction that are compared to detect a cut to another scene
CUT_THRESHOLD = 20  # grey levels, mean absolute difference


class Proposal(NamedTuple):
    """A possible face: its box, its number of windows, and whether the check cascade found it."""

    box: Box
    neighbours: int
    checked: bool


@dataclass(slots=True)
class _ScanProgress:
    """Progress of the scan by one cascade: index of the next slice, and number of slices left of the current scan."""

    use_check_cascade: bool
    next: int = 0
    remaining: int = 0


class FaceSearch:
    """Search of one stream for new faces. All frames are uint8 [H, W] of the same size, in time order.

    After a cut, the search cascade scans the new scene, large faces first, with as many slices per frame as the budget allows.
    Then the check cascade scans it, because it finds some faces that the search cascade misses. While no face is detected,
    motion starts a scan again, with fewer slices per frame. In addition, a periodic rescan runs some slices, with both cascades
    in turn. A slice that shows a likely face ends the search of the frame, so that the face is verified first.

    `shape` is [H, W], `smallest` the smallest face side in pixels, `rescan_s` the duration of one periodic rescan in seconds.
    """

    def __init__(self, detector: FaceDetector, shape: tuple[int, ...], smallest: float, rescan_s: float) -> None:
        self._detector = detector
        self._slices = plan_scan(shape, smallest)
        self._slice_ns = int(rescan_s * NS_PER_S / max(1, len(self._slices)))
        self._next_slice_ns = 0
        self._scans = (_ScanProgress(use_check_cascade=False), _ScanProgress(use_check_cascade=True))
        self._last_scan = 0  # index of the scan that the last periodic rescan used
        self._is_new_scene = False
        self._cut_grid = tuple(slice(None, None, max(1, n // CUT_GRID_SIDE)) for n in shape)  # compared to detect a cut
        self._cut_reference: U8 | None = None
        self._motion_reference: U8 | None = None

    def is_cut(self, grey: U8) -> bool:
        """Return whether this frame shows another scene than the previous one. Call once for each frame, before `propose`."""
        previous, self._cut_reference = self._cut_reference, grey[self._cut_grid].copy()
        is_cut = previous is None or cv2.norm(self._cut_reference, previous, cv2.NORM_L1) > CUT_THRESHOLD * previous.size
        if is_cut:
            self._is_new_scene = True
            for scan in self._scans:
                scan.next, scan.remaining = 0, len(self._slices)
        return is_cut

    def is_due(self, now_ns: int) -> bool:
        """Return whether the search has slices for a frame in which a known face was detected. Most frames have none."""
        return now_ns >= self._next_slice_ns or any(scan.remaining for scan in self._scans)

    def propose(self, grey: U8, now_ns: int, detected: Sequence[bool], boxes: Sequence[Box]) -> list[Proposal]:
        """Return the boxes of possible new faces, the most likely first.

        `detected` gives for each confirmed face whether it was detected in this frame; `boxes` are all boxes detected in it.
        """
        if not self._slices:
            return []
        if not self._is_new_scene and not any(detected) and self._has_moved(grey):
            self._scans[0].remaining = len(self._slices)
        due = self._slices_due(now_ns, detected)
        if not any(due):
            return []
        stop_neighbours = None if any(detected) else EARLY_STOP_NEIGHBOURS
        return sorted(self._run_scans(grey, due, boxes, stop_neighbours), key=lambda proposal: -proposal.neighbours)

    def _run_scans(self, grey: U8, due: Sequence[int], boxes: Sequence[Box], stop_neighbours: int | None) -> list[Proposal]:
        """Run `due` slices of each scan, or fewer if one gives a detection with `stop_neighbours` windows."""
        proposals: list[Proposal] = []
        for scan, count in zip(self._scans, due, strict=True):
            for _ in range(count):
                detections = self._detector.scan(grey, self._next_slice(scan), scan.use_check_cascade, boxes)
                proposals += [Proposal(detection.box, detection.neighbours, scan.use_check_cascade) for detection in detections]
                if stop_neighbours is not None and any(detection.neighbours >= stop_neighbours for detection in detections):
                    return proposals
        return proposals

    def _slices_due(self, now_ns: int, detected: Sequence[bool]) -> list[int]:
        """Return the number of slices of each scan for this frame."""
        due = [0, 0]
        active_scan = next((i for i, scan in enumerate(self._scans) if scan.remaining), None)
        if active_scan is not None:
            slices_per_frame = -(-len(self._slices) // (FULL_SCAN_FRAMES_WHILE_TRACKING if detected else FULL_SCAN_FRAMES))
            due[active_scan] = NEW_SCENE_SLICES if self._is_new_scene and not any(detected) else slices_per_frame
        if now_ns >= self._next_slice_ns and not self._is_new_scene:  # a new scene is already being scanned
            rescan_slices = RESCAN_SLICES_WHILE_TRACKING if any(detected) else RESCAN_SLICES
            self._next_slice_ns = max(self._next_slice_ns + rescan_slices * self._slice_ns, now_ns)
            self._last_scan = 1 if active_scan is not None else 1 - self._last_scan
            due[self._last_scan] = max(1 if active_scan is not None and any(detected) else rescan_slices, due[self._last_scan])
        return [min(count, len(self._slices)) for count in due]

    def _next_slice(self, scan: _ScanProgress) -> ScanSlice:
        """Return the next slice of a scan."""
        scan_slice = self._slices[scan.next]
        scan.next = (scan.next + 1) % len(self._slices)
        scan.remaining = max(0, scan.remaining - 1)
        self._is_new_scene = self._is_new_scene and self._scans[0].remaining > 0
        return scan_slice

    def _has_moved(self, grey: U8) -> bool:
        """Return whether the image differs from the reference by more than noise; if so, make it the new reference."""
        rows = grey[:: max(1, len(grey) // (4 * MOTION_SIDE))]
        small = np.asarray(cv2.resize(rows, (MOTION_SIDE, MOTION_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        has_moved = self._motion_reference is None or cv2.norm(small, self._motion_reference, cv2.NORM_INF) > MOTION_THRESHOLD
        if has_moved:
            self._motion_reference = small
        return has_moved
