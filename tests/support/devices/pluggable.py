"""What simulated devices that serve a network stream have in common."""

from __future__ import annotations

import socketserver
import threading
from abc import ABC, abstractmethod
from typing import Self


class PluggableDevice(ABC):
    """A device that is plugged in by its constructor. A context manager that unplugs it at the end."""

    @abstractmethod
    def unplug(self) -> None:
        """End the stream and stop the server."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()


def serve_in_thread(server: socketserver.BaseServer) -> None:
    """Serve requests in a daemon thread until `server.shutdown()`."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
