"""Clocks in monotonic nanoseconds, and the interface that times stages. Tests and replays use a simulated clock."""

from __future__ import annotations

import contextlib
import time
from typing import Final, Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    def now_ns(self) -> int:
        """Return the time in nanoseconds. It never decreases."""
        ...

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return at or after the deadline, immediately where it has passed."""
        ...


class MonotonicClock:
    """The machine's monotonic clock. Changes of the wall clock do not affect it."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        remaining_ns = deadline_ns - time.monotonic_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / NS_PER_S)


class SimulatedClock:
    """A clock that advances only when `sleep_until_ns` is called."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self._now_ns = max(self._now_ns, deadline_ns)


class StageTimer:
    """Measures how long the stages of a pipeline take. This one measures nothing; a subclass overrides `stage`."""

    def stage(self, name: str) -> contextlib.AbstractContextManager[object]:  # noqa: ARG002  for subclasses
        """Return a context manager that times one call of the stage `name`. Stages may be nested."""
        return _NO_MEASUREMENT


_NO_MEASUREMENT: Final = contextlib.nullcontext()
UNTIMED: Final = StageTimer()
