"""HTTP cameras: any bytes as a response, received in blocks of any size.

Rules: only DeviceError; the buffers stay within the documented limits; the frames and the error are the same for any block
sizes; every frame is a complete JPEG, which decodes or is damaged. The limits are lowered, so that small inputs reach them.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np

from benchmarks.fuzz.harness import Harness, require
from moodring.capture.http import connection, jpeg, mjpeg
from moodring.capture.network import decode
from moodring.errors import DeviceError
from tests.support.media.wild_jpegs import STREAMS, segment, with_size
from tests.support.media.wild_jpegs import jpeg as encode

CONNECTION_LIMITS: dict[str, Any] = {"MAX_LINE_BYTES": 256, "MAX_HEADER_LINES": 8, "MAX_CHUNK_BYTES": 4096, "RECV_BYTES": 4096}
MJPEG_LIMITS: dict[str, Any] = {"MAX_JPEG_BYTES": 4096, "MAX_BETWEEN_BYTES": 1024, "LENGTH_MARGIN_BYTES": 512}
# A body that was received in chunks, the chunk that is being received, and one block.
MAX_BUFFERED = 2 * 4096 + 512 + 2 * (4096 + 256) + 4096
MAX_REPEATS, MAX_RESPONSE_BYTES = 8, 10_000
MAX_IN_SINGLE_BYTES = 1000
SCAN = b"\xff\xd8" + segment(0xE0, b"JFIF\0\1\1") + segment(0xDA, b"\1\1\0\0\x3f\0") + b"\x12\xff\x00\xff\xd0\x34\xff\xd9"
HEADERS = {
    "multipart": b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/x-mixed-replace;boundary=cut\r\n\r\n",
    "none": b"",
    "image": b"HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 30\r\n\r\n",
    "icy": b"ICY 200 OK\r\n\r\n",
    "denied": b"HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest\r\n\r\n",
}
WORDS = (
    b"--cut", b"--", b"\r\n\r\n", b"\n\n", b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xff", b"\xff\xd0", b"\xff\0",
    b"Content-Length: ", b"Content-Type: image/jpeg", b"Content-Type: text/plain", b"boundary=", b"Transfer-Encoding: chunked",
    b"multipart/x-mixed-replace", b"HTTP/1.1 200 OK\r\n", b"\r\n1f\r\n", b"\r\n0\r\n", SCAN,
)  # fmt: skip


class _Camera:
    """Stands in for a socket that receives `data` in blocks, and checks how much the reader holds."""

    def __init__(self, data: bytes, block_bytes: Callable[[], int]) -> None:
        self._data = data
        self._at = 0
        self._block_bytes = block_bytes
        self.response: connection.Response | None = None

    def recv(self, count: int) -> bytes:
        if self.response is not None:
            raw, body = self.response._raw, self.response.body  # noqa: SLF001
            held = len(raw.buffer) + (len(body.buffer) if body is not raw else 0)
            require(held <= MAX_BUFFERED, f"the reader holds {held} bytes, more than {MAX_BUFFERED}")
        block = self._data[self._at : self._at + max(1, min(count, self._block_bytes()))]
        self._at += len(block)
        return block

    def close(self) -> None:
        """Do nothing: there is no connection."""


def read_all(data: bytes, block_bytes: Callable[[], int]) -> tuple[list[bytes], str]:
    """Return all frames of a response, and the error that ended it."""
    camera = _Camera(data, block_bytes)
    response = connection.Response(cast("Any", camera))
    response.restart_deadline()
    camera.response = response
    frames: list[bytes] = []
    try:
        response._read_header()  # noqa: SLF001
        stream = mjpeg.MjpegStream(response, mjpeg._find_boundary(response))  # noqa: SLF001
        while True:
            frames.append(stream.read().tobytes())
    except DeviceError as error:
        return frames, f"{type(error).__name__}: {error}"


def check(data: bytes) -> None:
    """Read a response: the first byte says how often the rest is repeated."""
    if not data:
        return
    response = (data[1:] * (1 + data[0] % MAX_REPEATS))[:MAX_RESPONSE_BYTES]
    with mock.patch.multiple(connection, **CONNECTION_LIMITS), mock.patch.multiple(mjpeg, **MJPEG_LIMITS):
        rng = random.Random(zlib.crc32(data))
        whole = read_all(response, lambda: 1 << 20)
        small = 1 if len(response) < MAX_IN_SINGLE_BYTES else 37
        require(read_all(response, lambda: small) == whole, f"blocks of size {small} give other frames")
        require(read_all(response, lambda: rng.choice((1, 2, 30, 300, 3000))) == whole, "blocks of several sizes differ")
    for frame in whole[0]:
        require(not frame or jpeg.is_complete_jpeg(frame), "a frame is no complete JPEG")
        decode(np.frombuffer(frame, np.uint8))


def make(_folder: Path) -> Harness:
    """Return the harness."""
    small = [encode(index, 16, 16) for index in range(2)]
    bodies = [make_stream([SCAN, SCAN]) for make_stream in STREAMS.values()] + [STREAMS["nothing"](small)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (bodies[0][:40], bodies[0][40:])) + b"0\r\n\r\n"
    bodies.append(STREAMS["nothing"]([with_size(encode(1, 16, 16, progressive=True), 65_500, 65_500)]))
    seeds = [b"\0" + HEADERS["multipart"] + body for body in bodies]
    seeds += [b"\7" + header + bodies[0] for header in HEADERS.values()] + [b"\0" + HEADERS["chunked"] + chunked]
    return Harness(check, seeds, WORDS, max_bytes=7000)
