"""A simulated network camera: an HTTP server that sends JPEG frames at a fixed rate."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import cv2

from moodring.buffers import BoundedQueue
from moodring.types import U8
from tests.support.devices.pluggable import PluggableDevice, serve_in_thread

FPS = 30


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.request_count += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        due = time.monotonic()
        for index in itertools.count(int(parse_qs(urlsplit(self.path).query).get("from", ["0"])[0])):
            if self.server.unplugged.is_set():
                return
            jpegs = self.server.jpegs
            jpeg = jpegs[index % len(jpegs)]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            try:
                self.wfile.write(head + jpeg + b"\r\n")
                self.server.sent.put((jpeg, time.monotonic_ns()))
            except OSError:
                return
            due += 1 / FPS
            time.sleep(max(0.0, due - time.monotonic()))

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, jpegs: list[bytes]) -> None:
        self.jpegs = jpegs
        self.sent: BoundedQueue[tuple[bytes, int]] = BoundedQueue(10)
        self.unplugged = threading.Event()
        self.request_count = 0
        super().__init__(("127.0.0.1", port), _Handler)


class JpegCamera(PluggableDevice):
    """A camera that repeats encoded frames on a port (0: any free port).

    `unplug` ends the stream and frees the port, `plug_in` serves it again. A request with `?from=N` starts at the Nth frame.
    """

    def __init__(self, jpegs: list[bytes], port: int = 0) -> None:
        self._jpegs, self.port = jpegs, port
        self._server: _Server | None = None
        self.plug_in()

    def send(self, jpegs: list[bytes]) -> None:
        """Send these encoded frames from now on."""
        self._jpegs = jpegs
        if self._server is not None:
            self._server.jpegs = jpegs

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def request_count(self) -> int:
        """The number of requests since the camera was plugged in."""
        return self._server.request_count if self._server is not None else 0

    def wait_until_sent(self, jpeg: bytes) -> int:
        """Wait until this frame is sent to a client; return the time in ns of the monotonic clock."""
        assert self._server is not None
        while True:
            sent = self._server.sent.take(5)
            assert sent is not None, "no client reads the stream"
            if sent[0] == jpeg:
                return sent[1]

    def plug_in(self) -> None:
        """Start the server on the same port as before."""
        self._server = _Server(self.port, self._jpegs)
        self.port = self._server.server_address[1]
        serve_in_thread(self._server)

    def unplug(self) -> None:
        if self._server is not None:
            self._server.unplugged.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class SoftwareCamera(JpegCamera):
    """A camera that repeats `frame_count` frames; `frame_at` returns the grey frame of an index, uint8 [H, W]."""

    def __init__(self, frame_at: Callable[[int], U8], frame_count: int = 60) -> None:
        super().__init__([cv2.imencode(".jpg", frame_at(i))[1].tobytes() for i in range(frame_count)])
