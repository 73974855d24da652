"""How the C library keeps memory for threads: an arena for each of them, which a process of many small threads never fills."""

from __future__ import annotations

import contextlib
import ctypes

M_ARENA_MAX = -8  # mallopt(3) of the GNU C library


def limit_arenas(count: int = 2) -> None:
    """Let threads share so many arenas; before they are started. Does nothing where the C library knows no such thing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, count)
