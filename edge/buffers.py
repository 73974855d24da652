"""Buffers between threads: preallocated, bounded, and with a counter for every drop."""

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
DRIFT_NS = 10 * NS_PER_S  # window over which clock drift is estimated, from the smallest lag of an arrival


class LatestSlot(Generic[T]):
    """Holds the newest item only. Captured = taken + overwritten + waiting (0 or 1)."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.captured = 0
        self.taken = 0
        self.overwritten = 0

    @property
    def waiting(self) -> bool:
        """Whether an item was put since the last take."""
        return self._item is not None

    def put(self, item: T) -> None:
        """Store the item. An item that was not taken is overwritten and counted. Does nothing once closed."""
        with self._ready:
            if self._closed:
                return
            self.captured += 1
            self.overwritten += self._item is not None
            self._item = item
            self._ready.notify_all()

    def take(self, wait_s: float = 0.0) -> T | None:
        """Return the newest item, waiting up to `wait_s`; None after a timeout, or when the slot is closed and empty."""
        with self._ready:
            if wait_s > 0.0:
                self._ready.wait_for(lambda: self._item is not None or self._closed, wait_s)
            item, self._item = self._item, None
            self.taken += item is not None
            return item

    def close(self) -> None:
        """End all waits. The last item can still be taken."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()


@dataclass(frozen=True, slots=True)
class RingRead:
    """The samples of one read, None where there are none, and how many were overwritten before it."""

    block: AudioBlock | None
    lost_samples: int


class AudioRing:
    """Ring buffer of the last seconds of mono sound, with one writer and one reader, which detects and counts overruns.

    Written = read + lost + waiting. Capture time is the sample count from an anchor, because the arrival of blocks jitters and
    samples do not. No block arrives before it was captured, so arrivals limit the time of a device with a fast clock. For a
    slow clock, time advances every `DRIFT_NS` by the smallest lag of an arrival. Where arrival and count differ by more than
    `REANCHOR_NS`, the device dropped sound: the anchor is set again, which is counted.
    """

    def __init__(self, rate_hz: int, seconds: float) -> None:
        self._ready = threading.Condition()
        self._closed = False
        self.rate_hz = rate_hz
        self._samples: NDArray[np.float32] = np.zeros(max(1, round(rate_hz * seconds)), np.float32)
        self._end_time_ns = 0
        self._min_lag_ns = REANCHOR_NS
        self._drift_due_ns = 0
        self._requested = 1  # samples that the reader waits for
        self.written = 0
        self.read_samples = 0
        self.lost = 0
        self.reanchored = 0

    @property
    def capacity(self) -> int:
        """The number of samples that the ring holds."""
        return self._samples.size

    @property
    def waiting(self) -> int:
        """The number of samples that were written and neither read nor counted as lost."""
        return self.written - self.read_samples - self.lost

    def write(self, samples: F32, end_time_ns: int) -> None:
        """Append float32 [N]; `end_time_ns` is the capture time of the last sample. Does nothing once closed."""
        with self._ready:
            if self._closed:
                return
            newest = samples[-self.capacity :]
            start = (self.written + samples.size - newest.size) % self.capacity
            first = min(newest.size, self.capacity - start)
            self._samples[start : start + first] = newest[:first]
            self._samples[: newest.size - first] = newest[first:]
            self.written += samples.size
            self._end_time_ns = self._advance_time(samples.size, end_time_ns)
            if self.waiting >= self._requested:
                self._ready.notify_all()

    def _advance_time(self, count: int, arrived_ns: int) -> int:
        expected_ns = self._end_time_ns + count * NS_PER_S // self.rate_hz
        first = self.written == count
        if first or abs(arrived_ns - expected_ns) > REANCHOR_NS:
            self.reanchored += not first
            self._restart_drift_window(arrived_ns)
            return arrived_ns
        self._min_lag_ns = max(0, min(self._min_lag_ns, arrived_ns - expected_ns))
        counted_ns = min(expected_ns, arrived_ns)  # no sample is captured after its arrival
        if arrived_ns >= self._drift_due_ns:
            counted_ns += self._min_lag_ns
            self._restart_drift_window(arrived_ns)
        return counted_ns

    def _restart_drift_window(self, now_ns: int) -> None:
        self._min_lag_ns, self._drift_due_ns = REANCHOR_NS, now_ns + DRIFT_NS

    def close(self) -> None:
        """End all waits. Waiting samples can still be read."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def read(self, wait_s: float = 0.0, at_least: int = 1) -> RingRead:
        """Return a copy of all samples written since the last read that are still in the ring.

        Waits up to `wait_s` for `at_least` samples, then returns those that there are.
        """
        with self._ready:
            self._requested = at_least
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
    """First-in, first-out queue of limited length. Put = taken + dropped + waiting.

    A full queue drops its oldest item and counts it, so that `put` never waits longer than `wait_s`.
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
        """Append the item. Where there is no room within `wait_s`, the oldest item is dropped and counted."""
        with self._changed:
            if wait_s > 0.0:
                self._changed.wait_for(lambda: len(self._items) < self._capacity or self._closed, wait_s)
            self.dropped += len(self._items) == self._capacity
            self._items.append(item)
            self.put_items += 1
            self._changed.notify_all()

    def take(self, wait_s: float | None = None) -> T | None:
        """Return the oldest item, waiting up to `wait_s`; None after a timeout, or when the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, wait_s)
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Make `take` return None once the waiting items have been taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
