"""A TCP proxy in front of a broker. It stands for a broker that closes the connection on a message that it refuses."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import Self

from tests.support.servers.broker import free_port


class ClosingProxy:
    """Forwards bytes to a broker, and closes the connection on those that contain `refused`. A context manager.

    `closed` counts the closed connections. Each message of a sink that waits for its acknowledgement arrives on its own.
    """

    def __init__(self, broker_port: int, refused: bytes) -> None:
        self.port = free_port()
        self.refused = refused
        self.closed = 0
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", broker_port)) as broker:
                    threading.Thread(target=_copy, args=(broker, self.request), daemon=True).start()
                    with contextlib.suppress(OSError):
                        while data := self.request.recv(65536):
                            if proxy.refused in data:
                                proxy.closed += 1
                                break
                            broker.sendall(data)
                _close(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        self._server.allow_reuse_address = self._server.daemon_threads = True

    def __enter__(self) -> Self:
        self._server.server_bind()
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _close(target)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
