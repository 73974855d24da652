"""Ctrl-C and SIGTERM as KeyboardInterrupt, held back while something must be done whole.

Python raises it between any two steps of the main thread: an event could reach one sink and not the next.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

INTERRUPTED = 130  # the exit code of a command that was ended so


class _Held:
    """Whether the main thread is in the middle of something, and whether an interrupt waits for its end."""

    depth = 0
    waiting = False


def install() -> None:
    """Let SIGTERM, and SIGINT unless it is ignored or handled by another, raise KeyboardInterrupt in the main thread."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    if _Held.depth and not _Held.waiting:  # a second one does not wait: what is done meanwhile may hang
        _Held.waiting = True
    else:
        raise KeyboardInterrupt


class Uninterrupted:
    """`with Uninterrupted():` an interrupt that comes meanwhile is raised at the end. Does nothing in other threads."""

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            _Held.depth += 1

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        if not self._main:
            return
        _Held.depth -= 1
        if _Held.waiting and not _Held.depth:
            _Held.waiting = False
            if kind is None:
                raise KeyboardInterrupt
