"""Streams of events for programs: the devices of this machine, or a recording. `moodring.open_stream` opens them.

A stream installs no signal handler and prints nothing. `close` may be called from any thread.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Self

from moodring.analysis.opencv import OneThread
from moodring.clock import NS_PER_S, MonotonicClock
from moodring.config import Config
from moodring.errors import MoodringError
from moodring.pipeline import Pipeline
from moodring.run.replay import Recording
from moodring.run.stream import Stream
from moodring.run.ticks import TickSchedule, stop_streams, tick_alive
from moodring.telemetry import sum_counts
from moodring.types import EmotionEvent


class EventStream(ABC):
    """Events of one stream. Iterate over it, in a `with` block: `for event in stream`.

    The iteration ends when the recording ends, or when the stream is closed. Several threads may iterate: each event goes to
    one of them.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._opened = contextlib.ExitStack()

    def open(self) -> Self:
        """Acquire devices and threads, and return the stream. `open_stream` has done this."""
        self._opened.enter_context(OneThread())
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the events, in the order of their probabilities."""
        return self._pipeline.labels

    @property
    def counters(self) -> dict[str, int]:
        """Counts of what was captured and processed; the names are those of status events."""
        return asdict(self._pipeline.counters) | dict(self._captured())

    @property
    def dropped(self) -> dict[str, int]:
        """Counts of what was captured and not processed, by reason."""
        return {"frames_above_rate": self._pipeline.counters.frames_skipped_rate} | dict(self._dropped())

    @property
    def closed(self) -> bool:
        """Whether the stream was closed."""
        return self._stopping.is_set()

    def __enter__(self) -> Self:
        """Return the stream, which is open."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        """Close the stream."""
        self.close()

    def __iter__(self) -> Iterator[EmotionEvent]:
        """Iterate over the events."""
        return self

    def __next__(self) -> EmotionEvent:
        """Wait for the next event and return it. Raises StopIteration at the end, MoodringError where the stream fails."""
        try:
            with self._lock:
                event = None if self.closed else self._next_event()
        except MoodringError:
            self.close()
            raise
        if event is None or self.closed:
            self.close()
            raise StopIteration
        return event

    def close(self) -> None:
        """Stop, and release devices, files and threads. It can be called twice, and while another thread waits for an event."""
        self._stopping.set()
        with self._lock:
            self._release()
            self._opened.close()

    @abstractmethod
    def _next_event(self) -> EmotionEvent | None:
        """Wait for the next event; return None at the end."""

    @abstractmethod
    def _release(self) -> None:
        """Release everything. It can be called twice."""

    def _captured(self) -> Mapping[str, int]:
        return {}

    def _dropped(self) -> Mapping[str, int]:
        return {}


class StoppableClock(MonotonicClock):
    """A monotonic clock whose sleep ends when an event is set."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return at the deadline, or earlier if the event is set."""
        remaining_ns = deadline_ns - self.now_ns()
        if remaining_ns > 0:
            self._stopping.wait(remaining_ns / NS_PER_S)


class DeviceStream(EventStream):
    """The events of a camera and a microphone, in real time. A caller that is slow skips ticks; `ticks_skipped` counts them."""

    def __init__(self, pipeline: Pipeline, devices: Stream, config: Config) -> None:
        super().__init__(pipeline)
        self._devices = devices
        self._clock = StoppableClock(self._stopping)
        self._schedule = TickSchedule(self._clock, int(NS_PER_S / config.fusion.rate_hz))

    def open(self) -> Self:
        """Start the threads, which open the devices."""
        super().open()
        self._devices.start()
        return self

    @property
    def ticks_skipped(self) -> int:
        """The number of ticks without an event, because the caller did not read it in time."""
        return self._schedule.skipped

    def mute(self, device: str, muted: bool) -> bool:
        """Mute or unmute "camera" or "microphone"; return whether there is one. A muted device is closed."""
        return self._devices.mute(device, muted)

    def _next_event(self) -> EmotionEvent | None:
        event = None
        while event is None and not self.closed:
            self._clock.sleep_until_ns(self._schedule.due_ns)
            if not self.closed:
                event = tick_alive(self._devices)
                self._schedule.advance()
        return event

    def _release(self) -> None:
        stop_streams([self._devices])

    def _captured(self) -> Mapping[str, int]:
        return self._devices.captured

    def _dropped(self) -> Mapping[str, int]:
        return self._devices.dropped


class RecordingStream(EventStream):
    """The events of a recording, the same as those of `moodring run`, in real time or as fast as they are read.

    `notes` says in words what was left out or damaged; it is complete at the end.
    """

    def __init__(self, pipeline: Pipeline, recording: Recording, config: Config, *, in_real_time: bool) -> None:
        super().__init__(pipeline)
        self._recording = recording
        pace = StoppableClock(self._stopping) if in_real_time else None
        self._events = recording.replay(pipeline, config, pace=pace)

    @property
    def notes(self) -> list[str]:
        """What was left out or damaged."""
        return self._recording.notes

    def _next_event(self) -> EmotionEvent | None:
        _, event = next(self._events, (0, None))
        return event

    def _release(self) -> None:
        self._recording.close()

    def _captured(self) -> Mapping[str, int]:
        return sum_counts(reader.counters.captured for reader in self._recording.readers)

    def _dropped(self) -> Mapping[str, int]:
        return sum_counts(reader.counters.dropped for reader in self._recording.readers)
