"""The faces of one stream: found once, then followed cheaply, confirmed before they speak, held over short misses.

Ids are small numbers that live as long as a track does; nothing of a face is kept by which it could be known again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moodring.clock import NS_PER_S, UNTIMED, StageTimer
from moodring.features.face.haar import CLOSE_LOOK, NEW_LOOK, PROFILE_LOOK, QUICK_LOOK, Box, FaceDetector, Hit, Look
from moodring.features.face.quality import face_clarity, frontality
from moodring.features.face.search import FaceSearch, Proposal
from moodring.types import U8, Face, VideoFrame

PROPOSALS = 2  # of a frame that are looked at again, at most
SURE_NEIGHBOURS = 8  # cascade windows that agree on a face, so many that it counts as found twice
SURE_OF_BOTH = 8  # windows of either cascade that agree on a new face, so many that it counts as found three times at once
HELD_HITS = 2  # times as often as it takes to be confirmed must a face be found before it is held
PART_SIZE = 0.7  # of a face: what lies within it and is smaller is a part of it
SAME_FACE_OVERLAP = 0.3  # of a box found with the one that is followed
ONE_FACE_OVERLAP = 0.5  # of two that are followed
PRIMARY_BONUS = 1.2
POSITION_GAIN, VELOCITY_GAIN, SIDE_GAIN = 0.6, 0.15, 0.35  # of the alpha-beta filter
NEIGHBOURS_GAIN = 0.2
CLARITY_NS = 2 * NS_PER_S // 3  # a face that is seen is judged so often at least: it takes a sixth of the time of following it
COAST = 0.5  # share of its speed that a face not found keeps, from frame to frame
RETURN_REACH = 1.5  # of its side: how far from its last box a face that was lost may come back
DOUBTED_READS = 3  # of the face branch, before its doubt closes a track
BELIEF_READS = 15  # over which its belief is averaged: a hand before a face for a moment closes nothing
DOUBT_S = 2.0  # how long nothing is looked for where a doubted face was

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
    speed: tuple[float, float] = (0.0, 0.0)  # pixels a second
    updated_ns: int = 0
    missed: bool = False  # in the frame before
    aside: bool = False  # turned away when last seen
    clarity: float = 0.0
    judged_ns: int | None = None
    belief: float = 1.0
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
        self._doubted: list[tuple[Box, int]] = []
        self._unexplored_ns: int | None = None  # the frame that is left to `explore`
        smallest = self.settings.smallest_face * shape[0]
        self._search = FaceSearch(self._detector, shape, smallest, self.settings.rescan_s)

    def update(self, frame: VideoFrame) -> tuple[Face, ...]:
        """Return the confirmed faces of this frame, and search the rest of it."""
        faces = self.follow(frame)
        self.explore(frame)
        return faces

    def follow(self, frame: VideoFrame) -> tuple[Face, ...]:
        """Return the confirmed faces of this frame, the primary one first; one held over a miss says since when.

        Where no face that is known is seen, new ones are searched for at once; else that is left to `explore`.

        Primary is the largest, or the most central one, until another is so by a good deal: of two alike it must not be now
        one, now the other.
        """
        now_ns = frame.capture_time_ns
        if frame.grey.shape != self._shape:
            self._restart(frame.grey.shape)
        for track in self._tracks:
            _coast(track, now_ns)
        self._assign(self._follow(frame.grey, is_cut=self._search.is_cut(frame.grey)), now_ns)
        if self._doubted:
            self._doubted = [(box, until_ns) for box, until_ns in self._doubted if until_ns > now_ns]
        if any(track.seen_ns == now_ns and self._is_confirmed(track) for track in self._tracks):
            self._unexplored_ns = now_ns
        else:
            self._unexplored_ns = None
            self._search_new_faces(frame.grey, now_ns)
        self._tracks = self._alive(now_ns)
        confirmed = [track for track in self._tracks if self._is_confirmed(track)]
        confirmed.sort(key=self._rank)
        self._primary = confirmed[0].id if confirmed else None
        return tuple(Face(t.id, t.box.xywh, _quality(t, frame.grey, now_ns), age_ns=now_ns - t.seen_ns) for t in confirmed)

    def explore(self, frame: VideoFrame) -> None:
        """Do with the frame that was followed last what the faces that are known need not wait for.

        It is searched for new ones. How clear the known ones are is judged along with a search, or else every two thirds of a
        second.
        """
        now_ns = frame.capture_time_ns
        if self._unexplored_ns != now_ns:
            return
        self._unexplored_ns = None
        if is_due := self._search.is_due(now_ns):
            self._search_new_faces(frame.grey, now_ns)
        for track in self._tracks:
            if track.seen_ns == now_ns and (is_due or track.judged_ns is None or now_ns - track.judged_ns >= CLARITY_NS):
                _judge(track, frame.grey, now_ns)

    def believe(self, face_id: int, usable: float) -> None:
        """Hear from the face branch whether a crop was a face, `usable` in [0, 1]; a track it does not believe in is closed."""
        for track in self._tracks:
            if track.id == face_id:
                track.reads += 1
                track.belief += (usable - track.belief) / min(track.reads, BELIEF_READS)
                if track.reads >= DOUBTED_READS and track.belief < 0.5:
                    self._doubted.append((track.box, track.seen_ns + int(DOUBT_S * NS_PER_S)))
                    self._tracks.remove(track)
                return

    def _is_confirmed(self, track: _Track) -> bool:
        return track.hits >= self.settings.confirm_hits

    def _rank(self, track: _Track) -> float:
        bonus = PRIMARY_BONUS if track.id == self._primary else 1.0
        if self.settings.primary == "largest":
            return -track.box.side * bonus
        height, width = self._shape
        return float(np.hypot(track.box.x - width / 2, track.box.y - height / 2)) / bonus

    # following

    def _follow(self, grey: U8, *, is_cut: bool) -> list[Hit]:
        """Look for each known face round where it should be; in another scene, where none is due there, in the cheapest way."""
        hits: list[Hit] = []
        for track in self._tracks:
            if is_cut:
                found = self._detector.search(grey, track.box, QUICK_LOOK)
            else:
                looks = (CLOSE_LOOK,) if track.missed or track.aside else (QUICK_LOOK, CLOSE_LOOK)
                found = self._look(grey, track.box, looks)
            hits += [hit for hit in found if all(hit.box.overlap(other.box) < ONE_FACE_OVERLAP for other in hits)]
        return hits

    def _look(self, grey: U8, box: Box, looks: Sequence[Look]) -> list[Hit]:
        """Search round a box in one way after the other until one finds something; last for a face turned aside."""
        frontal = next((hits for look in looks if (hits := self._detector.search(grey, box, look))), [])
        return frontal or self._detector.search_profile(grey, box, PROFILE_LOOK)

    def _assign(self, hits: Sequence[Hit], now_ns: int) -> None:
        """Give each track the hit that lies best on it, the best pair first; no hit serves two tracks."""
        tracks = self._tracks
        pairs = [(track.box.overlap(hit.box), track.hits, t, h) for t, track in enumerate(tracks) for h, hit in enumerate(hits)]
        pairs.sort(reverse=True)
        taken: set[int] = set()
        for overlap, _, t, h in pairs:
            if overlap >= SAME_FACE_OVERLAP and h not in taken and tracks[t].seen_ns != now_ns:
                taken.add(h)
                _move(tracks[t], hits[h], now_ns)

    # finding

    def _search_new_faces(self, grey: U8, now_ns: int) -> None:
        with self._timer.stage("search"):
            self._scan(grey, now_ns)

    def _scan(self, grey: U8, now_ns: int) -> None:
        """Search for new faces: look again at the likeliest places that are proposed where no face is followed yet."""
        known = [track.seen_ns == now_ns for track in self._tracks if self._is_confirmed(track)]
        looked_at = 0
        seen = [track.box for track in self._tracks if track.seen_ns == now_ns]
        for proposal in self._search.look(grey, now_ns, known, seen):
            if looked_at < PROPOSALS and self._is_new(proposal.box, now_ns):
                self._consider(proposal, grey, now_ns)
                looked_at += 1

    def _consider(self, proposal: Proposal, grey: U8, now_ns: int) -> None:
        """Look closely where a face may be; where both cascades agree that there is one, follow it from now on."""
        checks = [proposal] if proposal.checked else self._detector.check(grey, proposal.box, NEW_LOOK)
        checked = max((check.neighbours for check in checks), default=0)
        if not checked:
            return
        found = [again for again in self._look(grey, proposal.box, (NEW_LOOK,)) if self._is_new(again.box, now_ns)]
        if not found:
            return
        best = max(found, key=lambda again: again.box.overlap(proposal.box))
        lost = [track for track in self._tracks if track.seen_ns != now_ns and _may_be(track, best.box)]
        if lost:
            nearest = min(lost, key=lambda t: abs(t.box.x - best.box.x) + abs(t.box.y - best.box.y))
            nearest.box, nearest.speed, nearest.judged_ns = best.box, (0.0, 0.0), None
            _move(nearest, best, now_ns)
        elif all(best.box.overlap(track.box) < SAME_FACE_OVERLAP for track in self._tracks):
            track = _Track(self._next_id, best.box, now_ns, updated_ns=now_ns)
            _move(track, best, now_ns)
            if best.neighbours:  # two cascades agree
                track.hits += 2 if min(checked, best.neighbours) >= SURE_OF_BOTH else 1
            self._tracks.append(track)
            self._next_id += 1

    def _is_new(self, box: Box, now_ns: int) -> bool:
        """Whether a box is neither a face that is being followed nor one that was doubted."""
        known = [track.box for track in self._tracks if track.seen_ns == now_ns] + [doubted for doubted, _ in self._doubted]
        return all(box.overlap(other) < SAME_FACE_OVERLAP and not _is_part(box, other) for other in known)

    def _alive(self, now_ns: int) -> list[_Track]:
        """Return the tracks to go on with: those seen, or confirmed and not long lost; where two follow one face, the older."""
        if len(self._tracks) == 1 and self._tracks[0].seen_ns == now_ns:  # as for most frames
            return self._tracks
        hold_ns = self.settings.hold_s * NS_PER_S
        kept: list[_Track] = []
        for track in sorted(self._tracks, key=lambda t: (t.seen_ns != now_ns, -t.hits)):
            if track.seen_ns != now_ns:
                if track.hits < HELD_HITS * self.settings.confirm_hits:
                    track.hits -= 1  # what was hardly ever seen is not held: it must be found more often than missed
                if track.hits <= 0 or now_ns - track.seen_ns > hold_ns:
                    continue
            if all(track.box.overlap(other.box) < ONE_FACE_OVERLAP for other in kept):
                kept.append(track)
        return [track for track in kept if not any(_is_part(track.box, other.box) for other in kept)]


def _judge(track: _Track, grey: U8, now_ns: int) -> None:
    track.clarity, track.judged_ns = face_clarity(grey, track.box), now_ns


def _quality(track: _Track, grey: U8, now_ns: int) -> float:
    """Say how fit a track's face is to be read: how clear it was when it was last judged, and how it is turned now."""
    if track.judged_ns is None:
        _judge(track, grey, now_ns)
    return track.clarity * frontality(track.neighbours)


