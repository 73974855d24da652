"""A minimal HTTP/1.0 client for cameras, many of which do not speak HTTP well.

An HTTP library would need more memory than all other code that reads a camera, and would refuse many of these responses.
"""

from __future__ import annotations

import base64
import re
import socket
import time
from collections.abc import Callable
from typing import Self
from urllib.parse import unquote, urlsplit

from moodring.capture.base import NO_MORE_FRAMES
from moodring.capture.http.jpeg import SOI
from moodring.errors import DeviceError

RECV_BYTES = 65_536  # requested from the socket at once
MAX_LINE_BYTES = 4096
MAX_HEADER_LINES = 64  # of a response or a part
MAX_CHUNK_BYTES = 32_000_000
MAX_WAIT_S = 5.0  # for a header or a frame, however slowly its bytes arrive
NOT_FRAMES = "sent data that is not a multipart stream of JPEG frames"
STATUS_LINE = re.compile(r"[A-Za-z]+(?:/[\d.]+)? +(\d{3})\b")  # also that of ICY servers


class ByteReader:
    """Buffers received bytes. `recv` returns the next ones, and none at the end of the stream."""

    def __init__(self, recv: Callable[[], bytes]) -> None:
        self._recv = recv
        self.buffer = bytearray()

    def receive(self) -> None:
        """Wait for more bytes. Raises DeviceError at the end of the stream."""
        received = self._recv()
        if not received:
            raise DeviceError(NO_MORE_FRAMES)
        self.buffer += received

    def fill(self, count: int) -> None:
        """Receive until the buffer holds `count` bytes."""
        while len(self.buffer) < count:
            self.receive()

    def peek(self, count: int) -> bytes:
        """Return the next `count` bytes, which stay in the buffer."""
        self.fill(count)
        with memoryview(self.buffer) as view:
            return bytes(view[:count])

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        taken = self.peek(count)
        del self.buffer[:count]
        return taken

    def take_line(self) -> bytes:
        """Return the next line without its end, which is CR LF or LF. Raises DeviceError if it is too long."""
        searched = 0
        while (at := self.buffer.find(b"\n", searched, MAX_LINE_BYTES)) < 0:
            searched = len(self.buffer)
            if searched >= MAX_LINE_BYTES:
                raise DeviceError(NOT_FRAMES)
            self.receive()
        return self.take(at + 1).rstrip(b"\r\n")

    def take_header(self) -> list[bytes]:
        """Return the lines before the next empty line."""
        lines: list[bytes] = []
        while line := self.take_line():
            lines.append(line)
            if len(lines) > MAX_HEADER_LINES:
                raise DeviceError(NOT_FRAMES)
        return lines


class Response:
    """The response to one GET request. `status` is 200 if there is no status line; `body` reads what follows the header."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline_s = 0.0
        self._raw = ByteReader(self._recv)
        self.body = self._raw
        self.status_line = ""
        self.status = 200
        self.fields: dict[str, str] = {}  # of the header, with names in lower case

    @classmethod
    def request(cls, url: str, timeout_s: float) -> Self:
        """Request http://[USER:PASSWORD@]HOST[:PORT]/PATH. `timeout_s` limits each wait for the server, now and later.

        Raises DeviceError or OSError if there is no response, ValueError if the address is not valid.
        """
        address = urlsplit(url)
        connection = socket.create_connection((address.hostname or "", address.port or 80), timeout_s)
        response = cls(connection)
        try:
            connection.sendall(_build_request(url))
            response.restart_deadline()
            response._read_header()
        except BaseException:
            connection.close()
            raise
        return response

    def restart_deadline(self) -> None:
        """Allow `MAX_WAIT_S` for the next header or frame."""
        self._deadline_s = time.monotonic() + MAX_WAIT_S

    def starts_with(self, *starts: bytes) -> bool:
        """Return whether the body starts with one of these bytes."""
        try:
            self.body.fill(max(map(len, starts)))
        except (DeviceError, OSError):
            return False
        return self.body.buffer.startswith(starts)

    def close(self) -> None:
        self._connection.close()

    def _recv(self) -> bytes:
        if time.monotonic() > self._deadline_s:
            raise TimeoutError
        return self._connection.recv(RECV_BYTES)

    def _read_header(self) -> None:
        """Read the status line and the header. Some cameras omit the one or the other, and begin with the first part."""
        raw = self._raw
        raw.fill(2)
        while raw.buffer[0] in b"\r\n":
            raw.take(1)
            raw.fill(2)
        if raw.buffer.startswith((b"--", SOI)):
            return
        lines = [line.decode("latin-1") for line in raw.take_header()]
        found = STATUS_LINE.match(lines[0])
        if found is not None:
            self.status_line, self.status = lines[0], int(found[1])
        elif ":" not in lines[0]:
            raise DeviceError(f"answered {lines[0][:80]!r}, which is not HTTP")
        self.fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self.fields.get("transfer-encoding", "").lower() == "chunked":
            self.body = ByteReader(_chunks(raw))


def _chunks(raw: ByteReader) -> Callable[[], bytes]:
    """Return a function that returns the content of the next chunk. A few servers send chunks to a client of HTTP/1.0 too."""

    def recv() -> bytes:
        line = raw.take_line() or raw.take_line()  # an empty line ends the chunk before
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise DeviceError(NOT_FRAMES) from None
        if not 0 <= size <= MAX_CHUNK_BYTES:
            raise DeviceError(NOT_FRAMES)
        return raw.take(size)

    return recv


def _build_request(url: str) -> bytes:
    address = urlsplit(url)
    path = ((address.path or "/") + (f"?{address.query}" if address.query else "")).replace(" ", "%20")
    host = address.netloc.rpartition("@")[2]
    lines = [f"GET {path} HTTP/1.0", f"Host: {host}", "User-Agent: moodring", "Accept: */*"]
    if address.username is not None:
        credentials = f"{unquote(address.username)}:{unquote(address.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace")
