"""Notifies a thread that waits in `select`."""

from __future__ import annotations

import contextlib
import socket


class Notifier:
    """A socket pair. `notify` makes `receiver` readable; the waiting thread empties it."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)

    def notify(self) -> None:
        """Notify the thread, without blocking. Any thread may call it, also after `close`."""
        with contextlib.suppress(OSError):  # the pair is full of notifications, or closed
            self._sender.send(b"w")

    def close(self) -> None:
        self.receiver.close()
        self._sender.close()
