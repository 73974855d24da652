"""What a run tells of itself: how long each stage takes, what was counted, which devices came and went."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from moodring.capture.base import Undecoded
from moodring.clock import NS_PER_MS, NS_PER_S, Clock
from moodring.types import (  # fmt: skip
    AudioBlock,
    DeviceChange,
    DeviceState,
    EmotionEvent,
    Latency,
    SinkState,
    StatusEvent,
    VideoFrame,
)

STATUS_NS = NS_PER_S
# Upper bounds in seconds; the last bucket has none.
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STAGES = ("decode", "see", "explore", "hear", "fuse", "publish", "capture_to_event")
KEPT = 512  # durations of the last second, for its percentiles


class Stages(Protocol):
    """What a run drives: `Pipeline`, or something that stands in its place."""

    def is_face_due(self, capture_time_ns: int) -> bool: ...

    def decode(self, captured: Undecoded) -> VideoFrame | None: ...

    def see(self, frame: VideoFrame) -> None: ...

    def explore(self, frame: VideoFrame) -> None: ...

    def sound_due(self) -> int: ...

    def hear(self, block: AudioBlock) -> None: ...

    def forget_sight(self) -> None: ...

    def forget_sound(self) -> None: ...

    def forget_said(self) -> None: ...

    def tick(
        self, now_ns: int, devices: Mapping[str, DeviceState], clock_ns: Callable[[], int] | None = None
    ) -> EmotionEvent: ...


class Histogram:
    """Durations counted by size since the start, and the single ones since the last look."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self._recent_ns: list[int] = []

    def add(self, duration_ns: int) -> None:
        duration_s = duration_ns / NS_PER_S
        self.counts[bisect.bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s
        if len(self._recent_ns) < KEPT:
            self._recent_ns.append(duration_ns)

    def take_recent(self) -> Latency | None:
        """Return what was added since the last call, or None where nothing was."""
        kept, self._recent_ns = self._recent_ns, []  # another thread may be adding
        recent = sorted(kept)
        if not recent:
            return None
        p50, p99, most = (recent[min(len(recent) - 1, int(q * len(recent)))] / NS_PER_MS for q in (0.5, 0.99, 1.0))
        return Latency(len(recent), p50, p99, most)


class Telemetry:
    """Collects while the run goes on; `status_due` gives a status once a second.

    `counters` and `dropped` say, when called, what the run has counted so far; `level_dbfs` the sound level of the moment.
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

    def note(self, event: EmotionEvent) -> None:
        """Take in an event that is about to be published."""
        now_ns = self._clock.now_ns()
        if event.latency_ms is not None:
            self.histograms["capture_to_event"].add(int(event.latency_ms * NS_PER_MS))
        for device, state in event.devices.items():
            if self._devices.get(device, state) != state:
                self._changes.append(DeviceChange(device, state, now_ns))
        self._devices = dict(event.devices)
        self.last_event, self.last_event_ns = event, now_ns

    def status_due(self, sinks: Callable[[], dict[str, SinkState]]) -> StatusEvent | None:
        """Return a status where the last one is a second old."""
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
        """Return how long ago the last event was published; None before the first."""
        return None if self.last_event_ns is None else (self._clock.now_ns() - self.last_event_ns) / NS_PER_S


class Timed:
    """Stands before a pipeline and measures how long each of its stages takes; it changes nothing."""

    def __init__(self, pipeline: Stages, telemetry: Telemetry, clock: Clock) -> None:
        self._pipeline = pipeline
        self._histograms = telemetry.histograms
        self._clock = clock
        self.is_face_due, self.sound_due = pipeline.is_face_due, pipeline.sound_due
        self.forget_sight = pipeline.forget_sight
        self.forget_sound = pipeline.forget_sound
        self.forget_said = pipeline.forget_said

    def decode(self, captured: Undecoded) -> VideoFrame | None:
        frame: VideoFrame | None = self._measure("decode", self._pipeline.decode, captured)
        return frame

    def see(self, frame: VideoFrame) -> None:
        self._measure("see", self._pipeline.see, frame)

    def explore(self, frame: VideoFrame) -> None:
        self._measure("explore", self._pipeline.explore, frame)

    def hear(self, block: AudioBlock) -> None:
        self._measure("hear", self._pipeline.hear, block)

    def tick(self, now_ns: int, devices: Mapping[str, DeviceState], clock_ns: Callable[[], int] | None = None) -> EmotionEvent:
        event = self._measure("fuse", self._pipeline.tick, now_ns, devices, clock_ns)
        assert isinstance(event, EmotionEvent)  # noqa: S101  for the type checker
        return event

    def _measure(self, stage: str, call: Callable[..., Any], *arguments: Any) -> Any:
        start_ns = self._clock.now_ns()
        result = call(*arguments)
        self._histograms[stage].add(self._clock.now_ns() - start_ns)
        return result


def added(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of counts by name."""
    sums: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            sums[name] = sums.get(name, 0) + count
    return sums
