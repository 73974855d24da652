"""HTTP MJPEG: a network camera that sends JPEG frames as the parts of one multipart response over plain HTTP.

Only the bytes of the frames are read here; `network.decode` decodes those that are processed. The client is a minimal HTTP/1.0
client: FFmpeg or an HTTP library would need more memory than all other code that reads a camera.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Callable
from typing import Self
from urllib.parse import unquote, urlsplit

import numpy as np

from moodring.capture.base import NO_MORE_FRAMES
from moodring.errors import DeviceError
from moodring.types import U8

RECV_BYTES = 65_536  # requested from the socket at once
MAX_LINE_BYTES = 4096
MAX_HEADER_LINES = 64  # of a response or a part
JPEG_HEADER_BYTES = 65_536  # the frame header of a JPEG lies within these
MAX_JPEG_BYTES = 32_000_000
MULTIPART = "multipart/x-mixed-replace"
NOT_FRAMES = "sent data that is not a multipart stream of JPEG frames"


class NotMultipartError(DeviceError):
    """The response is not a multipart stream, but for example a redirect, a request for a password, or another video format."""


class MultipartReader:
    """Splits a multipart stream into its bodies. `recv` returns the next bytes of the stream, and no bytes at its end.

    Any chunking of the same bytes gives the same bodies. Raises DeviceError if the bytes are not such a stream.
    """

    def __init__(self, recv: Callable[[], bytes], boundary: bytes = b"") -> None:
        self._recv = recv
        self._buffer = bytearray()
        self.set_boundary(boundary)

    def set_boundary(self, boundary: bytes) -> None:
        """Set the boundary between the parts, with or without its leading dashes: many cameras declare it with them."""
        self._marker = b"--" + boundary.removeprefix(b"--")

    def read_body(self) -> bytes:
        """Return the body of the next part. It has the length that its header states, or ends at the next boundary."""
        length = self._content_length()
        if length is None:
            return self._read_until(b"\r\n" + self._marker, MAX_JPEG_BYTES)
        if not 0 < length <= MAX_JPEG_BYTES:
            raise DeviceError(f"announced a frame of {length} bytes; the limit is {MAX_JPEG_BYTES}")
        return self._read_exactly(length)

    def read_header(self) -> list[bytes]:
        """Return the lines before the next empty line."""
        lines: list[bytes] = []
        while line := self._read_until(b"\n", MAX_LINE_BYTES, keep_marker=False).rstrip(b"\r"):
            lines.append(line)
            if len(lines) > MAX_HEADER_LINES:
                raise DeviceError(NOT_FRAMES)
        return lines

    def _content_length(self) -> int | None:
        """Read the header of the next part; return the length of its body, or None if the header does not state it."""
        lines: list[bytes] = []
        while not lines:  # there may be empty lines between a body and the next boundary
            lines = self.read_header()
        if not any(line.startswith(self._marker) for line in lines):
            raise DeviceError(NOT_FRAMES)
        found = [line for line in lines if line.lower().startswith(b"content-length:")]
        try:
            return int(found[0].partition(b":")[2]) if found else None
        except ValueError:
            raise DeviceError("announced a frame of unreadable length") from None

    def _read_until(self, marker: bytes, max_bytes: int, *, keep_marker: bool = True) -> bytes:
        """Return the bytes before a marker. The marker itself stays in the buffer if `keep_marker` is set."""
        searched = 0
        while (at := self._buffer.find(marker, searched)) < 0:
            searched = max(0, len(self._buffer) - len(marker))
            if searched > max_bytes:
                raise DeviceError(NOT_FRAMES)
            self._receive()
        found = bytes(self._buffer[:at])
        del self._buffer[: at if keep_marker else at + len(marker)]
        return found

    def _read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    def _receive(self) -> None:
        received = self._recv()
        if not received:
            raise DeviceError(NO_MORE_FRAMES)
        self._buffer += received


class MjpegStream:
    """A connection to a camera at http://[USER:PASSWORD@]HOST[:PORT]/PATH."""

    def __init__(self, connection: socket.socket, multipart: MultipartReader) -> None:
        self._connection = connection
        self._multipart = multipart

    @classmethod
    def connect(cls, url: str, timeout_s: float) -> Self:
        """Request the stream. `timeout_s` limits each wait for the server, now and in `read`.

        Raises NotMultipartError if the response is not a multipart stream, DeviceError or OSError if there is no response.
        """
        address = urlsplit(url)
        connection = socket.create_connection((address.hostname or "", address.port or 80), timeout_s)
        try:
            connection.sendall(_build_request(url))
            multipart = MultipartReader(lambda: connection.recv(RECV_BYTES))
            multipart.set_boundary(_parse_boundary(multipart.read_header()))
        except BaseException:
            connection.close()
            raise
        return cls(connection, multipart)

    def read(self) -> U8:
        """Return the bytes of the next frame, uint8 [N]. Raises DeviceError if they are not a JPEG, or none arrive in time."""
        try:
            data = self._multipart.read_body()
        except TimeoutError:
            raise DeviceError(NO_MORE_FRAMES) from None
        except OSError as error:
            raise DeviceError(f"{NO_MORE_FRAMES} ({error.strerror})") from error
        if not is_complete_jpeg(data):
            raise DeviceError("sent a damaged JPEG frame")
        return np.frombuffer(data, np.uint8)

    def close(self) -> None:
        self._connection.close()


def _build_request(url: str) -> bytes:
    address = urlsplit(url)
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    host = address.netloc.rpartition("@")[2]
    lines = [f"GET {path} HTTP/1.0", f"Host: {host}", "User-Agent: moodring", "Accept: */*"]
    if address.username is not None:
        credentials = f"{unquote(address.username)}:{unquote(address.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace")


def _parse_boundary(header: list[bytes]) -> bytes:
    """Return the boundary that the header of a response declares, or b"" if it declares none."""
    lines = [line.decode("latin-1") for line in header]
    if not lines or not re.match(r"HTTP/1\.\d 200\b", lines[0]):
        raise NotMultipartError(f"answered {lines[0][:80]!r}" if lines else "sent an empty response")
    types = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("content-type:")]
    if not types or not types[0].lower().startswith(MULTIPART):
        raise NotMultipartError(f"sent {types[0][:80] if types else 'no content type'} instead of {MULTIPART}")
    declared = re.search(r'boundary="?([^";]+)', types[0], re.IGNORECASE)
    return declared[1].strip().encode("latin-1") if declared else b""


def is_complete_jpeg(data: bytes) -> bool:
    """Return whether the bytes start and end as a JPEG does. Padding at the end is allowed: some cameras add it."""
    return data.startswith(b"\xff\xd8") and data.rstrip(b"\r\n\0").endswith(b"\xff\xd9")


def jpeg_height(data: U8) -> int | None:
    """Return the number of rows that the frame header of a JPEG, uint8 [N], states, or None if there is no such header."""
    raw = data[:JPEG_HEADER_BYTES].tobytes()
    at = 2
    while at + 9 <= len(raw) and raw[at] == 0xFF:
        marker, size = raw[at + 1], int.from_bytes(raw[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame (SOF)
            return int.from_bytes(raw[at + 5 : at + 7], "big") or None
        if marker == 0xFF:  # a fill byte
            at += 1
        else:
            at += 2 + size
    return None
