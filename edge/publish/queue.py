"""Sinks isolated from the pipeline: `QueuedSink` adds a thread and a bounded queue, `DirectSink` catches errors only.

A slow or failed sink delays neither the pipeline nor another sink. A sink that never blocks needs no thread: its work takes
less time than waking one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from moodring.buffers import BoundedQueue
from moodring.errors import PublishError
from moodring.publish.base import Event, Publisher, ReaderGoneError
from moodring.publish.fault_log import FaultLog

QUEUE_EVENTS = 500  # events: 100 s at five a second
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.25, 5.0
CLOSE_TIMEOUT_S = 4.0  # to deliver the queue and close the sink; the service manager kills moodring after 5 s


class QueuedSink:
    """Delivers events to one sink from its own thread. Retries an event that the sink refuses.

    The queue drops its oldest event when it is full. Enqueued = published + dropped + failed + pending (+ the one in delivery).

    `wait_s` is how long `publish` waits for space in the queue, in seconds: 0 for a live run, more for a recording.
    """

    def __init__(
        self, name: str, sink: Publisher, log: Callable[[str], None], *, capacity: int = QUEUE_EVENTS, wait_s: float = 0.0
    ) -> None:
        self.name = name
        self.published = 0
        self.failed = 0
        self._fatal_error: ReaderGoneError | None = None
        self._sink = sink
        self._log = log
        self._fault_log = FaultLog(log)
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
        """Enqueue the event. Raises ReaderGoneError if the reader of the sink has gone."""
        if self._fatal_error is not None:
            raise self._fatal_error
        self._queue.put(event, self._wait_s)

    def begin_close(self) -> None:
        """Start to close, without waiting: the thread delivers the queued events, then closes the sink."""
        self._closing.set()
        self._queue.close()

    def close(self) -> None:
        """Deliver the queued events and close the sink. Waits for at most `CLOSE_TIMEOUT_S`."""
        self.begin_close()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self._log(
                f"{self.name}: not closed within {CLOSE_TIMEOUT_S:g} s: moodring stops without it; "
                f"queued events lost: {self.pending}"
            )

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
                self._fault_log.report(str(error))
                if self._closing.wait(wait_s):
                    break
                wait_s = min(2 * wait_s, BACKOFF_MAX_S)
            except Exception as error:  # noqa: BLE001  the supervision boundary: the event is lost, the thread continues
                self._fault_log.report(_bug(self.name, error))
                break
            else:
                self.published += 1
                self._fault_log.clear(_recovered(self.name))
                return
        self.failed += 1


class DirectSink:
    """Delivers events to one sink that never blocks, in the caller's thread. Given = published + failed."""

    dropped = 0
    pending = 0

    def __init__(self, name: str, sink: Publisher, log: Callable[[str], None]) -> None:
        self.name = name
        self.published = 0
        self.failed = 0
        self._sink = sink
        self._fault_log = FaultLog(log)

    def open(self) -> None:
        """Do nothing: the sink is already open."""

    def publish(self, event: Event) -> None:
        """Deliver the event. A failure is counted and logged, never raised."""
        try:
            self._sink.publish(event)
        except PublishError as error:
            self.failed += 1
            self._fault_log.report(str(error))
        except Exception as error:  # noqa: BLE001  the supervision boundary: the event is lost, the run continues
            self.failed += 1
            self._fault_log.report(_bug(self.name, error))
        else:
            self.published += 1
            self._fault_log.clear(_recovered(self.name))

    def begin_close(self) -> None:
        """Do nothing: there is no queue."""

    def close(self) -> None:
        self._sink.close()


def _bug(name: str, error: Exception) -> str:
    return f"{name}: unexpected error {error!r}: moodring drops the event; please report this bug"


def _recovered(name: str) -> str:
    return f"{name}: publishing resumed"
