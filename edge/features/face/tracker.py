"""The faces of one stream: found once, then followed cheaply, confirmed before they speak, held over short misses.

Ids are small numbers that live as long as a track does; nothing of a face is kept by which it could be known again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moodring.clock import NS_PER_S, UNTIMED, StageTimer
from moodring.features.face.haar import (
    CLOSE_SEARCH,
    NEW_FACE_SEARCH,
    PROFILE_SEARCH,
    QUICK_SEARCH,
    Box,
    Detection,
    FaceDetector,
    RegionSearch,
)
from moodring.features.face.quality import face_image_quality, frontal_pose_score
from moodring.features.face.search import FaceSearch, Proposal
from moodring.types import U8, Face, VideoFrame

MAX_PROPOSALS = 2  # of a frame that are looked at again, at most
DOUBLE_HIT_NEIGHBOURS = 8  # cascade windows that agree on a face, so many that it counts as found twice
TRIPLE_HIT_NEIGHBOURS = (
    8  # windows of either cascade that agree on a new face, so many that it counts as found three times at once
)
HOLD_HITS_FACTOR = 2  # times as often as it takes to be confirmed must a face be found before it is held
FACE_PART_RATIO = 0.7  # of a face: what lies within it and is smaller is a part of it
MATCH_IOU = 0.3  # of a box found with the one that is followed
DUPLICATE_IOU = 0.5  # of two that are followed
PRIMARY_HYSTERESIS = 1.2
POSITION_GAIN, VELOCITY_GAIN, SIDE_GAIN = 0.6, 0.15, 0.35  # of the alpha-beta filter
NEIGHBOURS_GAIN = 0.2
QUALITY_INTERVAL_NS = (
    2 * NS_PER_S // 3
)  # a face that is seen is judged so often at least: it takes a sixth of the time of following it
COAST_DECAY = 0.5  # share of its speed that a face not found keeps, from frame to frame
REACQUIRE_DISTANCE = 1.5  # of its side: how far from its last box a face that was lost may come back
MIN_REJECT_READS = 3  # of the face branch, before its doubt closes a track
CONFIDENCE_READS = 15  # over which its belief is averaged: a hand before a face for a moment closes nothing
REJECT_HOLD_S = 2.0  # how long nothing is looked for where a doubted face was

Primary = Literal["largest", "central"]


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How faces are found and kept. Fractions are of the frame's height."""

    smallest_face: float = 0.12
    confirm_hits: int = 3
    hold_s: float = 0.5
    rescan_s: float = 2.0  # for a full scan while a face is known, or while nothing moves
    primary: Primary = "largest"


@dataclass(slots=True)
class _Track:
    id: int
    box: Box
    seen_ns: int
    hits: int = 0
    neighbours: float = 0.0  # running mean
    velocity: tuple[float, float] = (0.0, 0.0)  # pixels a second
    updated_ns: int = 0
    missed: bool = False  # in the frame before
    is_profile: bool = False  # turned away when last seen
    image_quality: float = 0.0
    quality_updated_ns: int | None = None
    confidence: float = 1.0
    reads: int = 0


