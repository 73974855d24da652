"""Where to look for new faces, and when: the full search of a scene, cut so small that no frame pays for much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from moodring.clock import NS_PER_S
from moodring.features.face.haar import Box, FaceDetector, ScanSlice, plan_scan
from moodring.types import U8

NEW_SCENE_SLICES = 10  # of a new scene that one frame pays for: five to ten milliseconds
EARLY_STOP_NEIGHBOURS = 4  # windows that agree on a place, so many that it is looked at before the search goes on
RESCAN_SLICES = 3  # of every scene that are searched now and then: two frames in three pay for none
RESCAN_SLICES_WHILE_TRACKING = 4  # of them beside a known face, which does not wait for them: four frames in five pay for none
FULL_SCAN_FRAMES, FULL_SCAN_FRAMES_WHILE_TRACKING = (
    4,
    6,
)  # over which a full scan is spread while no face is known, and beside one that is
MOTION_SIDE = 64  # pixels the frame is shrunk to, to see whether anything moved
MOTION_THRESHOLD = 6  # grey levels: smaller changes are noise
CUT_GRID_SIDE = 16  # pixels of the frame each way that are compared, to see whether all of it is another
CUT_THRESHOLD = 20  # grey levels on average


class Proposal(NamedTuple):
    """A place where a face may be, how many windows agreed on it, and whether they were the checking cascade's."""

    box: Box
    neighbours: int
    checked: bool


@dataclass(slots=True)
class _ScanProgress:
    """How far one cascade has come: its next slice, and how many are left of the scan that was begun."""

    use_check_cascade: bool
    next: int = 0
    remaining: int = 0


class FaceSearch:
    """The search of one stream's frames for new faces. Takes frames of one size, in time order.

    A new scene is scanned by the searching cascade at once, large faces first, as much of it in a frame as its budget allows,
    and then by the checking one, which finds some faces that the other misses. While no face is seen, every motion starts
    a scan again, less of it in a frame. At all times some is searched now and then, by one cascade and the other in turn. Where
    a slice shows a likely face, the frame pays for no more of them: it is looked at.
    """

    def __init__(self, detector: FaceDetector, shape: tuple[int, ...], smallest: float, rescan_s: float) -> None:
        self._detector = detector
        self._slices = plan_scan(shape, smallest)
        self._slice_ns = int(rescan_s * NS_PER_S / max(1, len(self._slices)))
        self._next_slice_ns = 0
        self._scans = (_ScanProgress(use_check_cascade=False), _ScanProgress(use_check_cascade=True))
        self._last_scan = 0  # whose slice was searched last
        self._is_new_scene = False
        self._cut_grid = tuple(slice(None, None, max(1, n // CUT_GRID_SIDE)) for n in shape)  # the pixels that tell a cut
        self._cut_reference: U8 | None = None
        self._motion_reference: U8 | None = None

    def is_cut(self, grey: U8) -> bool:
        """Whether this frame, uint8 [H, W], shows another scene than the one before: asked once of each, before `look`."""
        scene, self._cut_reference = self._cut_reference, grey[self._cut_grid].copy()
        cut = scene is None or cv2.norm(self._cut_reference, scene, cv2.NORM_L1) > CUT_THRESHOLD * scene.size
        if cut:
            self._is_new_scene = True
            for scan in self._scans:
                scan.next, scan.remaining = 0, len(self._slices)
        return cut

    def is_due(self, now_ns: int) -> bool:
        """Whether a frame in which a known face was seen pays for any of the search: most do not."""
        return now_ns >= self._next_slice_ns or any(scan.remaining for scan in self._scans)

    def propose(self, grey: U8, now_ns: int, known: Sequence[bool], seen: Sequence[Box]) -> list[Proposal]:
        """Return the places of uint8 [H, W] where a new face may be, the likeliest first.

        `known` says of each face that is followed whether it was seen in this frame, `seen` where what was seen is.
        """
        if not self._slices:
            return []
        if not self._is_new_scene and not any(known) and self._has_moved(grey):
            self._scans[0].remaining = len(self._slices)
        due = self._slices_due(now_ns, known)
        if not any(due):
            return []
        stop_neighbours = None if any(known) else EARLY_STOP_NEIGHBOURS
        return sorted(self._run_scans(grey, due, seen, stop_neighbours), key=lambda proposal: -proposal.neighbours)

    def _run_scans(self, grey: U8, due: Sequence[int], seen: Sequence[Box], stop_neighbours: int | None) -> list[Proposal]:
        """Search so many slices of either scan, or up to the one that shows a place on which `enough` windows agree."""
        proposals: list[Proposal] = []
        for scan, count in zip(self._scans, due, strict=True):
            for _ in range(count):
                detections = self._detector.scan(grey, self._next_slice(scan), scan.use_check_cascade, seen)
                proposals += [Proposal(detection.box, detection.neighbours, scan.use_check_cascade) for detection in detections]
                if stop_neighbours is not None and any(detection.neighbours >= stop_neighbours for detection in detections):
                    return proposals
        return proposals

    def _slices_due(self, now_ns: int, known: Sequence[bool]) -> list[int]:
        """Return how many slices of either scan this frame pays for."""
        due = [0, 0]
        active_scan = next((i for i, scan in enumerate(self._scans) if scan.remaining), None)
        if active_scan is not None:
            slices_per_frame = -(-len(self._slices) // (FULL_SCAN_FRAMES_WHILE_TRACKING if known else FULL_SCAN_FRAMES))
            due[active_scan] = NEW_SCENE_SLICES if self._is_new_scene and not any(known) else slices_per_frame
        if now_ns >= self._next_slice_ns and not self._is_new_scene:  # a new one is being searched already
            rescan_slices = RESCAN_SLICES_WHILE_TRACKING if any(known) else RESCAN_SLICES
            self._next_slice_ns = max(self._next_slice_ns + rescan_slices * self._slice_ns, now_ns)
            self._last_scan = 1 if active_scan is not None else 1 - self._last_scan
            due[self._last_scan] = max(1 if active_scan is not None and any(known) else rescan_slices, due[self._last_scan])
        return [min(count, len(self._slices)) for count in due]

    def _next_slice(self, scan: _ScanProgress) -> ScanSlice:
        """Return the next slice of a scan."""
        taken = self._slices[scan.next]
        scan.next = (scan.next + 1) % len(self._slices)
        scan.remaining = max(0, scan.remaining - 1)
        self._is_new_scene = self._is_new_scene and self._scans[0].remaining > 0
        return taken

    def _has_moved(self, grey: U8) -> bool:
        """Whether the picture has changed by more than noise since it last did."""
        rows = grey[:: max(1, len(grey) // (4 * MOTION_SIDE))]
        small = np.asarray(cv2.resize(rows, (MOTION_SIDE, MOTION_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        moved = self._motion_reference is None or cv2.norm(small, self._motion_reference, cv2.NORM_INF) > MOTION_THRESHOLD
        if moved:
            self._motion_reference = small
        return moved
