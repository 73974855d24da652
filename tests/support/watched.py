"""A live run that a test can watch."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from moodring.capture.base import LiveAudioSource, LiveVideoSource
from moodring.clock import MonotonicClock
from moodring.pipeline import Pipeline
from moodring.publish.cloudevents import to_document
from moodring.run.stream import Stages, Stream
from moodring.run.ticks import TickLoop
from moodring.types import EmotionEvent
from tests.support.events import check_event, make_pipeline


class StopRun(Exception):  # noqa: N818  not an error: the test has seen what it wanted
    pass


class MonitoredRun:
    """A live run in a thread of its own; `wait_for` waits until an event fits."""

    def __init__(
        self,
        bundle: Path,
        camera: LiveVideoSource | None,
        microphone: LiveAudioSource | None,
        wrap_pipeline: Callable[[Pipeline], Stages] = lambda pipeline: pipeline,
        seconds: float | None = 60,
    ) -> None:
        self.log_lines: list[str] = []
        self.pipeline = make_pipeline(bundle)
        self._seconds = seconds
        clock = MonotonicClock()
        self.stream = Stream(wrap_pipeline(self.pipeline), camera, microphone, clock, self.log_lines.append)
        self.live = TickLoop({"live": self.stream}, clock)
        self._events: list[tuple[float, EmotionEvent]] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="live run")
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(StopRun):
            self.live.run(self._publish, tick_ns=100_000_000, seconds=self._seconds)

    def _publish(self, _: str, event: EmotionEvent) -> None:
        check_event(to_document(event))
        with self._changed:
            if self._stopped:
                raise StopRun
            self._events.append((time.monotonic(), event))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[EmotionEvent], bool], seconds: float) -> EmotionEvent:
        """Return the first event from now on that fits, within so many seconds."""
        with self._changed:
            start = len(self._events)
            found = self._changed.wait_for(lambda: any(condition(e) for _, e in self._events[start:]), seconds)
            assert found, f"no such event within {seconds} s; the last was {self._events[-1:]}, logged {self.log_lines}"
            return next(event for _, event in self._events[start:] if condition(event))

    def events_since(self, moment_s: float) -> list[tuple[float, EmotionEvent]]:
        """Return the events since a moment of the monotonic clock, each with when it came."""
        with self._changed:
            return [(arrival_s, event) for arrival_s, event in self._events if arrival_s >= moment_s]

    def close(self) -> None:
        with self._changed:
            self._stopped = True
        self._thread.join(10)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def monitored_run(
    bundle: Path,
    camera: LiveVideoSource | None = None,
    microphone: LiveAudioSource | None = None,
    wrap_pipeline: Callable[[Pipeline], Stages] = lambda pipeline: pipeline,
    seconds: float | None = 60,
) -> Iterator[MonitoredRun]:
    """Run live for as long as the context lasts; no reader may be left over at its end."""
    others = set(threading.enumerate())
    monitored = MonitoredRun(bundle, camera, microphone, wrap_pipeline, seconds)
    try:
        yield monitored
    finally:
        monitored.close()
    left = {thread.name for thread in set(threading.enumerate()) - others if "process_request" not in thread.name}
    assert not any(name.startswith("read ") for name in left), left
