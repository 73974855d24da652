"""A sink in a thread of its own behind a bounded queue: slow or dead, it delays neither the pipeline nor another sink.

A sink that by its nature never waits needs neither: the time it takes is shorter than waking a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from moodring.buffers import BoundedQueue
from moodring.errors import PublishError
from moodring.publish.base import Event, Publisher
from moodring.publish.jsonl import ReaderGoneError

QUEUE_EVENTS = 500  # events: most of two minutes at five a second
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.25, 5.0
CLOSE_TIMEOUT_S = 4.0  # for what still waits in the queue, and for the sink's own farewell; a service is killed after five


class QueuedSink:
    """Hands events to one sink. What the sink refuses is tried again until the queue drops it; every drop is counted.

    Given = published + dropped + failed + waiting. `wait_s` is how long `publish` may wait for room: 0 live, where time does
    not stand still; more where a recording is read, which can wait.
    """

    def __init__(
        self, name: str, sink: Publisher, log: Callable[[str], None], *, capacity: int = QUEUE_EVENTS, wait_s: float = 0.0
    ) -> None:
        self.name = name
        self.published = 0
        self.failed = 0
        self.fault: str | None = None
        self._fatal_error: PublishError | None = None
        self._sink = sink
        self._log = log
        self._wait_s = wait_s
        self._queue: BoundedQueue[Event] = BoundedQueue(capacity)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"publish to {name}", daemon=True)

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    @property
    def pending(self) -> int:
        return len(self._queue)

    def open(self) -> None:
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Leave the event for the sink; raises what ended the sink for good, such as a reader that has gone."""
        if self._fatal_error is not None:
            raise self._fatal_error
        self._queue.put(event, self._wait_s)

    def begin_close(self) -> None:
        """Take no more events; the sink gets what waits and is closed, in its own time."""
        self._closing.set()
        self._queue.close()

    def close(self) -> None:
        """Finish, and wait for it, for a few seconds at most."""
        self.begin_close()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self._log(f"{self.name} does not answer; {self.pending} events were left behind")

    def _run(self) -> None:
        try:
            while (event := self._queue.take()) is not None:
                self._deliver(event)
        finally:
            self._sink.close()

    def _deliver(self, event: Event) -> None:
        wait_s = BACKOFF_MIN_S
        while self._fatal_error is None:
            try:
                self._sink.publish(event)
            except ReaderGoneError as error:
                self._fatal_error = error
            except PublishError as error:
                self._log_fault(str(error))
                if self._closing.wait(wait_s):
                    break
                wait_s = min(2 * wait_s, BACKOFF_MAX_S)
            except Exception as error:  # noqa: BLE001  the supervision boundary: one event is lost, the sink lives on
                self._log_fault(f"a bug in publishing to {self.name} lost an event: {error!r}")
                break
            else:
                self.published += 1
                self._log_fault(None)
                return
        self.failed += 1

    def _log_fault(self, fault: str | None) -> None:
        """Log a trouble when it begins and when it is over, not at every try."""
        if fault != self.fault:
            self._log(fault or f"{self.name}: publishing again")
        self.fault = fault


class DirectSink:
    """Hands events to one sink that never waits, at once and in the caller's thread. Given = published + failed."""

    dropped = 0
    pending = 0

    def __init__(self, name: str, sink: Publisher, log: Callable[[str], None]) -> None:
        self.name = name
        self.published = 0
        self.failed = 0
        self._sink = sink
        self._log = log
        self._fault: str | None = None

    def open(self) -> None:
        """Nothing: the sink is open already."""

    def publish(self, event: Event) -> None:
        fault = None
        try:
            self._sink.publish(event)
            self.published += 1
        except PublishError as error:
            fault = str(error)
        except Exception as error:  # noqa: BLE001  the supervision boundary: one event is lost, the run goes on
            fault = f"a bug in publishing to {self.name} lost an event: {error!r}"
        self.failed += fault is not None
        if fault != self._fault:
            self._log(fault or f"{self.name}: publishing again")
        self._fault = fault

    def begin_close(self) -> None:
        """Nothing: no event waits."""

    def close(self) -> None:
        self._sink.close()
