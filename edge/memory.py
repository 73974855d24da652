"""Limits on the memory that the C library keeps: an arena for each thread, and freed memory."""

from __future__ import annotations

import contextlib
import ctypes

M_ARENA_MAX = -8  # mallopt(3) of the GNU C library


def limit_arenas(count: int = 2) -> None:
    """Let all threads share `count` arenas (mallopt). Call it before threads start. Does nothing where the C library has none."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, count)


def trim_heap() -> None:
    """Return free memory to the system (malloc_trim(3)). Call it after work whose memory is not needed again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
