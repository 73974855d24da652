"""An HTTP camera that answers each request with the bytes that a test chooses."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from tests.support.media.wild_jpegs import part

FPS = 20
HEADER = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"


class WildCamera:
    """Sends what `respond(request, index)` yields, one block each 1/20 s, then closes; `index` counts the requests.

    A context manager that stops the server.
    """

    def __init__(self, respond: Callable[[str, int], Iterable[bytes]]) -> None:
        self._respond = respond
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._stopping = threading.Event()
        self.requests: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            request = client.recv(4096).decode()
            self.requests.append(request)
            for block in self._respond(request, len(self.requests) - 1):
                client.sendall(block)
                if self._stopping.is_set():
                    return
                time.sleep(1 / FPS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def stream_of(frame_at: Callable[[int], bytes]) -> Callable[[str, int], Iterable[bytes]]:
    """Return a response that never ends: a multipart stream of the frames at 0, 1, 2 and so on."""

    def respond(_request: str, _index: int) -> Iterable[bytes]:
        yield HEADER
        for index in itertools.count():
            frame = frame_at(index)
            yield part(frame, len(frame))

    return respond


def snapshot_of(frame_at: Callable[[int], bytes], content_type: bytes = b"image/jpeg") -> Callable[[str, int], Iterable[bytes]]:
    """Return a response of one image: the frame at the number of the request."""

    def respond(_request: str, index: int) -> Iterable[bytes]:
        frame = frame_at(index)
        yield b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (content_type, len(frame)) + frame

    return respond
