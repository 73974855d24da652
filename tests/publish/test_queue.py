"""Isolated sinks: blocked, slow and failing ones. They delay no other sink, and each event is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from moodring.errors import PublishError
from moodring.publish.base import ReaderGoneError
from moodring.publish.queue import DirectSink, QueuedSink


class FakeSink:
    """Stores the events in `received`. Blocks while `released` is cleared; raises what `error_of(attempt)` returns."""

    def __init__(self, error_of: Callable[[int], Exception | None] = lambda _: None) -> None:
        self.received: list[object] = []
        self.attempts = 0
        self.closed = False
        self.released = threading.Event()
        self.released.set()
        self.entered = threading.Event()
        self._error_of = error_of

    def publish(self, event: object) -> None:
        self.attempts += 1
        self.entered.set()
        assert self.released.wait(10)
        if error := self._error_of(self.attempts):
            raise error
        self.received.append(event)

    def close(self) -> None:
        self.closed = True


def open_queued(sink: FakeSink, log: Callable[[str], None] = lambda _: None, **options) -> QueuedSink:
    queued_sink = QueuedSink("sink", sink, log, **options)
    queued_sink.open()
    return queued_sink


def test_queued_sink_delivers_in_order_before_closing():
    sink = FakeSink()
    queued_sink = open_queued(sink)
    for number in range(400):
        queued_sink.publish(number)
    queued_sink.close()
    assert sink.received == list(range(400))
    assert sink.closed
    assert (queued_sink.published, queued_sink.dropped, queued_sink.failed, queued_sink.pending) == (400, 0, 0, 0)


def test_blocked_sink_delays_no_other_sink_and_drops_oldest_events():
    blocked, fast = FakeSink(), FakeSink()
    blocked.released.clear()
    queued_sinks = open_queued(blocked, capacity=10), open_queued(fast, capacity=1000)
    queued_sinks[0].publish(0)
    assert blocked.entered.wait(5)
    start = time.monotonic()
    for number in range(1, 101):
        for queued_sink in queued_sinks:
            queued_sink.publish(number)
    assert time.monotonic() - start < 0.5
    queued_sinks[1].close()
    assert fast.received == list(range(1, 101))
    blocked.released.set()
    queued_sinks[0].close()
    assert blocked.received == [0, *range(91, 101)]
    assert queued_sinks[0].dropped == 90


def test_queued_sink_retries_refused_event_in_order():
    logged: list[str] = []
    sink = FakeSink(lambda attempt: PublishError("no room") if attempt <= 2 else None)
    queued_sink = open_queued(sink, logged.append)
    for number in range(3):
        queued_sink.publish(number)
    deadline = time.monotonic() + 10
    while queued_sink.published < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    queued_sink.close()
    assert sink.received == [0, 1, 2]
    assert logged == ["no room", "sink: publishing resumed"]


def test_unexpected_error_in_queued_sink_drops_one_event_and_is_logged():
    logged: list[str] = []
    sink = FakeSink(lambda attempt: ZeroDivisionError("a bug") if attempt == 1 else None)
    queued_sink = open_queued(sink, logged.append)
    queued_sink.publish(0)
    queued_sink.publish(1)
    queued_sink.close()
    assert sink.received == [1]
    assert (queued_sink.published, queued_sink.failed) == (1, 1)
    assert "sink: unexpected error ZeroDivisionError('a bug'): moodring drops the event" in logged[0]


def test_publish_raises_after_reader_has_gone():
    sink = FakeSink(lambda _: ReaderGoneError("gone"))
    queued_sink = open_queued(sink)
    queued_sink.publish(0)
    queued_sink._thread.join(0.2)  # the thread runs until the sink is closed
    with pytest.raises(ReaderGoneError):
        [queued_sink.publish(1) for _ in range(100_000)]
    queued_sink.close()


def test_publish_waits_for_space_in_the_queue():
    sink = FakeSink()
    sink.released.clear()
    queued_sink = open_queued(sink, capacity=2, wait_s=10.0)
    threading.Timer(0.2, sink.released.set).start()
    for number in range(20):
        queued_sink.publish(number)
    queued_sink.close()
    assert sink.received == list(range(20))
    assert queued_sink.dropped == 0


def test_close_does_not_wait_for_a_blocked_sink(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moodring.publish.queue.CLOSE_TIMEOUT_S", 0.1)
    logged: list[str] = []
    sink = FakeSink()
    sink.released.clear()
    queued_sink = open_queued(sink, logged.append)
    queued_sink.publish(0)
    assert sink.entered.wait(5)
    queued_sink.publish(1)
    queued_sink.close()
    assert logged == ["sink: not closed within 0.1 s: moodring stops without it; queued events lost: 1"]
    sink.released.set()


def test_direct_sink_delivers_at_once_and_counts_and_logs_failures():
    logged: list[str] = []
    sink = FakeSink(
        lambda attempt: PublishError("no room") if attempt == 1 else ZeroDivisionError("a bug") if attempt == 2 else None
    )
    direct_sink = DirectSink("sink", sink, logged.append)
    for number in range(4):
        direct_sink.publish(number)
    assert sink.received == [2, 3]
    assert (direct_sink.published, direct_sink.failed, direct_sink.dropped, direct_sink.pending) == (2, 2, 0, 0)
    assert logged[0] == "no room"
    assert "sink: unexpected error ZeroDivisionError('a bug'): moodring drops the event" in logged[1]
    assert logged[2] == "sink: publishing resumed"
    direct_sink.close()
    assert sink.closed
