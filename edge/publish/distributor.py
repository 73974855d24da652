"""Distributes the events of one stream to its sinks, and a status event once a second."""

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
    """A sink that stores undelivered events on disk."""

    @property
    def connected(self) -> bool: ...

    @property
    def spooled(self) -> int: ...

    @property
    def spool_dropped(self) -> dict[str, int]: ...


class SinkGroup:
    """Opens and closes several sinks. They close in parallel: the group takes as long as the slowest sink."""

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
    """Publishes the events of one stream to all its sinks.

    `fail_fast` sinks are called directly; an error of theirs ends the run. `isolated_sinks` belong to this stream: the
    distributor opens and closes them. `shared_sinks` also serve other streams: the caller opens and closes them. `spooling` is
    the sink behind the isolated sink "mqtt". `with_status` adds status events.
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
        """Publish an event to all sinks, and a status event if one is due. Raises the error of a fail-fast sink."""
        start_ns = self._clock.now_ns()
        self._telemetry.record(event)
        with Uninterrupted():  # an interrupt must not split the sinks: all of them get the event
            for sink in self._all_sinks:
                sink.publish(event)
        self._telemetry.histograms["publish"].add(self._clock.now_ns() - start_ns)
        status = self._telemetry.status_due(self.sinks) if self._with_status else None
        if status is not None:
            for sink in self._all_sinks:
                sink.publish(status)

    def sinks(self) -> dict[str, SinkState]:
        """Return the counters of each sink that is not fail-fast, by name."""
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
