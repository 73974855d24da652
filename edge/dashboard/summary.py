"""Summary of a recorded event file by stream: shares of time, transitions, drops and device changes."""

from __future__ import annotations

import bisect
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from moodring.analysis.annotations.intervals import MAX_HOLD_MS
from moodring.dashboard.published import displayed_labels, per_mille
from moodring.dashboard.recording import RecordedEvent
from moodring.publish.cloudevents import stream_name

MAX_LABELS = 256  # of one stream; the probabilities of further labels are added up
OTHER_LABELS = "other labels"


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
    has_label: bytearray = field(default_factory=bytearray)  # one for each event
    points: dict[str, array[int]] = field(default_factory=dict)  # per mille by label, one for each event; zeros: no label
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
    def labels(self) -> tuple[str, ...]:
        """The labels to show: all of moodring's, or those of a custom bundle in the order in which they first appear."""
        return displayed_labels(self.points)

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
            if previous is not None and current is not None and previous != current:
                self.transitions[self._column(previous), self._column(current)] += 1
        self._latest = data
        self._add_point(data["probabilities"] or {})
        self.times_ms.append(time_ms)
        self.has_label.append(data["label"] is not None)
        self.had_preview = self.had_preview or bool(data.get("preview"))
        if data["latency_ms"] is not None:
            self.latencies_ms.append(data["latency_ms"])
        for device, state in data["devices"].items():
            if self._states.get(device) != state:
                self.devices.append(DeviceStateChange(time_ms, device, state))
                self._states[device] = state

    def _add_point(self, probabilities: dict[str, float]) -> None:
        for label in probabilities:
            if self._column(label) not in self.points:
                self.points[self._column(label)] = array("H", bytes(2 * self.events))
        for column in self.points.values():
            column.append(0)
        for label, probability in probabilities.items():
            column = self.points[self._column(label)]
            column[-1] = min(1000, column[-1] + per_mille(probability))

    def _column(self, label: str) -> str:
        """Return the name under which a label is counted."""
        return label if label in self.points or len(self.points) < MAX_LABELS else OTHER_LABELS

    def _accumulate(self, duration_ms: int) -> None:
        """Add a duration to the shares of the newest event."""
        assert self._latest is not None  # noqa: S101  for the type checker
        latest = self._latest
        self.state_ms[latest["state"]] += duration_ms
        if latest["label"] is not None:
            self.label_ms[self._column(latest["label"])] += duration_ms
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
        begin, nothing = self.times_ms[0], array("H", bytes(2 * self.events))
        points = [self.points.get(label, nothing) for label in self.labels]
        step = max(1.0, (self.times_ms[-1] - begin + 1) / count)
        means: list[tuple[float, ...] | None] = []
        for column in range(count):
            first = bisect.bisect_left(self.times_ms, begin + column * step)
            last = bisect.bisect_left(self.times_ms, begin + (column + 1) * step)
            labelled = [k for k in range(first, last) if self.has_label[k]]
            if labelled:
                means.append(tuple(sum(of[k] for k in labelled) / len(labelled) / 1000 for of in points))
            else:  # a part without an event holds the preceding event
                preceding = first - 1
                is_held = preceding >= 0 and begin + column * step - self.times_ms[preceding] <= MAX_HOLD_MS and first == last
                has_label = is_held and self.has_label[preceding]
                means.append(tuple(of[preceding] / 1000 for of in points) if has_label else None)
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
