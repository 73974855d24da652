"""Continuous times from the time stamps of a recording.

Joined recordings, a counter that wraps and damaged files have time stamps that jump back, start again or jump far ahead. A
stamp that does not follow the last one is a suspect. If the next stamps continue the old line, the suspect was wrong. If
`CONFIRM` stamps in a row do not follow, there is a gap, which stays, or the time stamps jumped: the recording then continues at
the expected time with a new offset. Video and sound of one recording share the offsets, so that they stay aligned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from moodring.clock import NS_PER_MS, NS_PER_S

CONFIRM = 3  # stamps in a row
MAX_STEP_NS = 2 * NS_PER_S  # a larger step ahead is a suspect as well
MAX_GAP_NS = 60 * NS_PER_S  # a larger gap is a jump, unless the container states a duration that includes it
UNSTATED_GAP_NS = 3600 * NS_PER_S  # the same, in a container of reliable stamps that states no duration
MAX_OVERLAP_NS = NS_PER_S // 2  # sound that starts again by up to this time overlaps; more is a jump
OVERLAP_INTERVAL_NS = NS_PER_S  # of sound between two overlaps; stamps that start again more often do not increase
SAME_JOIN_NS = NS_PER_S  # video and sound of a joined part start and end within this time of each other
REANCHOR_NS = 40 * NS_PER_MS  # a larger difference between time stamp and sample count restarts the count


@dataclass(slots=True)
class Jumps:
    """The jumps of the time stamps of one recording: the offsets that video and sound share, and what happened first."""

    offsets_ns: list[int] = field(default_factory=list)

    def offset_ns(self, stamp_ns: int, expected_ns: int) -> int:
        """Return the offset that puts a stamp at `expected_ns` or shortly after it: that of the other stream where it fits."""
        for offset_ns in reversed(self.offsets_ns):
            if abs(stamp_ns + offset_ns - expected_ns) <= SAME_JOIN_NS:
                return max(offset_ns, expected_ns - stamp_ns)
        self.offsets_ns.append(expected_ns - stamp_ns)
        return self.offsets_ns[-1]


@dataclass(slots=True)
class Timeline:
    """What the timelines of video and sound have in common.

    `end_ns` is the end that the container states, None where it states none. `is_discontinuous` containers, such as MPEG-TS,
    have stamps without a fixed origin.
    """

    jumps: Jumps
    end_ns: int | None = None
    is_discontinuous: bool = False
    count: int = 0  # jumps so far
    first: str = ""  # the first jump in words
    _offset_ns: int = 0

    def _is_gap(self, gap_ns: int, time_ns: int) -> bool:
        """Return whether a step ahead is a gap of the recording and no jump of its time stamps."""
        if gap_ns <= MAX_GAP_NS:
            return True
        if self.is_discontinuous:
            return False
        return gap_ns <= UNSTATED_GAP_NS if self.end_ns is None else time_ns <= self.end_ns

    def _jump(self, stamp_ns: int, expected_ns: int) -> None:
        step_s = (stamp_ns + self._offset_ns - expected_ns) / NS_PER_S
        if not self.count:
            self.first = f"at {expected_ns / NS_PER_S:.1f} s by {step_s:+.1f} s"
        self.count += 1
        self._offset_ns = self.jumps.offset_ns(stamp_ns, expected_ns)


@dataclass(slots=True)
class VideoTimeline(Timeline):
    """Gives each frame a time after that of the previous one. `period_ns` is the time of one frame."""

    period_ns: int = NS_PER_S // 25
    dropped: int = 0  # frames whose time stamp was out of order
    _last_ns: int = -1
    _suspects: list[tuple[Any, int]] = field(default_factory=list)
    _last_pts: int | None = None
    _last_dts: int | None = None
    _faulty_pts: int = 0
    _faulty_dts: int = 0

    def choose_stamp(self, pts: int | None, dts: int | None) -> int | None:
        """Return the more reliable one of a frame's two time stamps: the one that ran backwards less often.

        The rule of FFmpeg (guess_correct_pts in libavcodec/decode.c). AVI files with B-frames need it.
        """
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        return pts if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts) else dts

    def push(self, frame: Any, stamp_ns: int | None) -> Iterator[tuple[Any, int]]:
        """Yield the frames whose times are known now, each with its time in ns. `stamp_ns` None follows at the frame rate."""
        if stamp_ns is None:
            yield from self._accept(frame, self._next_ns)
            return
        time_ns = stamp_ns + self._offset_ns
        if self._last_ns <= 0 and -MAX_OVERLAP_NS < time_ns < 0:  # before the start that the container states
            if self._last_ns < 0:
                yield from self._accept(frame, 0)
            else:
                self.dropped += 1
        elif 0 < time_ns - self._last_ns <= MAX_STEP_NS:
            self.dropped += len(self._suspects)
            self._suspects.clear()
            yield from self._accept(frame, time_ns)
        else:
            self._suspects.append((frame, stamp_ns))
            if len(self._suspects) == CONFIRM:
                yield from self._resolve()

    def flush(self) -> Iterator[tuple[Any, int]]:
        """Yield the frames that are held back at the end, each with its time in ns."""
        if self._suspects and abs(self._suspects[0][1] + self._offset_ns - self._last_ns) > MAX_OVERLAP_NS:
            yield from self._resolve()
        self.dropped += len(self._suspects)
        self._suspects.clear()

    def _resolve(self) -> Iterator[tuple[Any, int]]:
        """Yield the suspects: they follow a gap, their stamps jumped, or their stamps do not increase at all."""
        suspects, self._suspects = self._suspects, []
        if not self._follows(suspects[0][1]):
            self._jump(suspects[0][1], self._next_ns)
        for frame, stamp_ns in suspects:
            yield from self._accept(frame, stamp_ns + self._offset_ns if self._follows(stamp_ns) else self._next_ns)

    @property
    def _next_ns(self) -> int:
        return self._last_ns + self.period_ns if self._last_ns >= 0 else 0

    def _follows(self, stamp_ns: int) -> bool:
        """Return whether a stamp lies after the last frame, with or without a gap."""
        time_ns = stamp_ns + self._offset_ns
        return time_ns > self._last_ns and self._is_gap(time_ns - max(0, self._last_ns), time_ns)

    def _accept(self, frame: Any, time_ns: int) -> Iterator[tuple[Any, int]]:
        self._last_ns = time_ns
        yield frame, time_ns


@dataclass(slots=True)
class SoundTimeline(Timeline):
    """Follows the sample count, and the time stamps where they differ from it. No sound is dropped."""

    next_ns: int = 0  # expected time of the next frame, from the sample count
    _suspects: int = 0
    _since_overlap_ns: int = OVERLAP_INTERVAL_NS  # duration of the sound since the last overlap

    def push(self, stamp_ns: int | None, duration_ns: int, *, restart: bool) -> bool:
        """Accept a frame; return whether it starts a new sample count, at `next_ns` less its duration.

        It does if its stamp differs from the sample count, or if `restart` requests it.
        """
        differs = stamp_ns is not None and self._differs(stamp_ns, 0 if restart else REANCHOR_NS)
        self.next_ns += duration_ns
        self._since_overlap_ns += duration_ns
        return restart or differs

    def _differs(self, stamp_ns: int, tolerance_ns: int) -> bool:
        """Set `next_ns` to the time of the stamp where it differs from the sample count; return whether it does."""
        is_first = self.next_ns == 0
        time_ns = max(0, stamp_ns + self._offset_ns)
        step_ns = time_ns - self.next_ns
        if abs(step_ns) <= tolerance_ns:
            self._suspects = 0
            return False
        is_overlap = -MAX_OVERLAP_NS <= step_ns < 0 and self._since_overlap_ns >= OVERLAP_INTERVAL_NS
        is_late = step_ns > MAX_STEP_NS and not is_first
        if (step_ns < 0 and not is_overlap) or is_late or not self._is_gap(step_ns, time_ns):
            self._suspects += 1
            if self._suspects < CONFIRM:
                return False
            if step_ns < 0 or not self._is_gap(step_ns, time_ns):
                self._jump(stamp_ns, self.next_ns)
                time_ns = stamp_ns + self._offset_ns
        self._suspects = 0
        if abs(time_ns - self.next_ns) <= tolerance_ns:
            return False
        if is_overlap:
            self._since_overlap_ns = 0
        self.next_ns = time_ns
        return True