class HaarTracker:
    """The faces of one stream. `follow` takes frames in time order, `explore` each of them after it; `update` is both.

    Without `explore` no second face is found, and each is taken to be as clear as when it was first seen.
    """

    def __init__(self, settings: TrackerSettings | None = None, timer: StageTimer = UNTIMED) -> None:
        self.settings = settings or TrackerSettings()
        self._timer = timer
        self._detector = FaceDetector()
        self.reset()

    def reset(self) -> None:
        """Forget every face; ids start again at 1."""
        self._next_id = 1
        self._restart((0, 0))

    def _restart(self, shape: tuple[int, ...]) -> None:
        """Begin anew with frames of another size: old boxes mean nothing in them."""
        self._shape = shape
        self._tracks: list[_Track] = []
        self._primary: int | None = None
        self._rejected: list[tuple[Box, int]] = []
        self._unsearched_ns: int | None = None  # the frame that is left to `explore`
        smallest = self.settings.smallest_face * shape[0]
        self._search = FaceSearch(self._detector, shape, smallest, self.settings.rescan_s)

    def update(self, frame: VideoFrame) -> tuple[Face, ...]:
        """Return the confirmed faces of this frame, and search the rest of it."""
        faces = self.track_faces(frame)
        self.search_new_faces(frame)
        return faces

    def track_faces(self, frame: VideoFrame) -> tuple[Face, ...]:
        """Return the confirmed faces of this frame, the primary one first; one held over a miss says since when.

        Where no face that is known is seen, new ones are searched for at once; else that is left to `explore`.

        Primary is the largest, or the most central one, until another is so by a good deal: of two alike it must not be now
        one, now the other.
        """
        now_ns = frame.capture_time_ns
        if frame.grey.shape != self._shape:
            self._restart(frame.grey.shape)
        for track in self._tracks:
            _predict(track, now_ns)
        self._assign(self._detect_tracked(frame.grey, is_cut=self._search.is_cut(frame.grey)), now_ns)
        if self._rejected:
            self._rejected = [(box, until_ns) for box, until_ns in self._rejected if until_ns > now_ns]
        if any(track.seen_ns == now_ns and self._is_confirmed(track) for track in self._tracks):
            self._unsearched_ns = now_ns
        else:
            self._unsearched_ns = None
            self._timed_scan(frame.grey, now_ns)
        self._tracks = self._surviving_tracks(now_ns)
        confirmed = [track for track in self._tracks if self._is_confirmed(track)]
        confirmed.sort(key=self._rank)
        self._primary = confirmed[0].id if confirmed else None
        return tuple(Face(t.id, t.box.xywh, _face_quality(t, frame.grey, now_ns), age_ns=now_ns - t.seen_ns) for t in confirmed)

    def search_new_faces(self, frame: VideoFrame) -> None:
        """Do with the frame that was followed last what the faces that are known need not wait for.

        It is searched for new ones. How clear the known ones are is judged along with a search, or else every two thirds of a
        second.
        """
        now_ns = frame.capture_time_ns
        if self._unsearched_ns != now_ns:
            return
        self._unsearched_ns = None
        if is_due := self._search.is_due(now_ns):
            self._timed_scan(frame.grey, now_ns)
        for track in self._tracks:
            if track.seen_ns == now_ns and (
                is_due or track.quality_updated_ns is None or now_ns - track.quality_updated_ns >= QUALITY_INTERVAL_NS
            ):
                _update_image_quality(track, frame.grey, now_ns)

    def update_confidence(self, face_id: int, usable: float) -> None:
        """Hear from the face branch whether a crop was a face, `usable` in [0, 1]; a track it does not believe in is closed."""
        for track in self._tracks:
            if track.id == face_id:
                track.reads += 1
                track.confidence += (usable - track.confidence) / min(track.reads, CONFIDENCE_READS)
                if track.reads >= MIN_REJECT_READS and track.confidence < 0.5:
                    self._rejected.append((track.box, track.seen_ns + int(REJECT_HOLD_S * NS_PER_S)))
                    self._tracks.remove(track)
                return

    def _is_confirmed(self, track: _Track) -> bool:
        return track.hits >= self.settings.confirm_hits

    def _rank(self, track: _Track) -> float:
        bonus = PRIMARY_HYSTERESIS if track.id == self._primary else 1.0
        if self.settings.primary == "largest":
            return -track.box.side * bonus
        height, width = self._shape
        return float(np.hypot(track.box.x - width / 2, track.box.y - height / 2)) / bonus

    # following

    def _detect_tracked(self, grey: U8, *, is_cut: bool) -> list[Detection]:
        """Look for each known face round where it should be; in another scene, where none is due there, in the cheapest way."""
        hits: list[Detection] = []
        for track in self._tracks:
            if is_cut:
                found = self._detector.search(grey, track.box, QUICK_SEARCH)
            else:
                searches = (CLOSE_SEARCH,) if track.missed or track.is_profile else (QUICK_SEARCH, CLOSE_SEARCH)
                found = self._search_region(grey, track.box, searches)
            hits += [hit for hit in found if all(hit.box.iou(other.box) < DUPLICATE_IOU for other in hits)]
        return hits

    def _search_region(self, grey: U8, box: Box, searches: Sequence[RegionSearch]) -> list[Detection]:
        """Search round a box in one way after the other until one finds something; last for a face turned aside."""
        frontal = next((hits for look in searches if (hits := self._detector.search(grey, box, look))), [])
        return frontal or self._detector.search_profile(grey, box, PROFILE_SEARCH)

    def _assign(self, hits: Sequence[Detection], now_ns: int) -> None:
        """Give each track the hit that lies best on it, the best pair first; no hit serves two tracks."""
        tracks = self._tracks
        pairs = [(track.box.iou(hit.box), track.hits, t, h) for t, track in enumerate(tracks) for h, hit in enumerate(hits)]
        pairs.sort(reverse=True)
        taken: set[int] = set()
        for iou, _, t, h in pairs:
            if iou >= MATCH_IOU and h not in taken and tracks[t].seen_ns != now_ns:
                taken.add(h)
                _correct(tracks[t], hits[h], now_ns)

    # finding

    def _timed_scan(self, grey: U8, now_ns: int) -> None:
        with self._timer.stage("search"):
            self._scan(grey, now_ns)

    def _scan(self, grey: U8, now_ns: int) -> None:
        """Search for new faces: look again at the likeliest places that are proposed where no face is followed yet."""
        known = [track.seen_ns == now_ns for track in self._tracks if self._is_confirmed(track)]
        verified = 0
        seen = [track.box for track in self._tracks if track.seen_ns == now_ns]
        for proposal in self._search.propose(grey, now_ns, known, seen):
            if verified < MAX_PROPOSALS and self._is_untracked(proposal.box, now_ns):
                self._verify_proposal(proposal, grey, now_ns)
                verified += 1

    def _verify_proposal(self, proposal: Proposal, grey: U8, now_ns: int) -> None:
        """Look closely where a face may be; where both cascades agree that there is one, follow it from now on."""
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
        lost = [track for track in self._tracks if track.seen_ns != now_ns and _may_reacquire(track, best.box)]
        if lost:
            nearest = min(lost, key=lambda t: abs(t.box.x - best.box.x) + abs(t.box.y - best.box.y))
            nearest.box, nearest.velocity, nearest.quality_updated_ns = best.box, (0.0, 0.0), None
            _correct(nearest, best, now_ns)
        elif all(best.box.iou(track.box) < MATCH_IOU for track in self._tracks):
            track = _Track(self._next_id, best.box, now_ns, updated_ns=now_ns)
            _correct(track, best, now_ns)
            if best.neighbours:  # two cascades agree
                track.hits += 2 if min(checked, best.neighbours) >= TRIPLE_HIT_NEIGHBOURS else 1
            self._tracks.append(track)
            self._next_id += 1

    def _is_untracked(self, box: Box, now_ns: int) -> bool:
        """Whether a box is neither a face that is being followed nor one that was doubted."""
        known = [track.box for track in self._tracks if track.seen_ns == now_ns] + [rejected for rejected, _ in self._rejected]
        return all(box.iou(other) < MATCH_IOU and not _is_face_part(box, other) for other in known)

    def _surviving_tracks(self, now_ns: int) -> list[_Track]:
        """Return the tracks to go on with: those seen, or confirmed and not long lost; where two follow one face, the older."""
        if len(self._tracks) == 1 and self._tracks[0].seen_ns == now_ns:  # as for most frames
            return self._tracks
        hold_ns = self.settings.hold_s * NS_PER_S
        survivors: list[_Track] = []
        for track in sorted(self._tracks, key=lambda t: (t.seen_ns != now_ns, -t.hits)):
            if track.seen_ns != now_ns:
                if track.hits < HOLD_HITS_FACTOR * self.settings.confirm_hits:
                    track.hits -= 1  # what was hardly ever seen is not held: it must be found more often than missed
                if track.hits <= 0 or now_ns - track.seen_ns > hold_ns:
                    continue
            if all(track.box.iou(other.box) < DUPLICATE_IOU for other in survivors):
                survivors.append(track)
        return [track for track in survivors if not any(_is_face_part(track.box, other.box) for other in survivors)]


