"""One clock for the whole runtime: monotonic nanoseconds. Tests and replays use a clock that only they move."""

from __future__ import annotations

import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    def now_ns(self) -> int:
        """Return the time in nanoseconds; never goes back."""
        ...

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return at or after the deadline; at once where it has passed."""
        ...


class MonotonicClock:
    """The machine's own: unaffected by a change of the wall clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        remaining_ns = deadline_ns - time.monotonic_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / NS_PER_S)


class SimulatedClock:
    """Stands still until somebody sleeps or sets it."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self._now_ns = max(self._now_ns, deadline_ns)
