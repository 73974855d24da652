"""A live run in a thread, whose events a test can wait for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from moodring.capture.base import LiveAudioSource, LiveVideoSource
from moodring.clock import UNTIMED, MonotonicClock, StageTimer
from moodring.publish.cloudevents import to_document
from moodring.run.stream import Stream
from moodring.run.ticks import TickLoop
from moodring.types import EmotionEvent
from tests.support.events import check_event, make_pipeline


class _StopRun(Exception):  # noqa: N818  not an error: the test is done
    """Ends the run from within its publish callback."""


class MonitoredRun:
    """A live run that starts in its own thread; every event is checked against the schema."""

    def __init__(
        self,
        bundle: Path,
        camera: LiveVideoSource | None,
        microphone: LiveAudioSource | None,
        timer: StageTimer = UNTIMED,
        seconds: float | None = 60,
    ) -> None:
        self.log_lines: list[str] = []
        self.pipeline = make_pipeline(bundle, timer=timer)
        self._seconds = seconds
        clock = MonotonicClock()
        self.stream = Stream(self.pipeline, camera, microphone, clock, self.log_lines.append)
        self.live = TickLoop({"live": self.stream}, clock)
        self._events: list[tuple[float, EmotionEvent]] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="live run")
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(_StopRun):
            self.live.run(self._publish, tick_ns=100_000_000, seconds=self._seconds)

    def _publish(self, _: str, event: EmotionEvent) -> None:
        check_event(to_document(event))
        with self._changed:
            if self._stopped:
                raise _StopRun
            self._events.append((time.monotonic(), event))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[EmotionEvent], bool], seconds: float) -> EmotionEvent:
        """Wait for the next event that matches the condition and return it; fail after `seconds`."""
        with self._changed:
            start = len(self._events)
            found = self._changed.wait_for(lambda: any(condition(e) for _, e in self._events[start:]), seconds)
            assert found, f"no such event within {seconds} s; the last was {self._events[-1:]}, logged {self.log_lines}"
            return next(event for _, event in self._events[start:] if condition(event))

    def events_since(self, moment_s: float) -> list[tuple[float, EmotionEvent]]:
        """Return (arrival time, event) of all events since a time of the monotonic clock, in seconds."""
        with self._changed:
            return [(arrival_s, event) for arrival_s, event in self._events if arrival_s >= moment_s]

    def close(self) -> None:
        """End the run and wait for its thread."""
        with self._changed:
            self._stopped = True
        self._thread.join(10)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def monitored_run(
    bundle: Path,
    camera: LiveVideoSource | None = None,
    microphone: LiveAudioSource | None = None,
    timer: StageTimer = UNTIMED,
    seconds: float | None = 60,
) -> Iterator[MonitoredRun]:
    """Run live until the context ends; then assert that no reader thread is left.

    `timer` is the pipeline's; without `camera` or `microphone` the device is absent.
    """
    threads_before = set(threading.enumerate())
    monitored = MonitoredRun(bundle, camera, microphone, timer, seconds)
    try:
        yield monitored
    finally:
        monitored.close()
    left = {thread.name for thread in set(threading.enumerate()) - threads_before if "process_request" not in thread.name}
    assert not any(name.startswith("read ") for name in left), left
