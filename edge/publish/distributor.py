"""Hands every event to every sink, and a status once a second to those that are wanted to tell how the run goes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from moodring.clock import Clock
from moodring.process import Uninterrupted
from moodring.publish.base import Publisher
from moodring.publish.queue import DirectSink, QueuedSink
from moodring.telemetry import Telemetry
from moodring.types import EmotionEvent, SinkState


class SpoolingSink(Protocol):
    """A sink that keeps on disk what it could not deliver yet."""

    @property
    def connected(self) -> bool: ...

    @property
    def spooled(self) -> int: ...

    @property
    def spool_dropped(self) -> dict[str, int]: ...


class SinkGroup:
    """Outlets that are opened and closed together: all at once, so that they take no longer than the slowest."""

    def __init__(self, isolated_sinks: Sequence[QueuedSink | DirectSink]) -> None:
        self._isolated_sinks = tuple(isolated_sinks)

    def __enter__(self) -> Self:
        for sink in self._isolated_sinks:
            sink.open()
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self._isolated_sinks:
            sink.begin_close()
        for sink in self._isolated_sinks:
            sink.close()


class Distributor:
    """Publishes one stream. `direct` sinks are written to at once and end the run where they fail.

    An outlet neither waits nor fails; those `shared` with other streams are opened and closed by whoever shares them.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        clock: Clock,
        *,
        fail_fast: Sequence[Publisher] = (),
        shared_sinks: Sequence[QueuedSink] = (),
        isolated_sinks: Sequence[QueuedSink | DirectSink] = (),
        spooling: SpoolingSink | None = None,
        with_status: bool = True,
    ) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._fail_fast = tuple(fail_fast)
        self._isolated_sinks = tuple(isolated_sinks)
        self._all_sinks = (*fail_fast, *isolated_sinks, *shared_sinks)
        self._reported_sinks = (*shared_sinks, *isolated_sinks)
        self._spooling = spooling
        self._with_status = with_status
        self._exit_stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for publisher in self._fail_fast:
            self._exit_stack.callback(publisher.close)
        self._exit_stack.enter_context(SinkGroup(self._isolated_sinks))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._exit_stack.close()

    def publish(self, event: EmotionEvent) -> None:
        start_ns = self._clock.now_ns()
        self._telemetry.record(event)
        with Uninterrupted():  # every sink is given it, or none
            for sink in self._all_sinks:
                sink.publish(event)
        self._telemetry.histograms["publish"].add(self._clock.now_ns() - start_ns)
        status = self._telemetry.status_due(self.sinks) if self._with_status else None
        if status is not None:
            for sink in self._all_sinks:
                sink.publish(status)

    def sinks(self) -> dict[str, SinkState]:
        """Return what became of the events of each sink that has a queue."""
        return {sink.name: self._state(sink) for sink in self._reported_sinks}

    def _state(self, sink: QueuedSink | DirectSink) -> SinkState:
        mqtt = self._spooling if sink.name == "mqtt" else None
        return SinkState(
            published=sink.published,
            dropped=sink.dropped,
            failed=sink.failed,
            queued=sink.pending,
            spooled=mqtt.spooled if mqtt else 0,
            spool_dropped=sum(mqtt.spool_dropped.values()) if mqtt else 0,
            connected=mqtt.connected if mqtt else None,
        )