def _coast(track: _Track, now_ns: int) -> None:
    """Move a track to where it should be by now."""
    seconds = (now_ns - track.updated_ns) / NS_PER_S
    track.box = Box(track.box.x + track.speed[0] * seconds, track.box.y + track.speed[1] * seconds, track.box.side)
    track.missed = track.updated_ns != track.seen_ns
    if track.missed:
        track.speed = (track.speed[0] * COAST, track.speed[1] * COAST)
    track.updated_ns = now_ns


def _move(track: _Track, hit: Hit, now_ns: int) -> None:
    """Correct a track by what was found (an alpha-beta filter: it smooths without lagging behind a steady motion)."""
    if track.missed:
        track.judged_ns = None  # what comes back may be blurred: it is judged before it is answered
    seconds = max(1e-3, (now_ns - track.seen_ns) / NS_PER_S)
    dx, dy = hit.box.x - track.box.x, hit.box.y - track.box.y
    track.box = Box(
        track.box.x + POSITION_GAIN * dx,
        track.box.y + POSITION_GAIN * dy,
        track.box.side + SIDE_GAIN * (hit.box.side - track.box.side),
    )
    track.speed = (track.speed[0] + VELOCITY_GAIN * dx / seconds, track.speed[1] + VELOCITY_GAIN * dy / seconds)
    track.aside = hit.neighbours == 0
    track.hits += 2 if hit.neighbours >= SURE_NEIGHBOURS else 1
    track.neighbours += (hit.neighbours - track.neighbours) * (NEIGHBOURS_GAIN if track.neighbours else 1.0)
    track.seen_ns = now_ns


def _is_part(box: Box, other: Box) -> bool:
    """Whether a box is an eye or a mouth of the face in another: smaller, and centred within it."""
    return box.side < PART_SIZE * other.side and max(abs(box.x - other.x), abs(box.y - other.y)) < other.side / 2


def _may_be(track: _Track, box: Box) -> bool:
    """Whether a face found now may be the one lost a moment ago: near, and of like size."""
    near = max(abs(track.box.x - box.x), abs(track.box.y - box.y)) <= RETURN_REACH * track.box.side
    return near and 0.6 < box.side / track.box.side < 1.6
