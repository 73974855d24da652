"""Telemetry of one stream: stage latencies, counters and device changes, published as a status event once a second."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from moodring.clock import NS_PER_MS, NS_PER_S, Clock, StageTimer
from moodring.types import (  # fmt: skip
    DeviceChange,
    DeviceState,
    EmotionEvent,
    Latency,
    SinkState,
    StatusEvent,
)

STATUS_NS = NS_PER_S
# Upper bounds of the histogram buckets, in seconds; the last bucket is unbounded.
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# Published names: decode, process_frame, search_new_faces, process_audio and tick of the pipeline, then the sinks.
STAGES = ("decode", "see", "explore", "hear", "fuse", "publish", "capture_to_event")
MAX_RECENT = 512  # durations of the last second, for its percentiles


class Histogram:
    """Durations in buckets since the start, and the individual durations since the last call of `take_recent`."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self._recent_ns: list[int] = []

    def add(self, duration_ns: int) -> None:
        duration_s = duration_ns / NS_PER_S
        self.counts[bisect.bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s
        if len(self._recent_ns) < MAX_RECENT:
            self._recent_ns.append(duration_ns)

    def take_recent(self) -> Latency | None:
        """Return the percentiles of the durations added since the last call; None where there are none."""
        durations_ns, self._recent_ns = self._recent_ns, []  # another thread may be adding
        recent = sorted(durations_ns)
        if not recent:
            return None
        p50, p99, most = (recent[min(len(recent) - 1, int(q * len(recent)))] / NS_PER_MS for q in (0.5, 0.99, 1.0))
        return Latency(len(recent), p50, p99, most)


class Telemetry:
    """Collects the figures of one stream; `status_due` returns a status event once a second.

    `counters` and `dropped` return the counts so far, `level_dbfs` the present sound level in dB relative to a full-scale sine.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        counters: Callable[[], Mapping[str, int]],
        dropped: Callable[[], Mapping[str, int]],
        level_dbfs: Callable[[], float],
    ) -> None:
        self.histograms = {stage: Histogram() for stage in STAGES}
        self.newest: StatusEvent | None = None
        self.last_event: EmotionEvent | None = None
        self.last_event_ns: int | None = None
        self._clock = clock
        self._count = counters
        self._count_dropped = dropped
        self._level_dbfs = level_dbfs
        self._started_ns = clock.now_ns()
        self._due_ns = self._started_ns + STATUS_NS
        self._devices: dict[str, DeviceState] = {}
        self._changes: list[DeviceChange] = []
        self._seq = 0

    def record(self, event: EmotionEvent) -> None:
        """Record an event that is about to be published."""
        now_ns = self._clock.now_ns()
        if event.latency_ms is not None:
            self.histograms["capture_to_event"].add(int(event.latency_ms * NS_PER_MS))
        for device, state in event.devices.items():
            if self._devices.get(device, state) != state:
                self._changes.append(DeviceChange(device, state, now_ns))
        self._devices = dict(event.devices)
        self.last_event, self.last_event_ns = event, now_ns

    def status_due(self, sinks: Callable[[], dict[str, SinkState]]) -> StatusEvent | None:
        """Return a status event where the last one is a second old, else None."""
        now_ns = self._clock.now_ns()
        if now_ns < self._due_ns or self.last_event is None:
            return None
        self._due_ns = max(self._due_ns + STATUS_NS, now_ns)
        recent = {stage: histogram.take_recent() for stage, histogram in self.histograms.items()}
        level_dbfs = self._level_dbfs()
        self.newest = StatusEvent(
            source=self.last_event.source,
            time_utc=self.last_event.time_utc,
            seq=self._seq,
            time_ns=now_ns,
            uptime_s=(now_ns - self._started_ns) / NS_PER_S,
            counters=self.counters(),
            dropped=self.dropped(),
            devices=self._devices,
            device_changes=tuple(self._changes),
            level_dbfs=level_dbfs if level_dbfs > -200.0 else None,
            latency={stage: latency for stage, latency in recent.items() if latency is not None},
            sinks=sinks(),
        )
        self._seq += 1
        self._changes = []
        return self.newest

    def counters(self) -> dict[str, int]:
        return dict(self._count())

    def dropped(self) -> dict[str, int]:
        return dict(self._count_dropped())

    def event_age_s(self) -> float | None:
        """Return the seconds since the last event was published; None before the first."""
        return None if self.last_event_ns is None else (self._clock.now_ns() - self.last_event_ns) / NS_PER_S


class _Timing:
    """Context manager that adds its own duration to a histogram, unless the body raises."""

    __slots__ = ("_clock", "_histogram", "_start_ns")

    def __init__(self, histogram: Histogram, clock: Clock) -> None:
        self._histogram = histogram
        self._clock = clock

    def __enter__(self) -> None:
        self._start_ns = self._clock.now_ns()

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        if kind is None:
            self._histogram.add(self._clock.now_ns() - self._start_ns)


class HistogramTimer(StageTimer):
    """Adds the duration of each stage in `STAGES` to the telemetry's histograms; ignores the other stages."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._histograms = telemetry.histograms
        self._clock = clock

    def stage(self, name: str) -> contextlib.AbstractContextManager[object]:
        histogram = self._histograms.get(name)
        return super().stage(name) if histogram is None else _Timing(histogram, self._clock)


def sum_counts(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of the counts by name."""
    sums: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            sums[name] = sums.get(name, 0) + count
    return sums
