"""HTTP MJPEG: a network camera that sends JPEG frames as the parts of one multipart response over plain HTTP.

Only the bytes of the frames are read here; `network.decode` decodes those that are processed. Some cameras announce wrong
lengths and boundaries, add bytes after a frame, or send no parts at all. The structure of the JPEG decides where a frame ends.
"""

from __future__ import annotations

import re
from typing import Self

import numpy as np

from moodring.capture.base import NO_MORE_FRAMES
from moodring.capture.http.connection import NOT_FRAMES, ByteReader, Response
from moodring.capture.http.jpeg import SOI, DamagedJpegError, JpegEnd, is_complete_jpeg
from moodring.errors import DeviceError
from moodring.types import U8

MAX_JPEG_BYTES = 32_000_000
MAX_BETWEEN_BYTES = 2_000_000  # between two frames
LENGTH_MARGIN_BYTES = 65_536
MULTIPART = "multipart/"
FRAME_START = SOI + b"\xff"
CONTENT_LENGTH = re.compile(rb"^content-length:\s*(\d{1,12})\s*$", re.IGNORECASE)
NO_FRAME = re.compile(rb"^content-type:\s*(text|audio|application/(json|xml))\b", re.IGNORECASE)
SNAPSHOT_ADVICE = (
    "sent one JPEG image, not a stream: use the address of its stream, or set video.snapshot_hz, for example to 5, to request "
    "an image at that rate"
)


class NotMultipartError(DeviceError):
    """The response is not a multipart stream, but for example a redirect, a request for a password, or another video format."""


class SnapshotError(DeviceError):
    """The response is one JPEG."""


class MultipartReader:
    """Splits a multipart stream, or JPEGs one after the other, into frames. Any split of the bytes into blocks gives the same.

    Raises DeviceError if the bytes are not such a stream.
    """

    def __init__(self, reader: ByteReader, boundary: bytes = b"") -> None:
        """`boundary` is with or without its leading dashes: many cameras declare it with them."""
        self._reader = reader
        self._marker = b"--"
        self._set_marker(b"--" + boundary.removeprefix(b"--"))
        self._is_confirmed = False  # the marker stood before a part
        self._lengths_are_right = False
        self._scanned: tuple[int, int] | None = None  # announced length and length of the frame before
        self._frame_bytes = 0

    def read_frame(self) -> bytes:
        """Return the next JPEG, or no bytes for a frame that is damaged."""
        while True:
            announced, is_frame = self._find_part()
            frame = self._read_body(announced) if is_frame else None
            if frame is not None:
                return frame

    def _read_body(self, announced: int | None) -> bytes | None:
        """Return the next JPEG, no bytes if it is damaged, or None if the part is empty."""
        if announced and self._lengths_are_right and announced <= 2 * self._frame_bytes + LENGTH_MARGIN_BYTES:
            frame = self._reader.peek(announced)
            if is_complete_jpeg(frame):
                del self._reader.buffer[:announced]
                self._frame_bytes = announced
                return frame
        return self._scan(announced)

    def _find_part(self) -> tuple[int | None, bool]:
        """Read up to the first byte of the next body. Return the announced length, and whether it is a frame."""
        buffer = self._reader.buffer
        at, has_boundary = self._find_start()
        if self._scanned is not None and has_boundary:
            announced, length = self._scanned
            self._lengths_are_right = length <= announced <= length + at
        self._scanned = None
        if has_boundary:
            del buffer[:at]
            header = self._reader.take_header()
            if self._marker == b"--":
                self._set_marker(header[0])
            self._skip_line_ends()
            self._is_confirmed = True
        else:
            header = self._reader.take(at).splitlines()
            for line in header:
                if line.startswith(b"--"):
                    self._set_marker(line)
        lengths = [int(found[1]) for line in header if (found := CONTENT_LENGTH.match(line))]
        return (lengths[-1] if lengths else None), not any(NO_FRAME.match(line) for line in header)

    def _set_marker(self, line: bytes) -> None:
        """Search for this boundary from now on, unless it contains the start of a JPEG."""
        if FRAME_START not in line:
            self._marker = line

    def _find_start(self) -> tuple[int, bool]:
        """Return where the next boundary is. Before one is confirmed, a JPEG can also begin without it: False."""
        buffer, searched = self._reader.buffer, 0
        while True:
            boundary = buffer.find(self._marker, searched)
            frame = -1 if self._is_confirmed else buffer.find(FRAME_START, searched)
            found = [at for at in (boundary, frame) if 0 <= at <= MAX_BETWEEN_BYTES]
            if found:
                return min(found), min(found) == boundary
            searched = max(0, len(buffer) - max(len(self._marker), len(FRAME_START)) + 1)
            if searched > MAX_BETWEEN_BYTES:
                raise DeviceError(NOT_FRAMES)
            self._reader.receive()

    def _skip_line_ends(self) -> None:
        """Skip empty lines between a header and its body."""
        self._reader.fill(1)
        while self._reader.buffer[0] in b"\r\n":
            self._reader.take(1)
            self._reader.fill(1)

    def _scan(self, announced: int | None) -> bytes | None:
        """Return the next JPEG, as `_read_body` does. A damaged one ends at the next part."""
        buffer, end = self._reader.buffer, JpegEnd(MAX_JPEG_BYTES)
        try:
            while (length := end.find(buffer)) is None:
                if len(buffer) >= MAX_JPEG_BYTES:
                    raise DeviceError(NOT_FRAMES)
                self._reader.receive()
            if self._is_confirmed and buffer.find(self._marker, 0, end.header_bytes) >= 0:
                raise DamagedJpegError  # noqa: TRY301  the lengths of its segments lead into a later frame
        except DamagedJpegError:
            if not self._is_confirmed:
                self._reader.take(len(SOI))
            at, _ = self._find_start()
            del buffer[:at]
            return None if self._is_confirmed and at == 0 else b""
        self._scanned = None if announced is None else (announced, length)
        self._frame_bytes = length
        return self._reader.take(length)


