"""Face tracker: detects faces once, then tracks them at low cost, confirms them before output, holds them over short misses.

Ids are small integers that exist as long as their track. No feature that could identify a person later is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moodring.clock import NS_PER_S, UNTIMED, StageTimer
from moodring.features.face.geometry import Box
from moodring.features.face.haar import (
    CLOSE_SEARCH,
    NEW_FACE_SEARCH,
    PROFILE_SEARCH,
    QUICK_SEARCH,
    Detection,
    FaceDetector,
    RegionSearch,
)
from moodring.features.face.search import FaceSearch, Proposal
from moodring.features.face.track import Track
from moodring.types import U8, Face, VideoFrame

MAX_PROPOSALS = 2  # verified per frame
TRIPLE_HIT_NEIGHBOURS = 8  # a new face with this many windows in both frontal cascades counts as at least three hits
HOLD_HITS_FACTOR = 2  # a face is held after this multiple of the hits that confirm it
FACE_PART_RATIO = 0.7  # a smaller box inside a face is a part of it, relative to the side of the face
MATCH_IOU = 0.3  # of a detection and a track
DUPLICATE_IOU = 0.5  # of two tracks
PRIMARY_HYSTERESIS = 1.2
# Longest time between evaluations of the image quality of a detected face. One takes a sixth of the time of tracking the face.
QUALITY_INTERVAL_NS = 2 * NS_PER_S // 3
MIN_REJECT_READS = 3  # outputs of the face branch before a low confidence closes a track
REJECT_HOLD_S = 2.0  # a rejected face is not searched for again during this time

Primary = Literal["largest", "central"]


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Parameters of detection and tracking. `smallest_face` is a fraction of the frame height."""

    smallest_face: float = 0.12
    confirm_hits: int = 3
    hold_s: float = 0.5
    rescan_s: float = 2.0  # duration of a full scan while a face is known or nothing moves
    primary: Primary = "largest"


