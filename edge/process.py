"""Process-wide functions: standard streams, messages, interrupts as exceptions, and limits on the memory of the C library.

Ctrl-C and SIGTERM raise KeyboardInterrupt in the main thread, between any two steps of it: an event could reach one sink and
not the next. `Uninterrupted` defers them.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from moodring.errors import message_line
from moodring.redaction import without_credentials

STDIN, STDOUT, STDERR = 0, 1, 2
FAILING_OUTPUT = "/dev/full"  # every write to it fails; Linux only
M_ARENA_MAX = -8  # mallopt(3) of the GNU C library
INTERRUPTED = 130  # the exit code of an interrupted command


class _Deferred:
    """How many `Uninterrupted` blocks the main thread is in, and whether an interrupt is pending."""

    depth = 0
    pending = False


class _Messages(io.FileIO):
    """Standard error. A message that cannot be written, to a closed pipe or a full disk, does not end the run."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def open_standard_streams() -> None:
    """Make standard input, output and error safe to use. Call it before anything opens a file that stays open.

    A descriptor that is closed at the start is opened on a null device; otherwise the next file, such as the event file, would
    get its number, and with it the messages of libraries. Writing to an output that was closed fails. Standard output and error
    escape what their encoding cannot express, such as bytes of a file name.
    """
    full = FAILING_OUTPUT if Path(FAILING_OUTPUT).exists() else os.devnull
    for number, path, flags in (
        (STDIN, os.devnull, os.O_RDONLY),
        (STDOUT, full, os.O_WRONLY),
        (STDERR, os.devnull, os.O_WRONLY),
    ):
        try:
            os.fstat(number)
        except OSError:
            os.open(path, flags)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
    if sys.stderr is None or sys.stderr is sys.__stderr__:  # not where a test or another program replaced it
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        buffer = io.BufferedWriter(_Messages(STDERR, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(buffer, encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")


def install() -> None:
    """Make SIGTERM raise KeyboardInterrupt in the main thread, and SIGINT too unless it is ignored or has another handler.

    Tracebacks are printed without secrets from now on.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    sys.excepthook = _print_traceback


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug. The errors of libraries can hold the address of a camera."""
    print(without_credentials("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    if _Deferred.depth and not _Deferred.pending:  # a second one is not deferred: the block may hang
        _Deferred.pending = True
    else:
        raise KeyboardInterrupt


class Uninterrupted:
    """`with Uninterrupted():` defers an interrupt to the end of the block. Does nothing in other threads."""

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            _Deferred.depth += 1

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        if not self._main:
            return
        _Deferred.depth -= 1
        if _Deferred.pending and not _Deferred.depth:
            _Deferred.pending = False
            if kind is None:
                raise KeyboardInterrupt


def log(message: str) -> None:
    """Write a message for people to standard error, without the secrets of the addresses in it."""
    print(message_line(message), file=sys.stderr, flush=True)


def limit_arenas(count: int = 2) -> None:
    """Let all threads share `count` arenas (mallopt). Call it before threads start. Does nothing without GNU libc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, count)


def trim_heap() -> None:
    """Return free memory to the system (malloc_trim(3)). Call it after work whose memory is not needed again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
