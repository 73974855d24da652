"""Log a fault that repeats."""

from __future__ import annotations

from collections.abc import Callable


class FaultLog:
    """Logs a fault when it starts, when it changes and when it ends, but not at each attempt."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._fault: str | None = None

    def report(self, fault: str, action: str = "") -> None:
        """Log the fault and `action`, what moodring does about it, unless the fault is the same as before."""
        if fault != self._fault:
            self._log(fault + action)
        self._fault = fault

    def clear(self, message: str) -> None:
        """Log the message if there was a fault."""
        if self._fault is not None:
            self._log(message)
        self._fault = None
