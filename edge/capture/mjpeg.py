"""Pictures as a network camera sends them over plain HTTP: one JPEG after the other in a multipart answer.

Only the bytes are taken off the network here; whether a picture is ever decoded is for its reader to say. Ten lines of
HTTP/1.0 instead of a library: a second FFmpeg or an HTTP stack would cost more memory than everything else that reads a camera.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Callable
from typing import Self
from urllib.parse import unquote, urlsplit

import numpy as np

from moodring.errors import DeviceError
from moodring.types import U8

RECV_BYTES = 65_536  # bytes asked for at once
MAX_LINE_BYTES = 4096
MAX_HEADER_LINES = 64  # of one head
JPEG_HEADER_BYTES = 65_536  # bytes of a JPEG in which its frame header stands
MAX_JPEG_BYTES = 32_000_000  # bytes of one picture
MULTIPART = "multipart/x-mixed-replace"


class NotMultipartError(DeviceError):
    """The server answered with something else: a redirect, a question for a password, another form of video."""


class MultipartReader:
    """Cuts a multipart stream into its bodies. `take` gives some of its bytes, and none at its end.

    Any chunking of the same bytes gives the same bodies. Raises DeviceError where it is no such stream.
    """

    def __init__(self, recv: Callable[[], bytes], boundary: bytes = b"") -> None:
        self._recv = recv
        self._buffer = bytearray()
        self.set_boundary(boundary)

    def set_boundary(self, boundary: bytes) -> None:
        self._marker = b"--" + boundary.removeprefix(b"--")  # many cameras name it with the dashes

    def read_body(self) -> bytes:
        """Return the next part's body, whether or not its head tells its length."""
        length = self._content_length()
        if length is None:
            return self._read_until(b"\r\n" + self._marker, MAX_JPEG_BYTES)
        if not 0 < length <= MAX_JPEG_BYTES:
            raise DeviceError(f"announces a picture of {length} bytes")
        return self._read_exactly(length)

    def head(self) -> list[bytes]:
        """Return the lines up to the next empty one."""
        lines: list[bytes] = []
        while line := self._read_until(b"\n", MAX_LINE_BYTES, keep_marker=False).rstrip(b"\r"):
            lines.append(line)
            if len(lines) > MAX_HEADER_LINES:
                raise DeviceError("sends something else than pictures")
        return lines

    def _content_length(self) -> int | None:
        lines: list[bytes] = []
        while not lines:  # empty lines may stand between a body and the next boundary
            lines = self.head()
        if not any(line.startswith(self._marker) for line in lines):
            raise DeviceError("sends something else than pictures")
        found = [line for line in lines if line.lower().startswith(b"content-length:")]
        try:
            return int(found[0].partition(b":")[2]) if found else None
        except ValueError:
            raise DeviceError("announces a picture of no length") from None

    def _read_until(self, marker: bytes, max_bytes: int, *, keep_marker: bool = True) -> bytes:
        """Take what comes before a marker; the marker itself stays, where it is to be kept, for the next to read."""
        searched = 0
        while (at := self._buffer.find(marker, searched)) < 0:
            searched = max(0, len(self._buffer) - len(marker))
            if searched > max_bytes:
                raise DeviceError("sends something else than pictures")
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
        more = self._recv()
        if not more:
            raise DeviceError("gives no more frames")
        self._buffer += more


class MjpegStream:
    """One connection to a camera at http://[USER:PASSWORD@]HOST[:PORT]/PATH."""

    def __init__(self, connection: socket.socket, parts: MultipartReader) -> None:
        self._connection = connection
        self._multipart = parts

    @classmethod
    def connect(cls, url: str, timeout_s: float) -> Self:
        """Ask for the stream; NotMultipartError where the answer is another one, DeviceError or OSError where there is none."""
        address = urlsplit(url)
        connection = socket.create_connection((address.hostname or "", address.port or 80), timeout_s)
        try:
            connection.sendall(_build_request(url))
            parts = MultipartReader(lambda: connection.recv(RECV_BYTES))
            parts.set_boundary(_parse_boundary(parts.head()))
        except BaseException:
            connection.close()
            raise
        return cls(connection, parts)

    def read(self) -> U8:
        """Return the next picture's bytes, uint8 [N]; DeviceError where they cannot be a JPEG, or none come in time."""
        try:
            data = self._multipart.read_body()
        except TimeoutError:
            raise DeviceError("gives no more frames") from None
        except OSError as error:
            raise DeviceError(f"gives no more frames ({error.strerror})") from error
        if not is_complete_jpeg(data):
            raise DeviceError("sent a damaged picture")
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


def _parse_boundary(head: list[bytes]) -> bytes:
    """Return what stands between the parts, as the answer's head says."""
    lines = [line.decode("latin-1") for line in head]
    if not lines or not re.match(r"HTTP/1\.\d 200\b", lines[0]):
        raise NotMultipartError(f"answers {lines[0][:80]!r}" if lines else "gives no answer")
    kinds = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("content-type:")]
    if not kinds or not kinds[0].lower().startswith(MULTIPART):
        raise NotMultipartError(f"gives {kinds[0][:80] if kinds else 'something without a type'}")
    named = re.search(r'boundary="?([^";]+)', kinds[0], re.IGNORECASE)
    return named[1].strip().encode("latin-1") if named else b""


def is_complete_jpeg(data: bytes) -> bool:
    """Say whether the bytes begin and end as a JPEG does; some cameras pad its end."""
    return data.startswith(b"\xff\xd8") and data.rstrip(b"\r\n\0").endswith(b"\xff\xd9")


def jpeg_height(data: U8) -> int | None:
    """Return how many lines a JPEG has, from its frame header; None where there is none."""
    raw = data[:JPEG_HEADER_BYTES].tobytes()
    at = 2
    while at + 9 <= len(raw) and raw[at] == 0xFF:
        kind, size = raw[at + 1], int.from_bytes(raw[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(raw[at + 5 : at + 7], "big") or None
        if kind == 0xFF:  # a fill byte
            at += 1
        else:
            at += 2 + size
    return None
