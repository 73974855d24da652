"""What stands between threads: preallocated, bounded, and every loss counted."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.types import F32, AudioBlock

T = TypeVar("T")

REANCHOR_NS = 200 * NS_PER_MS
DRIFT_NS = 10 * NS_PER_S  # over which the least lag of arrival behind the count is looked for


class LatestSlot(Generic[T]):
    """Holds the newest item only. Captured = taken + overwritten + what is waiting (0 or 1)."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.captured = 0
        self.taken = 0
        self.overwritten = 0

    @property
    def waiting(self) -> bool:
        """Whether something was put since the last take."""
        return self._item is not None

    def put(self, item: T) -> None:
        """Store the item; one that nobody took is lost and counted. Once closed, nothing is taken in."""
        with self._ready:
            if self._closed:
                return
            self.captured += 1
            self.overwritten += self._item is not None
            self._item = item
            self._ready.notify_all()

    def take(self, wait_s: float = 0.0) -> T | None:
        """Return the newest item once, waiting for one; None where none came in time, or the slot was closed and is empty."""
        with self._ready:
            if wait_s > 0.0:
                self._ready.wait_for(lambda: self._item is not None or self._closed, wait_s)
            item, self._item = self._item, None
            self.taken += item is not None
            return item

    def close(self) -> None:
        """Let nobody wait any longer; what is there may still be taken."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()


@dataclass(frozen=True, slots=True)
class RingRead:
    """What a read found: the samples (or None), and how many were overwritten before they could be read."""

    block: AudioBlock | None
    lost_samples: int


class AudioRing:
    """The last seconds of mono sound. One writer, one reader; an overrun is seen by the reader and counted.

    Written = read + lost + what is waiting. Time is counted in samples from an anchor: the arrival of a block jitters, its
    samples do not. No block arrives before it was captured, so a device whose clock is fast is held back by its arrivals;
    for a slow one the count is moved on, every `DRIFT_NS`, by the least that any arrival lagged behind it. Where arrival and
    count part by more than `REANCHOR_NS`, the device dropped sound, and the count starts anew (counted).
    """

    def __init__(self, rate_hz: int, seconds: float) -> None:
        self._ready = threading.Condition()
        self._closed = False
        self.rate_hz = rate_hz
        self._samples: NDArray[np.float32] = np.zeros(max(1, round(rate_hz * seconds)), np.float32)
        self._end_time_ns = 0
        self._least_lag_ns = REANCHOR_NS
        self._drift_due_ns = 0
        self._wanted = 1  # samples that the reader waits for
        self.written = 0
        self.read_samples = 0
        self.lost = 0
        self.reanchored = 0

    @property
    def capacity(self) -> int:
        return self._samples.size

    @property
    def waiting(self) -> int:
        """How many samples were written and neither read nor seen to be lost."""
        return self.written - self.read_samples - self.lost

    def write(self, samples: F32, end_time_ns: int) -> None:
        """Append float32 [N]; `end_time_ns` is when the last of them had been captured. Once closed, nothing is taken in."""
        with self._ready:
            if self._closed:
                return
            kept = samples[-self.capacity :]
            start = (self.written + samples.size - kept.size) % self.capacity
            first = min(kept.size, self.capacity - start)
            self._samples[start : start + first] = kept[:first]
            self._samples[: kept.size - first] = kept[first:]
            self.written += samples.size
            self._end_time_ns = self._counted(samples.size, end_time_ns)
            if self.waiting >= self._wanted:
                self._ready.notify_all()

    def _counted(self, count: int, arrived_ns: int) -> int:
        expected_ns = self._end_time_ns + count * NS_PER_S // self.rate_hz
        first = self.written == count
        if first or abs(arrived_ns - expected_ns) > REANCHOR_NS:
            self.reanchored += not first
            self._start_looking_for_drift(arrived_ns)
            return arrived_ns
        self._least_lag_ns = max(0, min(self._least_lag_ns, arrived_ns - expected_ns))
        counted_ns = min(expected_ns, arrived_ns)  # nothing is captured later than it arrives
        if arrived_ns >= self._drift_due_ns:
            counted_ns += self._least_lag_ns
            self._start_looking_for_drift(arrived_ns)
        return counted_ns

    def _start_looking_for_drift(self, now_ns: int) -> None:
        self._least_lag_ns, self._drift_due_ns = REANCHOR_NS, now_ns + DRIFT_NS

    def close(self) -> None:
        """Let nobody wait any longer; what is there may still be read."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def read(self, wait_s: float = 0.0, at_least: int = 1) -> RingRead:
        """Return everything that was written since the last read and is still there, as a copy.

        It is waited for, until there are `at_least` so many samples; after `wait_s`, what there is will do.
        """
        with self._ready:
            self._wanted = at_least
            if wait_s > 0.0:
                self._ready.wait_for(lambda: self.waiting >= at_least or self._closed, wait_s)
            position = self.read_samples + self.lost
            lost = max(0, self.written - self.capacity - position)
            self.lost += lost
            count = self.written - position - lost
            if not count:
                return RingRead(None, lost)
            start = (position + lost) % self.capacity
            first = min(count, self.capacity - start)
            samples = np.concatenate([self._samples[start : start + first], self._samples[: count - first]])
            self.read_samples += count
            time_ns = self._end_time_ns - count * NS_PER_S // self.rate_hz
            return RingRead(AudioBlock(samples, time_ns, self.rate_hz), lost)


class BoundedQueue(Generic[T]):
    """First in, first out, and never longer than its capacity. Put = taken + dropped + waiting.

    A full queue drops its oldest item and counts it, so that `put` never waits longer than it was told to.
    """

    def __init__(self, capacity: int) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque(maxlen=capacity)
        self._capacity = capacity
        self._closed = False
        self.put_items = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, wait_s: float = 0.0) -> None:
        """Append the item; where there is no room within `wait_s`, the oldest one is lost and counted."""
        with self._changed:
            if wait_s > 0.0:
                self._changed.wait_for(lambda: len(self._items) < self._capacity or self._closed, wait_s)
            self.dropped += len(self._items) == self._capacity
            self._items.append(item)
            self.put_items += 1
            self._changed.notify_all()

    def take(self, wait_s: float | None = None) -> T | None:
        """Return the oldest item, waiting for one; None where none came in time, or the queue was closed and is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, wait_s)
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let `take` return None once what waits has been taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
