"""Pipes as recordings: the bytes of a pipe are read once and shared by the readers of its video and of its sound."""

from __future__ import annotations

import functools
import os
import select

from moodring.address import STANDARD_INPUT
from moodring.errors import MediaError, printable

WINDOW_BYTES = 1 << 24  # the newest bytes, which stay in memory for the other reader; more than the probe of a container
CHUNK_BYTES = 1 << 16  # the capacity of a pipe
IDLE_TIMEOUT_S = 10.0  # without data


class PipeInterrupted(OSError):  # noqa: N818  not an error
    """KeyboardInterrupt as an exception that passes through PyAV, which lets only an Exception out of `read`."""


class PipeReader:
    """Reads a pipe from its first byte; several readers of one pipe share its bytes. PyAV calls `read`."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._pipe = _open(path)
        self._position = 0
        self._failed = False

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end. Raises MediaError without data for `IDLE_TIMEOUT_S`, PipeInterrupted.

        After a failure it returns nothing: a demuxer reads on to find the next packet, and PyAV raises the failure when the
        demuxer gives up.
        """
        if self._failed:
            return b""
        try:
            data = self._pipe.read(self._position, size)
        except KeyboardInterrupt as error:
            self._failed = True
            raise PipeInterrupted from error
        except MediaError:
            self._failed = True
            raise
        self._position += len(data)
        return data


class _Pipe:
    """A pipe and its newest bytes."""

    def __init__(self, path: str) -> None:
        self._name = printable(path)
        # Not blocking: to open a named pipe would wait for a writer.
        self._fd = os.dup(0) if path == STANDARD_INPUT else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._window = bytearray()
        self._start = 0  # position of the first byte of the window
        self._is_idle = False  # the writer stopped: the other reader does not wait again

    def read(self, position: int, size: int) -> bytes:
        if position == self._start + len(self._window):
            chunk = self._next_chunk()
            if not (chunk or position):
                raise MediaError(f"{self._name} is empty: the program that writes to this pipe ended without data")
            self._window += chunk
            excess = len(self._window) - WINDOW_BYTES
            if excess > 0:
                del self._window[:excess]
                self._start += excess
        if position < self._start:
            raise MediaError(
                f"{self._name} is a pipe, which can be read only once, and its video and sound lie more than "
                f"{WINDOW_BYTES >> 20} MB apart; write it to a file first"
            )
        offset = position - self._start
        return bytes(self._window[offset : offset + size])

    def _next_chunk(self) -> bytes:
        self._is_idle = self._is_idle or not self._poll.poll(IDLE_TIMEOUT_S * 1000)
        if self._is_idle:
            raise MediaError(f"{self._name}: no data for {IDLE_TIMEOUT_S:.0f} s; check the program that writes to this pipe")
        return os.read(self._fd, CHUNK_BYTES)


@functools.cache
def _open(path: str) -> _Pipe:
    return _Pipe(path)
