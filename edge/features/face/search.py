"""Where to look for new faces, and when: the full search of a scene, cut so small that no frame pays for much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from moodring.clock import NS_PER_S
from moodring.features.face.haar import Box, FaceDetector, Slice, plan_scan
from moodring.types import U8

SCENE_SLICES = 10  # of a new scene that one frame pays for: five to ten milliseconds
LIKELY_NEIGHBOURS = 4  # windows that agree on a place, so many that it is looked at before the search goes on
DUE_SLICES = 3  # of every scene that are searched now and then: two frames in three pay for none
DUE_BESIDE = 4  # of them beside a known face, which does not wait for them: four frames in five pay for none
SEARCH_FRAMES, BESIDE_FRAMES = 4, 6  # over which a full scan is spread while no face is known, and beside one that is
STILL_SIDE = 64  # pixels the frame is shrunk to, to see whether anything moved
STILL_LEVELS = 6  # grey levels: smaller changes are noise
CUT_SIDE = 16  # pixels of the frame each way that are compared, to see whether all of it is another
CUT_LEVELS = 20  # grey levels on average


class Proposal(NamedTuple):
    """A place where a face may be, how many windows agreed on it, and whether they were the checking cascade's."""

    box: Box
    neighbours: int
    checked: bool


@dataclass(slots=True)
class _Scan:
    """How far one cascade has come: its next slice, and how many are left of the scan that was begun."""

    checking: bool
    next: int = 0
    left: int = 0


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
        self._slice_due_ns = 0
        self._scans = (_Scan(checking=False), _Scan(checking=True))
        self._turn = 0  # whose slice was searched last
        self._is_new_scene = False
        self._some = tuple(slice(None, None, max(1, n // CUT_SIDE)) for n in shape)  # the pixels that tell a cut
        self._scene: U8 | None = None
        self._still: U8 | None = None

    def is_cut(self, grey: U8) -> bool:
        """Whether this frame, uint8 [H, W], shows another scene than the one before: asked once of each, before `look`."""
        scene, self._scene = self._scene, grey[self._some].copy()
        cut = scene is None or cv2.norm(self._scene, scene, cv2.NORM_L1) > CUT_LEVELS * scene.size
        if cut:
            self._is_new_scene = True
            for scan in self._scans:
                scan.next, scan.left = 0, len(self._slices)
        return cut

    def is_due(self, now_ns: int) -> bool:
        """Whether a frame in which a known face was seen pays for any of the search: most do not."""
        return now_ns >= self._slice_due_ns or any(scan.left for scan in self._scans)

    def look(self, grey: U8, now_ns: int, known: Sequence[bool], seen: Sequence[Box]) -> list[Proposal]:
        """Return the places of uint8 [H, W] where a new face may be, the likeliest first.

        `known` says of each face that is followed whether it was seen in this frame, `seen` where what was seen is.
        """
        if not self._slices:
            return []
        if not self._is_new_scene and not any(known) and self._has_moved(grey):
            self._scans[0].left = len(self._slices)
        due = self._due(now_ns, known)
        if not any(due):
            return []
        enough = None if any(known) else LIKELY_NEIGHBOURS
        return sorted(self._scanned(grey, due, seen, enough), key=lambda proposal: -proposal.neighbours)

    def _scanned(self, grey: U8, due: Sequence[int], seen: Sequence[Box], enough: int | None) -> list[Proposal]:
        """Search so many slices of either scan, or up to the one that shows a place on which `enough` windows agree."""
        proposals: list[Proposal] = []
        for scan, count in zip(self._scans, due, strict=True):
            for _ in range(count):
                hits = self._detector.scan(grey, self._take(scan), scan.checking, seen)
                proposals += [Proposal(hit.box, hit.neighbours, scan.checking) for hit in hits]
                if enough is not None and any(hit.neighbours >= enough for hit in hits):
                    return proposals
        return proposals

    def _due(self, now_ns: int, known: Sequence[bool]) -> list[int]:
        """Return how many slices of either scan this frame pays for."""
        due = [0, 0]
        begun = next((i for i, scan in enumerate(self._scans) if scan.left), None)
        if begun is not None:
            share = -(-len(self._slices) // (BESIDE_FRAMES if known else SEARCH_FRAMES))
            due[begun] = SCENE_SLICES if self._is_new_scene and not any(known) else share
        if now_ns >= self._slice_due_ns and not self._is_new_scene:  # a new one is being searched already
            some = DUE_BESIDE if any(known) else DUE_SLICES
            self._slice_due_ns = max(self._slice_due_ns + some * self._slice_ns, now_ns)
            self._turn = 1 if begun is not None else 1 - self._turn
            due[self._turn] = max(1 if begun is not None and any(known) else some, due[self._turn])
        return [min(count, len(self._slices)) for count in due]

    def _take(self, scan: _Scan) -> Slice:
        """Return the next slice of a scan."""
        taken = self._slices[scan.next]
        scan.next = (scan.next + 1) % len(self._slices)
        scan.left = max(0, scan.left - 1)
        self._is_new_scene = self._is_new_scene and self._scans[0].left > 0
        return taken

    def _has_moved(self, grey: U8) -> bool:
        """Whether the picture has changed by more than noise since it last did."""
        rows = grey[:: max(1, len(grey) // (4 * STILL_SIDE))]
        small = np.asarray(cv2.resize(rows, (STILL_SIDE, STILL_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        moved = self._still is None or cv2.norm(small, self._still, cv2.NORM_INF) > STILL_LEVELS
        if moved:
            self._still = small
        return moved
