"""Hands every event to every sink, and a status once a second to those that are wanted to tell how the run goes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from moodring.clock import Clock
from moodring.interrupts import Uninterrupted
from moodring.publish.base import Publisher
from moodring.publish.queue import Inline, Outlet
from moodring.telemetry import Telemetry
from moodring.types import EmotionEvent, SinkState


class Spooling(Protocol):
    """A sink that keeps on disk what it could not deliver yet."""

    @property
    def connected(self) -> bool: ...

    @property
    def spooled(self) -> int: ...

    @property
    def spool_dropped(self) -> dict[str, int]: ...


class Shared:
    """Outlets that are opened and closed together: all at once, so that they take no longer than the slowest."""

    def __init__(self, outlets: Sequence[Outlet | Inline]) -> None:
        self._outlets = tuple(outlets)

    def __enter__(self) -> Self:
        for outlet in self._outlets:
            outlet.open()
        return self

    def __exit__(self, *_: object) -> None:
        for outlet in self._outlets:
            outlet.finish()
        for outlet in self._outlets:
            outlet.close()


class Distributor:
    """Publishes one stream. `direct` sinks are written to at once and end the run where they fail.

    An outlet neither waits nor fails; those `shared` with other streams are opened and closed by whoever shares them.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        clock: Clock,
        *,
        direct: Sequence[Publisher] = (),
        shared: Sequence[Outlet] = (),
        outlets: Sequence[Outlet | Inline] = (),
        spooling: Spooling | None = None,
        with_status: bool = True,
    ) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._direct = tuple(direct)
        self._outlets = tuple(outlets)
        self._all = (*direct, *outlets, *shared)
        self._queued = (*shared, *outlets)
        self._spooling = spooling
        self._with_status = with_status
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for publisher in self._direct:
            self._closing.callback(publisher.close)
        self._closing.enter_context(Shared(self._outlets))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._closing.close()

    def publish(self, event: EmotionEvent) -> None:
        start_ns = self._clock.now_ns()
        self._telemetry.record(event)
        with Uninterrupted():  # every sink is given it, or none
            for sink in self._all:
                sink.publish(event)
        self._telemetry.histograms["publish"].add(self._clock.now_ns() - start_ns)
        status = self._telemetry.status_due(self.sinks) if self._with_status else None
        if status is not None:
            for sink in self._all:
                sink.publish(status)

    def sinks(self) -> dict[str, SinkState]:
        """Return what became of the events of each sink that has a queue."""
        return {outlet.name: self._state(outlet) for outlet in self._queued}

    def _state(self, outlet: Outlet | Inline) -> SinkState:
        mqtt = self._spooling if outlet.name == "mqtt" else None
        return SinkState(
            published=outlet.published,
            dropped=outlet.dropped,
            failed=outlet.failed,
            queued=outlet.waiting,
            spooled=mqtt.spooled if mqtt else 0,
            spool_dropped=sum(mqtt.spool_dropped.values()) if mqtt else 0,
            connected=mqtt.connected if mqtt else None,
        )