def _update_image_quality(track: _Track, grey: U8, now_ns: int) -> None:
    track.image_quality, track.quality_updated_ns = face_image_quality(grey, track.box), now_ns


def _face_quality(track: _Track, grey: U8, now_ns: int) -> float:
    """Say how fit a track's face is to be read: how clear it was when it was last judged, and how it is turned now."""
    if track.quality_updated_ns is None:
        _update_image_quality(track, grey, now_ns)
    return track.image_quality * frontal_pose_score(track.neighbours)


def _predict(track: _Track, now_ns: int) -> None:
    """Move a track to where it should be by now."""
    seconds = (now_ns - track.updated_ns) / NS_PER_S
    track.box = Box(track.box.x + track.velocity[0] * seconds, track.box.y + track.velocity[1] * seconds, track.box.side)
    track.missed = track.updated_ns != track.seen_ns
    if track.missed:
        track.velocity = (track.velocity[0] * COAST_DECAY, track.velocity[1] * COAST_DECAY)
    track.updated_ns = now_ns


def _correct(track: _Track, hit: Detection, now_ns: int) -> None:
    """Correct a track by what was found (an alpha-beta filter: it smooths without lagging behind a steady motion)."""
    if track.missed:
        track.quality_updated_ns = None  # what comes back may be blurred: it is judged before it is answered
    seconds = max(1e-3, (now_ns - track.seen_ns) / NS_PER_S)
    dx, dy = hit.box.x - track.box.x, hit.box.y - track.box.y
    track.box = Box(
        track.box.x + POSITION_GAIN * dx,
        track.box.y + POSITION_GAIN * dy,
        track.box.side + SIDE_GAIN * (hit.box.side - track.box.side),
    )
    track.velocity = (track.velocity[0] + VELOCITY_GAIN * dx / seconds, track.velocity[1] + VELOCITY_GAIN * dy / seconds)
    track.is_profile = hit.neighbours == 0
    track.hits += 2 if hit.neighbours >= DOUBLE_HIT_NEIGHBOURS else 1
    track.neighbours += (hit.neighbours - track.neighbours) * (NEIGHBOURS_GAIN if track.neighbours else 1.0)
    track.seen_ns = now_ns


def _is_face_part(box: Box, other: Box) -> bool:
    """Whether a box is an eye or a mouth of the face in another: smaller, and centred within it."""
    return box.side < FACE_PART_RATIO * other.side and max(abs(box.x - other.x), abs(box.y - other.y)) < other.side / 2


def _may_reacquire(track: _Track, box: Box) -> bool:
    """Whether a face found now may be the one lost a moment ago: near, and of like size."""
    near = max(abs(track.box.x - box.x), abs(track.box.y - box.y)) <= REACQUIRE_DISTANCE * track.box.side
    return near and 0.6 < box.side / track.box.side < 1.6
