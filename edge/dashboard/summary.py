"""What a recorded event file amounts to, stream by stream: shares of time, transitions, losses, and what devices did."""

from __future__ import annotations

import bisect
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from moodring.dashboard.feed import per_mille
from moodring.dashboard.recording import RecordedEvent
from moodring.labels import INDEX, LABELS
from moodring.publish.cloudevents import stream_name

MAX_HOLD_MS = 2000  # an event speaks for the time up to the next one, but for no longer than this
NO_ANSWER = -1


@dataclass(frozen=True, slots=True)
class DeviceStateChange:
    time_ms: int
    device: str
    state: str


@dataclass(slots=True)
class Summary:
    """One stream. Times are milliseconds since 1970; a share is time, not a count of events."""

    name: str
    times_ms: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("b"))  # index, or NO_ANSWER
    points: array[int] = field(default_factory=lambda: array("H"))  # per mille, eight to an event; zeros: no answer
    label_ms: Counter[str] = field(default_factory=Counter)
    state_ms: Counter[str] = field(default_factory=Counter)
    modality_ms: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    devices: list[DeviceStateChange] = field(default_factory=list)
    latencies_ms: array[float] = field(default_factory=lambda: array("f"))
    confidence_ms: float = 0.0  # confidence times how long
    runs: int = 0
    had_preview: bool = False
    _run: str = ""
    _latest: dict[str, Any] | None = None  # the newest event, which speaks until the next one
    _dropped: dict[str, int] = field(default_factory=dict)  # of the run, as its newest status counts
    _states: dict[str, str] = field(default_factory=dict)

    @property
    def events(self) -> int:
        return len(self.times_ms)

    @property
    def covered_ms(self) -> int:
        """How long the events speak for, all together."""
        return sum(self.state_ms.values())

    def latency_ms(self, quantile: float) -> float | None:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else None

    def add(self, line: RecordedEvent) -> None:
        source = line.document["source"]
        if source != self._run:
            self.end_run()
            self._run, self.runs = source, self.runs + 1
        if line.is_status:
            self._dropped = line.document["data"]["dropped"]
        else:
            self._add_emotion(line.document["data"], line.time_ms)

    def _add_emotion(self, data: dict[str, Any], time_ms: int) -> None:
        if self._latest is not None:
            self._accumulate(max(0, min(MAX_HOLD_MS, time_ms - self.times_ms[-1])))
            before, now = self._latest["label"], data["label"]
            if before and now and before != now:
                self.transitions[before, now] += 1
        self._latest = data
        self.times_ms.append(time_ms)
        self.labels.append(INDEX.get(data["label"], NO_ANSWER))
        self.points.extend(per_mille(data["probabilities"]) or (0,) * len(LABELS))
        self.had_preview = self.had_preview or bool(data.get("preview"))
        if data["latency_ms"] is not None:
            self.latencies_ms.append(data["latency_ms"])
        for device, state in data["devices"].items():
            if self._states.get(device) != state:
                self.devices.append(DeviceStateChange(time_ms, device, state))
                self._states[device] = state

    def _accumulate(self, duration_ms: int) -> None:
        """Let the newest event count for so long."""
        assert self._latest is not None  # noqa: S101  for the type checker
        latest = self._latest
        self.state_ms[latest["state"]] += duration_ms
        if latest["label"]:
            self.label_ms[latest["label"]] += duration_ms
            self.confidence_ms += duration_ms * latest["confidence"]
            self.modality_ms[" and ".join(latest["modalities"])] += duration_ms

    def end_run(self) -> None:
        """Close the books of a run: the next event belongs to another."""
        self.dropped.update(self._dropped)
        self._dropped, self._latest, self._states = {}, None, {}

    def mean_probabilities(self, count: int) -> list[tuple[float, ...] | None]:
        """Return the mean probabilities of so many equal parts of the whole time, bottom label first; None: no answer."""
        if self.events == 0:
            return []
        begin, n = self.times_ms[0], len(LABELS)
        step = max(1.0, (self.times_ms[-1] - begin + 1) / count)
        found: list[tuple[float, ...] | None] = []
        for column in range(count):
            first = bisect.bisect_left(self.times_ms, begin + column * step)
            last = bisect.bisect_left(self.times_ms, begin + (column + 1) * step)
            answered = [k for k in range(first, last) if self.labels[k] != NO_ANSWER]
            if answered:
                found.append(tuple(sum(self.points[k * n + i] for k in answered) / len(answered) / 1000 for i in range(n)))
            else:  # between two events that are wide apart in a short recording the earlier one still speaks
                preceding = first - 1
                is_held = preceding >= 0 and begin + column * step - self.times_ms[preceding] <= MAX_HOLD_MS and first == last
                has_label = is_held and self.labels[preceding] != NO_ANSWER
                found.append(tuple(self.points[preceding * n + i] / 1000 for i in range(n)) if has_label else None)
        return found


def summarize_streams(lines: Iterable[RecordedEvent]) -> list[Summary]:
    """Return a summary of each stream, in the order in which they first appear."""
    found: dict[str, Summary] = {}
    for line in lines:
        name = stream_name(line.document["source"])
        found.setdefault(name, Summary(name)).add(line)
    for summary in found.values():
        summary.end_run()
    return [summary for summary in found.values() if summary.events]
