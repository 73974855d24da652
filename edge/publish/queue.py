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

CAPACITY = 500  # events: most of two minutes at five a second
RETRY_FIRST_S, RETRY_LAST_S = 0.25, 5.0
CLOSE_S = 4.0  # for what still waits in the queue, and for the sink's own farewell; a service is killed after five


class Outlet:
    """Hands events to one sink. What the sink refuses is tried again until the queue drops it; every drop is counted.

    Given = published + dropped + failed + waiting. `wait_s` is how long `publish` may wait for room: 0 live, where time does
    not stand still; more where a recording is read, which can wait.
    """

    def __init__(
        self, name: str, sink: Publisher, log: Callable[[str], None], *, capacity: int = CAPACITY, wait_s: float = 0.0
    ) -> None:
        self.name = name
        self.published = 0
        self.failed = 0
        self.trouble: str | None = None
        self._ended: PublishError | None = None
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
    def waiting(self) -> int:
        return len(self._queue)

    def open(self) -> None:
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Leave the event for the sink; raises what ended the sink for good, such as a reader that has gone."""
        if self._ended is not None:
            raise self._ended
        self._queue.put(event, self._wait_s)

    def finish(self) -> None:
        """Take no more events; the sink gets what waits and is closed, in its own time."""
        self._closing.set()
        self._queue.close()

    def close(self) -> None:
        """Finish, and wait for it, for a few seconds at most."""
        self.finish()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._log(f"{self.name} does not answer; {self.waiting} events were left behind")

    def _run(self) -> None:
        try:
            while (event := self._queue.take()) is not None:
                self._deliver(event)
        finally:
            self._sink.close()

    def _deliver(self, event: Event) -> None:
        wait_s = RETRY_FIRST_S
        while self._ended is None:
            try:
                self._sink.publish(event)
            except ReaderGoneError as error:
                self._ended = error
            except PublishError as error:
                self._say(str(error))
                if self._closing.wait(wait_s):
                    break
                wait_s = min(2 * wait_s, RETRY_LAST_S)
            except Exception as error:  # noqa: BLE001  the supervision boundary: one event is lost, the sink lives on
                self._say(f"a bug in publishing to {self.name} lost an event: {error!r}")
                break
            else:
                self.published += 1
                self._say(None)
                return
        self.failed += 1

    def _say(self, trouble: str | None) -> None:
        """Log a trouble when it begins and when it is over, not at every try."""
        if trouble != self.trouble:
            self._log(trouble or f"{self.name}: publishing again")
        self.trouble = trouble


class Inline:
    """Hands events to one sink that never waits, at once and in the caller's thread. Given = published + failed."""

    dropped = 0
    waiting = 0

    def __init__(self, name: str, sink: Publisher, log: Callable[[str], None]) -> None:
        self.name = name
        self.published = 0
        self.failed = 0
        self._sink = sink
        self._log = log
        self._trouble: str | None = None

    def open(self) -> None:
        """Nothing: the sink is open already."""

    def publish(self, event: Event) -> None:
        trouble = None
        try:
            self._sink.publish(event)
            self.published += 1
        except PublishError as error:
            trouble = str(error)
        except Exception as error:  # noqa: BLE001  the supervision boundary: one event is lost, the run goes on
            trouble = f"a bug in publishing to {self.name} lost an event: {error!r}"
        self.failed += trouble is not None
        if trouble != self._trouble:
            self._log(trouble or f"{self.name}: publishing again")
        self._trouble = trouble

    def finish(self) -> None:
        """Nothing: no event waits."""

    def close(self) -> None:
        self._sink.close()