class MjpegStream:
    """A connection to a camera at http://[USER:PASSWORD@]HOST[:PORT]/PATH."""

    def __init__(self, response: Response, boundary: bytes) -> None:
        self._response = response
        self._multipart = MultipartReader(response.body, boundary)

    @classmethod
    def connect(cls, url: str, timeout_s: float) -> Self:
        """Request the stream. `timeout_s` limits each wait for the server, now and in `read`.

        Raises SnapshotError if the response is one image, NotMultipartError if it is something else, DeviceError or OSError if
        there is no response, ValueError if the address is not valid.
        """
        response = Response.request(url, timeout_s)
        try:
            return cls(response, _find_boundary(response))
        except BaseException:
            response.close()
            raise

    def read(self) -> U8:
        """Return the bytes of the next frame, uint8 [N], none if it is damaged. Raises DeviceError if none arrives in time."""
        self._response.restart_deadline()
        try:
            data = self._multipart.read_frame()
        except TimeoutError:
            raise DeviceError(NO_MORE_FRAMES) from None
        except OSError as error:
            raise DeviceError(f"{NO_MORE_FRAMES} ({error.strerror})") from error
        return np.frombuffer(data, np.uint8)

    def close(self) -> None:
        self._response.close()


def _find_boundary(response: Response) -> bytes:
    """Return the boundary that a response declares, or b"" if it declares none but sends parts or JPEGs."""
    if response.status != 200:
        raise NotMultipartError(f"answered {response.status_line[:80]!r}")
    kind = response.fields.get("content-type", "")
    if kind.lower().startswith(MULTIPART):
        declared = re.search(r'boundary="?([^";]+)', kind, re.IGNORECASE)
        return declared[1].strip().encode("latin-1") if declared else b""
    if kind.lower().startswith("image/") or ("content-length" in response.fields and response.starts_with(SOI)):
        raise SnapshotError(SNAPSHOT_ADVICE)
    if not response.starts_with(b"--", SOI):
        raise NotMultipartError(f"sent {kind[:80] or 'no content type'} instead of {MULTIPART}x-mixed-replace")
    return b""