class HaarTracker:
    """Face tracker of one stream.

    Call `track_faces` for each frame in time order, then `search_new_faces` for the same frame; `update` does both. Without
    `search_new_faces`, no second face is found, and the image quality of a face stays that of its first detection.
    """

    def __init__(self, settings: TrackerSettings | None = None, timer: StageTimer = UNTIMED) -> None:
        self.settings = settings or TrackerSettings()
        self._timer = timer
        self._detector = FaceDetector()
        self.reset()

    def reset(self) -> None:
        """Drop all tracks. Ids start again at 1."""
        self._next_id = 1
        self._restart((0, 0))

    def _restart(self, shape: tuple[int, ...]) -> None:
        """Drop all tracks and start with frames of this shape, in which boxes of earlier frames are not valid."""
        self._shape = shape
        self._tracks: list[Track] = []
        self._primary: int | None = None
        self._rejected: list[tuple[Box, int]] = []
        self._unsearched_ns: int | None = None  # capture time of the frame that `search_new_faces` processes
        smallest = self.settings.smallest_face * shape[0]
        self._search = FaceSearch(self._detector, shape, smallest, self.settings.rescan_s)

    def update(self, frame: VideoFrame) -> tuple[Face, ...]:
        """Return the confirmed faces of this frame, and search it for new ones."""
        faces = self.track_faces(frame)
        self.search_new_faces(frame)
        return faces

    def track_faces(self, frame: VideoFrame) -> tuple[Face, ...]:
        """Return the confirmed faces of this frame, the primary one first. A held face has `age_ns` > 0.

        If no confirmed face is detected, new faces are searched for immediately; otherwise by `search_new_faces`.

        The primary face is the largest or the most central one. A hysteresis prevents alternation between two similar faces.
        """
        now_ns = frame.capture_time_ns
        if frame.grey.shape != self._shape:
            self._restart(frame.grey.shape)
        for track in self._tracks:
            track.predict(now_ns)
        self._assign(self._detect_tracked(frame.grey, is_cut=self._search.is_cut(frame.grey)), now_ns)
        if self._rejected:
            self._rejected = [(box, until_ns) for box, until_ns in self._rejected if until_ns > now_ns]
        if any(track.detected_ns == now_ns and self._is_confirmed(track) for track in self._tracks):
            self._unsearched_ns = now_ns
        else:
            self._unsearched_ns = None
            self._timed_scan(frame.grey, now_ns)
        self._tracks = self._surviving_tracks(now_ns)
        confirmed = [track for track in self._tracks if self._is_confirmed(track)]
        confirmed.sort(key=self._rank)
        self._primary = confirmed[0].id if confirmed else None
        return tuple(Face(t.id, t.box.xywh, t.quality(frame.grey, now_ns), age_ns=now_ns - t.detected_ns) for t in confirmed)

    def search_new_faces(self, frame: VideoFrame) -> None:
        """Search the last tracked frame for new faces, and update the image quality of the known ones.

        This work does not delay the known faces. The image quality is updated with each search, at the latest every
        QUALITY_INTERVAL_NS. Another frame than the last tracked one is ignored.
        """
        now_ns = frame.capture_time_ns
        if self._unsearched_ns != now_ns:
            return
        self._unsearched_ns = None
        if is_due := self._search.is_due(now_ns):
            self._timed_scan(frame.grey, now_ns)
        for track in self._tracks:
            if track.detected_ns == now_ns and (
                is_due or track.quality_updated_ns is None or now_ns - track.quality_updated_ns >= QUALITY_INTERVAL_NS
            ):
                track.update_image_quality(frame.grey, now_ns)

    def update_confidence(self, face_id: int, usable: float) -> None:
        """Report `usable` in [0, 1] of the face branch for a face. A track with low confidence is closed."""
        for track in self._tracks:
            if track.id == face_id:
                track.update_confidence(usable)
                if track.reads >= MIN_REJECT_READS and track.confidence < 0.5:
                    self._rejected.append((track.box, track.detected_ns + int(REJECT_HOLD_S * NS_PER_S)))
                    self._tracks.remove(track)
                return

    def _is_confirmed(self, track: Track) -> bool:
        return track.hits >= self.settings.confirm_hits

    def _rank(self, track: Track) -> float:
        bonus = PRIMARY_HYSTERESIS if track.id == self._primary else 1.0
        if self.settings.primary == "largest":
            return -track.box.side * bonus
        height, width = self._shape
        return float(np.hypot(track.box.x - width / 2, track.box.y - height / 2)) / bonus

    # tracking

    def _detect_tracked(self, grey: U8, *, is_cut: bool) -> list[Detection]:
        """Search for each known face around its predicted box. After a cut, use the quick search: they are likely gone."""
        detections: list[Detection] = []
        for track in self._tracks:
            if is_cut:
                found = self._detector.search(grey, track.box, QUICK_SEARCH)
            else:
                searches = (CLOSE_SEARCH,) if track.is_missed or track.is_profile else (QUICK_SEARCH, CLOSE_SEARCH)
                found = self._search_region(grey, track.box, searches)
            detections += [
                detection for detection in found if all(detection.box.iou(other.box) < DUPLICATE_IOU for other in detections)
            ]
        return detections

    def _search_region(self, grey: U8, box: Box, searches: Sequence[RegionSearch]) -> list[Detection]:
        """Search around a box with each of `searches` until one detects a face; finally search for a face in profile."""
        frontal = next((detections for params in searches if (detections := self._detector.search(grey, box, params))), [])
        return frontal or self._detector.search_profile(grey, box, PROFILE_SEARCH)

    def _assign(self, detections: Sequence[Detection], now_ns: int) -> None:
        """Assign detections to tracks in descending order of overlap; each is assigned to one track at most."""
        tracks = self._tracks
        pairs = [
            (track.box.iou(detection.box), track.hits, t, d)
            for t, track in enumerate(tracks)
            for d, detection in enumerate(detections)
        ]
        pairs.sort(reverse=True)
        assigned: set[int] = set()
        for iou, _, t, d in pairs:
            if iou >= MATCH_IOU and d not in assigned and tracks[t].detected_ns != now_ns:
                assigned.add(d)
                tracks[t].correct(detections[d], now_ns)

    # search for new faces

    def _timed_scan(self, grey: U8, now_ns: int) -> None:
        with self._timer.stage("search"):
            self._scan(grey, now_ns)

    def _scan(self, grey: U8, now_ns: int) -> None:
        """Search for new faces: verify the most likely proposals that do not overlap a known face."""
        detected = [track.detected_ns == now_ns for track in self._tracks if self._is_confirmed(track)]
        verified = 0
        boxes = [track.box for track in self._tracks if track.detected_ns == now_ns]
        for proposal in self._search.propose(grey, now_ns, detected, boxes):
            if verified < MAX_PROPOSALS and self._is_untracked(proposal.box, now_ns):
                self._verify_proposal(proposal, grey, now_ns)
                verified += 1

    def _verify_proposal(self, proposal: Proposal, grey: U8, now_ns: int) -> None:
        """Verify a proposal with both cascades. If they agree, reacquire a lost track or start a new one."""
        checks = [proposal] if proposal.checked else self._detector.check(grey, proposal.box, NEW_FACE_SEARCH)
        checked = max((check.neighbours for check in checks), default=0)
        if not checked:
            return
        found = [
            detection
            for detection in self._search_region(grey, proposal.box, (NEW_FACE_SEARCH,))
            if self._is_untracked(detection.box, now_ns)
        ]
        if not found:
            return
        best = max(found, key=lambda detection: detection.box.iou(proposal.box))
        lost = [track for track in self._tracks if track.detected_ns != now_ns and track.can_reacquire(best.box)]
        if lost:
            nearest = min(lost, key=lambda t: abs(t.box.x - best.box.x) + abs(t.box.y - best.box.y))
            nearest.reacquire(best, now_ns)
        elif all(best.box.iou(track.box) < MATCH_IOU for track in self._tracks):
            track = Track(self._next_id, best.box, now_ns, updated_ns=now_ns)
            track.correct(best, now_ns)
            if best.neighbours:  # both frontal cascades detected it
                track.hits += 2 if min(checked, best.neighbours) >= TRIPLE_HIT_NEIGHBOURS else 1
            self._tracks.append(track)
            self._next_id += 1

    def _is_untracked(self, box: Box, now_ns: int) -> bool:
        """Return whether a box is neither a face detected in this frame nor a rejected one."""
        known = [track.box for track in self._tracks if track.detected_ns == now_ns]
        known += [rejected for rejected, _ in self._rejected]
        return all(box.iou(other) < MATCH_IOU and not _is_face_part(box, other) for other in known)

    def _surviving_tracks(self, now_ns: int) -> list[Track]:
        """Return the tracks to keep: those detected or held. Of two tracks of one face, keep the one with more hits."""
        if len(self._tracks) == 1 and self._tracks[0].detected_ns == now_ns:  # the usual case
            return self._tracks
        hold_ns = self.settings.hold_s * NS_PER_S
        survivors: list[Track] = []
        for track in sorted(self._tracks, key=lambda t: (t.detected_ns != now_ns, -t.hits)):
            if track.detected_ns != now_ns:
                if track.hits < HOLD_HITS_FACTOR * self.settings.confirm_hits:
                    track.hits -= 1  # it loses one hit for each frame without a detection; at 0 it is dropped
                if track.hits <= 0 or now_ns - track.detected_ns > hold_ns:
                    continue
            if all(track.box.iou(other.box) < DUPLICATE_IOU for other in survivors):
                survivors.append(track)
        return [track for track in survivors if not any(_is_face_part(track.box, other.box) for other in survivors)]


def _is_face_part(box: Box, other: Box) -> bool:
    """Return whether a box is a part of the face in another, such as an eye: smaller, with its centre inside."""
    return box.side < FACE_PART_RATIO * other.side and max(abs(box.x - other.x), abs(box.y - other.y)) < other.side / 2
