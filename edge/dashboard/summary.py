"""Summary of a recorded event file by stream: shares of time, transitions, drops and device changes."""

from __future__ import annotations

import bisect
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from moodring.dashboard.published import per_mille
from moodring.dashboard.recording import RecordedEvent
from moodring.labels import INDEX, LABELS
from moodring.publish.cloudevents import stream_name

MAX_HOLD_MS = 2000  # an event counts until the next event, and at most for this time
NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class DeviceStateChange:
    """A device changed to `state` at `time_ms` (milliseconds since 1970)."""

    time_ms: int
    device: str
    state: str


@dataclass(slots=True)
class Summary:
    """Summary of one stream. Points in time are in milliseconds since 1970; the `_ms` counters hold durations.

    `add` takes the events in order; `end_run` ends the last run.
    """

    name: str
    times_ms: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("b"))  # index, or NO_LABEL
    points: array[int] = field(default_factory=lambda: array("H"))  # per mille, eight for each event; zeros: no label
    label_ms: Counter[str] = field(default_factory=Counter)
    state_ms: Counter[str] = field(default_factory=Counter)
    modality_ms: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    devices: list[DeviceStateChange] = field(default_factory=list)
    latencies_ms: array[float] = field(default_factory=lambda: array("f"))
    confidence_ms: float = 0.0  # integral of the confidence over time
    runs: int = 0
    had_preview: bool = False
    _run: str = ""
    _latest: dict[str, Any] | None = None  # data of the newest event
    _dropped: dict[str, int] = field(default_factory=dict)  # counters of the newest status event of the run
    _states: dict[str, str] = field(default_factory=dict)  # of each device

    @property
    def events(self) -> int:
        """Number of emotion events."""
        return len(self.times_ms)

    @property
    def covered_ms(self) -> int:
        """Total time that the events cover."""
        return sum(self.state_ms.values())

    def latency_ms(self, quantile: float) -> float | None:
        """Return a quantile in [0, 1] of the event latency; None if no event holds a latency."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else None

    def add(self, event: RecordedEvent) -> None:
        """Add the next event. A new source starts a new run."""
        source = event.document["source"]
        if source != self._run:
            self.end_run()
            self._run, self.runs = source, self.runs + 1
        if event.is_status:
            self._dropped = event.document["data"]["dropped"]
        else:
            self._add_emotion(event.document["data"], event.time_ms)

    def _add_emotion(self, data: dict[str, Any], time_ms: int) -> None:
        if self._latest is not None:
            self._accumulate(max(0, min(MAX_HOLD_MS, time_ms - self.times_ms[-1])))
            previous, current = self._latest["label"], data["label"]
            if previous and current and previous != current:
                self.transitions[previous, current] += 1
        self._latest = data
        self.times_ms.append(time_ms)
        self.labels.append(INDEX.get(data["label"], NO_LABEL))
        self.points.extend(per_mille(data["probabilities"]) or (0,) * len(LABELS))
        self.had_preview = self.had_preview or bool(data.get("preview"))
        if data["latency_ms"] is not None:
            self.latencies_ms.append(data["latency_ms"])
        for device, state in data["devices"].items():
            if self._states.get(device) != state:
                self.devices.append(DeviceStateChange(time_ms, device, state))
                self._states[device] = state

    def _accumulate(self, duration_ms: int) -> None:
        """Add a duration to the shares of the newest event."""
        assert self._latest is not None  # noqa: S101  for the type checker
        latest = self._latest
        self.state_ms[latest["state"]] += duration_ms
        if latest["label"]:
            self.label_ms[latest["label"]] += duration_ms
            self.confidence_ms += duration_ms * latest["confidence"]
            self.modality_ms[" and ".join(latest["modalities"])] += duration_ms

    def end_run(self) -> None:
        """Add the drop counters of the run to the total; the next event starts a new run."""
        self.dropped.update(self._dropped)
        self._dropped, self._latest, self._states = {}, None, {}

    def mean_probabilities(self, count: int) -> list[tuple[float, ...] | None]:
        """Return the mean probabilities, in label order, of `count` equal parts of the recorded time; None: no label."""
        if self.events == 0:
            return []
        begin, n = self.times_ms[0], len(LABELS)
        step = max(1.0, (self.times_ms[-1] - begin + 1) / count)
        means: list[tuple[float, ...] | None] = []
        for column in range(count):
            first = bisect.bisect_left(self.times_ms, begin + column * step)
            last = bisect.bisect_left(self.times_ms, begin + (column + 1) * step)
            labelled = [k for k in range(first, last) if self.labels[k] != NO_LABEL]
            if labelled:
                means.append(tuple(sum(self.points[k * n + i] for k in labelled) / len(labelled) / 1000 for i in range(n)))
            else:  # a part without an event holds the preceding event
                preceding = first - 1
                is_held = preceding >= 0 and begin + column * step - self.times_ms[preceding] <= MAX_HOLD_MS and first == last
                has_label = is_held and self.labels[preceding] != NO_LABEL
                means.append(tuple(self.points[preceding * n + i] / 1000 for i in range(n)) if has_label else None)
        return means


def summarize_streams(events: Iterable[RecordedEvent]) -> list[Summary]:
    """Return a summary of each stream that has emotion events, in the order of the first events."""
    summaries: dict[str, Summary] = {}
    for event in events:
        name = stream_name(event.document["source"])
        summaries.setdefault(name, Summary(name)).add(event)
    for summary in summaries.values():
        summary.end_run()
    return [summary for summary in summaries.values() if summary.events]
