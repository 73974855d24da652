"""How the C library keeps memory: an arena for each thread, which a process of many small threads never fills, and what was
freed for whoever wants it next.
"""

from __future__ import annotations

import contextlib
import ctypes

M_ARENA_MAX = -8  # mallopt(3) of the GNU C library


def limit_arenas(count: int = 2) -> None:
    """Let threads share so many arenas; before they are started. Does nothing where the C library knows no such thing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, count)


def give_back() -> None:
    """Return to the system what is free at the moment; after work whose memory will not be wanted again (malloc_trim(3))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
